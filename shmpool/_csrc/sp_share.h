/* Sharing: one slot read by many members at once, and freed by the last of them.
 *
 *   share        LEASED(me, g) -> SHARED(me, g)                     the owner reads on, too
 *   borrow       own bit in the readers, then the word again        SHARED(g): held
 *   give back    clear the bit, then drain
 *   end shared   SHARED(me, g) -> DRAINING(g+1), then drain         no borrow begins any more
 *   drain        DRAINING(g) with no bit set -> FREE(g)             whoever comes last
 *   peek         copy, then ask whether the word stayed the same    no right, no bit
 *
 * A bit and not a count, because the bit of a dead reader can be cleared. A borrower sets
 * its bit before it looks at the word, and the word is DRAINING before anybody looks at
 * the bits, all seq_cst: one of the two sees the other. Acquire and release are not enough
 * (tests/races weakens them, and a reader is on a recycled slot).
 */
#ifndef SP_SHARE_H
#define SP_SHARE_H

#include "sp_slot.h"

/* A reader id of one's own, taken at the first borrow: false if all 256 are taken. */
static inline bool sp_reader_take(sp_pool *pool)
{
    for (uint32_t id = 0; id < SP_MAX_READERS && !pool->reader; id++)
        if (sp_load_relaxed(&pool->readers[id]) == SP_NOBODY &&
            sp_cas_acq_rel(&pool->readers[id], SP_NOBODY, pool->me))
            pool->reader = id + 1;
    sp_store_relaxed(&pool->members[pool->me].reader, pool->reader);
    return pool->reader != 0;
}

static inline bool sp_readers_any(const sp_slot *slot)
{
    uint64_t any = 0;
    for (uint32_t i = 0; i < SP_MASK_WORDS; i++)
        any |= sp_load_seq_cst(&slot->readers[i]);
    return any != 0;
}

/* Free a slot that nobody may borrow any more and nobody reads: true if this did it. */
static inline bool sp_drain(sp_pool *pool, uint32_t number)
{
    sp_slot *slot = &pool->slots[number];
    uint64_t word = sp_load_seq_cst(&slot->word);
    /* D-look pairs with B-enter: DRAINING, then the bits. */
    if (sp_word_state(word) != SP_DRAINING || sp_readers_any(slot))
        return false;
    uint64_t free = sp_word(SP_FREE, SP_NOBODY, SP_NO_QUEUE, sp_word_generation(word));
    if (!sp_cas_seq_cst(&slot->word, word, free))
        return false;
    sp_slot_give(pool, number);
    return true;
}

/* LEASED(me, g) -> SHARED(me, g); the ticket is good for any number of borrows. */
static inline sp_result sp_share(sp_pool *pool, sp_right *right, uint64_t *ticket)
{
    uint64_t generation = sp_word_generation(right->word);
    if (generation == SP_GENERATION_MAX)
        return SP_SPENT; /* DRAINING needs one more */
    uint64_t shared = sp_word(SP_SHARED, pool->me, SP_NO_QUEUE, generation);
    /* The payload precedes the SHARED word. */
    if (!sp_cas_seq_cst(&pool->slots[right->slot].word, right->word, shared))
        return SP_STALE;
    right->word = shared;
    *ticket = sp_ticket(right->slot, generation);
    return SP_OK;
}

/* SHARED(me, g) -> DRAINING(g+1), and free if nobody reads. */
static inline bool sp_shared_end(sp_pool *pool, uint32_t slot, uint64_t word)
{
    if (!sp_cas_seq_cst(&pool->slots[slot].word, word, sp_word_draining(word)))
        return false;
    sp_drain(pool, slot);
    return true;
}

/* Clear a reader's bit, and free the slot if that was the last thing that held it. */
static inline void sp_give_back(sp_pool *pool, uint32_t slot, uint32_t reader)
{
    sp_fetch_and_seq_cst(&pool->slots[slot].readers[reader / 64], ~sp_bit(reader));
    sp_drain(pool, slot);
}

/* The first borrow of a slot by this member (further ones are counted by the caller). */
static inline sp_result sp_borrow(sp_pool *pool, uint64_t ticket)
{
    uint32_t number = sp_ticket_slot(ticket), reader = pool->reader - 1;
    uint64_t generation = sp_ticket_generation(ticket);
    if (number >= pool->geometry.slots)
        return SP_CORRUPT;
    sp_slot *slot = &pool->slots[number];
    /* Stale already? Then do not hold up others by a bit. */
    if (!sp_word_is(sp_load_acquire(&slot->word), SP_SHARED, generation))
        return SP_STALE;
    /* B-enter pairs with D-look: my bit, then the word. */
    sp_fetch_or_seq_cst(&slot->readers[reader / 64], sp_bit(reader));
    if (sp_word_is(sp_load_seq_cst(&slot->word), SP_SHARED, generation))
        return SP_OK;
    sp_give_back(pool, number, reader);
    return SP_STALE;
}

/* The state in which a ticket's bytes may be read without a right, or SP_FREE if they may
 * not: QUEUED, SHARED and QUARANTINED are those in which nobody writes. */
static inline sp_state sp_peek_begin(const sp_pool *pool, uint64_t ticket)
{
    if (sp_ticket_slot(ticket) >= pool->geometry.slots)
        return SP_FREE;
    uint64_t word = sp_load_acquire(&pool->slots[sp_ticket_slot(ticket)].word);
    sp_state state = sp_word_state(word);
    bool still = state == SP_QUEUED || state == SP_SHARED || state == SP_QUARANTINED;
    return still && sp_word_generation(word) == sp_ticket_generation(ticket) ? state : SP_FREE;
}

/* Was it one and the same all the while? None of the three states comes back under one
 * generation, so the same before and after means the same between. A sequence lock whose
 * sequence is the word: H.-J. Boehm, "Can seqlocks get along with programming language
 * memory models?", MSPC 2012. */
static inline bool sp_peek_end(const sp_pool *pool, uint64_t ticket, sp_state state)
{
    /* P-check pairs with P-begin: what was copied, then the word. */
    sp_fence_acquire();
    uint64_t word = sp_load_relaxed(&pool->slots[sp_ticket_slot(ticket)].word);
    return sp_word_is(word, state, sp_ticket_generation(ticket));
}

#endif
