/* The monotonic clock, coarse and fine. */
#include "glue.h"

#include <time.h>

static uint64_t clock_read(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A few nanoseconds to read, a few milliseconds fine: for hints and checks. */
uint64_t clock_coarse_ns(void)
{
#ifdef CLOCK_MONOTONIC_COARSE
    return clock_read(CLOCK_MONOTONIC_COARSE);
#else
    return clock_read(CLOCK_MONOTONIC);
#endif
}

uint64_t clock_ns(void)
{
    return clock_read(CLOCK_MONOTONIC);
}
