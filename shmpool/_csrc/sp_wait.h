/* Who sleeps for what: one bit for each member in a mask beside the thing waited for.
 *
 * A sleeper sets its bit, looks again, and sleeps on its own doorbell. Whoever makes the
 * thing available clears one bit and rings that member's doorbell, only if it was the
 * one who cleared it: one post for each sleeper. The bit is set before the second look
 * and the thing is made before the mask is read, both seq_cst, so one of the two sees
 * the other. A bit or a post lost to a kill costs the sleeper one slice of its wait.
 */
#ifndef SP_WAIT_H
#define SP_WAIT_H

#include "sp_pool.h"

static inline void sp_wait_begin(sp_atomic_u64 *mask, uint32_t member)
{
    /* W-begin pairs with W-next: my bit, then the thing; the thing, then my bit. */
    sp_fetch_or_seq_cst(&mask[member / 64], UINT64_C(1) << (member & 63));
}

static inline void sp_wait_end(sp_atomic_u64 *mask, uint32_t member)
{
    sp_fetch_and_seq_cst(&mask[member / 64], ~(UINT64_C(1) << (member & 63)));
}

static inline bool sp_wait_any(const sp_atomic_u64 *mask)
{
    uint64_t any = 0;
    for (uint32_t i = 0; i < SP_MASK_WORDS; i++)
        any |= sp_load_seq_cst(&mask[i]);
    return any != 0;
}

/* Clear one bit of word i, lowest first among `among`; the member, 0 if none is set. */
static inline uint32_t sp_wait_next_in(sp_atomic_u64 *mask, uint32_t i, uint64_t among)
{
    uint64_t bits = sp_load_seq_cst(&mask[i]) & among;
    while (bits) {
        uint64_t bit = bits & -bits;
        if (sp_fetch_and_seq_cst(&mask[i], ~bit) & bit)
            return i * 64 + (uint32_t)__builtin_ctzll(bit);
        bits &= ~bit; /* another ringer was faster */
    }
    return 0;
}

/* The member to ring, its bit now cleared, 0 if nobody sleeps; the first one after
 * `after`, and then round, so that nobody is passed over for ever. */
static inline uint32_t sp_wait_next(sp_atomic_u64 *mask, uint32_t after)
{
    uint32_t start = (after + 1) & 255;
    uint32_t member = sp_wait_next_in(mask, start / 64, ~UINT64_C(0) << (start & 63));
    for (uint32_t i = 1; !member && i <= SP_MASK_WORDS; i++)
        member = sp_wait_next_in(mask, (start / 64 + i) % SP_MASK_WORDS, ~UINT64_C(0));
    return member;
}

#endif
