/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keeps suppressed stacks out of a watch's reports, and counts what it has kept out. */
#include "suppressor.h"

#include <errno.h>

/* Frames that are named at first. Most suppressions are about the innermost ones, and most stacks
 * are none of theirs: the names of the other frames are then never looked up. */
#define FIRST_FRAMES 6

/* In lw_suppressor.verdicts. */
enum { UNKNOWN, LISTED, SUPPRESSED };

void lw_suppressor_deinit(struct lw_suppressor *suppressor)
{
    for (size_t i = 0; i < suppressor->marks.capacity; i++)
        if (suppressor->marks.entries[i].key != UINT64_MAX)
            free((void *)(uintptr_t)suppressor->marks.entries[i].value);
    lw_map_deinit(&suppressor->marks);
    lw_vector_deinit(&suppressor->verdicts);
    lw_vector_deinit(&suppressor->frames);
    free(suppressor->joined);
}

int lw_suppressor_begin(const struct lw_suppressor *suppressor, struct lw_report *report)
{
    size_t count = suppressor->set ? lw_suppressions_count(suppressor->set) : 0;

    report->suppressions = calloc(count + 1, sizeof(*report->suppressions));
    if (!report->suppressions)
        return -ENOMEM;
    report->suppression_count = count;
    for (size_t i = 0; i < count; i++)
        report->suppressions[i].suppression = lw_suppressions_get(suppressor->set, i);
    return 0;
}

static uint64_t *new_marks(const struct lw_suppressions *set)
{
    return calloc(lw_suppressions_mark_words(set), sizeof(uint64_t));
}

/* A symbol stays where it is as long as the symbolizer, and so does a module: where they are says
 * which they are. An empty symbol says nothing, and may be shared. */
static const uint64_t *find_marks(struct lw_suppressor *suppressor, const struct lw_symbol *symbol,
                                  const struct lw_module *module)
{
    const struct lw_frame_names names = {
        .function = symbol->function,
        .linkage_name = symbol->linkage_name,
        .file = symbol->file,
        .line = symbol->line,
        .module_path = module ? module->path : NULL,
    };
    const bool is_named = symbol->function || symbol->file;
    const uint64_t key = is_named ? (uintptr_t)symbol : (uintptr_t)module;
    uint64_t value;

    if (lw_map_get(&suppressor->marks, key, &value))
        return (const uint64_t *)(uintptr_t)value;
    uint64_t *marks = new_marks(suppressor->set);
    if (!marks || lw_map_set(&suppressor->marks, key, (uintptr_t)marks) != 0) {
        free(marks);
        return NULL;
    }
    lw_suppressions_mark(suppressor->set, &names, marks);
    return marks;
}

/* As in naming.c, inlined functions are frames of their own. */
static int add_frame(struct lw_suppressor *suppressor, const struct lw_frame *frame)
{
    static const struct lw_symbol unknown;
    const struct lw_symbol *symbols = &unknown;
    size_t count = 1;
    const struct lw_module *module = suppressor->modules && frame->module != 0
                                         ? lw_module_table_get(suppressor->modules, frame->module)
                                         : NULL;

    if (module && suppressor->symbolizer)
        count = lw_symbolizer_resolve(suppressor->symbolizer, frame->module, frame->offset,
                                      frame->is_return, &symbols);
    for (size_t i = 0; i < count; i++) {
        const uint64_t *marks = find_marks(suppressor, &symbols[i], module);
        if (!marks || lw_vector_push(&suppressor->frames, marks) != 0)
            return -ENOMEM;
        /* operator new[] may call operator new */
        if (suppressor->frames.count == suppressor->operator_new + 2 &&
            lw_linkage_name_is_new(symbols[i].linkage_name))
            suppressor->operator_new++;
    }
    return 0;
}

static int judge(struct lw_suppressor *suppressor, const struct lw_stack *stack, uint32_t *result)
{
    enum lw_suppression_verdict verdict = LW_SUPPRESSION_NEEDS_MORE;
    uint32_t depth = 0;
    size_t index = 0;

    if (!suppressor->joined)
        suppressor->joined = new_marks(suppressor->set);
    if (!suppressor->joined)
        return -ENOMEM;
    lw_vector_clear(&suppressor->frames);
    suppressor->operator_new = 0;
    while (verdict == LW_SUPPRESSION_NEEDS_MORE) {
        const uint32_t end =
            depth == 0 && stack->depth > FIRST_FRAMES ? FIRST_FRAMES : stack->depth;
        for (; depth < end; depth++)
            if (add_frame(suppressor, &stack->frames[depth]) != 0)
                return -ENOMEM;
        const struct lw_marked_stack marked = {
            .frames = suppressor->frames.items,
            .count = suppressor->frames.count,
            .complete = depth == stack->depth,
            .operator_new = suppressor->operator_new,
            .marks = suppressor->joined,
        };
        verdict = lw_suppressions_find(suppressor->set, &marked, &index);
    }
    *result = verdict == LW_SUPPRESSION_FOUND ? SUPPRESSED + (uint32_t)index : LISTED;
    return 0;
}

/* A stack is judged once. */
static int find_verdict(struct lw_suppressor *suppressor, const struct lw_stack *stack,
                        uint32_t *verdict)
{
    while (suppressor->verdicts.count <= stack->id)
        if (lw_vector_push(&suppressor->verdicts, UNKNOWN) != 0)
            return -ENOMEM;
    uint32_t *known = &suppressor->verdicts.items[stack->id];
    int result = *known == UNKNOWN ? judge(suppressor, stack, known) : 0;
    *verdict = *known;
    return result;
}

static void count(struct lw_report_hidden *hidden, const struct lw_stack_stats *stats, bool listed)
{
    hidden->stacks += listed;
    hidden->expired_bytes += stats->expired_bytes;
    hidden->expired_blocks += stats->expired_blocks;
    hidden->live_bytes += stats->live_bytes;
    hidden->live_blocks += stats->live_blocks;
}

int lw_suppressor_knows(struct lw_suppressor *suppressor, const struct lw_snapshot_stack *facts,
                        const struct lw_report *report)
{
    uint32_t verdict;

    if (report->suppression_count == 0)
        return 0;
    const int result = find_verdict(suppressor, facts->stack, &verdict);
    return result != 0 ? result : verdict >= SUPPRESSED;
}

int lw_suppressor_hides(struct lw_suppressor *suppressor, const struct lw_snapshot_stack *facts,
                        bool listed, struct lw_report *report)
{
    uint32_t verdict;

    if (report->suppression_count == 0)
        return 0;
    int result = find_verdict(suppressor, facts->stack, &verdict);
    if (result != 0 || verdict < SUPPRESSED)
        return result;
    count(&report->suppressed, &facts->stats, listed);
    count(&report->suppressions[verdict - SUPPRESSED].hidden, &facts->stats, listed);
    return 1;
}
