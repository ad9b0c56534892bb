/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The call-frame information of one ELF file, compiled to rows. */
#ifndef LEAKWATCH_UNWIND_ROW_TABLE_H
#define LEAKWATCH_UNWIND_ROW_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "leakwatch/target/elf_image.h"
#include "leakwatch/unwind/row.h"

/*
 * Sorted by address: row[i] is valid from start[i] up to start[i + 1]; the last one is LW_ROW_NONE.
 * Addresses are link-time. Neighbours are never equal. The file is the target's choice and may hold
 * anything: what cannot be understood becomes LW_ROW_NONE, never a crash, a hang, or an allocation
 * that is out of proportion to the section.
 */
struct lw_row_table {
    uint32_t *start; /* link-time address - base */
    lw_row *row;
    size_t count;  /* 0: the file has no call-frame information */
    uint64_t base; /* link-time address of the lowest segment */
};

/* Compiles .eh_frame (found through .eh_frame_hdr, as unwinders do, or else by its section header):
 * 0, or -ENOMEM. A file without one gives an empty table, and so does one for another machine. */
int lw_row_table_compile(const struct lw_elf_image *image, struct lw_row_table *table);
void lw_row_table_deinit(struct lw_row_table *table);

/* The row for an instruction's link-time address (for a return address, pass it less 1). */
lw_row lw_row_table_find(const struct lw_row_table *table, uint64_t address);

#endif
