/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A stopped thread's memory as unwinding reads it: words, of stacks and of constant pages. */
#ifndef LEAKWATCH_UNWIND_STACK_VIEW_H
#define LEAKWATCH_UNWIND_STACK_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "leakwatch/base/map.h"
#include "leakwatch/target/memory.h"
#include "module_layout.h"

/*
 * A read of another process costs the same whether it fetches 8 bytes or 32 KiB, so whatever is
 * read is read in large pieces: what cannot change is kept (at most LW_STACK_VIEW_PAGES pages),
 * what can is kept in a few windows until the next lw_stack_view_begin. Several windows, because a
 * signal handler or a coroutine has its stack elsewhere.
 */
#define LW_STACK_VIEW_PAGES   2048
#define LW_STACK_VIEW_WINDOWS 4
#define LW_STACK_WINDOW_MAX   (512u << 10)
#define LW_STACK_FIRST_READ   4096u

struct lw_stack_window {
    uint64_t start, end;   /* addresses of what was read */
    size_t next_extension; /* bytes */
    uint8_t *bytes;        /* room for LW_STACK_WINDOW_MAX; NULL until it is first used */
};

struct lw_stack_view {
    struct lw_memory *memory;
    struct lw_module_layouts *layouts;
    struct lw_map pages; /* address of a constant page -> malloc'ed copy */
    struct lw_stack_window windows[LW_STACK_VIEW_WINDOWS];
    unsigned opened; /* windows opened since lw_stack_view_begin */
    uint64_t reach;  /* end of what was read through the first window since then */
    bool frozen;     /* the thread runs again: only what was captured is still true */
    bool denied;     /* something was asked for that was not captured */
};

void lw_stack_view_init(struct lw_stack_view *view, struct lw_memory *memory,
                        struct lw_module_layouts *layouts);
void lw_stack_view_deinit(struct lw_stack_view *view);

/* Forgets the constant pages too. */
void lw_stack_view_flush(struct lw_stack_view *view);

/* A new stop: forgets all windows and opens one of `size` bytes at the stack pointer. */
void lw_stack_view_begin(struct lw_stack_view *view, uint64_t sp, size_t size);

/* Reads the 8 bytes at any address, aligned or not: 0 or -EFAULT. */
int lw_stack_view_read(struct lw_stack_view *view, uint64_t address, uint64_t *word);

/* Whether the 8 to 16 bytes at the address are these. */
bool lw_stack_view_holds(struct lw_stack_view *view, uint64_t address, const uint8_t *bytes,
                         size_t size);

#endif
