/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Breakpoints in the process under watch, and the displaced copies that let threads run past them.
 */
#ifndef LEAKWATCH_TRACE_BREAKPOINT_H
#define LEAKWATCH_TRACE_BREAKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "leakwatch/target/memory.h"
#include "leakwatch/target/module.h"

/*
 * A breakpoint is never lifted to let a thread pass: the thread goes on in a displaced copy of the
 * instruction. The copies live in the padding between the end of a module's code and the end of its
 * last page: executable, near, part of no function, and there without a system call made on the
 * target's behalf (so it needs no stop, no new mapping and no leave of seccomp or SELinux). Copies
 * go into the padding of the module itself, or else of one that is never unloaded (the executable,
 * the dynamic linker, the C library).
 *
 * Writes go through `memory` and need no stop either: one byte is replaced, which other processors
 * see whole. The table does not know threads; what a hit means is the owner's business.
 */
struct lw_breakpoint {
    uint64_t address;
    uint64_t copy; /* where a thread that hit it goes on */
    bool
        planted; /* false: lifted (or its module is gone); late hits resume at the address itself */
    bool is_short; /* its instruction is no longer than the breakpoint, and leads on to the next */
    void *owner;   /* what planted it means; not owned */
    struct lw_displacement *displacement; /* private */
};

struct lw_breakpoint_table;

/* NULL: out of memory. Both outlive the table. */
struct lw_breakpoint_table *lw_breakpoint_table_create(struct lw_memory *memory,
                                                       struct lw_module_table *modules);
void lw_breakpoint_table_destroy(struct lw_breakpoint_table *table);

/*
 * Plants a breakpoint, or plants a lifted one again; one that is planted already only gets another
 * owner when `owner` is not NULL. 0 and *breakpoint (stable until the table is destroyed); -ENOSPC:
 * no padding in reach; -ENOTSUP: the instruction cannot be displaced; -EBUSY: the bytes there are
 * not those of the file (another tool has patched them); -EFAULT: not mapped.
 */
int lw_breakpoint_plant(struct lw_breakpoint_table *table, uint64_t address, void *owner,
                        struct lw_breakpoint **breakpoint);
/*
 * The same with a way past it that is the caller's own: threads that hit it go on at `copy`, and
 * nothing is put into the padding. The bytes at the address must be the `size` (at most
 * LW_BREAKPOINT_WINDOW) `expected`, else -EBUSY.
 */
#define LW_BREAKPOINT_WINDOW 8
int lw_breakpoint_plant_diverted(struct lw_breakpoint_table *table, uint64_t address,
                                 const uint8_t *expected, size_t size, uint64_t copy,
                                 struct lw_breakpoint **breakpoint);
/* Takes over one that is there already, planted by a tracer that is no more. -EBUSY: there is none.
 * `original` is what was there before it, `size` bytes. */
int lw_breakpoint_adopt(struct lw_breakpoint_table *table, uint64_t address,
                        const uint8_t *original, size_t size, uint64_t copy,
                        struct lw_breakpoint **breakpoint);
/*
 * Turns a planted, diverted breakpoint into `bytes`, as many as were expected. The first one is
 * written last: until then every thread that comes by is stopped by the breakpoint. No thread may
 * be behind the first byte, and every processor must have seen the breakpoint (a thread that was
 * stopped since has).
 */
int lw_breakpoint_replace(struct lw_breakpoint_table *table, struct lw_breakpoint *breakpoint,
                          const uint8_t *bytes);
/* Takes the breakpoint out of the code; its copy stays, since threads may be in it. */
int lw_breakpoint_lift(struct lw_breakpoint_table *table, struct lw_breakpoint *breakpoint);

/* The breakpoint at an address, planted or not, or NULL. */
struct lw_breakpoint *lw_breakpoint_find(const struct lw_breakpoint_table *table, uint64_t address);

/* The breakpoint whose trap a thread that stopped at `pc` has just run into, or NULL. */
struct lw_breakpoint *lw_breakpoint_hit(const struct lw_breakpoint_table *table, uint64_t pc);

/* When `pc` is in a copy: the equivalent place in the program itself, and by how much the stack
 * pointer is to be raised. */
bool lw_breakpoint_rewind(const struct lw_breakpoint_table *table, uint64_t pc, uint64_t *address,
                          unsigned *stack);

/* Forgets one that was lifted, when no thread can be in its copy or on its way from it. */
void lw_breakpoint_table_forget(struct lw_breakpoint_table *table, uint64_t address);

/* Modules were unmapped: forgets, without writing, the breakpoints that are in no loaded module. */
void lw_breakpoint_table_forget_unmapped(struct lw_breakpoint_table *table);

/* Replaces our bytes in a buffer that was read at `address` by the program's own. */
void lw_breakpoint_mask(const struct lw_breakpoint_table *table, uint64_t address, void *buffer,
                        size_t size);

/* Takes every breakpoint out of the code, in the target's memory or in that of a forked child.
 * Returns how many, or a negative errno. */
int lw_breakpoint_table_lift_all(struct lw_breakpoint_table *table);
/* Gives the padding back, once no thread can be in a copy. */
int lw_breakpoint_table_restore_padding(struct lw_breakpoint_table *table);
/* The first, and both, in the memory of a child that has a copy of the target's; the table itself
 * does not change. */
int lw_breakpoint_table_lift_copy(const struct lw_breakpoint_table *table, struct lw_memory *child);
int lw_breakpoint_table_clean_copy(const struct lw_breakpoint_table *table,
                                   struct lw_memory *child);

/*
 * Compares every byte that was ever changed, and the rest of the pages it is on, with the modules'
 * files. True when all are equal; *bytes (may be NULL) is how many were compared.
 */
bool lw_breakpoint_table_verify(const struct lw_breakpoint_table *table, size_t *bytes);

/* A memory that reads through `table`'s and masks our bytes; writes are refused. */
struct lw_masked_memory {
    struct lw_memory memory;
    struct lw_memory *underlying;
    const struct lw_breakpoint_table *table;
};
void lw_masked_memory_init(struct lw_masked_memory *masked, struct lw_memory *underlying,
                           const struct lw_breakpoint_table *table);

#endif
