/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A stopped thread's registers -> the program counters of its call stack. */
#include "leakwatch/unwind/unwinder.h"

#include <libunwind.h>
#include <stdlib.h>
#include <ucontext.h>

#include "leakwatch/arch/instruction.h"
#include "leakwatch/base/cleanup.h"
#include "module_layout.h"
#include "stack_view.h"

/* Exported by libunwind for unwinders such as this one and perf's, but declared in none of its
 * installed headers. */
extern int UNW_OBJ(dwarf_search_unwind_table)(unw_addr_space_t space, unw_word_t ip,
                                              unw_dyn_info_t *table, unw_proc_info_t *info,
                                              int need_unwind_info, void *argument);

/* Program counters whose unwinding libunwind remembers. */
#define CACHED_ROWS 4096
/* Words that one unwind may read: call-frame information is the target's and may hold a DWARF
 * expression that loops for ever. */
#define READ_BUDGET (1u << 18)
/* A frame pointer further above the stack pointer than this is not one. */
#define LARGEST_FRAME (1u << 20)
#define SHORTEST_CALL 2
#define LONGEST_CALL  7

struct position {
    uint64_t pc, sp, fp;
    bool only; /* the other registers are not known */
};

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
    unw_accessors_t accessors;
    unw_addr_space_t space;

    /* Of the unwind in progress. */
    const struct lw_registers *registers;
    struct position start; /* where the cursor began: overrides the registers */
    unw_cursor_t cursor;
    unsigned read_budget;
    struct extent extents[EXTENTS];
    bool no_table; /* the last search for call-frame information found none */
};

enum step { STEP_FRAME, STEP_OUTERMOST, STEP_FAILED };

static int find_proc_info(unw_addr_space_t space, unw_word_t ip, unw_proc_info_t *info,
                          int need_unwind_info, void *argument)
{
    struct lw_unwinder *unwinder = argument;
    const struct lw_module_layout *layout = lw_module_layouts_find(&unwinder->layouts, ip);
    int result = -UNW_ENOINFO;
    if (layout && layout->has_table) {
        unw_dyn_info_t table = layout->table;
        result =
            UNW_OBJ(dwarf_search_unwind_table)(space, ip, &table, info, need_unwind_info, argument);
    }
    unwinder->no_table = result < 0;
    return result;
}

static void put_unwind_info(unw_addr_space_t space, unw_proc_info_t *info, void *argument)
{
    (void)space, (void)info, (void)argument;
}

static int get_dyn_info_list_addr(unw_addr_space_t space, unw_word_t *address, void *argument)
{
    (void)space, (void)address, (void)argument;
    return -UNW_ENOINFO;
}

static int access_mem(unw_addr_space_t space, unw_word_t address, unw_word_t *value, int write,
                      void *argument)
{
    struct lw_unwinder *unwinder = argument;
    (void)space;
    if (write || unwinder->read_budget == 0)
        return -UNW_EINVAL;
    unwinder->read_budget--;
    uint64_t word;
    if (lw_stack_view_read(&unwinder->view, address, &word) < 0)
        return -UNW_EINVAL;
    *value = word;
    return 0;
}

/* libunwind numbers the registers as DWARF does, with the program counter in the place of the
 * return address. */
static int access_reg(unw_addr_space_t space, unw_regnum_t number, unw_word_t *value, int write,
                      void *argument)
{
    const struct lw_unwinder *unwinder = argument;
    const struct position *start = &unwinder->start;
    uint64_t word;
    (void)space;
    if (write || number < 0)
        return -UNW_EREADONLYREG;
    if (number == UNW_TDEP_IP)
        word = start->pc;
    else if (number == UNW_TDEP_SP)
        word = start->sp;
    else if (number == UNW_X86_64_RBP)
        word = start->fp;
    else if (start->only || !lw_registers_dwarf(unwinder->registers, (unsigned)number, &word))
        return -UNW_EBADREG;
    *value = word;
    return 0;
}

static int access_fpreg(unw_addr_space_t space, unw_regnum_t number, unw_fpreg_t *value, int write,
                        void *argument)
{
    (void)space, (void)number, (void)value, (void)write, (void)argument;
    return -UNW_EBADREG;
}

static int resume(unw_addr_space_t space, unw_cursor_t *cursor, void *argument)
{
    (void)space, (void)cursor, (void)argument;
    return -UNW_EINVAL;
}

static int get_proc_name(unw_addr_space_t space, unw_word_t address, char *buffer, size_t size,
                         unw_word_t *offset, void *argument)
{
    (void)space, (void)address, (void)buffer, (void)size, (void)offset, (void)argument;
    return -UNW_ENOINFO;
}

struct lw_unwinder *lw_unwinder_create(struct lw_memory *memory, struct lw_module_table *modules)
{
    struct lw_unwinder *unwinder = calloc(1, sizeof(*unwinder));
    if (!unwinder)
        return NULL;
    unwinder->accessors = (unw_accessors_t){
        .find_proc_info = find_proc_info,
        .put_unwind_info = put_unwind_info,
        .get_dyn_info_list_addr = get_dyn_info_list_addr,
        .access_mem = access_mem,
        .access_reg = access_reg,
        .access_fpreg = access_fpreg,
        .resume = resume,
        .get_proc_name = get_proc_name,
    };
    unwinder->space = unw_create_addr_space(&unwinder->accessors, 0);
    if (!unwinder->space) {
        free(unwinder);
        return NULL;
    }
    unw_set_caching_policy(unwinder->space, UNW_CACHE_GLOBAL);
    /* Failure leaves the small cache that libunwind begins with. */
    (void)unw_set_cache_size(unwinder->space, CACHED_ROWS, 0);
    lw_module_layouts_init(&unwinder->layouts, memory, modules);
    lw_stack_view_init(&unwinder->view, memory, &unwinder->layouts);
    return unwinder;
}

void lw_unwinder_destroy(struct lw_unwinder *unwinder)
{
    if (!unwinder)
        return;
    unw_destroy_addr_space(unwinder->space);
    lw_stack_view_deinit(&unwinder->view);
    lw_module_layouts_deinit(&unwinder->layouts);
    free(unwinder);
}

void lw_unwinder_flush(struct lw_unwinder *unwinder)
{
    unw_flush_cache(unwinder->space, 0, 0);
    lw_stack_view_flush(&unwinder->view);
    lw_module_layouts_flush(&unwinder->layouts);
}

/* Whether a call instruction ends at the address: what tells a return address from any other word
 * of a stack. */
static bool follows_call(struct lw_unwinder *unwinder, uint64_t address)
{
    uint64_t word;
    if (address < sizeof(word) ||
        lw_stack_view_read(&unwinder->view, address - sizeof(word), &word))
        return false;
    const uint8_t *bytes = (const uint8_t *)&word;
    for (unsigned length = SHORTEST_CALL; length <= LONGEST_CALL; length++) {
        struct lw_instruction instruction;
        if (lw_instruction_decode(bytes + sizeof(word) - length, length, address - length,
                                  &instruction) &&
            instruction.is_call && instruction.length == length)
            return true;
    }
    return false;
}

/* At a function's entry or return instruction, where allocator probes stop, the return address is
 * on top of the stack. */
static bool step_from_entry(struct lw_unwinder *unwinder, struct position *position)
{
    uint64_t pc;
    if (lw_stack_view_read(&unwinder->view, position->sp, &pc) < 0 || !follows_call(unwinder, pc))
        return false;
    position->pc = pc;
    position->sp += sizeof(pc);
    return true;
}

static enum step step_by_frame_pointer(struct lw_unwinder *unwinder, struct position *position)
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
        (struct position){.pc = pc, .sp = fp + 2 * sizeof(fp), .fp = saved_fp, .only = true};
    return STEP_FRAME;
}

static bool start_cursor(struct lw_unwinder *unwinder, const struct position *start)
{
    unwinder->start = *start;
    return unw_init_remote(&unwinder->cursor, unwinder->space, unwinder) == 0;
}

/* `mov $15, %rax; syscall`, which every C library returns from a signal handler with, so that
 * debuggers find it. (unw_is_signal_frame of libunwind 1.6 is never true of a remote cursor.) */
static bool is_signal_trampoline(struct lw_unwinder *unwinder, uint64_t pc)
{
    uint64_t word;
    return lw_stack_view_read(&unwinder->view, pc, &word) == 0 && word == 0x0f0000000fc0c748 &&
           lw_stack_view_read(&unwinder->view, pc + 1, &word) == 0 && word >> 48 == 0x050f;
}

static enum step step_over_signal(struct lw_unwinder *unwinder, struct position *at)
{
    const uint64_t registers = at->sp + offsetof(ucontext_t, uc_mcontext.gregs);
    if (lw_stack_view_read(&unwinder->view, registers + REG_RIP * sizeof(greg_t), &at->pc) < 0 ||
        lw_stack_view_read(&unwinder->view, registers + REG_RBP * sizeof(greg_t), &at->fp) < 0 ||
        lw_stack_view_read(&unwinder->view, registers + REG_RSP * sizeof(greg_t), &at->sp) < 0)
        return STEP_FAILED;
    at->only = true;
    return start_cursor(unwinder, at) ? STEP_FRAME : STEP_FAILED;
}

/* Steps out of a frame for which libunwind knows nothing, and points it at the next one. */
static enum step step_without_table(struct lw_unwinder *unwinder, struct position *at,
                                    bool is_return)
{
    if (is_return || !step_from_entry(unwinder, at)) {
        enum step step = step_by_frame_pointer(unwinder, at);
        if (step != STEP_FRAME)
            return step;
    }
    /* A new cursor takes its pc for exact, and a return address may lie beyond its function's end:
     * look the call up instead. */
    struct position call = *at;
    call.pc--;
    return start_cursor(unwinder, &call) ? STEP_FRAME : STEP_FAILED;
}

/* Goes from the frame *at to its caller. *is_return says whether its pc is a return address, and
 * may be corrected: a signal trampoline's is not. */
static enum step step_out(struct lw_unwinder *unwinder, struct position *at, bool *is_return,
                          bool *caller_is_return)
{
    unw_cursor_t *cursor = &unwinder->cursor;
    unw_word_t pc, sp, fp;
    bool signal_frame = is_signal_trampoline(unwinder, at->pc);
    if (signal_frame)
        *is_return = false;
    *caller_is_return = !signal_frame;
    at->fp = unw_get_reg(cursor, UNW_X86_64_RBP, &fp) == 0 ? fp : UINT64_MAX;

    unwinder->no_table = false;
    int result = unw_step(cursor);
    /* Without a table libunwind guesses, and does not say so. */
    if (unwinder->no_table)
        return signal_frame ? step_over_signal(unwinder, at)
                            : step_without_table(unwinder, at, *is_return);
    if (result < 0 || unw_get_reg(cursor, UNW_REG_IP, &pc) < 0 ||
        unw_get_reg(cursor, UNW_REG_SP, &sp) < 0)
        return STEP_FAILED;
    /* A signal may have come at 0 as well, after a call through a null pointer. */
    if (result == 0 || (pc == 0 && !signal_frame))
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

/*
 * Complete stacks end near the base of their memory, so from one stack pointer they take the same
 * amount of it, time after time.
 */
bool lw_unwinder_capture(struct lw_unwinder *unwinder, const struct lw_registers *registers)
{
    const uint64_t sp = lw_registers_sp(registers), pc = lw_registers_pc(registers);
    const struct extent *extent = extent_at(unwinder, registers);
    bool known = extent->sp == sp && extent->pc == pc && extent->size > 0;
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
    struct extent extent = {.sp = sp, .pc = lw_registers_pc(registers)};
    size_t size = unwinder->view.reach - sp;
    /* A stack that turned out longer than what was captured is read while the thread is stopped the
     * next time. */
    if (!unwinder->view.denied && unwinder->view.opened == 1 && size <= LARGEST_CAPTURE &&
        lw_stack_view_read(&unwinder->view, sp, &extent.return_address) == 0)
        extent.size = size;
    *extent_at(unwinder, registers) = extent;
}

size_t lw_unwinder_unwind_captured(struct lw_unwinder *unwinder,
                                   const struct lw_registers *registers,
                                   struct lw_unwound_frame *frames, size_t max, bool *truncated)
{
    struct position at = {.pc = lw_registers_pc(registers),
                          .sp = lw_registers_sp(registers),
                          .fp = lw_registers_frame_pointer(registers)};
    *truncated = true;
    if (max == 0)
        return 0;
    size_t count = 0;
    frames[count++] = (struct lw_unwound_frame){.pc = at.pc};
    unwinder->registers = registers;
    unwinder->read_budget = READ_BUDGET;
    if (!start_cursor(unwinder, &at))
        return count;

    enum step step;
    bool is_return;
    while ((step = step_out(unwinder, &at, &frames[count - 1].is_return, &is_return)) ==
               STEP_FRAME &&
           count < max)
        frames[count++] = (struct lw_unwound_frame){.pc = at.pc, .is_return = is_return};
    *truncated = step != STEP_OUTERMOST;
    remember_extent(unwinder, registers);
    return count;
}

size_t lw_unwinder_unwind(struct lw_unwinder *unwinder, const struct lw_registers *registers,
                          struct lw_unwound_frame *frames, size_t max, bool *truncated)
{
    lw_unwinder_capture(unwinder, registers);
    return lw_unwinder_unwind_captured(unwinder, registers, frames, max, truncated);
}
