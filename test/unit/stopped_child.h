/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Children that stop in the middle of a known chain of calls, and their unwound stacks. */
#ifndef LEAKWATCH_TEST_STOPPED_CHILD_H
#define LEAKWATCH_TEST_STOPPED_CHILD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "leakwatch/unwind/unwinder.h"

#define MAX_FRAMES 16384

/* ---- What the children run: a chain of calls f1 -> ... -> f5, of which f5 runs `leaf`. ---- */

#define KEPT __attribute__((noipa, used, no_sanitize("address", "undefined")))
/* Keeps the call before it from becoming a jump. */
#define NOT_THE_END __asm__ volatile("")

typedef void leaf_function(void);
static void (*call_through)(leaf_function *); /* generated code that f3 calls f4 through */
static volatile int *shared;                  /* of the parent and the children */
static bool without_rows;                     /* unwind by libunwind alone */

KEPT static void f5(leaf_function *leaf)
{
    leaf();
    NOT_THE_END;
}

static leaf_function *leaf_of_f4;
KEPT static void f4(void)
{
    f5(leaf_of_f4);
    NOT_THE_END;
}

KEPT static void f3(leaf_function *leaf)
{
    leaf_of_f4 = leaf;
    if (call_through)
        call_through(f4);
    else
        f4();
    NOT_THE_END;
}

KEPT static void f2(leaf_function *leaf)
{
    f3(leaf);
    NOT_THE_END;
}

KEPT static void f1(leaf_function *leaf)
{
    f2(leaf);
    NOT_THE_END;
}

KEPT static void stop_here(void)
{
    raise(SIGSTOP);
    NOT_THE_END;
}

/* ---- The parent's side. ---- */

struct child {
    pid_t pid, tid;
    struct lw_process_memory memory;
    struct lw_module_table *modules;
    struct lw_unwinder *unwinder;
    struct lw_registers registers;
    struct lw_unwound_frame frames[MAX_FRAMES];
    size_t count;
    bool truncated;
};

static inline void attach_unwinder(struct child *child, struct lw_memory *memory)
{
    child->modules = lw_module_table_create(child->pid, &child->memory.memory);
    assert_non_null(child->modules);
    assert_int_equal(lw_module_table_refresh(child->modules, NULL), 0);
    child->unwinder = lw_unwinder_create(memory ? memory : &child->memory.memory, child->modules);
    assert_non_null(child->unwinder);
    lw_unwinder_use_rows(child->unwinder, !without_rows);
}

static inline void wait_for_stop(struct child *child, int signal)
{
    int status;
    assert_int_equal(waitpid(child->tid, &status, __WALL), child->tid);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(WSTOPSIG(status), signal);
    assert_int_equal(lw_registers_read(child->tid, &child->registers), 0);
}

/* Called in the thread that is to stop, when that is not the first one. */
static inline void be_traced(void)
{
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    *shared = (int)syscall(SYS_gettid);
}

static inline struct child *child_fork(void (*body)(void), int signal, bool threaded)
{
    struct child *child = calloc(1, sizeof(*child));
    assert_non_null(child);
    *shared = 0;
    child->pid = child->tid = fork();
    assert_true(child->pid >= 0);
    if (child->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (!threaded)
            ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        body();
        _exit(0);
    }
    if (threaded) {
        for (int i = 0; i < 5000 && *shared == 0; i++)
            usleep(1000);
        child->tid = *shared;
    }
    wait_for_stop(child, signal);
    assert_null(lw_process_memory_init(&child->memory, child->pid));
    attach_unwinder(child, NULL);
    return child;
}

/* A child that runs body() and stops with the signal. */
static inline struct child *child_start(void (*body)(void), int signal)
{
    return child_fork(body, signal, false);
}

/* The same in a thread that calls be_traced(). */
static inline struct child *child_start_thread(void (*body)(void), int signal)
{
    return child_fork(body, signal, true);
}

/* Runs a group of tests with rows and without: for main to return. */
#define RUN_BOTH_WAYS(tests)                                                                       \
    ({                                                                                             \
        int failed_ = cmocka_run_group_tests_name("rows", tests, NULL, NULL);                      \
        without_rows = true;                                                                       \
        failed_ + cmocka_run_group_tests_name("libunwind", tests, NULL, NULL);                     \
    })

/* Shares memory between the test and its children; 0 or -1. */
static inline int share_memory(void)
{
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return shared == MAP_FAILED ? -1 : 0;
}

static inline void child_end(struct child *child)
{
    kill(child->pid, SIGKILL);
    /* A traced thread has to be reaped before its process can be. */
    if (child->tid != child->pid)
        waitpid(child->tid, NULL, __WALL);
    waitpid(child->pid, NULL, 0);
    lw_unwinder_destroy(child->unwinder);
    lw_module_table_destroy(child->modules);
    lw_process_memory_deinit(&child->memory);
    free(child);
}

static inline void child_unwind(struct child *child, size_t max)
{
    child->count = lw_unwinder_unwind(child->unwinder, &child->registers, child->frames, max,
                                      &child->truncated);
    assert_in_range(child->count, 1, max);
}

/* The name of the function that the frame is in, "" when there is none. */
static inline const char *frame_function(struct child *child, size_t index)
{
    const struct lw_unwound_frame *frame = &child->frames[index];
    uint64_t pc = frame->pc - frame->is_return;
    const struct lw_module *module = lw_module_table_find(child->modules, pc);
    struct lw_elf_symbol symbol;
    if (!module || !module->image ||
        !lw_elf_image_symbol_at(module->image, pc - module->bias, &symbol))
        return "";
    return symbol.name;
}

/* The index of the first frame of the function, or the count. */
static inline size_t find_frame(struct child *child, const char *function)
{
    size_t i = 0;
    while (i < child->count && strcmp(frame_function(child, i), function) != 0)
        i++;
    return i;
}

static inline void print_stack(struct child *child)
{
    for (size_t i = 0; i < child->count && i < 40; i++)
        print_message("#%zu %#lx %s%s\n", i, child->frames[i].pc, frame_function(child, i),
                      child->frames[i].is_return ? "" : " (exact)");
}

/* f5, f4, f3, f2, f1 follow each other somewhere and the stack ends in `outermost`. */
static inline void assert_chain(struct child *child, const char *outermost)
{
    static const char *const chain[] = {"f5", "f4", "f3", "f2", "f1"};
    size_t first = find_frame(child, "f5");
    if (child->truncated || first + 5 >= child->count)
        print_stack(child);
    assert_true(first + 5 < child->count);
    for (size_t i = 0; i < 5; i++) {
        assert_string_equal(frame_function(child, first + i), chain[i]);
        assert_true(child->frames[first + i].is_return);
    }
    assert_false(child->truncated);
    assert_string_equal(frame_function(child, child->count - 1), outermost);
}

#endif
