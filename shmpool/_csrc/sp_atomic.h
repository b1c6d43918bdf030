/* Every atomic operation of the core, its memory order in its name.
 *
 * This is the only file that knows <stdatomic.h>. Tests define SP_ATOMIC_HOOKS as
 * the name of a header that supplies the same functions, and so interleave, delay or
 * kill at every one of them; the headers above compile unchanged under either.
 *
 * Which order where:
 *   relaxed   hints and counters; the reader is defended by consequence, said on the spot
 *   acquire   reads of words that publish something written before them
 *   acq_rel   changes of right: the payload precedes the word, the word precedes its reader
 *   seq_cst   "set mine, then look at yours" on both sides (waiting masks, reader bits, ring)
 *   fences    a reader without a right, who copies first and then asks whether it was one copy
 */
#ifndef SP_ATOMIC_H
#define SP_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

#ifdef SP_ATOMIC_HOOKS
#include SP_ATOMIC_HOOKS
#else

#include <stdatomic.h>

typedef _Atomic uint64_t sp_atomic_u64;

_Static_assert(sizeof(sp_atomic_u64) == 8, "atomics are plain words in shared memory");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock in another process cannot be repaired");

static inline uint64_t sp_load_relaxed(const sp_atomic_u64 *at)
{
    return atomic_load_explicit(at, memory_order_relaxed);
}

static inline uint64_t sp_load_acquire(const sp_atomic_u64 *at)
{
    return atomic_load_explicit(at, memory_order_acquire);
}

static inline uint64_t sp_load_seq_cst(const sp_atomic_u64 *at)
{
    return atomic_load_explicit(at, memory_order_seq_cst);
}

static inline void sp_store_relaxed(sp_atomic_u64 *at, uint64_t value)
{
    atomic_store_explicit(at, value, memory_order_relaxed);
}

static inline void sp_store_release(sp_atomic_u64 *at, uint64_t value)
{
    atomic_store_explicit(at, value, memory_order_release);
}

static inline bool sp_cas_acq_rel(sp_atomic_u64 *at, uint64_t expected, uint64_t desired)
{
    return atomic_compare_exchange_strong_explicit(at, &expected, desired, memory_order_acq_rel,
                                                   memory_order_acquire);
}

static inline bool sp_cas_seq_cst(sp_atomic_u64 *at, uint64_t expected, uint64_t desired)
{
    return atomic_compare_exchange_strong_explicit(at, &expected, desired, memory_order_seq_cst,
                                                   memory_order_seq_cst);
}

static inline uint64_t sp_fetch_or_seq_cst(sp_atomic_u64 *at, uint64_t bits)
{
    return atomic_fetch_or_explicit(at, bits, memory_order_seq_cst);
}

static inline uint64_t sp_fetch_and_seq_cst(sp_atomic_u64 *at, uint64_t bits)
{
    return atomic_fetch_and_explicit(at, bits, memory_order_seq_cst);
}

static inline uint64_t sp_fetch_add_relaxed(sp_atomic_u64 *at, uint64_t by)
{
    return atomic_fetch_add_explicit(at, by, memory_order_relaxed);
}

static inline void sp_fence_acquire(void)
{
    atomic_thread_fence(memory_order_acquire);
}

static inline void sp_fence_release(void)
{
    atomic_thread_fence(memory_order_release);
}

#endif /* SP_ATOMIC_HOOKS */

/* A counter with one writer needs no locked instruction: whoever reads it sees the
 * value of a moment ago. */
static inline void sp_count(sp_atomic_u64 *counter)
{
    sp_store_relaxed(counter, sp_load_relaxed(counter) + 1);
}

/* Have the cache line ready to be written: a load, and a change of it after that, would fetch it
 * twice from another core, once to read and once to own. */
static inline void sp_will_write(const void *at)
{
#if defined(__x86_64__)
    __asm__ __volatile__("prefetchw %0" ::"m"(*(const char *)at)); /* built in, it only reads */
#else
    __builtin_prefetch(at, 1);
#endif
}

/* Tell the core that this is a spin loop. */
static inline void sp_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#endif
}

#endif
