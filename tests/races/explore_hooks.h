/* The atomics of the core for the explorer: each one goes to explore_memory.c, which makes it
 * a turn of the scheduler and knows what the memory model lets it see. The orders that the
 * core does not use are here for the tests that weaken it. */
#ifndef EXPLORE_HOOKS_H
#define EXPLORE_HOOKS_H

#include <stdbool.h>
#include <stdint.h>

typedef uint64_t sp_atomic_u64;

typedef enum { RELAXED = 0, ACQUIRE = 1, RELEASE = 2, ACQ_REL = 3, SEQ_CST = 7 } explore_order;
typedef enum { SWAP, OR, AND, ADD } explore_change;

uint64_t explore_load(const sp_atomic_u64 *at, explore_order order);
void explore_store(sp_atomic_u64 *at, uint64_t value, explore_order order);
bool explore_cas(sp_atomic_u64 *at, uint64_t expected, uint64_t desired, explore_order order);
uint64_t explore_fetch(sp_atomic_u64 *at, explore_change change, uint64_t by, explore_order order);
void explore_fence(explore_order order);

#define LOAD(name, order) \
    static inline uint64_t name(const sp_atomic_u64 *at) { return explore_load(at, order); }
#define STORE(name, order) \
    static inline void name(sp_atomic_u64 *at, uint64_t value) { explore_store(at, value, order); }
#define CAS(name, order) \
    static inline bool name(sp_atomic_u64 *at, uint64_t expected, uint64_t desired) \
    { return explore_cas(at, expected, desired, order); }
#define FETCH(name, change, order) \
    static inline uint64_t name(sp_atomic_u64 *at, uint64_t by) \
    { return explore_fetch(at, change, by, order); }

LOAD(sp_load_relaxed, RELAXED)
LOAD(sp_load_acquire, ACQUIRE)
LOAD(sp_load_seq_cst, SEQ_CST)
STORE(sp_store_relaxed, RELAXED)
STORE(sp_store_release, RELEASE)
CAS(sp_cas_relaxed, RELAXED)
CAS(sp_cas_acq_rel, ACQ_REL)
CAS(sp_cas_seq_cst, SEQ_CST)
FETCH(sp_fetch_or_acq_rel, OR, ACQ_REL)
FETCH(sp_fetch_or_seq_cst, OR, SEQ_CST)
FETCH(sp_fetch_and_acq_rel, AND, ACQ_REL)
FETCH(sp_fetch_and_seq_cst, AND, SEQ_CST)
FETCH(sp_fetch_add_relaxed, ADD, RELAXED)

static inline void sp_fence_acquire(void) { explore_fence(ACQUIRE); }
static inline void sp_fence_release(void) { explore_fence(RELEASE); }

#endif
