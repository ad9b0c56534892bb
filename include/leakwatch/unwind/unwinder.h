/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A stopped thread's registers -> the program counters of its call stack. */
#ifndef LEAKWATCH_UNWIND_UNWINDER_H
#define LEAKWATCH_UNWIND_UNWINDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "leakwatch/arch/registers.h"
#include "leakwatch/target/memory.h"
#include "leakwatch/target/module.h"

/*
 * Frames are stepped over by rows of call-frame information (unwind/row_table.h), which are
 * compiled once for each module, when they are first needed. Where a stack has a frame that has no
 * row, the whole of it is left to libunwind's DWARF unwinder over accessors of our own (never
 * libunwind-ptrace's, which cost a system call a word): registers already fetched, one snapshot of
 * the stack extended on demand, pages of mappings that are not writable cached, call-frame
 * information found through the .eh_frame_hdr that is in the target's memory (so that deleted
 * files, other mount namespaces and the vdso need nothing special), and libunwind's own cache per
 * program counter (UNW_CACHE_GLOBAL).
 *
 * It reads no ptrace and knows no names. What has no call-frame information (JIT code) is stepped
 * over by the frame pointer where that leads to a return address, that is, one that a call
 * instruction precedes; the first frame also by the return address on top of the stack, because
 * probes stop threads at functions' entries and returns.
 *
 * Its own memory is at most 8 MiB of pages, 2 MiB of stack, about 1 MiB in libunwind, and rows of
 * about the size of the .eh_frame sections that are in use.
 */
struct lw_unwinder;

struct lw_unwound_frame {
    uint64_t pc;
    /* As in struct lw_frame: false for the first frame, for a signal trampoline and for the frame
     * that the signal interrupted. */
    bool is_return;
};

/* `memory` must give the program's own bytes, without breakpoints. Both outlive the unwinder. NULL:
 * out of memory. */
struct lw_unwinder *lw_unwinder_create(struct lw_memory *memory, struct lw_module_table *modules);
void lw_unwinder_destroy(struct lw_unwinder *unwinder);

/* The modules have changed: forget cached pages and call-frame information. */
void lw_unwinder_flush(struct lw_unwinder *unwinder);

/* Compiles the rows of all modules now, which takes a millisecond for a large one, rather than
 * while a thread is stopped. */
void lw_unwinder_prepare(struct lw_unwinder *unwinder);

/* Whether rows are used, as they are to begin with: libunwind alone is what tests compare with. */
void lw_unwinder_use_rows(struct lw_unwinder *unwinder, bool use);
/* How many stacks were left to libunwind. */
uint64_t lw_unwinder_left_to_libunwind(const struct lw_unwinder *unwinder);

/*
 * Unwinds at most `max` frames, innermost first, the first being the registers' own pc. Returns how
 * many (at least 1). *truncated is true when the outermost frame was not reached: at `max`, or
 * because the stack could not be unwound further.
 */
size_t lw_unwinder_unwind(struct lw_unwinder *unwinder, const struct lw_registers *registers,
                          struct lw_unwound_frame *frames, size_t max, bool *truncated);

/*
 * The same in two steps, so that the thread may run on meanwhile. Capturing copies the part of the
 * stack that was needed the last time at the same place, and returns whether there was such a time;
 * only then may the thread be resumed (and lw_unwinder_thread_runs told) before unwinding. What was
 * not captured after all is not read from a running thread: the stack is truncated there, and says
 * so.
 */
bool lw_unwinder_capture(struct lw_unwinder *unwinder, const struct lw_registers *registers);
void lw_unwinder_thread_runs(struct lw_unwinder *unwinder);
size_t lw_unwinder_unwind_captured(struct lw_unwinder *unwinder,
                                   const struct lw_registers *registers,
                                   struct lw_unwound_frame *frames, size_t max, bool *truncated);

#endif
