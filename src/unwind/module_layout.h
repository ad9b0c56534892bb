/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What unwinding needs of each loaded module: its call-frame table and which pages never change. */
#ifndef LEAKWATCH_UNWIND_MODULE_LAYOUT_H
#define LEAKWATCH_UNWIND_MODULE_LAYOUT_H

#include <libunwind.h>
#include <stdbool.h>
#include <stdint.h>

#include "leakwatch/arch/page.h"
#include "leakwatch/base/vector.h"
#include "leakwatch/target/memory.h"
#include "leakwatch/target/module.h"

#define LW_LAYOUT_SEGMENTS 16

struct lw_module_layout {
    bool known; /* the rest was filled in */
    /* The search table of .eh_frame_hdr, for dwarf_search_unwind_table. */
    bool has_table;
    unw_dyn_info_t table;
    /* Run-time spans of PT_LOAD, in whole pages. */
    unsigned segment_count;
    struct {
        uint64_t start, end;
        bool writable;
    } segments[LW_LAYOUT_SEGMENTS];
};

struct lw_module_layouts {
    struct lw_memory *memory;
    struct lw_module_table *modules;
    LW_VECTOR(struct lw_module_layout) list; /* by module id - 1 */
};

void lw_module_layouts_init(struct lw_module_layouts *layouts, struct lw_memory *memory,
                            struct lw_module_table *modules);
void lw_module_layouts_deinit(struct lw_module_layouts *layouts);

/* The modules have changed: everything is read anew. */
void lw_module_layouts_flush(struct lw_module_layouts *layouts);

/* The layout of the loaded module that holds the address, or NULL. Valid until the next call. */
const struct lw_module_layout *lw_module_layouts_find(struct lw_module_layouts *layouts,
                                                      uint64_t address);

/* Whether the page belongs to a module and to none of its writable segments. */
bool lw_module_layouts_is_constant(struct lw_module_layouts *layouts, uint64_t page);

#endif
