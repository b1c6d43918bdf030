/* Memory for slots that have only an address, fetched when needed and given back when idle.
 *
 *   commit  UNCOMMITTED(g) -> UNCOMMITTED(me, g), fetch memory, -> LEASED(me, g) or FREE(g)
 *                                                  none there?  -> UNCOMMITTED(g)
 *   trim    FREE(g) -> UNCOMMITTED(me, g), give it back,        -> UNCOMMITTED(g+1)
 *
 * The owner is in the word as long as it is not known whether memory is there, and the state
 * still says that there is none: killed in the middle, the slot is UNCOMMITTED, and no slot
 * without memory is ever leased. Fetching is posix_fallocate, so that touching cannot be
 * SIGBUS; the caller does it.
 */
#ifndef SP_COMMIT_H
#define SP_COMMIT_H

#include "sp_slot.h"

/* Before a slot becomes UNCOMMITTED, and after it no longer is: the hint errs upwards only. */
static inline void sp_uncommitted_add(sp_pool *pool, uint32_t class, uint64_t by)
{
    sp_fetch_add_relaxed(&pool->class_states[class].uncommitted, by);
}

static inline bool sp_commit_try(sp_pool *pool, uint32_t slot, sp_right *right)
{
    uint64_t word = sp_load_acquire(&pool->slots[slot].word);
    if (sp_word_state(word) != SP_UNCOMMITTED || sp_word_owner(word) != SP_NOBODY)
        return false;
    *right = (sp_right){.slot = slot, .word = sp_word_with_owner(word, pool->me)};
    return sp_cas_acq_rel(&pool->slots[slot].word, word, right->word);
}

/* Take an uncommitted slot of a class, to fetch its memory: SP_OK or SP_EMPTY. */
static inline sp_result sp_commit_begin(sp_pool *pool, uint32_t class, sp_right *right)
{
    const sp_class_geometry *c = &pool->geometry.of_class[class];
    if (!sp_load_relaxed(&pool->class_states[class].uncommitted))
        return SP_EMPTY;
    for (uint32_t i = 0; i < c->max_count; i++) {
        uint32_t k = (pool->grown[class] + i) % c->max_count;
        if (sp_commit_try(pool, c->first + k, right)) {
            pool->grown[class] = k;
            return SP_OK;
        }
    }
    return SP_EMPTY;
}

static inline bool sp_commit_to(sp_pool *pool, const sp_right *right, uint64_t word)
{
    if (!sp_cas_acq_rel(&pool->slots[right->slot].word, right->word, word))
        return false;
    sp_uncommitted_add(pool, sp_pool_class_of(pool, right->slot), (uint64_t)-1);
    return true;
}

/* There is memory: the slot is ours. */
static inline sp_result sp_commit_lease(sp_pool *pool, sp_right *right, uint64_t now)
{
    uint64_t leased = sp_word(SP_LEASED, pool->me, SP_NO_QUEUE, sp_word_generation(right->word));
    if (!sp_commit_to(pool, right, leased))
        return SP_STALE;
    right->word = leased;
    sp_slot_begin(&pool->slots[right->slot], now);
    return SP_OK;
}

/* There is memory, for whoever comes. */
static inline sp_result sp_commit_free(sp_pool *pool, const sp_right *right)
{
    uint64_t free = sp_word(SP_FREE, SP_NOBODY, SP_NO_QUEUE, sp_word_generation(right->word));
    if (!sp_commit_to(pool, right, free))
        return SP_STALE;
    sp_slot_give(pool, right->slot);
    return SP_OK;
}

/* There is none, or its fetcher is dead. */
static inline bool sp_commit_undo(sp_pool *pool, uint32_t slot, uint64_t word)
{
    return sp_cas_acq_rel(&pool->slots[slot].word, word, sp_word_with_owner(word, SP_NOBODY));
}

static inline bool sp_trim_try(sp_pool *pool, uint32_t slot, sp_right *right)
{
    uint64_t word = sp_load_acquire(&pool->slots[slot].word);
    if (sp_word_state(word) != SP_FREE)
        return false;
    uint64_t mine = sp_word(SP_UNCOMMITTED, pool->me, SP_NO_QUEUE, sp_word_generation(word));
    *right = (sp_right){.slot = slot, .word = mine};
    return sp_cas_acq_rel(&pool->slots[slot].word, word, mine);
}

/* Take the highest free slot of a class below its `below`th, to give its memory back: the one
 * that a warm pool needs last. Its bit goes when somebody follows it in vain. */
static inline sp_result sp_trim_begin(sp_pool *pool, uint32_t class, uint32_t below, sp_right *right)
{
    uint32_t first = pool->geometry.of_class[class].first;
    sp_uncommitted_add(pool, class, 1);
    for (uint32_t i = below; i > 0; i--)
        if (sp_trim_try(pool, first + i - 1, right))
            return SP_OK;
    sp_uncommitted_add(pool, class, (uint64_t)-1);
    return SP_EMPTY;
}

static inline sp_result sp_trim_end(sp_pool *pool, const sp_right *right)
{
    uint64_t over = sp_word_uncommitted(right->word);
    bool done = sp_cas_acq_rel(&pool->slots[right->slot].word, right->word, over);
    return done ? SP_OK : SP_STALE;
}

#endif
