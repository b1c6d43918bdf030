/* Which slots are probably free: a bitmap, and a summary above it beyond 64 slots.
 *
 * A hint. A set bit may name a slot that is not free (the taker's CAS on the word then
 * fails and it goes on); a clear bit may hide one that is, after a kill, until the
 * reaper sets it again. Nobody owns anything by it.
 */
#ifndef SP_FREEMAP_H
#define SP_FREEMAP_H

#include "sp_pool.h"

typedef struct {
    sp_atomic_u64 *words;
    sp_atomic_u64 *summary; /* NULL for a single word */
    uint32_t count;         /* words */
} sp_freemap;

static inline sp_freemap sp_freemap_of(const sp_pool *pool, uint32_t class)
{
    const sp_class_geometry *c = &pool->geometry.of_class[class];
    return (sp_freemap){
        .words = (sp_atomic_u64 *)(pool->base + c->map),
        .summary = c->summary_words ? (sp_atomic_u64 *)(pool->base + c->summary) : NULL,
        .count = c->map_words,
    };
}

static inline uint64_t sp_bit(uint32_t i)
{
    return UINT64_C(1) << (i & 63);
}

static inline void sp_freemap_give(const sp_freemap *map, uint32_t i)
{
    /* G-give pairs with T-take and with the waiter's mask: the bit, then whoever waits. */
    sp_fetch_or_seq_cst(&map->words[i / 64], sp_bit(i));
    if (map->summary && !(sp_load_seq_cst(&map->summary[i / 4096]) & sp_bit(i / 64)))
        sp_fetch_or_seq_cst(&map->summary[i / 4096], sp_bit(i / 64));
}

/* Is any bit set? A hint, as every bit is. */
static inline bool sp_freemap_any(const sp_freemap *map)
{
    uint64_t any = 0;
    for (uint32_t w = 0; w < map->count; w++)
        any |= sp_load_seq_cst(&map->words[w]);
    return any != 0;
}

static inline bool sp_freemap_shows(const sp_freemap *map, uint32_t i)
{
    bool shown = sp_load_seq_cst(&map->words[i / 64]) & sp_bit(i);
    return shown && (!map->summary || sp_load_seq_cst(&map->summary[i / 4096]) & sp_bit(i / 64));
}

/* Take the first set bit at or after bit `from` of one word: -1 if there is none. */
static inline int sp_freemap_take_in(sp_atomic_u64 *word, uint64_t among)
{
    /* T-take: seq_cst, so that a waiter who set its mask first cannot miss a give. */
    uint64_t bits = sp_load_seq_cst(word) & among;
    while (bits) {
        int bit = __builtin_ctzll(bits);
        uint64_t before = sp_fetch_and_seq_cst(word, ~(UINT64_C(1) << bit));
        if (before >> bit & 1)
            return bit;
        bits = before & among; /* somebody else took it: go by what is there now */
    }
    return -1;
}

/* An empty word's summary bit is cleared by whoever finds it, who then looks again:
 * a give between the two is seen here, one after sees the cleared bit and sets it. */
static inline void sp_freemap_note_empty(const sp_freemap *map, uint32_t w)
{
    sp_fetch_and_seq_cst(&map->summary[w / 64], ~sp_bit(w));
    if (sp_load_seq_cst(&map->words[w]))
        sp_fetch_or_seq_cst(&map->summary[w / 64], sp_bit(w));
}

static inline int64_t sp_freemap_take_word(const sp_freemap *map, uint32_t w, uint64_t among)
{
    int bit = sp_freemap_take_in(&map->words[w], among);
    return bit < 0 ? -1 : (int64_t)w * 64 + bit;
}

/* The next word with a summary bit at or after w, map->count if there is none. */
static inline uint32_t sp_freemap_next(const sp_freemap *map, uint32_t w)
{
    while (w < map->count) {
        uint64_t above = sp_load_seq_cst(&map->summary[w / 64]) >> (w & 63);
        if (above) {
            w += (uint32_t)__builtin_ctzll(above);
            return w < map->count ? w : map->count;
        }
        w = (w | 63) + 1;
    }
    return map->count;
}

/* Words [from, to) by way of the summary. */
static inline int64_t sp_freemap_take_between(const sp_freemap *map, uint32_t from, uint32_t to)
{
    for (uint32_t w = sp_freemap_next(map, from); w < to; w = sp_freemap_next(map, w + 1)) {
        int64_t taken = sp_freemap_take_word(map, w, ~UINT64_C(0));
        if (taken >= 0)
            return taken;
        sp_freemap_note_empty(map, w);
    }
    return -1;
}

/* Every word, whatever the summary says: it may have lost a bit to a kill. */
static inline int64_t sp_freemap_take_anywhere(const sp_freemap *map)
{
    for (uint32_t w = 0; w < map->count; w++) {
        int64_t taken = sp_freemap_take_word(map, w, ~UINT64_C(0));
        if (taken >= 0)
            return taken;
    }
    return -1;
}

/* Take a free bit, the first at or after `start` and then round; -1 if none is set. */
static inline int64_t sp_freemap_take(const sp_freemap *map, uint32_t start)
{
    uint32_t w = start / 64;
    int64_t taken = sp_freemap_take_word(map, w, ~UINT64_C(0) << (start & 63));
    if (taken >= 0)
        return taken;
    if (!map->summary)
        return start & 63 ? sp_freemap_take_word(map, 0, ~UINT64_C(0)) : -1;
    taken = sp_freemap_take_between(map, w + 1, map->count);
    if (taken < 0)
        taken = sp_freemap_take_between(map, 0, w + 1);
    return taken >= 0 ? taken : sp_freemap_take_anywhere(map);
}

#endif
