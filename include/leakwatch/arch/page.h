/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The size of a page of the target's memory. */
#ifndef LEAKWATCH_ARCH_PAGE_H
#define LEAKWATCH_ARCH_PAGE_H

/* Bytes; the smallest page of x86-64, which segments are aligned to at least. */
#define LW_PAGE_SIZE 4096ull

#endif
