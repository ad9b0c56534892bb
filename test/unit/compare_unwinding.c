/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stops a process many times and unwinds each time with rows and with libunwind alone. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "leakwatch/unwind/unwinder.h"

/*
 * compare_unwinding PID STOPS STEPS
 *   Stops the process's first thread STOPS times at random, and follows it for STEPS instructions
 *   each time. Prints one line of JSON; each different stack goes to standard error.
 */
#define MAX_FRAMES  512
#define SHOWN       20 /* different stacks */
#define TIMED_EVERY 16
#define TIMED_RUNS  5
#ifdef __SANITIZE_ADDRESS__
#define IS_TIMED 0 /* libunwind is not slowed down */
#else
#define IS_TIMED 1
#endif
/* "Eight frames." */
#define FEW_LOW  6
#define FEW_HIGH 10

struct stack {
    struct lw_unwound_frame frames[MAX_FRAMES];
    size_t count;
    bool truncated;
};

struct timing {
    double rows, libunwind; /* microseconds, in sum */
    size_t count, frames;
};

static struct {
    pid_t pid;
    struct lw_process_memory memory;
    struct lw_module_table *modules;
    struct lw_unwinder *by_rows, *by_libunwind;

    size_t stops, compared, identical;
    size_t stale; /* different until libunwind forgot what it remembered */
    size_t different, left, signals, frames, deepest;
    struct timing all, few;
} state;

static double microseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void unwind(struct lw_unwinder *unwinder, const struct lw_registers *registers,
                   struct stack *stack)
{
    stack->count =
        lw_unwinder_unwind(unwinder, registers, stack->frames, MAX_FRAMES, &stack->truncated);
}

/* The best of a few runs: what is measured is the work, not the machine's other load. */
static double time_one(struct lw_unwinder *unwinder, const struct lw_registers *registers)
{
    struct stack stack;
    double best = 1e9;
    for (int i = 0; i < TIMED_RUNS; i++) {
        double begun = microseconds();
        unwind(unwinder, registers, &stack);
        double took = microseconds() - begun;
        best = took < best ? took : best;
    }
    return best;
}

static void time_both(const struct lw_registers *registers, size_t frames)
{
    double rows = time_one(state.by_rows, registers);
    double libunwind = time_one(state.by_libunwind, registers);
    struct timing *timings[] = {&state.all, &state.few};
    for (size_t i = 0; i < 1u + (frames >= FEW_LOW && frames <= FEW_HIGH); i++) {
        timings[i]->rows += rows;
        timings[i]->libunwind += libunwind;
        timings[i]->count++;
        timings[i]->frames += frames;
    }
}

static void print_frame(const struct stack *stack, size_t i)
{
    if (i >= stack->count) {
        fprintf(stderr, " %-40s", stack->truncated ? "(cut)" : "(end)");
        return;
    }
    const struct lw_unwound_frame *frame = &stack->frames[i];
    const struct lw_module *module = lw_module_table_find(state.modules, frame->pc);
    struct lw_elf_symbol symbol = {.name = "?"};
    char text[128];
    if (module && module->image)
        lw_elf_image_symbol_at(module->image, frame->pc - frame->is_return - module->bias, &symbol);
    snprintf(text, sizeof(text), "%s+%#lx %.24s%s", module ? module->name : "-",
             module ? frame->pc - module->bias : frame->pc, symbol.name,
             frame->is_return ? "" : " (exact)");
    fprintf(stderr, " %-40s", text);
}

static void show(const struct stack *rows, const struct stack *libunwind, size_t common)
{
    fprintf(stderr, "different after %zu frames (rows %zu%s, libunwind %zu%s):\n", common,
            rows->count, rows->truncated ? " cut" : "", libunwind->count,
            libunwind->truncated ? " cut" : "");
    for (size_t i = common > 2 ? common - 3 : 0; i < common + 3; i++) {
        print_frame(rows, i);
        fprintf(stderr, " |");
        print_frame(libunwind, i);
        fprintf(stderr, "\n");
    }
}

static size_t common_frames(const struct stack *a, const struct stack *b)
{
    size_t common = 0;
    while (common < a->count && common < b->count && a->frames[common].pc == b->frames[common].pc &&
           a->frames[common].is_return == b->frames[common].is_return)
        common++;
    return common;
}

static bool are_equal(const struct stack *a, const struct stack *b)
{
    return a->count == b->count && a->truncated == b->truncated && common_frames(a, b) == a->count;
}

static void compare(const struct lw_registers *registers)
{
    static struct stack rows, libunwind;
    const uint64_t left = lw_unwinder_left_to_libunwind(state.by_rows);
    unwind(state.by_rows, registers, &rows);
    unwind(state.by_libunwind, registers, &libunwind);
    state.left += lw_unwinder_left_to_libunwind(state.by_rows) - left;
    state.compared++;
    state.frames += rows.count;
    state.deepest = rows.count > state.deepest ? rows.count : state.deepest;
    for (size_t i = 1; i < rows.count; i++)
        state.signals += !rows.frames[i].is_return;
    if (!are_equal(&rows, &libunwind)) {
        if (state.stale + state.different < SHOWN)
            show(&rows, &libunwind, common_frames(&rows, &libunwind));
        /* libunwind remembers rules by pc alone, and a landing pad's pc may have been a return
         * address before, which the instruction in front of it decides. */
        lw_unwinder_flush(state.by_libunwind);
        unwind(state.by_libunwind, registers, &libunwind);
        if (are_equal(&rows, &libunwind))
            state.stale++;
        else
            state.different++;
    } else {
        state.identical++;
    }
    if (state.compared % TIMED_EVERY == 0)
        time_both(registers, rows.count);
}

/* Waits for the thread to stop; one that does not within some milliseconds is in a system call, and
 * is interrupted. -1: it is gone. */
static int wait_stop(void)
{
    int status;
    for (int i = 0; i < 2000; i++) {
        pid_t got = waitpid(state.pid, &status, __WALL | WNOHANG);
        if (got == state.pid)
            return WIFSTOPPED(status) ? status : -1;
        if (got < 0)
            return -1;
        if (i == 200)
            ptrace(PTRACE_INTERRUPT, state.pid, NULL, NULL);
        usleep(i < 100 ? 0 : 1000);
    }
    return -1;
}

/* Of a stop with a signal: which one to go on with. */
static long signal_of(int status)
{
    return status >> 16 == 0 && WSTOPSIG(status) != SIGTRAP ? WSTOPSIG(status) : 0;
}

/* From one random stop; false: the process is gone. */
static bool follow(int steps)
{
    bool changed = false;
    struct lw_registers registers;
    usleep(200 + (useconds_t)(rand() % 3000));
    ptrace(PTRACE_INTERRUPT, state.pid, NULL, NULL);
    int status = wait_stop();
    if (status < 0)
        return false;
    state.stops++;
    lw_module_table_refresh(state.modules, &changed);
    if (changed) {
        lw_unwinder_flush(state.by_rows);
        lw_unwinder_flush(state.by_libunwind);
    }
    for (int i = 0; i < steps; i++) {
        if (lw_registers_read(state.pid, &registers) < 0)
            return false;
        compare(&registers);
        if (ptrace(PTRACE_SINGLESTEP, state.pid, NULL, signal_of(status)) < 0 ||
            (status = wait_stop()) < 0)
            return false;
    }
    return ptrace(PTRACE_CONT, state.pid, NULL, signal_of(status)) == 0;
}

static void detach(void)
{
    ptrace(PTRACE_INTERRUPT, state.pid, NULL, NULL);
    int status = wait_stop();
    if (status >= 0)
        ptrace(PTRACE_DETACH, state.pid, NULL, signal_of(status));
}

static void print_timing(const char *name, const struct timing *timing)
{
    double count = timing->count > 0 ? (double)timing->count : 1;
    printf(",\"%s\":{\"count\":%zu,\"frames\":%.1f,\"rows_us\":%.2f,\"libunwind_us\":%.2f}", name,
           timing->count, (double)timing->frames / count, timing->rows / count,
           timing->libunwind / count);
}

static void print_result(void)
{
    printf("{\"stops\":%zu,\"compared\":%zu,\"identical\":%zu,\"stale\":%zu,\"different\":%zu,"
           "\"left_to_libunwind\":%zu,\"signal_frames\":%zu,\"frames\":%.1f,\"deepest\":%zu",
           state.stops, state.compared, state.identical, state.stale, state.different, state.left,
           state.signals, (double)state.frames / (double)(state.compared ? state.compared : 1),
           state.deepest);
    printf(",\"timed\":%d", IS_TIMED);
    print_timing("all", &state.all);
    print_timing("few", &state.few);
    printf("}\n");
}

static bool prepare(void)
{
    if (lw_process_memory_init(&state.memory, state.pid))
        return false;
    state.modules = lw_module_table_create(state.pid, &state.memory.memory);
    if (!state.modules || lw_module_table_refresh(state.modules, NULL) < 0)
        return false;
    state.by_rows = lw_unwinder_create(&state.memory.memory, state.modules);
    state.by_libunwind = lw_unwinder_create(&state.memory.memory, state.modules);
    if (!state.by_rows || !state.by_libunwind)
        return false;
    lw_unwinder_use_rows(state.by_libunwind, false);
    lw_unwinder_prepare(state.by_rows);
    return ptrace(PTRACE_SEIZE, state.pid, NULL, NULL) == 0;
}

static void clean_up(void)
{
    lw_unwinder_destroy(state.by_rows);
    lw_unwinder_destroy(state.by_libunwind);
    lw_module_table_destroy(state.modules);
    lw_process_memory_deinit(&state.memory);
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: compare_unwinding PID STOPS STEPS\n");
        return 2;
    }
    state.pid = atoi(argv[1]);
    int stops = atoi(argv[2]), steps = atoi(argv[3]);
    if (!prepare()) {
        fprintf(stderr, "cannot attach to %d: %s\n", state.pid, strerror(errno));
        return 1;
    }
    bool there = true;
    while (there && stops-- > 0)
        there = follow(steps);
    if (there)
        detach();
    print_result();
    clean_up();
    return there ? 0 : 1;
}
