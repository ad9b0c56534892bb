/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A child process to plant breakpoints in: its unchanged bytes are this process's own. */
#ifndef LEAKWATCH_TEST_BREAKPOINT_CHILD_H
#define LEAKWATCH_TEST_BREAKPOINT_CHILD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "leakwatch/arch/instruction.h"
#include "leakwatch/trace/breakpoint.h"

#define PAGE     4096
#define FAR_HINT ((void *)0x200000000000) /* from every module */
/* A small library of glibc's that nothing uses. */
#define PLUGIN          "libBrokenLocale.so.1"
#define PLUGIN_FUNCTION "__ctype_get_mb_cur_max"

/* subject(n) = 2n + 5, in instructions that are known. */
extern uint64_t subject(uint64_t n);
extern const uint8_t subject_push[], subject_lea[], subject_load[], subject_pop[], subject_ret[],
    subject_syscall[];
#define MARK(name) ".globl " #name "\n" #name ":\n"
/* clang-format off */
__asm__(".pushsection .text\n"
        ".type subject, @function\n"
        MARK(subject)
        MARK(subject_push)    "push %rbx\n"
        MARK(subject_lea)     "lea 1(%rdi,%rdi), %rax\n"
        MARK(subject_load)    "add 1f(%rip), %rax\n"
        MARK(subject_pop)     "pop %rbx\n"
        MARK(subject_ret)     "ret\n"
        MARK(subject_syscall) "syscall\n"
        "ud2\n"
        "1: .quad 4\n"
        ".size subject, .-subject\n"
        ".popsection");
/* clang-format on */

struct fixture {
    pid_t child;
    int socket; /* takes orders to the child, and brings answers */
    void *plugin;
    uint8_t *plugin_function;
    uint8_t *nops; /* code that is in no file: NOPS pages */
    uint8_t *far;  /* a page of code far from everything */
    struct lw_process_memory process;
    struct lw_memory *memory;
    struct lw_module_table *modules;
    struct lw_breakpoint_table *table;
};

#define NOPS 4

static inline uint64_t address_of(const void *pointer)
{
    return (uint64_t)(uintptr_t)pointer;
}

/* ---- The child ---- */

enum order { CALL_SUBJECT, FORK, CLOSE_PLUGIN };

static inline uint64_t fork_and_wait(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(30);
        for (;;)
            pause();
    }
    return (uint64_t)pid;
}

/* Puts memory of another kind in its place. */
static inline uint64_t close_plugin(const struct fixture *fixture)
{
    void *page = (void *)(address_of(fixture->plugin_function) & ~(PAGE - 1ull));
    if (dlclose(fixture->plugin) != 0)
        return 1;
    return mmap(page, PAGE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != page;
}

static inline _Noreturn void obey(const struct fixture *fixture, int orders)
{
    uint64_t order, answer = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(50);
    while (read(orders, &order, sizeof(order)) == sizeof(order)) {
        switch ((enum order)order) {
        case CALL_SUBJECT:
            answer = subject(21);
            break;
        case FORK:
            answer = fork_and_wait();
            break;
        case CLOSE_PLUGIN:
            answer = close_plugin(fixture);
            break;
        }
        if (write(orders, &answer, sizeof(answer)) != sizeof(answer))
            break;
    }
    _exit(1);
}

static inline void send_order(const struct fixture *fixture, uint64_t order)
{
    assert_int_equal(write(fixture->socket, &order, sizeof(order)), sizeof(order));
}

static inline uint64_t receive_answer(const struct fixture *fixture)
{
    uint64_t answer;
    assert_int_equal(read(fixture->socket, &answer, sizeof(answer)), sizeof(answer));
    return answer;
}

static inline uint64_t give_order(const struct fixture *fixture, uint64_t order)
{
    send_order(fixture, order);
    return receive_answer(fixture);
}

/* ---- Setting up ---- */

static inline void create_table(struct fixture *fixture)
{
    lw_breakpoint_table_destroy(fixture->table);
    fixture->table = lw_breakpoint_table_create(fixture->memory, fixture->modules);
    assert_non_null(fixture->table);
}

/* Before the fork: what the child inherits. */
static inline void prepare(struct fixture *fixture)
{
    const int rwx = PROT_READ | PROT_WRITE | PROT_EXEC;
    fixture->plugin = dlopen(PLUGIN, RTLD_NOW | RTLD_LOCAL);
    if (fixture->plugin)
        fixture->plugin_function = dlsym(fixture->plugin, PLUGIN_FUNCTION);
    fixture->nops = mmap(NULL, NOPS * PAGE, rwx, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(fixture->nops != MAP_FAILED);
    memset(fixture->nops, 0x90, NOPS * PAGE);
    fixture->far =
        mmap(FAR_HINT, PAGE, rwx, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    assert_true(fixture->far != MAP_FAILED);
    memcpy(fixture->far, subject_load, 7);
}

static inline int setup(void **state)
{
    static struct fixture fixture;
    int sockets[2];
    fixture = (struct fixture){0};
    prepare(&fixture);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
    fixture.child = fork();
    assert_true(fixture.child >= 0);
    if (fixture.child == 0)
        obey(&fixture, sockets[1]);
    close(sockets[1]);
    fixture.socket = sockets[0];
    lw_error *error = lw_process_memory_init(&fixture.process, fixture.child);
    if (error != NULL)
        fail_msg("%s", lw_error_message(error));
    fixture.memory = &fixture.process.memory;
    fixture.modules = lw_module_table_create(fixture.child, fixture.memory);
    assert_non_null(fixture.modules);
    assert_int_equal(lw_module_table_refresh(fixture.modules, NULL), 0);
    create_table(&fixture);
    *state = &fixture;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *fixture = *state;
    kill(fixture->child, SIGKILL);
    waitpid(fixture->child, NULL, 0);
    lw_breakpoint_table_destroy(fixture->table);
    lw_module_table_destroy(fixture->modules);
    lw_process_memory_deinit(&fixture->process);
    munmap(fixture->nops, NOPS * PAGE);
    munmap(fixture->far, PAGE);
    if (fixture->plugin)
        dlclose(fixture->plugin);
    return close(fixture->socket);
}

static inline struct lw_breakpoint *plant(const struct fixture *fixture, const void *address)
{
    struct lw_breakpoint *breakpoint = NULL;
    assert_int_equal(lw_breakpoint_plant(fixture->table, address_of(address), NULL, &breakpoint),
                     0);
    assert_true(breakpoint->address == address_of(address) && breakpoint->planted);
    return breakpoint;
}

static inline int plant_error(const struct fixture *fixture, const void *address)
{
    struct lw_breakpoint *breakpoint = NULL;
    int error = lw_breakpoint_plant(fixture->table, address_of(address), NULL, &breakpoint);
    if (error)
        assert_null(lw_breakpoint_find(fixture->table, address_of(address)));
    return error;
}

static inline uint8_t byte_at(const struct fixture *fixture, uint64_t address)
{
    uint8_t byte = 0;
    assert_int_equal(lw_memory_read_all(fixture->memory, address, &byte, 1), 0);
    return byte;
}

static inline void set_byte(const struct fixture *fixture, uint64_t address, uint8_t byte)
{
    assert_int_equal(lw_memory_write(fixture->memory, address, &byte, 1), 0);
}

/* The child has there what we have, who were never touched. */
static inline bool is_clean(struct lw_memory *memory, uint64_t address, size_t size)
{
    uint8_t bytes[PAGE];
    assert_true(size <= sizeof(bytes));
    assert_int_equal(lw_memory_read_all(memory, address, bytes, size), 0);
    return memcmp(bytes, (const void *)(uintptr_t)address, size) == 0;
}

static inline uint64_t page_of(uint64_t address)
{
    return address & ~(PAGE - 1ull);
}

static inline void check_rewind(const struct fixture *fixture, uint64_t pc, const void *expected)
{
    uint64_t address = 0;
    unsigned stack = 1;
    assert_true(lw_breakpoint_rewind(fixture->table, pc, &address, &stack));
    assert_true(address == address_of(expected) && stack == 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

#endif
