/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The time-stamp counter. */
#include "leakwatch/arch/cycles.h"

#include <x86intrin.h>

uint64_t lw_cycles(void)
{
    return __rdtsc();
}
