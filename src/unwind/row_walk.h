/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Steps from frame to frame by rows of call-frame information. */
#ifndef LEAKWATCH_UNWIND_ROW_WALK_H
#define LEAKWATCH_UNWIND_ROW_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "cursor.h"
#include "leakwatch/base/vector.h"
#include "leakwatch/target/module.h"
#include "leakwatch/unwind/row_table.h"
#include "stack_view.h"

/*
 * Each module's rows are compiled when they are first needed, and kept as long as it is loaded: two
 * words of 4 bytes a row, about as much as its .eh_frame. What rows cannot tell, or what they lead
 * to that cannot be true, is left to libunwind, which needs registers that are not tracked here:
 * it has to begin anew.
 */
#define LW_ROW_WALK_CACHE 4096 /* program counters whose rows are remembered; a power of two */

struct lw_row_walk {
    struct lw_module_table *modules;
    struct lw_stack_view *view;
    LW_VECTOR(struct lw_module_rows) rows; /* by module id - 1 */
    struct lw_cached_row {
        uint64_t key;
        lw_row row;
    } cache[LW_ROW_WALK_CACHE];
};

struct lw_module_rows {
    bool known; /* the table was compiled */
    struct lw_row_table table;
};

void lw_row_walk_init(struct lw_row_walk *walk, struct lw_module_table *modules,
                      struct lw_stack_view *view);
void lw_row_walk_deinit(struct lw_row_walk *walk);

/* The modules have changed: forgets what was where, and the rows of those that are gone. */
void lw_row_walk_flush(struct lw_row_walk *walk);

/* Compiles the rows of all loaded modules, which may take milliseconds each. */
void lw_row_walk_prepare(struct lw_row_walk *walk);

enum lw_row_step {
    LW_ROW_STEP_FRAME, /* *at is the caller's */
    LW_ROW_STEP_OUTERMOST,
    LW_ROW_STEP_UNKNOWN, /* ask libunwind */
};
/* Goes from the frame *at to its caller. *is_return says whether its pc is a return address, and is
 * corrected for signal trampolines; *caller_is_return says the same of the caller's. */
enum lw_row_step lw_row_walk_step(struct lw_row_walk *walk, struct lw_position *at, bool *is_return,
                                  bool *caller_is_return);

#endif
