/* The atomics of the core for the explorer: plain memory, and a turn for the scheduler
 * before each operation that others can see. Processes are coroutines, so every schedule
 * is sequentially consistent; what weaker memory could add is not explored here. */
#ifndef EXPLORE_HOOKS_H
#define EXPLORE_HOOKS_H

#include <stdbool.h>
#include <stdint.h>

typedef uint64_t sp_atomic_u64;

void explore_turn(void);

/* Relaxed operations are on hints and counters: they take no turn, to keep schedules few. */
static inline uint64_t sp_load_relaxed(const sp_atomic_u64 *at) { return *at; }
static inline void sp_store_relaxed(sp_atomic_u64 *at, uint64_t value) { *at = value; }
static inline uint64_t sp_fetch_add_relaxed(sp_atomic_u64 *at, uint64_t by)
{
    uint64_t before = *at;
    *at += by;
    return before;
}

static inline uint64_t sp_load_acquire(const sp_atomic_u64 *at)
{
    explore_turn();
    return *at;
}

static inline uint64_t sp_load_seq_cst(const sp_atomic_u64 *at)
{
    explore_turn();
    return *at;
}

static inline void sp_store_release(sp_atomic_u64 *at, uint64_t value)
{
    explore_turn();
    *at = value;
}

static inline bool sp_cas_seq_cst(sp_atomic_u64 *at, uint64_t expected, uint64_t desired)
{
    explore_turn();
    bool same = *at == expected;
    if (same)
        *at = desired;
    return same;
}

static inline bool sp_cas_acq_rel(sp_atomic_u64 *at, uint64_t expected, uint64_t desired)
{
    return sp_cas_seq_cst(at, expected, desired);
}

static inline uint64_t sp_fetch_or_seq_cst(sp_atomic_u64 *at, uint64_t bits)
{
    explore_turn();
    uint64_t before = *at;
    *at |= bits;
    return before;
}

static inline uint64_t sp_fetch_and_seq_cst(sp_atomic_u64 *at, uint64_t bits)
{
    explore_turn();
    uint64_t before = *at;
    *at &= bits;
    return before;
}

#endif
