/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Module and offset -> function, file, line and inlined callers. */
#ifndef LEAKWATCH_SYMBOL_SYMBOLIZER_H
#define LEAKWATCH_SYMBOL_SYMBOLIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "leakwatch/target/module.h"

/*
 * libdw over the module's open file and its separate debug information (build-id, .gnu_debuglink,
 * debuginfod when the environment configures it, .gnu_debugdata). Works without the process:
 * everything comes from files that the module table holds open, so it may be slow, and runs on the
 * reporter's thread, never on the tracer's. Results are cached.
 */
struct lw_symbolizer;

struct lw_symbol {
    const char *function; /* demangled; NULL when no symbol covers the address */
    uint64_t offset;      /* from the function's start; 0 for inlined functions */
    const char *file;     /* NULL when there is no line information */
    int line;             /* 0 likewise */
    bool inlined;         /* inlined into the next symbol of the list */
    /* `function` as the linker has it, before it was demangled; NULL likewise */
    const char *linkage_name;
};

/* `modules` outlives the symbolizer. NULL: out of memory. */
struct lw_symbolizer *lw_symbolizer_create(struct lw_module_table *modules);
void lw_symbolizer_destroy(struct lw_symbolizer *symbolizer);

/*
 * The functions at an offset (a link-time address) of a module, innermost inlined function first,
 * the function that the code really is in last: *symbols points at them and stays valid as long as
 * the symbolizer. Returns how many: at least 1 (all fields empty when nothing is known). With
 * `is_return` the lookup is for offset - 1, `lw_symbol.offset` is still that of the return address.
 */
size_t lw_symbolizer_resolve(struct lw_symbolizer *symbolizer, uint32_t module, uint64_t offset,
                             bool is_return, const struct lw_symbol **symbols);

#endif
