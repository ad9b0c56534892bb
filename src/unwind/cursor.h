/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libunwind's cursor over a stack view and registers that are already fetched. */
#ifndef LEAKWATCH_UNWIND_CURSOR_H
#define LEAKWATCH_UNWIND_CURSOR_H

#include <libunwind.h>
#include <stdbool.h>
#include <stdint.h>

#include "leakwatch/arch/registers.h"
#include "module_layout.h"
#include "stack_view.h"

struct lw_position {
    uint64_t pc, sp, fp;
    bool only; /* the other registers are not known */
};

/* Does not move: libunwind keeps its address. */
struct lw_cursor {
    struct lw_module_layouts *layouts;
    struct lw_stack_view *view;
    unw_accessors_t accessors;
    unw_addr_space_t space;

    /* Of the unwind in progress. */
    const struct lw_registers *registers;
    struct lw_position start; /* overrides the registers */
    unw_cursor_t cursor;
    unsigned read_budget;
    bool no_table; /* the last search for call-frame information found none */
};

/* False: out of memory. */
bool lw_cursor_init(struct lw_cursor *cursor, struct lw_module_layouts *layouts,
                    struct lw_stack_view *view);
void lw_cursor_deinit(struct lw_cursor *cursor);

/* Forgets what libunwind has remembered per program counter. */
void lw_cursor_flush(struct lw_cursor *cursor);

/* A new unwind, from these registers; they outlive it. */
void lw_cursor_begin(struct lw_cursor *cursor, const struct lw_registers *registers);

/* Puts the cursor at a frame: false when libunwind refuses. */
bool lw_cursor_place(struct lw_cursor *cursor, const struct lw_position *position);

/* UINT64_MAX when it is not known. */
uint64_t lw_cursor_frame_pointer(struct lw_cursor *cursor);

enum lw_cursor_step {
    LW_CURSOR_FRAME, /* pc and sp are those of the caller */
    LW_CURSOR_OUTERMOST,
    LW_CURSOR_FAILED,
    LW_CURSOR_NO_TABLE, /* no call-frame information: what libunwind guesses is not used */
};
enum lw_cursor_step lw_cursor_step(struct lw_cursor *cursor, uint64_t *pc, uint64_t *sp);

#endif
