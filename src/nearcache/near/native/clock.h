/* time.monotonic() without a Python call. Near an entry's end the exact clock is asked; before that
 * a coarse one, which costs a tenth and lags by one tick of the kernel, is enough to say "alive". */
#ifndef NEARCACHE_CLOCK_H
#define NEARCACHE_CLOCK_H

#include <math.h>
#include <time.h>

#if defined(__linux__)
static inline double clock_of(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* A time that is not later than now, by at most 20 ms */
static inline double clock_coarse(void) { return clock_of(CLOCK_MONOTONIC_COARSE); }
#define HAS_COARSE_CLOCK 1
#else
static inline double clock_coarse(void) { return -HUGE_VAL; }
#define HAS_COARSE_CLOCK 0
#endif

#define CLOCK_LAG 0.02

#endif
