/* SPDX-License-Identifier: GPL-2.0-or-later */
/* trace/call_filter: filters run over calls, compared with what the kernel makes of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "leakwatch/arch/registers.h"
#include "leakwatch/trace/call_filter.h"

#define LENGTH(array)  (sizeof(array) / sizeof((array)[0]))
#define LOAD(field)    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, (action))
#define IF_EQUAL(k)    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (k), 0, 1)
#define PROGRAMS       1500
#define RANDOM_LENGTH  24
#define CALL           SYS_getpgid /* which takes one argument: filters see all six registers */

static bool allows(const struct sock_filter *program, size_t length, long number, unsigned known,
                   uint64_t third)
{
    const struct lw_call_shape call = {
        .number = number, .known = known, .arguments = {[2] = third}};
    return lw_call_filter_allows(program, length, &call);
}

static void test_by_number(void **state)
{
    (void)state;
    const struct sock_filter program[] = {
        LOAD(nr), IF_EQUAL(SYS_mmap), RETURN(SECCOMP_RET_ERRNO | EPERM), RETURN(SECCOMP_RET_ALLOW)};
    assert_false(allows(program, LENGTH(program), SYS_mmap, 0, 0));
    assert_true(allows(program, LENGTH(program), SYS_munmap, 0, 0));
}

/* What systemd's MemoryDenyWriteExecute= forbids. */
static void test_by_argument(void **state)
{
    (void)state;
    const struct sock_filter program[] = {
        LOAD(nr),
        IF_EQUAL(SYS_mmap),
        LOAD(args[2]),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, PROT_WRITE | PROT_EXEC),
        IF_EQUAL(PROT_WRITE | PROT_EXEC),
        RETURN(SECCOMP_RET_KILL_PROCESS),
        RETURN(SECCOMP_RET_ALLOW)};
    assert_true(allows(program, LENGTH(program), SYS_mmap, 1u << 2, PROT_READ | PROT_EXEC));
    assert_false(allows(program, LENGTH(program), SYS_mmap, 1u << 2, PROT_WRITE | PROT_EXEC));
    assert_false(allows(program, LENGTH(program), SYS_mmap, 0, PROT_READ)); /* who knows? */
}

static void test_only_allow_is_leave(void **state)
{
    (void)state;
    static const uint32_t actions[] = {
        SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO,
        SECCOMP_RET_USER_NOTIF,   SECCOMP_RET_TRACE,       SECCOMP_RET_LOG,  0x12340000};
    for (size_t i = 0; i < LENGTH(actions); i++) {
        const struct sock_filter program[] = {RETURN(actions[i])};
        assert_false(allows(program, 1, SYS_mmap, 0, 0));
    }
    const struct sock_filter data[] = {RETURN(SECCOMP_RET_ALLOW | 77)};
    assert_true(allows(data, 1, SYS_mmap, 0, 0));
}

static void test_other_architectures_calls_are_others(void **state)
{
    (void)state;
    const struct sock_filter program[] = {LOAD(arch), IF_EQUAL(lw_syscall_arch),
                                          RETURN(SECCOMP_RET_ALLOW), RETURN(SECCOMP_RET_KILL)};
    assert_true(allows(program, LENGTH(program), SYS_mmap, 0, 0));
}

static void test_broken_programs_allow_nothing(void **state)
{
    (void)state;
    const struct sock_filter programs[][2] = {
        {LOAD(instruction_pointer), RETURN(SECCOMP_RET_ALLOW)}, /* not known */
        {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), RETURN(SECCOMP_RET_ALLOW)},
        {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 17), RETURN(SECCOMP_RET_ALLOW)},
        {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, UINT32_MAX), RETURN(SECCOMP_RET_ALLOW)},
        {BPF_STMT(BPF_ST, BPF_MEMWORDS), RETURN(SECCOMP_RET_ALLOW)},
        {BPF_STMT(BPF_ALU | BPF_DIV | BPF_X, 0), RETURN(SECCOMP_RET_ALLOW)},
        {BPF_STMT(BPF_ALU | BPF_LSH | BPF_K, 32), RETURN(SECCOMP_RET_ALLOW)},
        {BPF_STMT(0xffff, 0), RETURN(SECCOMP_RET_ALLOW)},
        {BPF_JUMP(BPF_JMP | BPF_JA, UINT32_MAX - 1, 0, 0), RETURN(SECCOMP_RET_KILL)},
        {BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0), RETURN(SECCOMP_RET_ALLOW)},
        {BPF_STMT(BPF_LD | BPF_IMM, 1), BPF_STMT(BPF_LD | BPF_IMM, 1)}, /* no return */
    };
    for (size_t i = 0; i < LENGTH(programs); i++)
        assert_false(allows(programs[i], 2, SYS_mmap, 0, 0));
    assert_false(lw_call_filter_allows(NULL, 0, &lw_asked_calls[0]));
}

static void test_asked_calls(void **state)
{
    (void)state;
    assert_true(lw_call_is_asked(SYS_munmap, (const uint64_t[6]){1, 2, 3}));
    assert_true(lw_call_is_asked(
        SYS_mmap, (const uint64_t[6]){1, 2, PROT_READ | PROT_EXEC,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, UINT64_MAX}));
    assert_false(lw_call_is_asked(
        SYS_mmap, (const uint64_t[6]){1, 2, PROT_WRITE | PROT_EXEC,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, UINT64_MAX}));
    assert_false(lw_call_is_asked(SYS_rt_sigaction, (const uint64_t[6]){SIGSEGV}));
    assert_false(lw_call_is_asked(SYS_execve, (const uint64_t[6]){0}));
}

/* ---- Against the kernel ---- */

static uint32_t some(const uint32_t *values, size_t count)
{
    return values[(size_t)rand() % count];
}

/* Any instruction that the kernel accepts `left` instructions before the end. */
static struct sock_filter random_instruction(unsigned left)
{
    static const uint32_t loads[] = {0, 4, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60};
    static const uint32_t arithmetic[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_AND, BPF_OR, BPF_XOR};
    static const uint32_t jumps[] = {BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET};
    static const uint32_t values[] = {0, 1, 2, 3, 7, 31, 255, 0x80000000, UINT32_MAX, 0x1234};
    const uint16_t source = rand() % 2 ? BPF_K : BPF_X;
    switch (rand() % 12) {
    case 0:
    case 1:
        return (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, some(loads, LENGTH(loads)));
    case 2:
        return (struct sock_filter)BPF_STMT(BPF_LD | BPF_IMM, some(values, LENGTH(values)));
    case 3:
        return (struct sock_filter)BPF_STMT(BPF_LDX | BPF_IMM, some(values, LENGTH(values)));
    case 4:
        return (struct sock_filter)BPF_STMT(BPF_MISC | (rand() % 2 ? BPF_TAX : BPF_TXA), 0);
    case 5:
        return (struct sock_filter)BPF_STMT((rand() % 2 ? BPF_LD : BPF_LDX) | BPF_W | BPF_LEN, 0);
    case 6:
        return (struct sock_filter)BPF_STMT(BPF_ALU | (rand() % 2 ? BPF_LSH : BPF_RSH) | BPF_K,
                                            (uint32_t)rand() % 32);
    case 7:
        return (struct sock_filter)BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 1 + (uint32_t)rand() % 9);
    case 8:
        return (struct sock_filter)BPF_STMT(BPF_ALU | BPF_NEG, 0);
    case 9:
        return (struct sock_filter)BPF_STMT(
            (uint16_t)(BPF_ALU | some(arithmetic, LENGTH(arithmetic)) | source),
            some(values, LENGTH(values)));
    default:
        return (struct sock_filter)BPF_JUMP(
            (uint16_t)(BPF_JMP | some(jumps, LENGTH(jumps)) | source), some(values, LENGTH(values)),
            (uint8_t)((unsigned)rand() % left), (uint8_t)((unsigned)rand() % left));
    }
}

/* For CALL, which the last two instructions allow or refuse; all others are allowed. Words are
 * stored before they are loaded, which the kernel insists on. */
static void make_program(struct sock_filter program[RANDOM_LENGTH + 10])
{
    size_t n = 0;
    program[n++] = (struct sock_filter)LOAD(nr);
    program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CALL, 1, 0);
    program[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    program[n++] = (struct sock_filter)LOAD(args[1]);
    program[n++] = (struct sock_filter)BPF_STMT(BPF_ST, 3);
    program[n++] = (struct sock_filter)BPF_STMT(BPF_LDX | BPF_MEM, 3);
    program[n++] = (struct sock_filter)BPF_STMT(BPF_STX, 7);
    for (unsigned left = RANDOM_LENGTH; left > 0; left--)
        program[n++] = random_instruction(left);
    program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 1, 0, 1);
    program[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
    program[n++] = (struct sock_filter)RETURN(SECCOMP_RET_ERRNO | ENOTTY);
}

static bool install(const struct sock_filter *program, size_t length)
{
    const struct sock_fprog filter = {.len = (unsigned short)length,
                                      .filter = (struct sock_filter *)program};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

/* In a child: 0 the kernel allows the call, 1 it does not, 2 it does not take the filter. */
static int ask_kernel(const struct sock_filter *program, size_t length, const uint64_t a[6])
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        if (!install(program, length))
            _exit(2);
        errno = 0;
        syscall(CALL, a[0], a[1], a[2], a[3], a[4], a[5]);
        _exit(errno == ENOTTY);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_the_kernel_says_the_same(void **state)
{
    (void)state;
    struct sock_filter program[RANDOM_LENGTH + 10];
    unsigned answers[3] = {0};
    srand(20261121);
    for (unsigned i = 0; i < PROGRAMS; i++) {
        struct lw_call_shape call = {.number = CALL, .known = 0x3f};
        for (unsigned j = 1; j < 6; j++) /* the first one is a process, this one */
            call.arguments[j] = (uint64_t)rand() << (rand() % 34) ^ (uint64_t)(rand() % 4);
        make_program(program);
        const int answer = ask_kernel(program, LENGTH(program), call.arguments);
        answers[answer]++;
        if (answer != 2)
            assert_int_equal(lw_call_filter_allows(program, LENGTH(program), &call), answer == 0);
    }
    assert_int_equal(answers[2], 0);
    assert_true(answers[0] > PROGRAMS / 5 && answers[1] > PROGRAMS / 5);
}

/* A child with these filters, which stands in a stop of ours; -EPERM or the like of the check. */
static int check_child(const struct sock_filter *const programs[], const size_t lengths[],
                       size_t count, long *refused)
{
    int ready[2], status;
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        for (size_t i = 0; i < count; i++)
            if (!install(programs[i], lengths[i]))
                _exit(1);
        (void)!write(ready[1], "", 1);
        for (;;)
            pause();
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    assert_int_equal(ptrace(PTRACE_SEIZE, pid, NULL, NULL), 0);
    assert_int_equal(ptrace(PTRACE_INTERRUPT, pid, NULL, NULL), 0);
    assert_int_equal(waitpid(pid, &status, __WALL), pid);
    int result = lw_call_filter_check(pid, refused);
    kill(pid, SIGKILL);
    waitpid(pid, &status, __WALL);
    return result;
}

static void test_all_filters_of_a_thread_count(void **state)
{
    (void)state;
    if (!lw_call_filter_is_visible())
        skip();
    static const struct sock_filter allow[] = {RETURN(SECCOMP_RET_ALLOW)};
    static const struct sock_filter refuse[] = {LOAD(nr), IF_EQUAL(SYS_memfd_create),
                                                RETURN(SECCOMP_RET_KILL_PROCESS),
                                                RETURN(SECCOMP_RET_ALLOW)};
    const struct sock_filter *const programs[] = {allow, refuse, allow};
    const size_t lengths[] = {LENGTH(allow), LENGTH(refuse), LENGTH(allow)};
    long refused = 0;
    assert_int_equal(check_child(programs, lengths, 1, &refused), 0);
    assert_int_equal(check_child(programs, lengths, 2, &refused), -EPERM);
    assert_int_equal(refused, SYS_memfd_create);
    assert_int_equal(check_child(programs, lengths, 3, NULL), -EPERM);
}

static void test_too_many_filters(void **state)
{
    (void)state;
    if (!lw_call_filter_is_visible())
        skip();
    static const struct sock_filter allow[] = {RETURN(SECCOMP_RET_ALLOW)};
    enum { MANY = 1500 };
    const struct sock_filter *programs[MANY];
    size_t lengths[MANY];
    for (size_t i = 0; i < MANY; i++) {
        programs[i] = allow;
        lengths[i] = LENGTH(allow);
    }
    assert_int_equal(check_child(programs, lengths, 200, NULL), 0);
    assert_int_equal(check_child(programs, lengths, MANY, NULL), -E2BIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_number),
        cmocka_unit_test(test_by_argument),
        cmocka_unit_test(test_only_allow_is_leave),
        cmocka_unit_test(test_other_architectures_calls_are_others),
        cmocka_unit_test(test_broken_programs_allow_nothing),
        cmocka_unit_test(test_asked_calls),
        cmocka_unit_test(test_the_kernel_says_the_same),
        cmocka_unit_test(test_all_filters_of_a_thread_count),
        cmocka_unit_test(test_too_many_filters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
