/* The hardware's floor: two processes hand a word to and fro, and do nothing else.
 *
 * Each word has a cache line of its own. A turn is two transfers of a line, as is one
 * of the pool's. No pause instruction while waiting: that is the least there can be.
 */
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

typedef struct {
    _Atomic uint64_t ping;
    uint64_t unused_0[7];
    _Atomic uint64_t pong;
    uint64_t unused_1[7];
} lines;

_Static_assert(sizeof(lines) == 128, "two lines");

static const uint64_t give_up = UINT64_C(1) << 33; /* seconds: the other one is gone */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int wait_for(const _Atomic uint64_t *word, uint64_t value)
{
    for (uint64_t i = 0; i < give_up; i++)
        if (atomic_load_explicit(word, memory_order_acquire) == value)
            return 1;
    return 0;
}

/* Words are zero before; 0 when the other one is gone. */
int play(lines *at, uint64_t turns, uint64_t *nanoseconds)
{
    for (uint64_t turn = 1; turn <= turns; turn++) {
        uint64_t began = now_ns();
        atomic_store_explicit(&at->ping, turn, memory_order_release);
        if (!wait_for(&at->pong, turn))
            return 0;
        nanoseconds[turn - 1] = now_ns() - began;
    }
    return 1;
}

int echo(lines *at, uint64_t turns)
{
    for (uint64_t turn = 1; turn <= turns; turn++) {
        if (!wait_for(&at->ping, turn))
            return 0;
        atomic_store_explicit(&at->pong, turn, memory_order_release);
    }
    return 1;
}
