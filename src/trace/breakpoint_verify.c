/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Comparing what was ever changed with the modules' files. */
#include <stdlib.h>
#include <string.h>

#include "breakpoint_table.h"
#include "leakwatch/arch/page.h"
#include "leakwatch/base/cleanup.h"

/* Compares the page of code that holds the address with the file, or what of it the segment has. */
static bool verify_page(const struct lw_breakpoint_table *table, uint64_t address, size_t *bytes)
{
    const struct lw_module *module = lw_module_table_find(table->modules, address);
    if (!module || !module->image)
        return true; /* no file to compare with: code made at run time, or unmapped since */
    uint8_t in_file[LW_PAGE_SIZE], in_memory[LW_PAGE_SIZE];
    uint64_t start = address & ~(LW_PAGE_SIZE - 1);
    size_t size = lw_elf_image_read(module->image, start - module->bias, in_file, sizeof(in_file));
    if (size == 0 || lw_memory_read_all(table->memory, start, in_memory, size) != 0)
        return false;
    *bytes += size;
    return memcmp(in_file, in_memory, size) == 0;
}

static bool verify_padding(const struct lw_breakpoint_table *table,
                           const struct lw_padding *padding, size_t *bytes)
{
    size_t size = padding->end - padding->start;
    lw_auto_free uint8_t *in_file = malloc(size);
    lw_auto_free uint8_t *in_memory = malloc(size);
    if (!in_file || !in_memory || lw_padding_read_file(padding, table->modules, in_file) != 0 ||
        lw_memory_read_all(table->memory, padding->start, in_memory, size) != 0)
        return false;
    *bytes += size;
    return memcmp(in_file, in_memory, size) == 0;
}

static bool is_in_place(const struct lw_breakpoint_table *table, const struct lw_padding *padding)
{
    const struct lw_module *module = lw_module_table_find(table->modules, padding->start);
    return module && module->id == padding->module;
}

static bool verify_all(const struct lw_breakpoint_table *table, size_t *bytes)
{
    bool equal = true;
    uint64_t last_page = UINT64_MAX;
    *bytes = 0;
    lw_vector_for_each (item, &table->sorted) {
        uint64_t page = (*item)->address / LW_PAGE_SIZE;
        if (page != last_page)
            equal &= verify_page(table, (*item)->address, bytes);
        last_page = page;
    }
    lw_vector_for_each (padding, &table->paddings.list)
        if (padding->original && is_in_place(table, padding))
            equal &= verify_padding(table, padding, bytes);
    return equal;
}

bool lw_breakpoint_table_verify(const struct lw_breakpoint_table *table, size_t *bytes)
{
    size_t compared = 0;
    bool equal = false;
    /* The process runs: a library that it closes at this moment seems to differ, but not for long.
     */
    for (int tries = 0; tries < 10 && !equal; tries++) {
        (void)lw_module_table_refresh(table->modules, NULL);
        equal = verify_all(table, &compared);
    }
    if (bytes)
        *bytes = compared;
    return equal;
}
