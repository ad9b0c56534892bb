/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The allocator functions that are watched: their names, what they do, where they are. */
#ifndef LEAKWATCH_PROBE_ALLOCATOR_H
#define LEAKWATCH_PROBE_ALLOCATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "leakwatch/base/error.h"
#include "leakwatch/base/vector.h"
#include "leakwatch/target/module.h"

/* Every allocator comes down to three acts, told apart by where the arguments are. */
enum lw_allocator_act {
    LW_ACT_ALLOCATE,   /* returns the block */
    LW_ACT_STORE,      /* posix_memalign: stores the block through argument 0 and returns 0 */
    LW_ACT_REALLOCATE, /* argument 0 is the old block, the new one is returned */
    LW_ACT_RELEASE,    /* argument 0 is the block */
};

#define LW_NO_ARGUMENT 0xff

struct lw_allocator_function {
    const char *symbol; /* as in the symbol table */
    const char *label;  /* as people write it */
    enum lw_allocator_act act;
    uint8_t size;  /* number of the argument with the size, bytes */
    uint8_t count; /* number of the argument it is multiplied by, or LW_NO_ARGUMENT */
};

extern const struct lw_allocator_function lw_allocator_functions[];
extern const size_t lw_allocator_function_count;

/* The function with this symbol name, or NULL. */
const struct lw_allocator_function *lw_allocator_function_named(const char *symbol);

/* Where a call to an allocator function ends. */
enum lw_exit_kind {
    LW_EXIT_RETURN, /* a return instruction */
    LW_EXIT_JUMP,   /* a jump to code that is not followed: what it reaches returns to the caller */
};
struct lw_allocator_exit {
    uint64_t address; /* link-time */
    enum lw_exit_kind kind;
};

/* One function found in one module. */
struct lw_allocator_site {
    const struct lw_allocator_function *function;
    uint64_t address; /* link-time */
    /* May end in a jump to another watched function, whose return is then its own. */
    bool ends_in_watched;
    LW_VECTOR(struct lw_allocator_exit) exits;
};

/* The functions that a module defines, aliases at one address once. */
struct lw_allocator_set {
    uint32_t module;
    LW_VECTOR(struct lw_allocator_site) sites;
};

/*
 * Finds the set of a module: 0 or a negative errno; an empty set where the module defines none. C++
 * operators that only pass on to another allocator function (libstdc++'s call malloc) are left out:
 * the block is counted where it is made.
 */
int lw_allocator_set_find(struct lw_allocator_set *set, const struct lw_module *module);
void lw_allocator_set_deinit(struct lw_allocator_set *set);

/* Why a process in which no set was found cannot be watched. Never NULL. */
lw_error *lw_allocator_explain_none(pid_t pid);

#endif
