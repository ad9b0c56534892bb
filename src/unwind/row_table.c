/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The call-frame information of one ELF file, compiled to rows. */
#include "leakwatch/unwind/row_table.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>

#include "cfi_program.h"
#include "eh_frame.h"

/* Takes the rows of one function after another. */
struct builder {
    struct lw_row_sink sink;
    struct lw_row_table *table;
    size_t capacity;
    uint64_t low, high; /* only what lies between them is taken */
    int result;
};

static int grow(struct builder *builder)
{
    struct lw_row_table *table = builder->table;
    size_t capacity = builder->capacity > 0 ? builder->capacity * 2 : 1024;
    uint32_t *start = reallocarray(table->start, capacity, sizeof(*start));
    if (start == NULL)
        return -ENOMEM;
    table->start = start;
    lw_row *row = reallocarray(table->row, capacity, sizeof(*row));
    if (row == NULL)
        return -ENOMEM;
    table->row = row;
    builder->capacity = capacity;
    return 0;
}

/* `start` is no less than any before it. A row that starts where the last one did replaces it. */
static int append(struct builder *builder, uint32_t start, lw_row row)
{
    struct lw_row_table *table = builder->table;
    if (table->count > 0 && table->start[table->count - 1] == start)
        table->count--;
    lw_row last = table->count > 0 ? table->row[table->count - 1] : LW_ROW_NONE;
    if (row == last)
        return 0;
    if (table->count == builder->capacity) {
        int result = grow(builder);
        if (result != 0)
            return result;
    }
    table->start[table->count] = start;
    table->row[table->count++] = row;
    return 0;
}

static bool take(struct lw_row_sink *sink, uint64_t address, lw_row row)
{
    struct builder *builder = (struct builder *)sink;
    if (address >= builder->high)
        return false;
    if (address < builder->low)
        address = builder->low;
    builder->result = append(builder, (uint32_t)(address - builder->table->base), row);
    return builder->result == 0;
}

static uint64_t lowest_segment(const struct lw_elf_image *image)
{
    size_t count;
    const struct lw_elf_segment *segments = lw_elf_image_segments(image, &count);
    uint64_t lowest = count > 0 ? segments[0].address : 0;
    for (size_t i = 1; i < count; i++)
        lowest = segments[i].address < lowest ? segments[i].address : lowest;
    return lowest;
}

/* Where functions overlap, which one is meant is anybody's guess: there are no rows. */
static int add_functions(struct builder *builder, struct lw_eh_frame *frame)
{
    const struct lw_fde *functions = frame->functions.items;
    const size_t count = frame->functions.count;
    const uint64_t base = builder->table->base;
    uint64_t covered = base;
    for (size_t i = 0; i < count && builder->result == 0; i++) {
        const struct lw_fde *function = &functions[i];
        uint64_t end = function->end;
        if (function->start < base || function->start - base >= UINT32_MAX)
            continue;
        if (end - base > UINT32_MAX)
            end = base + UINT32_MAX;
        builder->low = function->start > covered ? function->start : covered;
        builder->high =
            i + 1 < count && functions[i + 1].start < end ? functions[i + 1].start : end;
        if (end > covered)
            covered = end;
        if (builder->low >= builder->high)
            continue;
        lw_eh_frame_run(frame, function, &builder->sink);
        if (builder->result == 0)
            builder->result = append(builder, (uint32_t)(builder->high - base), LW_ROW_NONE);
    }
    return builder->result;
}

/* Gives back what is not needed; where that fails, nothing is lost. */
static void trim(struct lw_row_table *table)
{
    if (table->count == 0)
        return;
    void *start = reallocarray(table->start, table->count, sizeof(*table->start));
    if (start != NULL)
        table->start = start;
    void *row = reallocarray(table->row, table->count, sizeof(*table->row));
    if (row != NULL)
        table->row = row;
}

int lw_row_table_compile(const struct lw_elf_image *image, struct lw_row_table *table)
{
    *table = (struct lw_row_table){.base = lowest_segment(image)};
    if (lw_elf_image_machine(image) != EM_X86_64)
        return 0;
    struct lw_eh_frame frame;
    int result = lw_eh_frame_init(&frame, image);
    if (result != 0)
        return result;
    struct builder builder = {.sink.take = take, .table = table};
    result = add_functions(&builder, &frame);
    lw_eh_frame_deinit(&frame);
    if (result != 0)
        lw_row_table_deinit(table);
    else
        trim(table);
    return result;
}

void lw_row_table_deinit(struct lw_row_table *table)
{
    free(table->start);
    free(table->row);
    *table = (struct lw_row_table){0};
}

lw_row lw_row_table_find(const struct lw_row_table *table, uint64_t address)
{
    const uint64_t wanted = address - table->base;
    if (table->count == 0 || address < table->base || wanted > UINT32_MAX ||
        wanted < table->start[0])
        return LW_ROW_NONE;
    size_t low = 0, high = table->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (table->start[middle] <= wanted)
            low = middle;
        else
            high = middle;
    }
    return table->row[low];
}
