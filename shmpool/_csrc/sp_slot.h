/* The life of a slot: each change of right is one compare-and-swap on its word.
 *
 *   glossary  right: slot + word as its holder wrote it; ended: free under the next
 *             generation; give: set the hint in the free map
 *
 *   invariants; audit() checks these, each under its number, while nobody moves
 *     I1  free + leased + queued + shared + draining + uncommitted + retired + quarantined == slots
 *     I2  1 <= generation(word) <= 2^48 - 1, and retired => generation(word) == 2^48 - 1
 *     I3  state in {LEASED, QUEUED, SHARED} => owner != 0, and
 *         owner != 0 => state in {LEASED, QUEUED, SHARED, UNCOMMITTED}
 *     I4  owner != 0 => the owner's entry in the member table is taken
 *     I5  queue != 0 => state in {LEASED, QUEUED, QUARANTINED}, and it is one of the pool's
 *     I6  QUEUED in a queue => its ticket stands in that ring, from head on and before tail
 *     I7  FREE => its bit in the free map is set, and the bit above it in the summary
 *     I8  a reader's bit => state in {SHARED, DRAINING}, and that reader id is somebody's
 *     I9  DRAINING => a reader's bit
 *     I10 uncommitted slots of a class <= the class's hint of them
 *     I11 0 <= tail - head <= ring cells
 *
 *   while others move, a kill or an operation in its middle may leave I6 (the reaper inserts),
 *   I7 (the reaper sets), I8 (a bit set in vain; its owner or the reaper clears it) and I9 (the
 *   reaper frees). Nobody's right depends on these four. And over time: a generation, once
 *   ended, never comes back.
 */
#ifndef SP_SLOT_H
#define SP_SLOT_H

#include "sp_freemap.h"
#include "sp_ring.h"

static inline void sp_slot_give(sp_pool *pool, uint32_t slot)
{
    uint32_t class = sp_pool_class_of(pool, slot);
    sp_freemap map = sp_freemap_of(pool, class);
    sp_freemap_give(&map, slot - pool->geometry.of_class[class].first);
}

/* Does the free map say that it is free? */
static inline bool sp_slot_shown(const sp_pool *pool, uint32_t slot)
{
    uint32_t class = sp_pool_class_of(pool, slot);
    sp_freemap map = sp_freemap_of(pool, class);
    return sp_freemap_shows(&map, slot - pool->geometry.of_class[class].first);
}

/* End a right: true if it was still what `word` says. */
static inline bool sp_slot_end(sp_pool *pool, uint32_t slot, uint64_t word)
{
    uint64_t ended = sp_word_ended(word);
    /* The holder's last reads and writes precede the next holder's first. */
    if (!sp_cas_acq_rel(&pool->slots[slot].word, word, ended))
        return false;
    if (sp_word_state(ended) == SP_FREE)
        sp_slot_give(pool, slot);
    return true;
}

/* A fresh right: no deliveries, no description. Written by the owner alone. */
static inline void sp_slot_begin(sp_slot *slot, uint64_t now)
{
    /* P-begin pairs with P-check: the word, then the new holder's bytes. */
    sp_fence_release();
    sp_store_relaxed(&slot->since_ns, now);
    sp_store_relaxed(&slot->delivery, 0);
    sp_store_relaxed(&slot->death, 0);
}

static inline bool sp_slot_try_lease(sp_pool *pool, uint32_t slot, uint64_t now, sp_right *right)
{
    uint64_t word = sp_load_acquire(&pool->slots[slot].word);
    if (sp_word_state(word) != SP_FREE)
        return false;
    uint64_t leased = sp_word(SP_LEASED, pool->me, SP_NO_QUEUE, sp_word_generation(word));
    if (!sp_cas_acq_rel(&pool->slots[slot].word, word, leased))
        return false;
    sp_slot_begin(&pool->slots[slot], now);
    *right = (sp_right){.slot = slot, .word = leased};
    return true;
}

/* Where the next search starts: warm, always at the member's own place, so that the slot
 * which was free last comes back first; cold, after the one just taken. */
static inline void sp_acquire_move_cursor(sp_pool *pool, uint32_t class, uint32_t taken)
{
    if (pool->reuse == SP_COLD)
        pool->cursor[class] = (taken + 1) % pool->geometry.of_class[class].max_count;
}

/* Lease a free slot of one class: SP_OK or SP_EMPTY. */
static inline sp_result sp_acquire(sp_pool *pool, uint32_t class, uint64_t now, sp_right *right)
{
    const sp_class_geometry *c = &pool->geometry.of_class[class];
    sp_freemap map = sp_freemap_of(pool, class);
    /* Each round consumes a wrong bit, so this many rounds have seen every slot. */
    for (uint32_t round = 0; round <= c->max_count; round++) {
        int64_t taken = sp_freemap_take(&map, pool->cursor[class]);
        if (taken < 0)
            return SP_EMPTY;
        if (taken < c->max_count && sp_slot_try_lease(pool, c->first + (uint32_t)taken, now, right)) {
            sp_acquire_move_cursor(pool, class, (uint32_t)taken);
            return SP_OK;
        }
    }
    return SP_EMPTY;
}

static inline sp_result sp_release(sp_pool *pool, const sp_right *right)
{
    return sp_slot_end(pool, right->slot, right->word) ? SP_OK : SP_STALE;
}

/* LEASED(me, g) -> QUEUED(me, queue, g+1), the ticket not yet in any ring. */
static inline sp_result sp_send(sp_pool *pool, const sp_right *right, uint32_t queue, uint64_t now,
                                uint64_t *ticket)
{
    sp_slot *slot = &pool->slots[right->slot];
    uint64_t generation = sp_word_generation(right->word);
    if (generation == SP_GENERATION_MAX)
        return SP_SPENT;
    if (sp_load_acquire(&slot->word) != right->word)
        return SP_STALE;
    /* Still mine, so these are mine to write: a new delivery with no attempts yet. */
    sp_store_relaxed(&slot->since_ns, now);
    sp_store_relaxed(&slot->delivery, sp_load_relaxed(&slot->delivery) & UINT32_MAX);
    sp_store_relaxed(&slot->death, 0);
    /* R-publish pairs with R-claim: the payload precedes the QUEUED word. */
    uint64_t queued = sp_word(SP_QUEUED, pool->me, queue, generation + 1);
    if (!sp_cas_seq_cst(&slot->word, right->word, queued))
        return SP_STALE;
    *ticket = sp_ticket(right->slot, generation + 1);
    return SP_OK;
}

static inline sp_result sp_put(sp_pool *pool, const sp_right *right, uint32_t queue, uint64_t now)
{
    uint64_t ticket;
    sp_result result = sp_send(pool, right, queue, now, &ticket);
    return result == SP_OK ? sp_ring_insert(pool, queue, ticket) : result;
}

static inline sp_result sp_get(sp_pool *pool, uint32_t queue, uint64_t now, sp_right *right)
{
    sp_result result = sp_ring_claim(pool, queue, right);
    if (result == SP_OK)
        sp_store_relaxed(&pool->slots[right->slot].since_ns, now);
    return result;
}

/* A ticket that travels outside every queue. */
static inline sp_result sp_detach(sp_pool *pool, const sp_right *right, uint64_t now, uint64_t *ticket)
{
    return sp_send(pool, right, SP_NO_QUEUE, now, ticket);
}

/* Can this ticket be claimed? Its slot's word as seen, 0 if not. */
static inline uint64_t sp_claimable(const sp_pool *pool, uint64_t ticket)
{
    uint64_t word = sp_load_seq_cst(&pool->slots[sp_ticket_slot(ticket)].word);
    uint64_t generation = sp_ticket_generation(ticket);
    bool detached = sp_word_is(word, SP_QUEUED, generation) && sp_word_queue(word) == SP_NO_QUEUE;
    return detached || sp_word_is(word, SP_QUARANTINED, generation) ? word : 0;
}

/* A ticket that was detached, or is in quarantine: LEASED(me, g). */
static inline sp_result sp_claim(sp_pool *pool, uint64_t ticket, uint64_t now, sp_right *right)
{
    uint32_t slot = sp_ticket_slot(ticket);
    if (slot >= pool->geometry.slots)
        return SP_CORRUPT;
    uint64_t word = sp_claimable(pool, ticket);
    uint64_t claimed = sp_word(SP_LEASED, pool->me, SP_NO_QUEUE, sp_ticket_generation(ticket));
    while (word && !sp_cas_seq_cst(&pool->slots[slot].word, word, claimed))
        word = sp_claimable(pool, ticket); /* the owner byte changed: once, by the reaper */
    if (!word)
        return SP_STALE;
    sp_fence_release(); /* P-begin */
    sp_store_relaxed(&pool->slots[slot].since_ns, now);
    *right = (sp_right){.slot = slot, .word = claimed};
    return SP_OK;
}

/* A slot just leased takes the place of one that is too small: the queue it was taken from,
 * and the attempts. Killed before the small one is released: both are delivered again. */
static inline sp_result sp_inherit(sp_pool *pool, sp_right *heir, const sp_right *from)
{
    uint64_t word = heir->word;
    uint64_t heard = sp_word(SP_LEASED, pool->me, sp_word_queue(from->word), sp_word_generation(word));
    sp_slot *slot = &pool->slots[heir->slot];
    uint64_t attempts = sp_load_relaxed(&pool->slots[from->slot].delivery) & ~(uint64_t)UINT32_MAX;
    sp_store_relaxed(&slot->delivery, attempts);
    sp_store_relaxed(&slot->death, sp_load_relaxed(&pool->slots[from->slot].death));
    if (!sp_cas_acq_rel(&slot->word, word, heard))
        return SP_STALE;
    heir->word = heard;
    return SP_OK;
}

#endif
