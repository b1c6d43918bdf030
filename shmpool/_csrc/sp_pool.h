/* One process's handle on a pool: private geometry, and where each table is mapped here. */
#ifndef SP_POOL_H
#define SP_POOL_H

#include "sp_layout.h"
#include "sp_word.h"

typedef struct {
    sp_geometry geometry;
    sp_queue_spec queue_spec[SP_MAX_QUEUES]; /* private copies, checked at attach */
    uint8_t *base;
    sp_status *status;
    sp_class_state *class_states;
    sp_queue_state *queue_states;
    sp_atomic_u64 *readers; /* whose each reader id is: a member index, 0 for nobody's */
    sp_member *members;
    sp_slot *slots;
    uint32_t reuse;
    uint32_t me;                        /* own member index, 0 before joining */
    uint32_t reader;                    /* own reader id + 1, 0 before the first borrow */
    uint32_t cursor[SP_MAX_CLASSES];    /* where the next search of a free map starts */
    uint32_t grown[SP_MAX_CLASSES];     /* where the next search for an uncommitted slot starts */
    uint64_t seen_head[SP_MAX_QUEUES];  /* of each ring, as it was when its size mattered last */
    uint32_t last_rung;                 /* whom we woke last: the next one is after it */
} sp_pool;

static inline void sp_pool_bind(sp_pool *pool, void *base)
{
    const sp_geometry *g = &pool->geometry;
    pool->base = base;
    pool->status = (sp_status *)(pool->base + g->status);
    pool->class_states = (sp_class_state *)(pool->base + g->class_states);
    pool->queue_states = (sp_queue_state *)(pool->base + g->queue_states);
    pool->readers = (sp_atomic_u64 *)(pool->base + g->readers);
    pool->members = (sp_member *)(pool->base + g->member_table);
    pool->slots = (sp_slot *)(pool->base + g->slot_table);
}

static inline sp_atomic_u64 *sp_pool_ring(const sp_pool *pool, uint32_t queue)
{
    uint64_t ring = (uint64_t)(queue - 1) * pool->geometry.ring_cells * sizeof(sp_atomic_u64);
    return (sp_atomic_u64 *)(pool->base + pool->geometry.rings + ring);
}

static inline sp_queue_state *sp_pool_queue(const sp_pool *pool, uint32_t queue)
{
    return &pool->queue_states[queue - 1];
}

static inline sp_sheet *sp_pool_sheet(const sp_pool *pool, uint32_t slot)
{
    uint64_t at = (uint64_t)slot * pool->geometry.sheet_stride;
    return (sp_sheet *)(pool->base + pool->geometry.sheets + at);
}

/* The class of a slot, by its number; slots are numbered class by class. */
static inline uint32_t sp_pool_class_of(const sp_pool *pool, uint32_t slot)
{
    uint32_t i = pool->geometry.classes - 1;
    while (slot < pool->geometry.of_class[i].first)
        i--;
    return i;
}

/* The smallest class whose slots have `nbytes` bytes; the number of classes if none has. */
static inline uint32_t sp_pool_fitting(const sp_pool *pool, uint64_t nbytes)
{
    uint32_t i = 0;
    while (i < pool->geometry.classes && pool->geometry.of_class[i].slot_size < nbytes)
        i++;
    return i;
}

#endif
