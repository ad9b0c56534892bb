/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The processor's own counter of time. */
#ifndef LEAKWATCH_ARCH_CYCLES_H
#define LEAKWATCH_ARCH_CYCLES_H

#include <stdint.h>

/* Counts at a constant rate, the same on all processors of a machine that Linux takes its clock
 * from (x86-64: the time-stamp counter). */
uint64_t lw_cycles(void);

#endif
