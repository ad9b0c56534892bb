/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The target's memory as the program itself has it, without our breakpoints. */
#include <errno.h>

#include "leakwatch/trace/breakpoint.h"

static ssize_t masked_read(struct lw_memory *memory, uint64_t address, void *buffer, size_t size)
{
    struct lw_masked_memory *masked = (struct lw_masked_memory *)memory;
    ssize_t n = masked->underlying->read(masked->underlying, address, buffer, size);
    if (n > 0)
        lw_breakpoint_mask(masked->table, address, buffer, (size_t)n);
    return n;
}

static int masked_write(struct lw_memory *memory, uint64_t address, const void *buffer, size_t size)
{
    (void)memory, (void)address, (void)buffer, (void)size;
    return -EACCES;
}

void lw_masked_memory_init(struct lw_masked_memory *masked, struct lw_memory *underlying,
                           const struct lw_breakpoint_table *table)
{
    masked->memory = (struct lw_memory){.read = masked_read, .write = masked_write};
    masked->underlying = underlying;
    masked->table = table;
}
