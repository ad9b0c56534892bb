/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which frames of a stack only pass the request for memory on. */
#ifndef LEAKWATCH_SRC_REPORT_FRAME_ROLE_H
#define LEAKWATCH_SRC_REPORT_FRAME_ROLE_H

#include "leakwatch/report/report.h"

/*
 * The index of the first frame, from the innermost on, that is none of:
 *  - the watched function itself;
 *  - code of the C library, of the C++ runtime, or of a known allocator, by the module, and of the
 *    C++ library's headers, by the file;
 *  - C++'s std, __gnu_cxx, __cxxabiv1 and operators new, Rust's alloc and core, by the name;
 *  - a function whose name ends as an allocator's does: xmalloc, g_malloc0_n, zmalloc_usable.
 * frame_count when there is none.
 */
size_t lw_report_own_frame(const struct lw_report_stack *stack);

#endif
