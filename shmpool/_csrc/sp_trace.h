/* What a tracer reads: a ring of events for each member, in a segment that is the tracer's.
 *
 *   header page | ring of member 0, which is nobody | ring of member 1 | …
 *
 *   note   turn 0, the fields, turn = count + 1, count = count + 1
 *   read   count, the events, count again: an event whose turn is not its number plus one is
 *          left out, and so is one that the second count says may have been written over
 *
 * The word `trace` in the control block is the id of the tracer's segment while one listens, and
 * 0 otherwise. Nothing is ever decided by an event. The ring is hostile memory to both sides:
 *
 *   - Its one writer is the member whose index it has, under its interpreter's lock; it takes the
 *     count modulo private numbers, so that a wild one costs events and nothing else.
 *   - A writer killed halfway leaves turn 0, and its event was not counted: the next member of
 *     that index writes it anew.
 *   - What is written faster than it is read is written over; the counts say how much.
 */
#ifndef SP_TRACE_H
#define SP_TRACE_H

#include "sp_layout.h"

#define SP_TRACE_MAGIC UINT64_C(0x43415254504d5301) /* "\x01SMPTRAC", little-endian */
#define SP_TRACE_VERSION 1u
#define SP_TRACE_PAGE 4096u
#define SP_TRACE_LEAST 64u         /* events in a ring */
#define SP_TRACE_MOST (1u << 22)

#define SP_TRACE_NO_SLOT UINT16_MAX /* no pool has so many */

/* What is noted besides the transitions of sp_history.h, whose numbers end below. */
typedef enum {
    SP_TRACE_WAITS = 64, /* generation: for what, as _core.FOR_SLOT; queue: class or queue */
    SP_TRACE_WOKE,       /* generation: nanoseconds waited */
    SP_TRACE_STALE,      /* somebody used a right that was over */
    SP_TRACE_DIED,       /* noted by the reaper: member and pid are those of the dead */
    SP_TRACE_LEFT,       /* ... of one that left in good order */
} sp_trace_kind;

/* Written once by the tracer, before it tells the id to anybody. */
typedef struct {
    uint64_t magic;
    uint32_t version;
    uint32_t members; /* rings, but for the one of member 0 */
    uint64_t id;
    uint64_t events;    /* in a ring: a power of two */
    uint64_t ring_size; /* bytes from one ring to the next: whole pages */
    uint64_t pid;       /* of the tracer */
    uint8_t unused[16];
} sp_trace_header;

typedef struct {
    sp_atomic_u64 count; /* events that were ever written here */
    uint64_t pid;        /* of the member that wrote last */
    char name[48];
} sp_trace_ring;

typedef struct {
    sp_atomic_u64 turn;    /* 1 + how many came before; 0 while it is being written */
    sp_atomic_u64 when_ns; /* monotonic clock */
    sp_atomic_u64 ticket;  /* slot:16 | generation:48 */
    sp_atomic_u64 what;    /* pid:32 | unused:8 | queue:8 | member:8 | kind:8 */
} sp_trace_event;

_Static_assert(sizeof(sp_trace_header) == 64, "one line");
_Static_assert(sizeof(sp_trace_ring) == 64, "one line");
_Static_assert(sizeof(sp_trace_event) == 32, "two a line");

static inline uint64_t sp_trace_ring_size(uint64_t events)
{
    return sp_up(sizeof(sp_trace_ring) + events * sizeof(sp_trace_event), SP_TRACE_PAGE);
}

static inline uint64_t sp_trace_offset(uint64_t ring_size, uint32_t member)
{
    return SP_TRACE_PAGE + member * ring_size;
}

/* Is it the segment of this tracer, for a pool with so many members? */
static inline bool sp_trace_fits(const sp_trace_header *header, uint64_t id, uint32_t members)
{
    uint64_t events = header->events;
    return header->magic == SP_TRACE_MAGIC && header->version == SP_TRACE_VERSION && header->id == id &&
           header->members == members && events >= SP_TRACE_LEAST && events <= SP_TRACE_MOST &&
           (events & (events - 1)) == 0 && header->ring_size == sp_trace_ring_size(events);
}

/* Only by the member whose ring it is. `mask`: events in it, less one. */
static inline void sp_trace_note(sp_trace_ring *ring, uint64_t mask, uint64_t when_ns, uint64_t ticket,
                                 uint64_t what)
{
    uint64_t count = sp_load_relaxed(&ring->count);
    sp_trace_event *event = (sp_trace_event *)(ring + 1) + (count & mask);
    sp_store_relaxed(&event->turn, 0);
    /* T-begin: no field is seen changed under the old turn, nor under a count that has not come so far. */
    sp_fence_release();
    sp_store_relaxed(&event->when_ns, when_ns);
    sp_store_relaxed(&event->ticket, ticket);
    sp_store_relaxed(&event->what, what);
    /* T-end: the fields precede the turn, and the turn the count. */
    sp_store_release(&event->turn, count + 1);
    sp_store_release(&ring->count, count + 1);
}

#endif
