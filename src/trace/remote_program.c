/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the program of remote calls lies: at the end of padding. */
#include <errno.h>
#include <string.h>

#include "borrowed.h"
#include "breakpoint_table.h"

/* At its end, since breakpoints' copies grow from its start. 0: it is never in this one. */
static uint64_t place_in(const struct lw_padding *padding)
{
    const uint64_t place = (padding->end - LW_REMOTE_PROGRAM_SIZE) & ~15ull;
    return padding->lends && padding->end - padding->start >= LW_REMOTE_PROGRAM_SIZE + 15 ? place
                                                                                          : 0;
}

uint64_t lw_remote_program_in(const struct lw_padding *padding, struct lw_memory *memory)
{
    uint8_t code[LW_REMOTE_PROGRAM_SIZE];
    const uint64_t place = place_in(padding);
    bool is_there = place != 0 && lw_memory_read_all(memory, place, code, sizeof(code)) == 0 &&
                    memcmp(code, lw_remote_program_code, sizeof(code)) == 0;
    return is_there ? place : 0;
}

uint64_t lw_remote_program_lay(struct lw_breakpoint_table *table)
{
    if (lw_padding_discover(&table->paddings, table->modules) != 0)
        return 0;
    lw_vector_for_each (padding, &table->paddings.list) {
        const uint64_t place = place_in(padding);
        if (place == 0 || place < padding->start + padding->used ||
            lw_padding_open(padding, table->modules, table->memory) != 0)
            continue;
        if (lw_memory_write(table->memory, place, lw_remote_program_code, LW_REMOTE_PROGRAM_SIZE))
            continue;
        padding->kept = padding->end - place;
        return place;
    }
    return 0;
}

void lw_remote_program_remove(struct lw_breakpoint_table *table)
{
    (void)lw_remote_program_lift(table, table->memory);
    lw_vector_for_each (padding, &table->paddings.list)
        padding->kept = 0;
}

int lw_remote_program_lift(const struct lw_breakpoint_table *table, struct lw_memory *memory)
{
    int result = 0;
    lw_vector_for_each (padding, &table->paddings.list) {
        const uint64_t place = padding->original ? lw_remote_program_in(padding, memory) : 0;
        if (place == 0)
            continue;
        int error = lw_memory_write(memory, place, padding->original + (place - padding->start),
                                    LW_REMOTE_PROGRAM_SIZE);
        if (error && error != -EFAULT) /* it has become another program */
            result = error;
    }
    return result;
}
