/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Time, in nanoseconds. */
#ifndef LEAKWATCH_BASE_CLOCK_H
#define LEAKWATCH_BASE_CLOCK_H

#include <stdint.h>

#define LW_NS_PER_SECOND 1000000000ull
#define LW_NS_PER_MS     1000000ull
#define LW_NS_PER_US     1000ull

/* A deadline that never comes. */
#define LW_NEVER UINT64_MAX

/* CLOCK_MONOTONIC: for ages, intervals and deadlines. */
uint64_t lw_clock_now(void);

/* CLOCK_REALTIME, nanoseconds since the epoch: for the time of day in a report. */
uint64_t lw_clock_realtime(void);

#endif
