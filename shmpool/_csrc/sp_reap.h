/* Giving back what a dead member held. Called by the coordinator's reaper alone, for a
 * member that the kernel says is dead: nothing moves under that owner byte but by us
 * and by claimers of its tickets.
 */
#ifndef SP_REAP_H
#define SP_REAP_H

#include "sp_commit.h"
#include "sp_member.h"
#include "sp_share.h"

typedef enum {
    SP_REAP_NOTHING = 0,
    SP_REAP_FREED,
    SP_REAP_REQUEUED,
    SP_REAP_DEAD_LETTER,
    SP_REAP_ADOPTED,  /* a queued ticket that was in no ring */
    SP_REAP_DETACHED, /* a ticket outside every queue: freed later if nobody claims it */
    SP_REAP_QUARANTINED,
    SP_REAP_UNCOMMITTED,
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

/* Who died holding it, and which queue it came from; kept from the queue that gave it up on
 * is the letter, whose reason it is. */
static inline void sp_reap_note(sp_pool *pool, uint32_t slot, uint32_t dead, uint32_t queue, uint32_t letter)
{
    sp_atomic_u64 *death = &pool->slots[slot].death;
    uint64_t pid = sp_identity_pid(sp_load_relaxed(&pool->members[dead].identity));
    uint64_t kept = letter ? (uint64_t)letter << 8 : sp_load_relaxed(death) & 0xff00;
    sp_store_relaxed(death, pid << 32 | kept | queue);
}

static inline bool sp_reap_quarantines(const sp_pool *pool, uint32_t queue)
{
    return queue != SP_NO_QUEUE && queue <= pool->geometry.queues &&
           pool->queue_spec[queue - 1].on_death == SP_QUARANTINE;
}

/* LEASED(dead, q, g) -> QUARANTINED(q, g+1): held out with its bytes, until it is claimed. */
static inline sp_reaped sp_reap_quarantine(sp_pool *pool, uint32_t slot, uint64_t word)
{
    uint64_t held = sp_word(SP_QUARANTINED, SP_NOBODY, sp_word_queue(word), sp_word_generation(word) + 1);
    return sp_cas_seq_cst(&pool->slots[slot].word, word, held) ? SP_REAP_QUARANTINED : SP_REAP_NOTHING;
}

static inline sp_reaped sp_reap_free(sp_pool *pool, uint32_t slot, uint64_t word)
{
    return sp_slot_end(pool, slot, word) ? SP_REAP_FREED : SP_REAP_NOTHING;
}

/* Take over the tickets of a dead sender that stand in a ring: how many. Whatever is still in
 * its name after that stands in none, because a live cell is never written over. */
static inline uint32_t sp_reap_ring(sp_pool *pool, uint32_t queue, uint32_t dead)
{
    sp_atomic_u64 *cells = sp_pool_ring(pool, queue);
    uint32_t adopted = 0;
    for (uint32_t i = 0; i < pool->geometry.ring_cells; i++) {
        uint64_t ticket = sp_load_seq_cst(&cells[i]);
        uint64_t word = ticket ? sp_ring_live(pool, queue, ticket) : 0; /* 0: never written */
        if (word && sp_word_owner(word) == dead)
            adopted += sp_cas_seq_cst(&pool->slots[sp_ticket_slot(ticket)].word, word,
                                      sp_word_with_owner(word, pool->me));
    }
    sp_ring_step_tail(pool, queue); /* it may have died between cell and tail */
    return adopted;
}

/* First of all: a ticket that got a second cell could be lost, for the rule that carries the
 * ring (see sp_ring.h) knows that a dead cell at tail is of an earlier lap. */
static inline uint32_t sp_reap_rings(sp_pool *pool, uint32_t dead)
{
    uint32_t adopted = 0;
    for (uint32_t queue = 1; queue <= pool->geometry.queues; queue++)
        adopted += sp_reap_ring(pool, queue, dead);
    return adopted;
}

/* QUEUED(dead, q, g) and in no ring: it died between word and cell. Nobody can take the ticket
 * before it is there. Then it is ours. */
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

/* LEASED(dead, q, g): back to its queue under a new generation, into quarantine, or free. */
static inline sp_reaped sp_reap_leased(sp_pool *pool, uint32_t slot, uint64_t word)
{
    sp_slot *record = &pool->slots[slot];
    uint64_t delivery = sp_load_relaxed(&record->delivery);
    uint64_t attempts = (delivery >> 32) + 1;
    uint32_t queue = sp_word_queue(word);
    uint32_t target = sp_reap_target(pool, queue, attempts);
    uint64_t generation = sp_word_generation(word);
    bool quarantine = sp_reap_quarantines(pool, queue);
    if ((target == SP_NO_QUEUE && !quarantine) || generation == SP_GENERATION_MAX)
        return sp_reap_free(pool, slot, word);
    sp_reap_note(pool, slot, sp_word_owner(word), queue, target == queue || quarantine ? 0 : queue);
    sp_store_relaxed(&record->delivery, attempts << 32 | (delivery & UINT32_MAX));
    if (quarantine)
        return sp_reap_quarantine(pool, slot, word);
    /* A new generation: the old ticket's cell must never come alive again. Still in the name of
     * the dead, so that a reaper which is killed before the cell leaves a dead sender's ticket. */
    uint64_t queued = sp_word(SP_QUEUED, sp_word_owner(word), target, generation + 1);
    if (!sp_cas_seq_cst(&record->word, word, queued))
        return SP_REAP_NOTHING;
    if (sp_reap_queued(pool, slot, queued) == SP_REAP_CORRUPT)
        return SP_REAP_CORRUPT;
    return target == queue ? SP_REAP_REQUEUED : SP_REAP_DEAD_LETTER;
}

/* SHARED(dead, g): its readers may finish. */
static inline sp_reaped sp_reap_shared(sp_pool *pool, uint32_t slot, uint64_t word)
{
    return sp_shared_end(pool, slot, word) ? SP_REAP_FREED : SP_REAP_NOTHING;
}

/* UNCOMMITTED(dead, g): whether there is memory by now, nobody needs to know. */
static inline sp_reaped sp_reap_uncommitted(sp_pool *pool, uint32_t slot, uint64_t word)
{
    return sp_commit_undo(pool, slot, word) ? SP_REAP_UNCOMMITTED : SP_REAP_NOTHING;
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
    case SP_SHARED:
        return sp_reap_shared(pool, slot, word);
    case SP_UNCOMMITTED:
        return sp_reap_uncommitted(pool, slot, word);
    default: /* no other state has an owner */
        return SP_REAP_NOTHING;
    }
}

/* A kill between taking a bit and the CAS on the word hides a free slot: show it again.
 * Racing with a live taker this sets a bit too many, which costs somebody one failed CAS.
 * And a kill between the end of a shared right and the look at its readers, or between the
 * clearing of a bit and that look, leaves a slot draining that nobody reads. */
static inline bool sp_reap_show(sp_pool *pool, uint32_t slot)
{
    if (sp_drain(pool, slot))
        return true;
    if (sp_word_state(sp_load_seq_cst(&pool->slots[slot].word)) != SP_FREE || sp_slot_shown(pool, slot))
        return false;
    sp_slot_give(pool, slot);
    return true;
}

static inline void sp_reap_reader(sp_pool *pool, uint32_t reader)
{
    for (uint32_t slot = 0; slot < pool->geometry.slots; slot++)
        if (sp_load_seq_cst(&pool->slots[slot].readers[reader / 64]) & sp_bit(reader))
            sp_give_back(pool, slot, reader);
}

/* Every bit of a dead member; only then can the reader id be somebody else's. */
static inline void sp_reap_readers(sp_pool *pool, uint32_t dead)
{
    for (uint32_t reader = 0; reader < SP_MAX_READERS; reader++)
        if (sp_load_seq_cst(&pool->readers[reader]) == dead) {
            sp_reap_reader(pool, reader);
            sp_store_release(&pool->readers[reader], SP_NOBODY);
        }
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
