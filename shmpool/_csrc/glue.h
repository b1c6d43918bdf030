/* What the files of the extension share. Glue only: arguments -> sp_* -> result or exception.
 *
 *   module.c    the module, constants, the at-fork epoch
 *   geometry.c  counts from Python, checked, and the layout that follows from them
 *   mapping.c   Mapping: one process's attachment to a pool's memory
 *   waiting.c   ... who waits for what, and waking them
 *   upkeep.c    ... what is rare, and the reaper's tools
 *   lease.c     Span: memory that views keep alive; LeaseBase: the right to a slot
 *   handles.c   PoolBase, QueueBase: acquire, put and get with their fast paths
 *   bell.c      Bell: what a member sleeps on
 *
 * Python supplies the words: the methods _stale, _corrupt, _views and _ring of a Mapping's
 * subclass make the exceptions and open the doorbells.
 */
#ifndef SHMPOOL_GLUE_H
#define SHMPOOL_GLUE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "sp_reap.h"
#include "sp_wait.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

typedef enum { FOR_SLOT = 0, FOR_TICKET = 1, FOR_SPACE = 2 } Waitable;
typedef enum { LIVE = 0, RELEASED = 1, PUT = 2, DETACHED = 3 } Ending;

typedef struct {
    PyObject_HEAD
    sp_pool pool;
    uint8_t *slab[SP_MAX_CLASSES];
    uint64_t control_size;
    uint64_t epoch;         /* fork epoch in which this process joined */
    uint64_t next_check_ns; /* when to look again whether the coordinator lives */
    uint64_t live;          /* rights held through this mapping */
    uint64_t leases;        /* of them, those in the hands of a Lease */
    uint64_t pid;
    uint64_t spin_ns;       /* longest spin before a sleep, 0: never spin */
    bool closed;
    bool ignore_views;      /* end leases whatever still looks at them */
    PyObject *bells;        /* member index -> callable that rings it, or None */
} MappingObject;

/* Memory of one lease, kept by every view of it. When the lease is collected before its
 * views, the right passes to the span and ends with the last of them. */
typedef struct {
    PyObject_HEAD
    MappingObject *mapping;
    uint8_t *memory;
    Py_ssize_t length;
    uint64_t epoch;
    sp_right right;
    bool holds;
} SpanObject;

typedef struct {
    PyObject_HEAD
    MappingObject *mapping;
    SpanObject *span; /* NULL until something looks at the memory */
    PyObject *weakrefs;
    uint64_t epoch;
    sp_right right;
    Ending ending;
    uint32_t ended_in; /* queue number, for PUT */
} LeaseObject;

/* Goes up in every forked child: what was made under another value is the parent's. */
extern uint64_t fork_epoch;
extern PyTypeObject *mapping_type, *span_type, *lease_type;

static inline sp_member *mapping_me(MappingObject *self)
{
    return &self->pool.members[self->pool.me];
}

uint64_t clock_coarse_ns(void);
uint64_t clock_ns(void);

/* geometry.c */
int geometry_parse(PyObject *counts, sp_geometry *geometry);
int queue_specs_parse(PyObject *specs, sp_pool *pool);

/* mapping.c */
PyObject *mapping_fail_stale(MappingObject *self, const char *action, uint64_t slot, uint64_t generation,
                             int ending, uint32_t queue);
PyObject *mapping_fail_corrupt(MappingObject *self, const char *what);
int mapping_ring(MappingObject *self, sp_atomic_u64 *mask);
void mapping_ring_quietly(MappingObject *self, sp_atomic_u64 *mask);
void mapping_right_over(MappingObject *self);
int mapping_refuse_foreign(MappingObject *self, LeaseObject *lease);

/* waiting.c, upkeep.c: more methods of Mapping */
extern PyMethodDef waiting_methods[], upkeep_methods[];
sp_atomic_u64 *mapping_mask(MappingObject *self, int kind, unsigned int index);
int mapping_ring_everybody(MappingObject *self, sp_atomic_u64 *mask);

/* Can rights be had here? Not before joining, after close, or in a forked child. */
static inline bool mapping_usable(const MappingObject *self)
{
    return sp_load_relaxed(&self->pool.status->status) == SP_OPEN && self->epoch == fork_epoch &&
           !self->closed;
}

/* Can a fast path go on? Not either when it is time to look whether the coordinator lives:
 * then the slow path finds out and says so. */
static inline bool mapping_ready(const MappingObject *self, uint64_t now)
{
    return LIKELY(mapping_usable(self) && now < self->next_check_ns);
}

/* lease.c */
SpanObject *span_new(MappingObject *mapping, uint8_t *memory, uint64_t length);
PyObject *lease_new(MappingObject *mapping, const sp_right *right);
int lease_usable(LeaseObject *self, const char *action);
int lease_unviewed(LeaseObject *self, const char *action);
void lease_over(LeaseObject *self, Ending ending, uint32_t queue);

/* Steps in building the module: 0 or -1. */
int module_add_geometry(PyObject *module);
int module_add_mapping(PyObject *module);
int module_add_lease(PyObject *module);
int module_add_handles(PyObject *module);
int module_add_bell(PyObject *module);

#endif
