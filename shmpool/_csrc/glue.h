/* What the files of the extension share. Glue only: arguments -> sp_* -> result or exception.
 *
 *   module.c    the module, constants, the at-fork epoch
 *   geometry.c  counts from Python, checked, and the layout that follows from them
 *   clock.c     the monotonic clock
 *   mapping.c   Mapping: one process's attachment to a pool's memory
 *   getset.c    ... its attributes
 *   refusing.c  ... what is refused
 *   waiting.c   ... who waits for what, and waking them
 *   upkeep.c    ... what is rare, and the reaper's tools
 *   memory.c    ... leasing, fetching memory for slots, giving it back to the system
 *   peek.c      ... reading without a right
 *   place.c     where slots stand in this process: planes and cells
 *   fence.c     what happens when something touches memory whose right is over
 *   touch.c     ... how it is told
 *   handlers.c  ... and to whom all other faults go
 *   span.c      Span: memory that views keep alive, and the end of a right
 *   right.c     RightBase: what LeaseBase and BorrowBase have in common
 *   parting.c   ... and what becomes of their views when they end
 *   array.c     ... and arrays over their memory
 *   lease.c     LeaseBase: the exclusive right to a slot
 *   borrow.c    BorrowBase: the right to read one that is shared
 *   handle.c    what PoolBase and QueueBase have in common
 *   pool.c      PoolBase: acquire, borrow and claim with their fast paths
 *   queue.c     QueueBase: put and get with theirs
 *   spares.h    memory of objects, for the next ones
 *   bell.c      Bell: what wakes another member
 *   doorbell.c  Doorbell: what this one sleeps on, and the wait
 *   methods.c   methods that a Python class has for its own
 *   site.c      where in the user's code we were called from
 *   story.c     notes of what happens to slots
 *   trace.c     ... for a tracer that listens
 *   leaks.c     where rights were taken, for those that nobody ends
 *   poison.c    what stands in free slots and behind all of them, and what is wrong with it
 *
 * Python supplies the words: the methods _stale, _corrupt, _views and _ring of a Mapping's
 * subclass make the exceptions and open the doorbells.
 */
#ifndef SHMPOOL_GLUE_H
#define SHMPOOL_GLUE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "sp_history.h"
#include "sp_reap.h"
#include "sp_trace.h"
#include "sp_wait.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

enum { PAGE = 4096 };

typedef enum { FOR_SLOT = 0, FOR_TICKET = 1, FOR_SPACE = 2 } Waitable;
/* What a thread waits for: a slot of a class, a ticket or space in a queue. */
typedef struct {
    Waitable kind;
    uint32_t index;
    sp_atomic_u64 *mask; /* of those who do */
} Thing;

typedef enum { LIVE = 0, RELEASED = 1, PUT = 2, DETACHED = 3 } Ending;
/* What becomes of views that are alive when their right ends; as in the header. */
typedef enum { VIEWS_FENCE = 0, VIEWS_RAISE = 1, VIEWS_COPY = 2, VIEWS_IGNORE = 3 } Views;

typedef struct {
    PyObject_HEAD
    sp_pool pool;
    struct Region *home[SP_MAX_CLASSES]; /* where the slabs are mapped */
    int slab_fd[SP_MAX_CLASSES]; /* to fetch memory and give it back, -1: none */
    uint32_t *borrows;           /* how many Borrows of each slot are alive here, NULL: none yet */
    uint64_t starved;            /* bytes that the last attempt to grow could not have, 0: none */
    uint64_t control_size;
    uint64_t epoch;         /* fork epoch in which this process joined */
    uint64_t next_check_ns; /* when to look again whether the coordinator lives */
    uint64_t live;          /* rights held through this mapping */
    uint64_t leases;        /* of them, those in the hands of a Lease */
    uint64_t pid;
    uint64_t spin_ns;       /* longest spin before a sleep, 0: never spin */
    bool closed;
    uint32_t views;         /* a Views */
    sp_atomic_u64 truncated; /* a segment is shorter than it was: nothing works any more */
    uint64_t track_every;   /* one right in so many is tracked, 0: none */
    uint64_t taken;         /* rights taken while some are tracked */
    struct Poison *poison;  /* NULL: the pool has none */
    uint64_t trace_id;      /* of the tracer that we looked for last, 0: none yet */
    struct Region *trace;   /* our ring in its segment, NULL: there is none to be had */
    uint64_t trace_mask;    /* events in the ring, less one */
    PyObject *bells;        /* member index -> callable that rings it, or None */
} MappingObject;

/* A line of the user's code: the file without its directory. */
typedef struct {
    char file[48];
    uint32_t line;
} Site;

/* Where a right was taken, and when: see leaks.c. */
typedef struct Tracked Tracked;

/* A right as an object holds it: with a borrow, the word is what its ticket stands for. */
typedef struct {
    sp_right at;
    uint64_t epoch;
    bool borrowed;
} Right;

/* Memory of one right, kept by every view of it. When a lease or borrow is collected before
 * its views, the right passes to the span and ends with the last of them. */
typedef struct SpanObject {
    PyObject_HEAD
    MappingObject *mapping;
    uint8_t *memory;
    Py_ssize_t length;
    bool readonly;
    bool holds;
    Right right;
    struct Region *plane;
    struct Cell *cell; /* where it stands, NULL: where nothing is ever fenced */
    struct SpanObject *kept; /* that lives as long as this one */
    bool exposed;            /* something may refer to its right alone */
} SpanObject;

/* A Lease or a Borrow. */
typedef struct {
    PyObject_HEAD
    MappingObject *mapping;
    SpanObject *span; /* NULL until something looks at the memory */
    PyObject *weakrefs;
    SpanObject *kept; /* spans that may have views which refer to us alone, NULL: none */
    Right right;
    bool exposed; /* something like np.ndarray(buffer=lease) may refer to us alone */
    bool guarded; /* the first of `kept` was shared under views that could write */
    Ending ending;
    uint32_t ended_in; /* queue number, for PUT */
    Tracked *tracked;  /* NULL: it is not */
} RightObject;

/* Goes up in every forked child: what was made under another value is the parent's. */
extern uint64_t fork_epoch;
extern PyTypeObject *mapping_type, *span_type, *right_type, *lease_type, *borrow_type;

static inline sp_member *mapping_me(MappingObject *self)
{
    return &self->pool.members[self->pool.me];
}

/* Not 0: a fence was touched, and nobody has been told. */
extern sp_atomic_u64 touches_pending;

/* clock.c */
uint64_t clock_coarse_ns(void);
uint64_t clock_ns(void);

/* geometry.c */
int geometry_parse(PyObject *counts, sp_geometry *geometry);
int queue_specs_parse(PyObject *specs, sp_pool *pool);

/* mapping.c */
void mapping_right_over(MappingObject *self);

/* refusing.c */
PyObject *raise_instance(PyObject *error);
PyObject *mapping_fail_stale(MappingObject *self, const char *action, uint64_t slot, uint64_t generation,
                             int ending, uint32_t queue);
PyObject *mapping_fail_corrupt(MappingObject *self, const char *what);
int mapping_refuse_foreign(MappingObject *self, RightObject *lease);
int mapping_refuse_shared(MappingObject *self, RightObject *lease, const char *action);
/* A slot of the pool from a Python integer: 0, or -1 with an exception. */
int mapping_slot_from(MappingObject *self, PyObject *number, uint32_t *slot);
/* A ticket from a Python integer whose slot the pool has: 0, or -1 with an exception. */
int mapping_ticket_from(MappingObject *self, PyObject *number, const char *action, uint64_t *ticket);

/* getset.c, waiting.c, upkeep.c, memory.c, peek.c, borrow.c, poison.c: more of Mapping */
extern PyGetSetDef mapping_getset[];
extern PyMethodDef waiting_methods[], upkeep_methods[], memory_methods[], peek_methods[],
    borrowing_methods[], poison_methods[];
sp_atomic_u64 *mapping_mask(MappingObject *self, int kind, unsigned int index);
int mapping_thing_from(MappingObject *self, PyObject *pair, Thing *thing);
void mapping_wait_begin(MappingObject *self, const Thing *thing);
int mapping_pass_on(MappingObject *self, const Thing *thing);
void mapping_count_wait(MappingObject *self, uint64_t waited);
int mapping_ring(MappingObject *self, sp_atomic_u64 *mask);
void mapping_ring_quietly(MappingObject *self, sp_atomic_u64 *mask);
int mapping_ring_some(MappingObject *self, sp_atomic_u64 *mask, long most);
int mapping_ring_everybody(MappingObject *self, sp_atomic_u64 *mask);

/* Can rights be had here? Not before joining, after close, or in a forked child. */
static inline bool mapping_usable(const MappingObject *self)
{
    return sp_load_relaxed(&self->pool.status->status) == SP_OPEN && self->epoch == fork_epoch &&
           !self->closed && !sp_load_relaxed(&self->truncated);
}

/* Can a fast path go on? Not either when it is time to look whether the coordinator lives:
 * then the slow path finds out and says so. */
static inline bool mapping_ready(const MappingObject *self, uint64_t now)
{
    return LIKELY(mapping_usable(self) && now < self->next_check_ns && !sp_load_relaxed(&touches_pending));
}

/* Where a slot begins in the slab of its class. */
static inline uint64_t mapping_slot_offset(const MappingObject *self, uint32_t class, uint32_t slot)
{
    const sp_class_geometry *c = &self->pool.geometry.of_class[class];
    return (slot - c->first) * c->stride;
}

static inline uint64_t mapping_slot_size(const MappingObject *self, uint32_t slot)
{
    return self->pool.geometry.of_class[sp_pool_class_of(&self->pool, slot)].slot_size;
}

/* Who waits for a slot like this one. */
static inline sp_atomic_u64 *mapping_slot_waiting(const MappingObject *self, uint32_t slot)
{
    return self->pool.class_states[sp_pool_class_of(&self->pool, slot)].waiting;
}

/* memory.c */
PyObject *mapping_lease(MappingObject *self, uint32_t class, uint64_t now);

/* span.c */
SpanObject *span_new(MappingObject *mapping, uint8_t *memory, uint64_t length);
SpanObject *span_of_slot(MappingObject *mapping, uint32_t slot);
int span_getbuffer(SpanObject *self, Py_buffer *view, int flags);
bool right_end(MappingObject *mapping, const Right *right);
bool right_left_read(MappingObject *mapping, const Right *right);
void right_end_quietly(MappingObject *mapping, const Right *right);

/* right.c */
PyObject *right_new(PyTypeObject *class, MappingObject *mapping, const sp_right *at, bool borrowed);
int right_usable(RightObject *self, const char *action);
void right_over(RightObject *self, Ending ending, uint32_t queue);
SpanObject *right_span(RightObject *self);
PyObject *right_release(RightObject *self, PyObject *none);
void right_dealloc(RightObject *self);
PyTypeObject *right_subtype(PyType_Spec *spec);
PyObject *right_set_class(PyTypeObject **class, PyTypeObject *base, PyObject *value);

/* parting.c */
int right_part(RightObject *self, const char *action);
int right_guard(RightObject *self, const char *action);
void right_cut_guarded(RightObject *self);
bool right_pass_to_views(RightObject *self);
void right_let_go(RightObject *self);

/* borrow.c, upkeep.c */
PyObject *mapping_borrow(MappingObject *self, PyObject *number);
PyObject *mapping_claim(MappingObject *self, PyObject *number);

/* lease.c */
extern PyTypeObject *lease_class; /* the Python subclass that acquire and get return */
PyObject *lease_new(MappingObject *mapping, const sp_right *right);
void right_describe(RightObject *self, const void *sheet, size_t length);

/* array.c */
PyObject *right_array(RightObject *self, PyObject *const *args, Py_ssize_t count, PyObject *keywords);

/* What the slots taken over from others are worth: bytes that no pipe had to carry. */
static inline void mapping_count_received(MappingObject *self, uint32_t slot)
{
    sp_atomic_u64 *received = &mapping_me(self)->received;
    sp_store_relaxed(received, sp_load_relaxed(received) + mapping_slot_size(self, slot));
}

/* site.c */
bool site_find(Site *site);

/* story.c */
void story_tell(MappingObject *self, uint32_t slot, uint64_t generation, sp_event event, uint32_t queue);
void story_reaped(MappingObject *self, uint32_t slot, uint64_t word, sp_reaped reaped, uint32_t dead);

/* trace.c */
void trace_note(MappingObject *self, uint32_t slot, uint64_t generation, int kind, uint32_t queue);
void trace_note_of_dead(MappingObject *self, uint32_t slot, uint64_t generation, int kind, uint32_t queue,
                        uint32_t dead);
void trace_note_parted(MappingObject *self, uint32_t member);
void trace_leave(MappingObject *self);

/* Does a tracer listen? On the line that mapping_usable has just read. */
static inline bool mapping_traced(const MappingObject *self)
{
    return sp_load_relaxed(&self->pool.status->trace) != 0;
}

/* Does anybody want to know what happens to slots? One branch on the fast paths. */
static inline bool mapping_told(const MappingObject *self)
{
    return (self->pool.geometry.history | sp_load_relaxed(&self->pool.status->trace)) != 0;
}

/* Note what has just happened to a slot, under the generation that it began with. */
static inline void mapping_note(MappingObject *self, uint32_t slot, uint64_t generation, sp_event event,
                                uint32_t queue)
{
    if (UNLIKELY(mapping_told(self)))
        story_tell(self, slot, generation, event, queue);
}

/* Note the end of a right. */
static inline void mapping_note_end(MappingObject *self, const Right *right, sp_event event)
{
    mapping_note(self, right->at.slot, sp_word_generation(right->at.word),
                 right->borrowed ? SP_WAS_RETURNED : event, SP_NO_QUEUE);
}

/* leaks.c */
void right_track(RightObject *self);
void right_untrack(RightObject *self);
Tracked *right_found_dead(RightObject *self);
void right_tell_leak(RightObject *self, Tracked *leaked);

/* poison.c */
void poison_begin(MappingObject *self, uint32_t slot);
sp_right poison_fill(MappingObject *self, const sp_right *at);
int poison_check(MappingObject *self, const sp_right *right);
int poison_check_around(MappingObject *self, const Right *right, const char *action);
void poison_check_quietly(MappingObject *self, const Right *right);
void poison_free(MappingObject *self);

/* Has nobody written past the slot? -1 with SlotOverrunError if somebody has; the right goes on. */
static inline int right_whole(RightObject *self, const char *action)
{
    bool looks = UNLIKELY(self->mapping->poison != NULL) && !self->right.borrowed;
    return looks ? poison_check_around(self->mapping, &self->right, action) : 0;
}

/* Steps in building the module: 0 or -1. */
int module_add_type(PyObject *module, PyType_Spec *spec); /* one that C need not know later */
int module_add_geometry(PyObject *module);
int module_add_mapping(PyObject *module);
int module_add_span(PyObject *module);
int module_add_right(PyObject *module);
int module_add_array(PyObject *module);
int module_add_lease(PyObject *module);
int module_add_borrow(PyObject *module);
int module_add_pool(PyObject *module);
int module_add_queue(PyObject *module);
int module_add_bell(PyObject *module);
int module_add_doorbell(PyObject *module);
int module_add_site(PyObject *module);
int module_add_methods(PyObject *module);
int module_add_touch(PyObject *module);
int module_add_fence(PyObject *module);
int module_add_handlers(PyObject *module);
int module_add_story(PyObject *module);
int module_add_leaks(PyObject *module);

#endif
