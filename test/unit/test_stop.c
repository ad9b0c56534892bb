/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Decoding of stops: made up, and as the kernel reports them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "leakwatch/trace/stop.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static struct lw_stop decode(int code, int status)
{
    siginfo_t info;
    memset(&info, 0, sizeof(info));
    info.si_signo = SIGCHLD;
    info.si_code = code;
    info.si_status = status;
    info.si_pid = 4711;
    struct lw_stop stop = lw_stop_decode(&info);
    assert_int_equal(stop.tid, 4711);
    return stop;
}

static struct lw_stop decode_event(int signal, int event)
{
    return decode(CLD_TRAPPED, signal | event << 8);
}

static void test_ends(void **state)
{
    (void)state;
    static const int statuses[] = {0, 1, 127, 128, 255};
    for (size_t i = 0; i < LENGTH(statuses); i++) {
        struct lw_stop stop = decode(CLD_EXITED, statuses[i]);
        assert_int_equal(stop.kind, LW_STOP_EXITED);
        assert_int_equal(stop.status, statuses[i]);
        assert_int_equal(stop.signal, 0);
    }
    struct lw_stop killed = decode(CLD_KILLED, SIGKILL);
    assert_int_equal(killed.kind, LW_STOP_KILLED);
    assert_int_equal(killed.signal, SIGKILL);
    struct lw_stop dumped = decode(CLD_DUMPED, SIGSEGV);
    assert_int_equal(dumped.kind, LW_STOP_KILLED);
    assert_int_equal(dumped.signal, SIGSEGV);
}

static void test_signals(void **state)
{
    (void)state;
    /* Real-time signals go up to 64; a stopping signal about to be delivered is no group-stop. */
    static const int signals[] = {SIGHUP, SIGTRAP, SIGUSR1, SIGSTOP, SIGTSTP, SIGCONT, 34, 64};
    for (size_t i = 0; i < LENGTH(signals); i++) {
        struct lw_stop stop = decode_event(signals[i], 0);
        assert_int_equal(stop.kind, LW_STOP_SIGNAL);
        assert_int_equal(stop.signal, signals[i]);
    }
}

static void test_event_stops(void **state)
{
    (void)state;
    static const int stopping[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
    for (size_t i = 0; i < LENGTH(stopping); i++) {
        struct lw_stop stop = decode_event(stopping[i], PTRACE_EVENT_STOP);
        assert_int_equal(stop.kind, LW_STOP_GROUP);
        assert_int_equal(stop.signal, stopping[i]);
    }
    struct lw_stop trap = decode_event(SIGTRAP, PTRACE_EVENT_STOP);
    assert_int_equal(trap.kind, LW_STOP_TRAP);
    assert_int_equal(trap.signal, SIGTRAP);
}

static void test_events(void **state)
{
    (void)state;
    static const struct {
        int event;
        enum lw_stop_kind kind;
    } events[] = {
        {PTRACE_EVENT_CLONE, LW_STOP_CLONE},      {PTRACE_EVENT_FORK, LW_STOP_FORK},
        {PTRACE_EVENT_VFORK, LW_STOP_FORK},       {PTRACE_EVENT_EXEC, LW_STOP_EXEC},
        {PTRACE_EVENT_VFORK_DONE, LW_STOP_OTHER}, {PTRACE_EVENT_EXIT, LW_STOP_OTHER},
        {PTRACE_EVENT_SECCOMP, LW_STOP_OTHER},
    };
    for (size_t i = 0; i < LENGTH(events); i++)
        assert_int_equal(decode_event(SIGTRAP, events[i].event).kind, events[i].kind);
}

static void test_system_calls(void **state)
{
    (void)state;
    struct lw_stop stop = decode(CLD_TRAPPED, SIGTRAP | 0x80);
    assert_int_equal(stop.kind, LW_STOP_SYSCALL);
    assert_int_equal(stop.signal, SIGTRAP);
    assert_int_equal(decode(CLD_TRAPPED, SIGTRAP).kind, LW_STOP_SIGNAL);
}

static void test_what_is_no_stop_of_a_tracee(void **state)
{
    (void)state;
    assert_int_equal(decode(CLD_STOPPED, SIGSTOP).kind, LW_STOP_OTHER);
    assert_int_equal(decode(CLD_CONTINUED, SIGCONT).kind, LW_STOP_OTHER);
    assert_int_equal(decode(0, 0).kind, LW_STOP_OTHER);
}

/* The child's next stop; what it has reported is cleared by its resumption. */
static struct lw_stop wait_for(pid_t child)
{
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WSTOPPED | WNOWAIT | __WALL), 0);
    struct lw_stop stop = lw_stop_decode(&info);
    assert_int_equal(stop.tid, child);
    return stop;
}

static pid_t start_child(void)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(30);
        for (;;)
            pause();
    }
    if (ptrace(PTRACE_SEIZE, child, NULL, PTRACE_O_TRACEFORK | PTRACE_O_EXITKILL) != 0)
        fail_msg("cannot trace a child of our own");
    return child;
}

static void test_a_real_tracee(void **state)
{
    (void)state;
    pid_t child = start_child();
    assert_int_equal(ptrace(PTRACE_INTERRUPT, child, NULL, NULL), 0);
    assert_int_equal(wait_for(child).kind, LW_STOP_TRAP);
    assert_int_equal(ptrace(PTRACE_CONT, child, NULL, NULL), 0);

    kill(child, SIGSTOP);
    struct lw_stop stop = wait_for(child);
    assert_int_equal(stop.kind, LW_STOP_SIGNAL);
    assert_int_equal(stop.signal, SIGSTOP);
    assert_int_equal(ptrace(PTRACE_CONT, child, NULL, SIGSTOP), 0);
    stop = wait_for(child);
    assert_int_equal(stop.kind, LW_STOP_GROUP);
    assert_int_equal(stop.signal, SIGSTOP);
    assert_int_equal(ptrace(PTRACE_LISTEN, child, NULL, NULL), 0);

    kill(child, SIGCONT); /* ends the group-stop, and is delivered */
    assert_int_equal(wait_for(child).kind, LW_STOP_TRAP);
    assert_int_equal(ptrace(PTRACE_CONT, child, NULL, NULL), 0);
    stop = wait_for(child);
    assert_int_equal(stop.kind, LW_STOP_SIGNAL);
    assert_int_equal(stop.signal, SIGCONT);

    kill(child, SIGKILL);
    do
        stop = wait_for(child); /* the signal's stop may still be there to be seen */
    while (stop.kind == LW_STOP_SIGNAL);
    assert_int_equal(stop.kind, LW_STOP_KILLED);
    assert_int_equal(stop.signal, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends),          cmocka_unit_test(test_signals),
        cmocka_unit_test(test_event_stops),   cmocka_unit_test(test_events),
        cmocka_unit_test(test_system_calls),  cmocka_unit_test(test_what_is_no_stop_of_a_tracee),
        cmocka_unit_test(test_a_real_tracee),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
