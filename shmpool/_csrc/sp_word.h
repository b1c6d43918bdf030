/* The slot word and the ticket: two 64-bit integers, packed and unpacked only here.
 *
 *   word    generation:48 | owner:8 | queue:5 | state:3      (state in the low bits)
 *   ticket  slot:16 | generation:48
 *
 * owner is a member index (1..255), 0 where nobody owns; an UNCOMMITTED slot has one while
 * its memory is being fetched or given back. queue is a queue number
 * (1..31), 0 for none. A generation starts at 1, so the integer 0 is never a ticket.
 */
#ifndef SP_WORD_H
#define SP_WORD_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    SP_FREE = 0,
    SP_LEASED = 1,
    SP_QUEUED = 2,
    SP_SHARED = 3,
    SP_DRAINING = 4,
    SP_UNCOMMITTED = 5,
    SP_RETIRED = 6,
    SP_QUARANTINED = 7,
} sp_state;

#define SP_GENERATION_BITS 48
#define SP_GENERATION_MAX ((UINT64_C(1) << SP_GENERATION_BITS) - 1)
#define SP_GENERATION_FIRST UINT64_C(1)
#define SP_NOBODY 0u
#define SP_NO_QUEUE 0u

static inline uint64_t sp_word(sp_state state, uint32_t owner, uint32_t queue, uint64_t generation)
{
    return generation << 16 | (uint64_t)owner << 8 | (uint64_t)queue << 3 | (uint64_t)state;
}

static inline sp_state sp_word_state(uint64_t word)
{
    return (sp_state)(word & 7);
}

static inline uint32_t sp_word_queue(uint64_t word)
{
    return (uint32_t)(word >> 3 & 31);
}

static inline uint32_t sp_word_owner(uint64_t word)
{
    return (uint32_t)(word >> 8 & 255);
}

static inline uint64_t sp_word_generation(uint64_t word)
{
    return word >> 16;
}

/* The same right in the hands of another member. */
static inline uint64_t sp_word_with_owner(uint64_t word, uint32_t owner)
{
    return sp_word(sp_word_state(word), owner, sp_word_queue(word), sp_word_generation(word));
}

/* What a right becomes when it ends: free under the next generation or, when the
 * counter is used up, out of service. No generation ever comes back. */
static inline uint64_t sp_word_ended(uint64_t word)
{
    uint64_t generation = sp_word_generation(word);
    if (generation == SP_GENERATION_MAX)
        return sp_word(SP_RETIRED, SP_NOBODY, SP_NO_QUEUE, generation);
    return sp_word(SP_FREE, SP_NOBODY, SP_NO_QUEUE, generation + 1);
}

/* The readers may still look, and nobody may come in: for SHARED, whose generation is never
 * the last one. */
static inline uint64_t sp_word_draining(uint64_t word)
{
    return sp_word(SP_DRAINING, SP_NOBODY, SP_NO_QUEUE, sp_word_generation(word) + 1);
}

/* What becomes of a slot whose memory was given back to the system. */
static inline uint64_t sp_word_uncommitted(uint64_t word)
{
    uint64_t generation = sp_word_generation(word);
    if (generation == SP_GENERATION_MAX)
        return sp_word(SP_RETIRED, SP_NOBODY, SP_NO_QUEUE, generation);
    return sp_word(SP_UNCOMMITTED, SP_NOBODY, SP_NO_QUEUE, generation + 1);
}

static inline bool sp_word_is(uint64_t word, sp_state state, uint64_t generation)
{
    return sp_word_state(word) == state && sp_word_generation(word) == generation;
}

static inline uint64_t sp_ticket(uint32_t slot, uint64_t generation)
{
    return (uint64_t)slot << SP_GENERATION_BITS | generation;
}

static inline uint32_t sp_ticket_slot(uint64_t ticket)
{
    return (uint32_t)(ticket >> SP_GENERATION_BITS);
}

static inline uint64_t sp_ticket_generation(uint64_t ticket)
{
    return ticket & SP_GENERATION_MAX;
}

#endif
