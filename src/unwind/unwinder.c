/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A stopped thread's registers -> the program counters of its call stack. */
#include "leakwatch/unwind/unwinder.h"

#include <stdlib.h>
#include <string.h>

#include "cursor.h"
#include "leakwatch/arch/frame.h"
#include "module_layout.h"
#include "row_walk.h"
#include "stack_view.h"

/* A frame pointer further above the stack pointer than this is not one. */
#define LARGEST_FRAME (1u << 20)

/* How much stack was read to unwind from a place before. */
struct extent {
    uint64_t sp, pc, return_address;
    size_t size; /* 0: not known */
};
#define EXTENTS 1024
/* A larger stack is unwound while the thread is stopped. */
#define LARGEST_CAPTURE (64u << 10)

struct lw_unwinder {
    struct lw_module_layouts layouts;
    struct lw_stack_view view;
    struct lw_cursor cursor;
    struct lw_row_walk walk;
    bool without_rows;
    uint64_t left_to_libunwind;
    struct extent extents[EXTENTS];
};

enum step { STEP_FRAME, STEP_OUTERMOST, STEP_FAILED };

struct lw_unwinder *lw_unwinder_create(struct lw_memory *memory, struct lw_module_table *modules)
{
    struct lw_unwinder *unwinder = calloc(1, sizeof(*unwinder));
    if (!unwinder)
        return NULL;
    if (!lw_cursor_init(&unwinder->cursor, &unwinder->layouts, &unwinder->view)) {
        free(unwinder);
        return NULL;
    }
    lw_module_layouts_init(&unwinder->layouts, memory, modules);
    lw_stack_view_init(&unwinder->view, memory, &unwinder->layouts);
    lw_row_walk_init(&unwinder->walk, modules, &unwinder->view);
    return unwinder;
}

void lw_unwinder_destroy(struct lw_unwinder *unwinder)
{
    if (!unwinder)
        return;
    lw_cursor_deinit(&unwinder->cursor);
    lw_row_walk_deinit(&unwinder->walk);
    lw_stack_view_deinit(&unwinder->view);
    lw_module_layouts_deinit(&unwinder->layouts);
    free(unwinder);
}

void lw_unwinder_flush(struct lw_unwinder *unwinder)
{
    lw_cursor_flush(&unwinder->cursor);
    lw_row_walk_flush(&unwinder->walk);
    lw_stack_view_flush(&unwinder->view);
    lw_module_layouts_flush(&unwinder->layouts);
}

void lw_unwinder_prepare(struct lw_unwinder *unwinder)
{
    lw_row_walk_prepare(&unwinder->walk);
}

void lw_unwinder_use_rows(struct lw_unwinder *unwinder, bool use)
{
    unwinder->without_rows = !use;
}

uint64_t lw_unwinder_left_to_libunwind(const struct lw_unwinder *unwinder)
{
    return unwinder->left_to_libunwind;
}

/* Whether a call instruction ends at the address: what tells a return address from any other word
 * of a stack. */
static bool follows_call(struct lw_unwinder *unwinder, uint64_t address)
{
    uint64_t word;
    _Static_assert(sizeof(word) >= LW_CALL_INSTRUCTION_MAX, "one word holds every call");
    return address >= sizeof(word) &&
           lw_stack_view_read(&unwinder->view, address - sizeof(word), &word) == 0 &&
           lw_frame_ends_in_call((const uint8_t *)&word, sizeof(word), address);
}

/* Allocator probes stop at a function's entry or return instruction. */
static bool step_from_entry(struct lw_unwinder *unwinder, struct lw_position *position)
{
    const struct lw_frame_entry entry = lw_frame_entry(position->sp);
    uint64_t pc;
    if (lw_stack_view_read(&unwinder->view, entry.return_slot, &pc) < 0 ||
        !follows_call(unwinder, pc))
        return false;
    position->pc = pc;
    position->sp = entry.caller_sp;
    return true;
}

/* A frame pointer points at the caller's, with the return address behind it. */
static enum step step_by_frame_pointer(struct lw_unwinder *unwinder, struct lw_position *position)
{
    uint64_t fp = position->fp, saved_fp, pc;
    /* The ABI marks the outermost frame by a frame pointer of 0; start code without call-frame
     * information (musl's) does so. Generated code may as well keep any number there. */
    if (fp == 0)
        return lw_module_table_find(unwinder->layouts.modules, position->pc) ? STEP_OUTERMOST
                                                                             : STEP_FAILED;
    if (fp % sizeof(fp) != 0 || fp < position->sp || fp - position->sp > LARGEST_FRAME ||
        lw_stack_view_read(&unwinder->view, fp, &saved_fp) < 0 ||
        lw_stack_view_read(&unwinder->view, fp + sizeof(fp), &pc) < 0)
        return STEP_FAILED;
    if (pc == 0)
        return STEP_OUTERMOST;
    if (!follows_call(unwinder, pc))
        return STEP_FAILED;
    *position =
        (struct lw_position){.pc = pc, .sp = fp + 2 * sizeof(fp), .fp = saved_fp, .only = true};
    return STEP_FRAME;
}

/* (unw_is_signal_frame of libunwind 1.6 is never true of a remote cursor.) */
static bool is_signal_trampoline(struct lw_unwinder *unwinder, uint64_t pc)
{
    return lw_stack_view_holds(&unwinder->view, pc, lw_signal_trampoline,
                               LW_SIGNAL_TRAMPOLINE_SIZE);
}

static enum step step_over_signal(struct lw_unwinder *unwinder, struct lw_position *at)
{
    const struct lw_signal_context saved = lw_frame_signal_context(at->sp);
    if (lw_stack_view_read(&unwinder->view, saved.pc, &at->pc) < 0 ||
        lw_stack_view_read(&unwinder->view, saved.fp, &at->fp) < 0 ||
        lw_stack_view_read(&unwinder->view, saved.sp, &at->sp) < 0)
        return STEP_FAILED;
    at->only = true;
    return lw_cursor_place(&unwinder->cursor, at) ? STEP_FRAME : STEP_FAILED;
}

/* Steps out of a frame for which libunwind knows nothing, and points it at the next one. */
static enum step step_without_table(struct lw_unwinder *unwinder, struct lw_position *at,
                                    bool is_return)
{
    if (is_return || !step_from_entry(unwinder, at)) {
        enum step step = step_by_frame_pointer(unwinder, at);
        if (step != STEP_FRAME)
            return step;
    }
    /* A new cursor takes its pc for exact, and a return address may lie beyond its function's end:
     * look the call up instead. */
    struct lw_position call = *at;
    call.pc--;
    return lw_cursor_place(&unwinder->cursor, &call) ? STEP_FRAME : STEP_FAILED;
}

/* Goes from the frame *at to its caller. *is_return says whether its pc is a return address, and
 * may be corrected: a signal trampoline's is not. */
static enum step step_out(struct lw_unwinder *unwinder, struct lw_position *at, bool *is_return,
                          bool *caller_is_return)
{
    uint64_t pc, sp;
    bool signal_frame = is_signal_trampoline(unwinder, at->pc);
    if (signal_frame)
        *is_return = false;
    *caller_is_return = !signal_frame;
    at->fp = lw_cursor_frame_pointer(&unwinder->cursor);

    enum lw_cursor_step step = lw_cursor_step(&unwinder->cursor, &pc, &sp);
    if (step == LW_CURSOR_NO_TABLE)
        return signal_frame ? step_over_signal(unwinder, at)
                            : step_without_table(unwinder, at, *is_return);
    if (step == LW_CURSOR_FAILED)
        return STEP_FAILED;
    /* A signal may have come at 0 as well, after a call through a null pointer. */
    if (step == LW_CURSOR_OUTERMOST || (pc == 0 && !signal_frame))
        return STEP_OUTERMOST;
    /* Stacks grow downwards; only a signal may have come on another stack. */
    if (sp <= at->sp && !signal_frame)
        return STEP_FAILED;
    at->pc = pc;
    at->sp = sp;
    return STEP_FRAME;
}

static struct extent *extent_at(struct lw_unwinder *unwinder, const struct lw_registers *registers)
{
    uint64_t key = lw_hash64(lw_registers_sp(registers) ^ lw_hash64(lw_registers_pc(registers)));
    return &unwinder->extents[key % EXTENTS];
}

static bool is_of_place(const struct extent *extent, const struct lw_registers *registers)
{
    return extent->size > 0 && extent->sp == lw_registers_sp(registers) &&
           extent->pc == lw_registers_pc(registers);
}

/*
 * Complete stacks end near the base of their memory, so from one stack pointer they take the same
 * amount of it, time after time.
 */
bool lw_unwinder_capture(struct lw_unwinder *unwinder, const struct lw_registers *registers)
{
    const uint64_t sp = lw_registers_sp(registers);
    const struct extent *extent = extent_at(unwinder, registers);
    bool known = is_of_place(extent, registers);
    size_t size = known && extent->size > LW_STACK_FIRST_READ ? extent->size : LW_STACK_FIRST_READ;
    lw_stack_view_begin(&unwinder->view, sp, size);
    uint64_t word;
    return known && lw_stack_view_read(&unwinder->view, sp, &word) == 0 &&
           word == extent->return_address;
}

void lw_unwinder_thread_runs(struct lw_unwinder *unwinder)
{
    unwinder->view.frozen = true;
}

static void remember_extent(struct lw_unwinder *unwinder, const struct lw_registers *registers)
{
    const uint64_t sp = lw_registers_sp(registers);
    struct extent *previous = extent_at(unwinder, registers);
    struct extent extent = {.sp = sp, .pc = lw_registers_pc(registers)};
    size_t size = unwinder->view.reach - sp;
    /* A stack that turned out longer than what was captured is read while the thread is stopped the
     * next time. */
    if (!unwinder->view.denied && unwinder->view.opened == 1 && size <= LARGEST_CAPTURE &&
        lw_stack_view_read(&unwinder->view, sp, &extent.return_address) == 0)
        extent.size = size;
    /* Of stacks that are cut at some depth, or end early, the longest counts. */
    if (extent.size > 0 && is_of_place(previous, registers) &&
        previous->return_address == extent.return_address && previous->size > extent.size)
        extent.size = previous->size;
    *previous = extent;
}

/* The frames beside the first; false: libunwind has to say. */
static bool unwind_by_rows(struct lw_unwinder *unwinder, struct lw_position at,
                           struct lw_unwound_frame *frames, size_t max, size_t *count,
                           bool *truncated)
{
    enum lw_row_step step;
    bool is_return;
    size_t done = 1;
    while ((step = lw_row_walk_step(&unwinder->walk, &at, &frames[done - 1].is_return,
                                    &is_return)) == LW_ROW_STEP_FRAME &&
           done < max)
        frames[done++] = (struct lw_unwound_frame){.pc = at.pc, .is_return = is_return};
    if (step == LW_ROW_STEP_UNKNOWN)
        return false;
    *count = done;
    *truncated = step != LW_ROW_STEP_OUTERMOST;
    return true;
}

static void unwind_by_cursor(struct lw_unwinder *unwinder, struct lw_position at,
                             struct lw_unwound_frame *frames, size_t max, size_t *count,
                             bool *truncated)
{
    enum step step;
    bool is_return;
    while ((step = step_out(unwinder, &at, &frames[*count - 1].is_return, &is_return)) ==
               STEP_FRAME &&
           *count < max)
        frames[(*count)++] = (struct lw_unwound_frame){.pc = at.pc, .is_return = is_return};
    *truncated = step != STEP_OUTERMOST;
}

size_t lw_unwinder_unwind_captured(struct lw_unwinder *unwinder,
                                   const struct lw_registers *registers,
                                   struct lw_unwound_frame *frames, size_t max, bool *truncated)
{
    const struct lw_position at = {.pc = lw_registers_pc(registers),
                                   .sp = lw_registers_sp(registers),
                                   .fp = lw_registers_frame_pointer(registers)};
    *truncated = true;
    if (max == 0)
        return 0;
    size_t count = 1;
    frames[0] = (struct lw_unwound_frame){.pc = at.pc};
    if (unwinder->without_rows || !unwind_by_rows(unwinder, at, frames, max, &count, truncated)) {
        unwinder->left_to_libunwind++;
        frames[0].is_return = false;
        lw_cursor_begin(&unwinder->cursor, registers);
        if (!lw_cursor_place(&unwinder->cursor, &at))
            return count;
        unwind_by_cursor(unwinder, at, frames, max, &count, truncated);
    }
    remember_extent(unwinder, registers);
    return count;
}

size_t lw_unwinder_unwind(struct lw_unwinder *unwinder, const struct lw_registers *registers,
                          struct lw_unwound_frame *frames, size_t max, bool *truncated)
{
    lw_unwinder_capture(unwinder, registers);
    return lw_unwinder_unwind_captured(unwinder, registers, frames, max, truncated);
}
