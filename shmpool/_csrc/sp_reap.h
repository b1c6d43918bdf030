/* Giving back what a dead member held. Called by the coordinator's reaper alone, for a
 * member that the kernel says is dead: nothing moves under that owner byte but by us
 * and by claimers of its tickets.
 */
#ifndef SP_REAP_H
#define SP_REAP_H

#include "sp_member.h"
#include "sp_slot.h"

typedef enum {
    SP_REAP_NOTHING = 0,
    SP_REAP_FREED,
    SP_REAP_REQUEUED,
    SP_REAP_DEAD_LETTER,
    SP_REAP_ADOPTED,  /* a queued ticket, put into its ring again */
    SP_REAP_DETACHED, /* a ticket outside every queue: freed later if nobody claims it */
    SP_REAP_CORRUPT,
} sp_reaped;

/* Where a slot goes whose holder had taken it from `queue`: a queue number, or 0 to free it. */
static inline uint32_t sp_reap_target(const sp_pool *pool, uint32_t queue, uint64_t attempts)
{
    if (queue == SP_NO_QUEUE || queue > pool->geometry.queues)
        return SP_NO_QUEUE;
    const sp_queue_spec *spec = &pool->queue_spec[queue - 1];
    if (spec->on_death != SP_REQUEUE)
        return SP_NO_QUEUE;
    bool spent = spec->max_attempts && attempts >= spec->max_attempts;
    return spent ? spec->dead_letter : queue;
}

static inline sp_reaped sp_reap_free(sp_pool *pool, uint32_t slot, uint64_t word)
{
    return sp_slot_end(pool, slot, word) ? SP_REAP_FREED : SP_REAP_NOTHING;
}

/* LEASED(dead, q, g): back to its queue under a new generation, or free. */
static inline sp_reaped sp_reap_leased(sp_pool *pool, uint32_t slot, uint64_t word)
{
    sp_slot *record = &pool->slots[slot];
    uint64_t delivery = sp_load_relaxed(&record->delivery);
    uint64_t attempts = (delivery >> 32) + 1;
    uint32_t queue = sp_word_queue(word);
    uint32_t target = sp_reap_target(pool, queue, attempts);
    uint64_t generation = sp_word_generation(word);
    if (target == SP_NO_QUEUE || generation == SP_GENERATION_MAX)
        return sp_reap_free(pool, slot, word);
    sp_store_relaxed(&record->delivery, attempts << 32 | (delivery & UINT32_MAX));
    /* A new generation: the old ticket's cell must never come alive again. */
    if (!sp_cas_seq_cst(&record->word, word, sp_word(SP_QUEUED, pool->me, target, generation + 1)))
        return SP_REAP_NOTHING;
    if (sp_ring_insert(pool, target, sp_ticket(slot, generation + 1)) != SP_OK)
        return SP_REAP_CORRUPT;
    return target == queue ? SP_REAP_REQUEUED : SP_REAP_DEAD_LETTER;
}

/* QUEUED(dead, q, g): it may have died between word and cell, so insert the ticket (a second
 * cell of it is a dead cell once the first is claimed), then take it over: once, which is
 * what bounds the ring. */
static inline sp_reaped sp_reap_queued(sp_pool *pool, uint32_t slot, uint64_t word)
{
    uint32_t queue = sp_word_queue(word);
    bool outside = queue == SP_NO_QUEUE || queue > pool->geometry.queues;
    if (!outside &&
        sp_ring_insert(pool, queue, sp_ticket(slot, sp_word_generation(word))) != SP_OK)
        return SP_REAP_CORRUPT;
    if (!sp_cas_seq_cst(&pool->slots[slot].word, word, sp_word_with_owner(word, pool->me)))
        return SP_REAP_NOTHING; /* somebody claimed it meanwhile */
    return outside ? SP_REAP_DETACHED : SP_REAP_ADOPTED;
}

static inline sp_reaped sp_reap_slot(sp_pool *pool, uint32_t slot, uint32_t dead)
{
    uint64_t word = sp_load_seq_cst(&pool->slots[slot].word);
    if (sp_word_owner(word) != dead)
        return SP_REAP_NOTHING;
    switch (sp_word_state(word)) {
    case SP_LEASED:
        return sp_reap_leased(pool, slot, word);
    case SP_QUEUED:
        return sp_reap_queued(pool, slot, word);
    default: /* no other state has an owner yet */
        return SP_REAP_NOTHING;
    }
}

/* A kill between taking a bit and the CAS on the word hides a free slot: show it again.
 * Racing with a live taker this sets a bit too many, which costs somebody one failed CAS. */
static inline bool sp_reap_show(sp_pool *pool, uint32_t slot)
{
    uint32_t class = sp_pool_class_of(pool, slot);
    uint32_t i = slot - pool->geometry.of_class[class].first;
    sp_freemap map = sp_freemap_of(pool, class);
    if (sp_word_state(sp_load_seq_cst(&pool->slots[slot].word)) != SP_FREE)
        return false;
    bool shown = sp_load_seq_cst(&map.words[i / 64]) & sp_bit(i);
    bool summed = !map.summary || sp_load_seq_cst(&map.summary[i / 4096]) & sp_bit(i / 64);
    if (shown && summed)
        return false;
    sp_freemap_give(&map, i);
    return true;
}

static inline void sp_reap_waiting(sp_pool *pool, uint32_t dead)
{
    const sp_geometry *g = &pool->geometry;
    for (uint32_t i = 0; i < g->classes; i++)
        sp_fetch_and_seq_cst(&pool->class_states[i].waiting[dead / 64], ~sp_bit(dead));
    for (uint32_t i = 0; i < g->queues; i++) {
        sp_fetch_and_seq_cst(&pool->queue_states[i].waiting[dead / 64], ~sp_bit(dead));
        sp_fetch_and_seq_cst(&pool->queue_states[i].waiting_space[dead / 64], ~sp_bit(dead));
    }
}

#endif
