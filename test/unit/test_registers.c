/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Registers: what the calling convention makes of them, and those of a real tracee. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "leakwatch/arch/registers.h"

/* Every register has a value of its own. */
static struct lw_registers sample(void)
{
    return (struct lw_registers){{
        .rip = 0x401000,
        .rsp = 0x7ffc1000,
        .rbp = 3,
        .rax = 4,
        .rbx = 5,
        .rcx = 6,
        .rdx = 7,
        .rsi = 8,
        .rdi = 9,
        .r8 = 10,
        .r9 = 11,
        .r10 = 12,
        .r11 = 13,
        .r12 = 14,
        .r13 = 15,
        .r14 = 16,
        .r15 = 17,
        .orig_rax = UINT64_MAX,
        .eflags = 0x246,
    }};
}

static void test_calling_convention(void **state)
{
    (void)state;
    struct lw_registers registers = sample();
    static const uint64_t arguments[] = {9, 8, 7, 6, 10, 11};
    for (unsigned n = 0; n < 6; n++)
        assert_int_equal(lw_registers_argument(&registers, n), arguments[n]);
    assert_int_equal(lw_registers_argument(&registers, 6), 0);
    assert_int_equal(lw_registers_result(&registers), 4);
    assert_int_equal(lw_registers_frame_pointer(&registers), 3);
    assert_int_equal(lw_registers_pc(&registers), 0x401000);
    assert_int_equal(lw_registers_sp(&registers), 0x7ffc1000);
    lw_registers_set_pc(&registers, 0x402000);
    lw_registers_set_sp(&registers, 0x7ffc2000);
    assert_int_equal(registers.native.rip, 0x402000);
    assert_int_equal(registers.native.rsp, 0x7ffc2000);
}

/* The entry, the return instruction and the place returned to have one slot. */
static void test_slots_of_one_call(void **state)
{
    (void)state;
    struct lw_registers at_entry = sample(), at_return = sample(), returned = sample();
    lw_registers_set_sp(&returned, lw_registers_sp(&returned) + 8);
    uint64_t slot = lw_registers_return_slot(&at_entry);
    assert_int_equal(slot, 0x7ffc1000);
    assert_int_equal(lw_registers_return_slot(&at_return), slot);
    assert_int_equal(lw_registers_returned_slot(&returned), slot);
    assert_int_not_equal(lw_registers_return_slot(&returned), slot);
}

static void test_dwarf_numbers(void **state)
{
    (void)state;
    struct lw_registers registers = sample();
    /* rax rdx rcx rbx rsi rdi rbp rsp r8-r15 and the return address column */
    static const uint64_t values[] = {4,  7,  6,  5,  8,  9,  3,  0x7ffc1000, 10,
                                      11, 12, 13, 14, 15, 16, 17, 0x401000};
    uint64_t value;
    for (unsigned number = 0; number <= 16; number++) {
        assert_true(lw_registers_dwarf(&registers, number, &value));
        assert_int_equal(value, values[number]);
    }
    assert_false(lw_registers_dwarf(&registers, 17, &value));
    assert_false(lw_registers_dwarf(&registers, UINT32_MAX, &value));
}

static void test_equal(void **state)
{
    (void)state;
    static const size_t registers[] = {
        offsetof(struct user_regs_struct, rip), offsetof(struct user_regs_struct, rsp),
        offsetof(struct user_regs_struct, rbp), offsetof(struct user_regs_struct, rax),
        offsetof(struct user_regs_struct, rbx), offsetof(struct user_regs_struct, rcx),
        offsetof(struct user_regs_struct, rdx), offsetof(struct user_regs_struct, rsi),
        offsetof(struct user_regs_struct, rdi), offsetof(struct user_regs_struct, r8),
        offsetof(struct user_regs_struct, r9),  offsetof(struct user_regs_struct, r10),
        offsetof(struct user_regs_struct, r11), offsetof(struct user_regs_struct, r12),
        offsetof(struct user_regs_struct, r13), offsetof(struct user_regs_struct, r14),
        offsetof(struct user_regs_struct, r15),
    };
    const struct lw_registers a = sample();
    struct lw_registers b = sample();
    assert_true(lw_registers_equal(&a, &b));
    for (size_t i = 0; i < sizeof(registers) / sizeof(registers[0]); i++) {
        b = sample();
        ((uint8_t *)&b.native)[registers[i] + 7] ^= 0x80; /* all 64 bits count */
        assert_false(lw_registers_equal(&a, &b));
        assert_false(lw_registers_equal(&b, &a));
    }
    /* What a signal handler's return does not bring back says nothing. */
    b = sample();
    b.native.orig_rax = 15;
    b.native.eflags ^= 1;
    assert_true(lw_registers_equal(&a, &b));
}

static bool restart(int64_t orig_rax, int64_t rax, struct lw_registers *registers)
{
    *registers = sample();
    registers->native.orig_rax = (uint64_t)orig_rax;
    registers->native.rax = (uint64_t)rax;
    return lw_registers_restart_interrupted(registers);
}

static void test_restarts_what_failed_with_eintr(void **state)
{
    (void)state;
    struct lw_registers registers, expected = sample();
    assert_true(restart(SYS_epoll_wait, -EINTR, &registers));
    expected.native.rax = SYS_epoll_wait;
    expected.native.rip -= 2;
    assert_true(lw_registers_equal(&registers, &expected));
    assert_true(restart(SYS_read /* 0 */, -EINTR, &registers));
    assert_int_equal(registers.native.rax, 0);
}

static void test_leaves_everything_else_alone(void **state)
{
    (void)state;
    static const struct {
        int64_t orig_rax, rax;
    } cases[] = {
        {-1, -EINTR}, /* no system call: the value is the program's own */
        {SYS_epoll_wait, 0},
        {SYS_epoll_wait, 1},
        {SYS_epoll_wait, -EAGAIN},
        {SYS_read, -512}, /* -ERESTARTSYS: the kernel's business */
        {SYS_restart_syscall, -516} /* -ERESTART_RESTARTBLOCK */,
        {SYS_read, 4294967292}, /* -EINTR in 32 bits */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct lw_registers registers, expected = sample();
        assert_false(restart(cases[i].orig_rax, cases[i].rax, &registers));
        expected.native.rax = (uint64_t)cases[i].rax;
        assert_true(lw_registers_equal(&registers, &expected));
        assert_int_equal(registers.native.orig_rax, (uint64_t)cases[i].orig_rax);
    }
}

/* A child that sleeps in epoll_wait until the pipe is written to: it exits with 0 then, with 1 when
 * the call fails. */
struct sleeper {
    pid_t pid;
    int pipe[2];
};

static void sleep_in_epoll(const struct sleeper *sleeper)
{
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(30);
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, sleeper->pipe[0], &event) != 0)
        _exit(2);
    _exit(epoll_wait(epoll, &event, 1, -1) == 1 ? 0 : 1);
}

static int setup_sleeper(void **state)
{
    static struct sleeper sleeper;
    assert_int_equal(pipe(sleeper.pipe), 0);
    sleeper.pid = fork();
    assert_true(sleeper.pid >= 0);
    if (sleeper.pid == 0)
        sleep_in_epoll(&sleeper);
    assert_int_equal(ptrace(PTRACE_SEIZE, sleeper.pid, NULL, PTRACE_O_EXITKILL), 0);
    *state = &sleeper;
    return 0;
}

static int teardown_sleeper(void **state)
{
    struct sleeper *sleeper = *state;
    kill(sleeper->pid, SIGKILL);
    waitpid(sleeper->pid, NULL, 0); /* fails where the test has done so */
    close(sleeper->pipe[0]);
    return close(sleeper->pipe[1]);
}

static bool is_in_epoll_wait(pid_t pid)
{
    char path[64], text[32] = "";
    snprintf(path, sizeof(path), "/proc/%d/syscall", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    bool read = fgets(text, sizeof(text), file) != NULL;
    fclose(file);
    long number = strtol(text, NULL, 10);
    return read && text[0] != 'r' && (number == SYS_epoll_wait || number == SYS_epoll_pwait);
}

static void stop_in_epoll_wait(const struct sleeper *sleeper)
{
    for (int i = 0; i < 10000 && !is_in_epoll_wait(sleeper->pid); i++)
        usleep(1000);
    int status;
    assert_int_equal(ptrace(PTRACE_INTERRUPT, sleeper->pid, NULL, NULL), 0);
    assert_int_equal(waitpid(sleeper->pid, &status, 0), sleeper->pid);
    assert_true(WIFSTOPPED(status));
}

static int let_it_end(const struct sleeper *sleeper)
{
    int status;
    assert_int_equal(ptrace(PTRACE_CONT, sleeper->pid, NULL, NULL), 0);
    assert_int_equal(write(sleeper->pipe[1], "x", 1), 1);
    assert_int_equal(waitpid(sleeper->pid, &status, 0), sleeper->pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_restarts_in_full(void **state)
{
    (void)state;
    struct lw_registers registers = sample(), expected = sample();
    registers.native.orig_rax = expected.native.orig_rax = SYS_clock_nanosleep;
    registers.native.rax = (uint64_t)-516; /* ERESTART_RESTARTBLOCK */
    expected.native.rax = SYS_clock_nanosleep;
    expected.native.rip -= 2;
    assert_true(lw_registers_restart_in_full(&registers));
    assert_true(lw_registers_equal(&registers, &expected));
    assert_false(lw_registers_restart_in_full(&registers)); /* once */
    registers.native.rax = (uint64_t)-516;
    registers.native.orig_rax = SYS_restart_syscall;
    assert_false(lw_registers_restart_in_full(&registers));
    registers.native.orig_rax = (uint64_t)-1; /* in no call */
    assert_false(lw_registers_restart_in_full(&registers));
}

static void test_an_interrupted_call_goes_on(void **state)
{
    const struct sleeper *sleeper = *state;
    struct lw_registers registers;
    stop_in_epoll_wait(sleeper);
    assert_int_equal(lw_registers_read(sleeper->pid, &registers), 0);
    assert_true(lw_registers_restart_interrupted(&registers));
    assert_int_equal(lw_registers_write(sleeper->pid, &registers), 0);
    assert_int_equal(let_it_end(sleeper), 0);
}

static void test_reads_and_writes_a_tracee(void **state)
{
    const struct sleeper *sleeper = *state;
    struct lw_registers saved, changed, found;
    assert_int_equal(lw_registers_read(sleeper->pid, &saved), -ESRCH); /* it runs */
    assert_int_equal(lw_registers_write_pc(sleeper->pid, 0x1000), -ESRCH);
    stop_in_epoll_wait(sleeper);
    assert_int_equal(lw_registers_read(sleeper->pid, &saved), 0);
    changed = saved;
    changed.native.rbx = 0x1122334455667788;
    lw_registers_set_sp(&changed, 0x7ffc1000);
    assert_int_equal(lw_registers_write(sleeper->pid, &changed), 0);
    assert_int_equal(lw_registers_write_pc(sleeper->pid, 0x401234), 0);
    lw_registers_set_pc(&changed, 0x401234);
    assert_int_equal(lw_registers_read(sleeper->pid, &found), 0);
    assert_true(lw_registers_equal(&found, &changed));
    assert_int_equal(lw_registers_write(sleeper->pid, &saved), 0);
    lw_registers_restart_interrupted(&saved);
    assert_int_equal(lw_registers_write(sleeper->pid, &saved), 0);
    assert_int_equal(let_it_end(sleeper), 0);
    assert_int_equal(lw_registers_write(sleeper->pid, &saved), -ESRCH); /* gone */
}

static void test_a_handler_breaks_calls_off(void **state)
{
    (void)state;
    static const struct {
        int error;
        bool restart, again;
    } cases[] = {{512, true, true},
                 {512, false, false},
                 {513, false, true},
                 {514, true, false},
                 {516, true, false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct lw_registers registers = sample();
        const uint64_t pc = lw_registers_pc(&registers);
        registers.native.orig_rax = SYS_read;
        registers.native.rax = (uint64_t) - (int64_t)cases[i].error;
        lw_registers_break_off_call(&registers, cases[i].restart);
        assert_int_equal(lw_registers_pc(&registers), pc - (cases[i].again ? LW_SYSCALL_SIZE : 0));
        assert_int_equal(registers.native.rax, cases[i].again ? SYS_read : (uint64_t)-EINTR);
    }
    /* In no system call, or at the end of one. */
    struct lw_registers registers = sample(), before = registers;
    registers.native.orig_rax = before.native.orig_rax = UINT64_MAX;
    lw_registers_break_off_call(&registers, true);
    assert_memory_equal(&registers, &before, sizeof(before));
}

static void test_a_handler_is_entered(void **state)
{
    (void)state;
    struct lw_registers registers = sample(), before = registers;
    const uint64_t arguments[3] = {5, 0x7ffc1000, 0x7ffc0008};
    registers.native.eflags = 0x746;
    lw_registers_enter_handler(&registers, 0x401000, arguments, 0x7ffc0000);
    const struct user_regs_struct *r = &registers.native;
    assert_int_equal(r->rdi, 5);
    assert_int_equal(r->rsi, 0x7ffc1000);
    assert_int_equal(r->rdx, 0x7ffc0008);
    assert_int_equal(r->rip, 0x401000);
    assert_int_equal(r->rsp, 0x7ffc0000);
    assert_int_equal((int64_t)r->orig_rax, -1);
    assert_int_equal(r->eflags, 0x246); /* neither stepping nor downwards */
    assert_int_equal(r->rbx, before.native.rbx);
}

static void test_a_sleeper_has_no_frame_pointer(void **state)
{
    (void)state;
    struct lw_registers registers = sample();
    lw_registers_of_sleeper(&registers, 0x7fff1000, 0x7ffc2000);
    assert_int_equal(lw_registers_pc(&registers), 0x7fff1000);
    assert_int_equal(lw_registers_sp(&registers), 0x7ffc2000);
    assert_int_equal(registers.native.rbx, 0);
    /* Neither an address nor the mark of the outermost frame. */
    assert_int_equal(lw_registers_frame_pointer(&registers), 1);
}

static void test_system_calls(void **state)
{
    (void)state;
    struct lw_registers registers = sample(), before = registers;
    const uint64_t arguments[6] = {1, 2, 3, 4, 5, 6};
    registers.native.orig_rax = SYS_epoll_wait;
    registers.native.eflags = 0x346;
    lw_registers_set_call(&registers, SYS_mmap, arguments, 0x7fff1000);
    const struct user_regs_struct *r = &registers.native;
    const uint64_t now[] = {r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9};
    assert_memory_equal(now, arguments, sizeof(arguments));
    assert_int_equal(r->rax, SYS_mmap);
    assert_int_equal(r->rip, 0x7fff1000);
    assert_int_equal((int64_t)r->orig_rax, -1);
    assert_int_equal(r->eflags, 0x246); /* the trap flag is gone */
    assert_int_equal(r->rsp, before.native.rsp);
    assert_int_equal(r->rbx, before.native.rbx);
    registers.native.rax = (uint64_t)-EINVAL;
    assert_int_equal(lw_registers_call_result(&registers), -EINVAL);
    assert_false(lw_registers_call_broken_off(&registers));
    static const int restarts[] = {512, 513, 514, 516};
    for (size_t i = 0; i < sizeof(restarts) / sizeof(restarts[0]); i++) {
        registers.native.rax = (uint64_t) - (int64_t)restarts[i];
        assert_true(lw_registers_call_broken_off(&registers));
    }
    registers.native.rax = 512;
    assert_false(lw_registers_call_broken_off(&registers));
    registers.native.rax = (uint64_t)-EINTR;
    assert_false(lw_registers_call_broken_off(&registers));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calling_convention),
        cmocka_unit_test(test_slots_of_one_call),
        cmocka_unit_test(test_dwarf_numbers),
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_restarts_what_failed_with_eintr),
        cmocka_unit_test(test_restarts_in_full),
        cmocka_unit_test(test_leaves_everything_else_alone),
        cmocka_unit_test(test_a_handler_breaks_calls_off),
        cmocka_unit_test(test_a_handler_is_entered),
        cmocka_unit_test(test_a_sleeper_has_no_frame_pointer),
        cmocka_unit_test(test_system_calls),
        cmocka_unit_test_setup_teardown(test_an_interrupted_call_goes_on, setup_sleeper,
                                        teardown_sleeper),
        cmocka_unit_test_setup_teardown(test_reads_and_writes_a_tracee, setup_sleeper,
                                        teardown_sleeper),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
