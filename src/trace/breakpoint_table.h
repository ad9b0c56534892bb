/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of the breakpoint table share. */
#ifndef LEAKWATCH_TRACE_BREAKPOINT_TABLE_H
#define LEAKWATCH_TRACE_BREAKPOINT_TABLE_H

#include "leakwatch/arch/instruction.h"
#include "leakwatch/arch/remote_program.h"
#include "leakwatch/arch/trap_handler.h"
#include "leakwatch/base/map.h"
#include "leakwatch/base/vector.h"
#include "leakwatch/trace/breakpoint.h"
#include "leakwatch/trace/remote_call.h"
#include "padding.h"

/* The SIGTRAP handler in the target's padding (trace/guard.h), and what it has been told. */
struct lw_guard {
    uint64_t place; /* 0: there is none */
    bool installed;
    struct lw_remote_code code;
    size_t capacity, count;
    struct lw_trap_handler_pair *pairs; /* as they are there */
};

struct lw_displacement {
    uint32_t module; /* 0: code that belongs to none */
    uint8_t original[LW_BREAKPOINT_WINDOW];
    unsigned size; /* of `original`; above LW_BREAKPOINT_SIZE when it may be replaced as a whole */
    struct lw_displaced code;
    size_t pair; /* its place in the guard's list, from 1; 0: none */
};

struct lw_breakpoint_table {
    struct lw_memory *memory;
    struct lw_module_table *modules;
    LW_VECTOR(struct lw_breakpoint *) sorted; /* by address */
    struct lw_map rewinds;                    /* every pc in a copy -> its breakpoint */
    struct lw_padding_list paddings;
    struct lw_guard guard;
};

/* Where the handler lies that is in this padding. */
uint64_t lw_guard_place_in(const struct lw_padding *padding);
/* Tells the guard, if there is one, before the breakpoint's copy is written. */
int lw_guard_note(struct lw_breakpoint_table *table, struct lw_breakpoint *breakpoint);
/* The breakpoint is forgotten, or has no copy where it was to be. */
void lw_guard_drop(struct lw_breakpoint_table *table, const struct lw_breakpoint *breakpoint);

/* ---- remote_program.c ---- */

/* Puts the program into padding; its address, or 0 where there is no room. */
uint64_t lw_remote_program_lay(struct lw_breakpoint_table *table);
/* Puts the padding's own bytes back, if the program is there. */
void lw_remote_program_remove(struct lw_breakpoint_table *table);
/* The same in a copy of the target's memory, which may have been made while it was there, and be
 * seen only now. 0 or a negative errno. */
int lw_remote_program_lift(const struct lw_breakpoint_table *table, struct lw_memory *memory);
/* Where in this padding a leakwatch that was killed has left it; 0: nowhere. */
uint64_t lw_remote_program_in(const struct lw_padding *padding, struct lw_memory *memory);

/* A breakpoint that is in no list yet; NULL: out of memory. */
struct lw_breakpoint *lw_breakpoint_allocate(uint64_t address, uint32_t module);
void lw_breakpoint_free(struct lw_breakpoint *breakpoint);
/* Lists it, by address, and every place of its copy. */
int lw_breakpoint_enter(struct lw_breakpoint_table *table, struct lw_breakpoint *breakpoint);
int lw_breakpoint_enter_copy(struct lw_breakpoint_table *table, struct lw_breakpoint *breakpoint);

#endif
