/* Events for a tracer that listens: our ring in its segment. See sp_trace.h.
 *
 * The segment is another process's, made while we run. Its header is read into private memory and
 * checked there, and of the rest nothing is mapped but our own ring, after memory was put behind
 * it. Whatever is wrong, this tracer hears nothing of us, and nobody else notices. */
#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- the segment ----------------------------------------------------------------------- */

/* As _segment.check_file: its owner is our user, and nobody else may write to it. */
static bool is_of_our_user(int fd, uint64_t size)
{
    struct stat file;
    return fstat(fd, &file) == 0 && S_ISREG(file.st_mode) && file.st_uid == geteuid() &&
           !(file.st_mode & 022) && (uint64_t)file.st_size >= size;
}

static int commit(int fd, uint64_t offset, uint64_t size)
{
    int error;
    do
        error = posix_fallocate(fd, (off_t)offset, (off_t)size);
    while (error == EINTR);
    return error;
}

/* Map the ring of our index. NULL: it is not to be had. */
static uint8_t *map_ring(int fd, uint64_t offset, uint64_t size)
{
    if (!is_of_our_user(fd, offset + size) || commit(fd, offset, size) != 0)
        return NULL;
    void *ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    return ring == MAP_FAILED ? NULL : ring;
}

static void sign(MappingObject *self, sp_trace_ring *ring)
{
    ring->pid = self->pid;
    memcpy(ring->name, mapping_me(self)->name, sizeof ring->name);
}

static void join_tracer(MappingObject *self, int fd, const sp_trace_header *header)
{
    Region what = {.mapping = self, .size = header->ring_size, .expendable = true};
    uint8_t *ring = map_ring(fd, sp_trace_offset(header->ring_size, self->pool.me), header->ring_size);
    if (ring == NULL)
        return;
    self->trace = region_new(&what, ring);
    if (self->trace == NULL) {
        munmap(ring, header->ring_size);
        return;
    }
    self->trace_mask = header->events - 1;
    sign(self, (sp_trace_ring *)ring);
}

/* By the name that the pool was attached by: what its control block says is hostile. */
static int open_segment(const MappingObject *self)
{
    char path[sizeof self->home[0]->pool + sizeof "/dev/shm/.trace"];
    snprintf(path, sizeof path, "/dev/shm/%s.trace", self->home[0]->pool);
    return open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

/* Once for each tracer: if it fails, it is not tried again. */
static void find_tracer(MappingObject *self, uint64_t id)
{
    int before = errno;
    trace_leave(self);
    self->trace_id = id;
    sp_trace_header header;
    int fd = open_segment(self);
    if (fd >= 0 && is_of_our_user(fd, sizeof header) &&
        pread(fd, &header, sizeof header, 0) == (ssize_t)sizeof header &&
        sp_trace_fits(&header, id, self->pool.geometry.members))
        join_tracer(self, fd, &header);
    if (fd >= 0)
        close(fd);
    errno = before;
}

/* Give up the ring. The next tracer is looked for. */
void trace_leave(MappingObject *self)
{
    if (self->trace != NULL)
        region_drop(self->trace);
    self->trace = NULL;
    self->trace_id = 0;
}

/* --- events ---------------------------------------------------------------------------- */

static void note(MappingObject *self, uint32_t slot, uint64_t generation, uint64_t what)
{
    uint64_t id = sp_load_relaxed(&self->pool.status->trace);
    /* In a forked child the ring is the parent's, until it joins. */
    if (!id || self->epoch != fork_epoch)
        return;
    if (UNLIKELY(id != self->trace_id))
        find_tracer(self, id);
    if (self->trace == NULL)
        return;
    uint64_t ticket = (uint64_t)(slot & UINT16_MAX) << SP_GENERATION_BITS | (generation & SP_GENERATION_MAX);
    sp_trace_ring *ring = (sp_trace_ring *)(uintptr_t)sp_load_relaxed(&self->trace->base);
    sp_trace_note(ring, self->trace_mask, clock_ns(), ticket, what);
}

static uint64_t what_of(uint64_t pid, uint32_t queue, uint32_t member, int kind)
{
    return pid << 32 | (uint64_t)(queue & 255) << 16 | (uint64_t)(member & 255) << 8 | (uint64_t)(kind & 255);
}

/* Of our own acts. */
void trace_note(MappingObject *self, uint32_t slot, uint64_t generation, int kind, uint32_t queue)
{
    note(self, slot, generation, what_of(self->pid, queue, self->pool.me, kind));
}

/* Of what the reaper does in the name of the dead. */
void trace_note_of_dead(MappingObject *self, uint32_t slot, uint64_t generation, int kind, uint32_t queue,
                        uint32_t dead)
{
    uint32_t pid = sp_identity_pid(sp_load_relaxed(&self->pool.members[dead].identity));
    note(self, slot, generation, what_of(pid, queue, dead, kind));
}

/* Of a member that is about to be buried: has it left in good order? */
void trace_note_parted(MappingObject *self, uint32_t member)
{
    uint64_t identity = sp_load_relaxed(&self->pool.members[member].identity);
    bool left = identity == sp_identity(sp_identity_pid(identity), SP_LEFT);
    trace_note_of_dead(self, SP_TRACE_NO_SLOT, 0, left ? SP_TRACE_LEFT : SP_TRACE_DIED, SP_NO_QUEUE, member);
}
