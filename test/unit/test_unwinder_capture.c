/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Unwinding from a captured stack while the thread that it belongs to runs on. */
#include <pthread.h>

#include "stopped_child.h"

/* Short of what is captured at most, and longer than what is read at first. */
#define DEPTH 500

KEPT static void recurse(int depth)
{
    if (depth == 0)
        raise(SIGSTOP);
    else
        recurse(depth - 1);
    NOT_THE_END;
}

static void stop_at_depth(void)
{
    recurse(DEPTH);
    NOT_THE_END;
}

KEPT static void overwrite_stack(void)
{
    volatile char bytes[65536];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = 0x55;
    raise(SIGSTOP);
}

static void stop_and_go_on(void)
{
    f1(stop_at_depth);
    overwrite_stack();
    NOT_THE_END;
}

static void *run_on_own_stack(void *unused)
{
    be_traced();
    f1(stop_at_depth);
    return unused;
}

/* A thread whose stack is a variable, and mapped from the file since it is not all zero. */
static void start_on_own_stack(void)
{
    static char stack[256 << 10] __attribute__((aligned(4096))) = {1};
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    if (pthread_attr_setstack(&attributes, stack, sizeof(stack)) == 0 &&
        pthread_create(&thread, &attributes, run_on_own_stack, NULL) == 0)
        pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
}

KEPT static void on_signal(int signal)
{
    (void)signal;
    raise(SIGSTOP);
    NOT_THE_END;
}

static void stop_on_other_stack(void)
{
    static char memory[65536];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof(memory)};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    sigaltstack(&stack, NULL);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
    NOT_THE_END;
}

static void run_with_two_stacks(void)
{
    f1(stop_on_other_stack);
}

/* ---- The parent's side. ---- */

static bool capture(struct child *child)
{
    return lw_unwinder_capture(child->unwinder, &child->registers);
}

static void unwind_captured(struct child *child, size_t max)
{
    memset(child->frames, 0, sizeof(child->frames));
    child->count = lw_unwinder_unwind_captured(child->unwinder, &child->registers, child->frames,
                                               max, &child->truncated);
    assert_in_range(child->count, 1, max);
}

/* Captures, and unwinds as if the thread ran on. */
static void unwind_while_running(struct child *child, size_t max)
{
    assert_true(capture(child));
    lw_unwinder_thread_runs(child->unwinder);
    unwind_captured(child, max);
}

static void assert_whole(struct child *child)
{
    assert_chain(child, "_start");
    size_t first = find_frame(child, "recurse");
    for (size_t i = 0; i <= DEPTH; i++)
        assert_string_equal(frame_function(child, first + i), "recurse");
    assert_string_equal(frame_function(child, first + DEPTH + 2), "f5");
}

/* The child is stopped before the traced signal is delivered. */
static void go_on(struct child *child)
{
    struct lw_registers registers = child->registers;
    assert_int_equal(ptrace(PTRACE_CONT, child->tid, NULL, NULL), 0);
    wait_for_stop(child, SIGSTOP);
    child->registers = registers;
}

static void test_thread_runs_on(void **state)
{
    (void)state;
    struct child *child = child_start(stop_and_go_on, SIGSTOP);
    assert_false(capture(child));
    unwind_captured(child, MAX_FRAMES);
    assert_whole(child);

    assert_true(capture(child));
    lw_unwinder_thread_runs(child->unwinder);
    go_on(child);
    unwind_captured(child, MAX_FRAMES);
    assert_whole(child);

    /* What is on the stack now leads elsewhere: this was no matter of luck. */
    capture(child);
    unwind_captured(child, MAX_FRAMES);
    assert_true(child->truncated || find_frame(child, "recurse") == child->count);
    child_end(child);
}

static void run_recursion(void)
{
    f1(stop_at_depth);
}

static void test_stack_is_longer_than_captured(void **state)
{
    (void)state;
    struct child *child = child_start(run_recursion, SIGSTOP);
    child_unwind(child, 8);
    unwind_while_running(child, MAX_FRAMES);
    assert_true(child->truncated);
    assert_in_range(child->count, 9, DEPTH);
    for (size_t i = find_frame(child, "recurse"); i < child->count; i++)
        assert_string_equal(frame_function(child, i), "recurse");

    assert_false(capture(child));
    unwind_captured(child, MAX_FRAMES);
    assert_whole(child);
    unwind_while_running(child, MAX_FRAMES);
    assert_whole(child);
    child_end(child);
}

/* A cut stack does not make the next one, at the same place, one that was not captured. */
static void test_the_longest_stack_counts(void **state)
{
    (void)state;
    struct child *child = child_start(run_recursion, SIGSTOP);
    child_unwind(child, MAX_FRAMES);
    child_unwind(child, 8);
    unwind_while_running(child, 8);
    assert_int_equal(child->count, 8);
    unwind_while_running(child, MAX_FRAMES);
    assert_whole(child);
    child_end(child);
}

/* The stack is in a module's data, which is otherwise read while the thread runs. */
static void test_stack_in_a_module(void **state)
{
    (void)state;
    struct child *child = child_start_thread(start_on_own_stack, SIGSTOP);
    assert_non_null(lw_module_table_find(child->modules, lw_registers_sp(&child->registers)));
    child_unwind(child, 8);
    unwind_while_running(child, MAX_FRAMES);
    assert_true(child->truncated);
    assert_in_range(child->count, 9, DEPTH);

    assert_false(capture(child));
    unwind_captured(child, MAX_FRAMES);
    assert_false(child->truncated);
    assert_true(find_frame(child, "run_on_own_stack") < child->count);
    child_end(child);
}

/* The signal handler's stack can be captured, but not the interrupted one. */
static void test_stack_in_two_places(void **state)
{
    (void)state;
    struct child *child = child_start(run_with_two_stacks, SIGUSR1);
    ptrace(PTRACE_CONT, child->pid, NULL, SIGUSR1);
    wait_for_stop(child, SIGSTOP);
    for (int i = 0; i < 3; i++) {
        assert_false(capture(child));
        unwind_captured(child, 64);
        assert_chain(child, "_start");
        assert_true(find_frame(child, "on_signal") < child->count);
    }
    child_end(child);
}

/* The child's memory, but for one word. */
struct patched_memory {
    struct lw_memory memory;
    struct lw_memory *real;
    uint64_t address, word;
};

static ssize_t read_patched(struct lw_memory *memory, uint64_t address, void *buffer, size_t size)
{
    struct patched_memory *patched = (struct patched_memory *)memory;
    ssize_t got = patched->real->read(patched->real, address, buffer, size);
    if (got > 0 && patched->address >= address &&
        patched->address - address + sizeof(patched->word) <= (uint64_t)got)
        memcpy((char *)buffer + (patched->address - address), &patched->word,
               sizeof(patched->word));
    return got;
}

static void test_other_places_are_not_known(void **state)
{
    (void)state;
    struct child *child = child_start(run_recursion, SIGSTOP);
    struct patched_memory patched = {.memory.read = read_patched, .real = &child->memory.memory};
    lw_unwinder_destroy(child->unwinder);
    lw_module_table_destroy(child->modules);
    attach_unwinder(child, &patched.memory);
    child_unwind(child, 64);
    assert_true(capture(child));

    struct lw_registers registers = child->registers;
    lw_registers_set_pc(&child->registers, lw_registers_pc(&registers) + 1);
    assert_false(capture(child));
    child->registers = registers;
    lw_registers_set_sp(&child->registers, lw_registers_sp(&registers) + 16);
    assert_false(capture(child));
    child->registers = registers;
    assert_true(capture(child));
    /* Called from elsewhere. */
    patched.address = lw_registers_sp(&registers);
    patched.word = (uintptr_t)f1;
    assert_false(capture(child));
    child_end(child);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thread_runs_on),
        cmocka_unit_test(test_stack_is_longer_than_captured),
        cmocka_unit_test(test_the_longest_stack_counts),
        cmocka_unit_test(test_stack_in_a_module),
        cmocka_unit_test(test_stack_in_two_places),
        cmocka_unit_test(test_other_places_are_not_known),
    };
    if (share_memory() < 0)
        return 1;
    return RUN_BOTH_WAYS(tests);
}
