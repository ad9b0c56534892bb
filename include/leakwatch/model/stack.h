/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Call stacks, interned: equal stacks are one object with one id. */
#ifndef LEAKWATCH_MODEL_STACK_H
#define LEAKWATCH_MODEL_STACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The deepest stack that is kept, whatever --depth says. */
#define LW_STACK_MAX_DEPTH 1024

/*
 * A frame is a module and an offset in it (a link-time address of the ELF file), because dlclose
 * lets addresses be used again by another module. Module 0 means "no module": the offset is then
 * the absolute address (code made at run time). What modules are called is not known here.
 */
struct lw_frame {
    uint64_t offset;
    uint32_t module;
    /* The offset is a return address: the call itself ends one byte before it, and names and lines
     * are those of offset - 1. False for the innermost frame and for one that a signal interrupted.
     */
    bool is_return;
};

/* Immutable, and never moved or freed while its table lives: another thread may read it. */
struct lw_stack {
    uint32_t id; /* dense, from 1 */
    uint32_t depth;
    bool truncated;           /* the unwinder could not reach the outermost frame */
    struct lw_frame frames[]; /* innermost first */
};

/*
 * The table belongs to one thread: only that may intern or look up. What another may read is a
 * stack whose pointer it was handed, as in a snapshot.
 */
struct lw_stack_table;

struct lw_stack_table *lw_stack_table_create(void); /* NULL: out of memory */
void lw_stack_table_destroy(struct lw_stack_table *table);

/* Once the table takes `bytes`, of which each stack costs `extra` elsewhere, stacks that are new
 * are cut to their innermost frame, and truncated. At first there is no limit. */
void lw_stack_table_limit(struct lw_stack_table *table, size_t bytes, size_t extra);

/* The one stack with these frames and this `truncated`. What exceeds LW_STACK_MAX_DEPTH is cut and
 * the stack truncated. NULL when memory has run out. A stack of no frames is valid. */
const struct lw_stack *lw_stack_table_intern(struct lw_stack_table *table,
                                             const struct lw_frame *frames, size_t depth,
                                             bool truncated);

/* The stack with this id (1 .. count), else NULL. */
const struct lw_stack *lw_stack_table_get(const struct lw_stack_table *table, uint32_t id);
size_t lw_stack_table_count(const struct lw_stack_table *table);

#endif
