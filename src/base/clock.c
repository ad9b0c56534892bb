/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two clocks, in nanoseconds. */
#include "leakwatch/base/clock.h"

#include <time.h>

static uint64_t read_clock(clockid_t id)
{
    struct timespec now;
    /* Fails only for a clock that the kernel lacks, and these two have always been there. */
    if (clock_gettime(id, &now) != 0)
        return 0;
    return (uint64_t)now.tv_sec * LW_NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

uint64_t lw_clock_now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t lw_clock_realtime(void)
{
    return read_clock(CLOCK_REALTIME);
}
