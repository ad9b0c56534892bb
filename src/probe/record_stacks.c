/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's stacks, which are addresses, become frames in modules. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "record_view.h"

/* So many notes are kept. A stack is named at the latest when the second note after it is taken, so
 * few would do. */
#define EPOCHS_KEPT 64

static int compare_spans(const void *left, const void *right)
{
    const struct record_span *a = left, *b = right;
    if (a->start != b->start)
        return a->start < b->start ? -1 : 1;
    return a->module < b->module ? -1 : a->module > b->module;
}

static int collect_spans(const struct record_view *view, struct record_epoch *note)
{
    size_t count = lw_module_table_count(view->modules);
    for (uint32_t id = 1; id <= count; id++) {
        const struct lw_module *module = lw_module_table_get(view->modules, id);
        if (!module || !module->loaded)
            continue;
        const struct record_span span = {.start = module->start,
                                         .end = module->end,
                                         .bias = atomic_load(&module->bias),
                                         .module = module->id};
        if (lw_vector_push(&note->spans, span) != 0)
            return -ENOMEM;
    }
    if (note->spans.count > 0)
        qsort(note->spans.items, note->spans.count, sizeof(*note->spans.items), compare_spans);
    uint64_t reach = 0;
    lw_vector_for_each (span, &note->spans) {
        reach = span->end > reach ? span->end : reach;
        span->reach = reach;
    }
    return 0;
}

static const struct record_span *find_span(const struct record_epoch *note, uint64_t address)
{
    size_t low = 0, high = note->spans.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (note->spans.items[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low > 0 && note->spans.items[low - 1].reach > address; low--)
        if (note->spans.items[low - 1].end > address)
            return &note->spans.items[low - 1];
    return NULL;
}

/* Where to look for the modules of a stack: `second` for what is not found in `first`. */
struct notes {
    const struct record_epoch *first, *second; /* may be NULL */
};

/*
 * An epoch begins when libraries are about to be unmapped, so what is used within it is what was
 * there last in it: libraries come, but none goes. Where that was missed, because one was closed
 * before the note was taken, the next note may still have it. Of an epoch without a note, the next
 * and the one before are the nearest.
 */
static struct notes notes_of(const struct record_view *view, uint32_t epoch)
{
    size_t after = view->epochs.count; /* the first that is later */
    while (after > 0 && view->epochs.items[after - 1].epoch > epoch)
        after--;
    const struct record_epoch *next =
        after < view->epochs.count ? &view->epochs.items[after] : NULL;
    const struct record_epoch *last = after > 0 ? &view->epochs.items[after - 1] : NULL;
    if (last && last->epoch == epoch)
        return (struct notes){last, next};
    return next ? (struct notes){next, last} : (struct notes){last, NULL};
}

static struct lw_frame make_frame(const struct notes *notes, uint64_t word)
{
    const bool is_return = !(word & LW_AGENT_EXACT_PC);
    const uint64_t pc = word & ~LW_AGENT_EXACT_PC;
    /* A call that never returns may be the last instruction of its module. */
    const uint64_t code = pc - (is_return ? 1 : 0);
    const struct record_span *span = notes->first ? find_span(notes->first, code) : NULL;
    if (!span && notes->second)
        span = find_span(notes->second, code);
    return (struct lw_frame){.offset = span ? pc - span->bias : pc,
                             .module = span ? span->module : 0,
                             .is_return = is_return};
}

/* *named stays NULL where the agent has not completed the stack yet; 0 or -ENOMEM. */
static int name_stack(const struct record_view *view, uint32_t number,
                      const struct lw_stack **named)
{
    struct lw_frame frames[LW_AGENT_DEPTH_MAX];
    const struct lw_agent_stack *stack = &view->shared->stacks[number];
    uint64_t depth = 0;
    bool truncated = true;
    if (number != LW_AGENT_STACK_UNKNOWN) {
        depth = __atomic_load_n(&stack->depth, __ATOMIC_ACQUIRE);
        if (depth == 0)
            return 0;
        const uint64_t first = stack->first;
        const uint64_t used = __atomic_load_n(&view->shared->next_word, __ATOMIC_RELAXED);
        truncated = stack->truncated != 0;
        if (depth > LW_AGENT_DEPTH_MAX || first + depth > LW_AGENT_STACK_WORDS ||
            first + depth > used) {
            depth = 0;
            truncated = true;
        }
        const struct notes notes = notes_of(view, stack->epoch);
        for (uint64_t i = 0; i < depth; i++)
            frames[i] = make_frame(&notes, view->shared->stack_words[first + i]);
    }
    *named = lw_stack_table_intern(view->stacks, frames, depth, truncated);
    return *named ? 0 : -ENOMEM;
}

int record_view_name_stacks(struct record_view *view)
{
    uint32_t made = __atomic_load_n(&view->shared->next_stack, __ATOMIC_ACQUIRE);
    const uint32_t most = LW_AGENT_STACKS - LW_AGENT_FIRST_STACK;
    const uint32_t limit = LW_AGENT_FIRST_STACK + (made < most ? made : most);
    while (view->by_number.count < limit)
        if (lw_vector_push(&view->by_number, NULL) != 0)
            return -ENOMEM;
    for (uint32_t number = LW_AGENT_STACK_UNKNOWN; number < view->by_number.count; number++) {
        const struct lw_stack **stack = &view->by_number.items[number];
        int result = *stack ? 0 : name_stack(view, number, stack);
        if (result != 0)
            return result;
    }
    return 0;
}

/* Takes the note over. Of an epoch, the first is kept and the last. */
static int keep_note(struct record_view *view, struct record_epoch *note)
{
    struct record_epoch *items = view->epochs.items;
    const size_t count = view->epochs.count;
    if (count >= 2 && items[count - 1].epoch == note->epoch &&
        items[count - 2].epoch == note->epoch) {
        lw_vector_deinit(&items[count - 1].spans);
        items[count - 1] = *note;
        return 0;
    }
    if (count == EPOCHS_KEPT) {
        lw_vector_deinit(&items[0].spans);
        memmove(items, items + 1, (count - 1) * sizeof(*items));
        view->epochs.count--;
    }
    return lw_vector_push(&view->epochs, *note);
}

static int take_note(struct record_view *view)
{
    const struct record_epoch *last =
        view->epochs.count > 0 ? &view->epochs.items[view->epochs.count - 1] : NULL;
    struct record_epoch note = {.epoch = __atomic_load_n(&view->shared->epoch, __ATOMIC_ACQUIRE)};
    if (last && note.epoch < last->epoch)
        note.epoch = last->epoch; /* scribbled over */
    int result = collect_spans(view, &note);
    if (result == 0)
        result = keep_note(view, &note);
    if (result != 0)
        lw_vector_deinit(&note.spans);
    return result;
}

int record_view_note_modules(struct record_view *view)
{
    int result = take_note(view);
    if (result != 0)
        return result;
    /* Stacks that have come since the last note may be of libraries that are known only now, and
     * so may those that came while that one was being taken. */
    view->by_number.count = view->settled;
    result = record_view_name_stacks(view);
    view->settled = view->noted < view->by_number.count ? view->noted : view->by_number.count;
    view->noted = view->by_number.count;
    return result;
}
