/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Steps from frame to frame by rows of call-frame information. */
#include "row_walk.h"

#include <stdatomic.h>

#include "leakwatch/arch/frame.h"
#include "leakwatch/base/map.h"

#define WORD sizeof(uint64_t)

void lw_row_walk_init(struct lw_row_walk *walk, struct lw_module_table *modules,
                      struct lw_stack_view *view)
{
    *walk = (struct lw_row_walk){.modules = modules, .view = view};
}

void lw_row_walk_deinit(struct lw_row_walk *walk)
{
    lw_vector_for_each (rows, &walk->rows)
        lw_row_table_deinit(&rows->table);
    lw_vector_deinit(&walk->rows);
}

void lw_row_walk_flush(struct lw_row_walk *walk)
{
    memset(walk->cache, 0, sizeof(walk->cache));
    for (size_t i = 0; i < walk->rows.count; i++) {
        struct lw_module_rows *rows = &walk->rows.items[i];
        const struct lw_module *module = lw_module_table_get(walk->modules, (uint32_t)i + 1);
        if (module && module->loaded)
            continue;
        lw_row_table_deinit(&rows->table);
        rows->known = false;
    }
}

/* The module's rows, NULL when it has none. Valid until the next call. */
static const struct lw_row_table *rows_of(struct lw_row_walk *walk, const struct lw_module *module)
{
    while (walk->rows.count < module->id)
        if (lw_vector_push(&walk->rows, (struct lw_module_rows){0}) < 0)
            return NULL;
    struct lw_module_rows *rows = &walk->rows.items[module->id - 1];
    if (!rows->known) {
        rows->known = true;
        /* Out of memory, there are none, as if the module had no call-frame information. */
        if (module->image)
            (void)lw_row_table_compile(module->image, &rows->table);
    }
    return &rows->table;
}

void lw_row_walk_prepare(struct lw_row_walk *walk)
{
    const size_t count = lw_module_table_count(walk->modules);
    for (uint32_t id = 1; id <= count; id++) {
        const struct lw_module *module = lw_module_table_get(walk->modules, id);
        if (module && module->loaded)
            (void)rows_of(walk, module);
    }
}

static lw_row find_row(struct lw_row_walk *walk, uint64_t pc, bool is_return)
{
    /* A call may be its function's last instruction. */
    const uint64_t address = pc - is_return;
    const struct lw_module *module = lw_module_table_find(walk->modules, address);
    const struct lw_row_table *table = module ? rows_of(walk, module) : NULL;
    if (!table)
        return LW_ROW_NONE;
    lw_row row = lw_row_table_find(table, address - atomic_load(&module->bias));
    /* Bytes and call-frame information must agree on what a signal trampoline is. */
    bool is_trampoline =
        lw_stack_view_holds(walk->view, pc, lw_signal_trampoline, LW_SIGNAL_TRAMPOLINE_SIZE);
    return is_trampoline == (lw_row_kind(row) == LW_ROW_SIGNAL) ? row : LW_ROW_NONE;
}

static lw_row row_at(struct lw_row_walk *walk, uint64_t pc, bool is_return)
{
    /* No code is in the upper half of the address space. An entry that was never used is right: at
     * 0 there is no code either. */
    const uint64_t key = pc << 1 | is_return;
    if (pc > INT64_MAX)
        return LW_ROW_NONE;
    struct lw_cached_row *cached = &walk->cache[lw_hash64(key) % LW_ROW_WALK_CACHE];
    if (cached->key != key) {
        cached->row = find_row(walk, pc, is_return);
        cached->key = key;
    }
    return cached->row;
}

static bool read_word(struct lw_row_walk *walk, uint64_t address, uint64_t *word)
{
    return lw_stack_view_read(walk->view, address, word) == 0;
}

static enum lw_row_step step_over_signal(struct lw_row_walk *walk, struct lw_position *at)
{
    const struct lw_signal_context saved = lw_frame_signal_context(at->sp);
    if (!read_word(walk, saved.pc, &at->pc) || !read_word(walk, saved.fp, &at->fp) ||
        !read_word(walk, saved.sp, &at->sp))
        return LW_ROW_STEP_UNKNOWN;
    return LW_ROW_STEP_FRAME;
}

/* False: the row does not tell, or the stack cannot be read. */
static bool find_cfa(struct lw_row_walk *walk, const struct lw_position *at, lw_row row,
                     uint64_t *cfa)
{
    switch (lw_row_kind(row)) {
    case LW_ROW_SP:
        *cfa = at->sp + lw_row_offset(row);
        return true;
    case LW_ROW_FP:
        *cfa = at->fp + lw_row_offset(row);
        return true;
    case LW_ROW_DEREF:
        return read_word(walk, at->fp + lw_row_offset(row) - LW_ROW_DEREF_BIAS, cfa);
    case LW_ROW_PLT:
        *cfa = at->sp + (lw_frame_plt_has_pushed(at->pc) ? 2 * WORD : WORD);
        return true;
    default:
        return false;
    }
}

static bool restore_frame_pointer(struct lw_row_walk *walk, struct lw_position *at, lw_row row,
                                  uint64_t cfa)
{
    const uint32_t slot = lw_row_slot(row);
    if (slot == 0)
        return true;
    return read_word(walk, slot == LW_ROW_SLOT_AT_FP ? at->fp : cfa - slot * WORD, &at->fp);
}

enum lw_row_step lw_row_walk_step(struct lw_row_walk *walk, struct lw_position *at, bool *is_return,
                                  bool *caller_is_return)
{
    const lw_row row = row_at(walk, at->pc, *is_return);
    const enum lw_row_kind kind = lw_row_kind(row);
    uint64_t cfa, pc;
    *caller_is_return = kind != LW_ROW_SIGNAL;
    if (kind == LW_ROW_SIGNAL) {
        *is_return = false;
        return step_over_signal(walk, at);
    }
    if (kind == LW_ROW_END)
        return LW_ROW_STEP_OUTERMOST;
    /* Stacks grow downwards. */
    if (!find_cfa(walk, at, row, &cfa) || cfa <= at->sp || !read_word(walk, cfa - WORD, &pc))
        return LW_ROW_STEP_UNKNOWN;
    if (pc == 0)
        return LW_ROW_STEP_OUTERMOST;
    if (!restore_frame_pointer(walk, at, row, cfa))
        return LW_ROW_STEP_UNKNOWN;
    at->pc = pc;
    at->sp = cfa;
    return LW_ROW_STEP_FRAME;
}
