/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tests of src/trace/dispatch.c with a child that sleeps in epoll_wait, which the kernel lets fail
 * with EINTR rather than restart it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "leakwatch/base/clock.h"
#include "leakwatch/trace/tracer.h"

#define PATIENCE (10 * LW_NS_PER_SECOND)

struct fixture {
    struct lw_tracer tracer;
    pid_t child;
    int pipe[2];
};

/* Ends with 0 when there is something to read, else with an errno. */
static void sleep_in_epoll(const struct fixture *fixture)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, fixture->pipe[0], &event);
    _exit(epoll_wait(epoll, &event, 1, 60000) == 1 ? 0 : errno);
}

static bool sleeps(const struct fixture *fixture)
{
    char path[64];
    long number = -1;
    snprintf(path, sizeof(path), "/proc/%d/syscall", (int)fixture->child);
    FILE *file = fopen(path, "r");
    int found = file ? fscanf(file, "%ld", &number) : 0;
    if (file)
        fclose(file);
    return found == 1 && number == SYS_epoll_wait;
}

static void await_sleep(const struct fixture *fixture)
{
    bool asleep = sleeps(fixture);
    for (int i = 0; i < 10000 && !asleep; i++) {
        usleep(1000);
        asleep = sleeps(fixture);
    }
    assert_true(asleep);
}

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (!fixture || pipe(fixture->pipe) != 0 || (fixture->child = fork()) < 0)
        return -1;
    if (fixture->child == 0)
        sleep_in_epoll(fixture);
    await_sleep(fixture);
    lw_tracer_init(&fixture->tracer, fixture->child, NULL);
    lw_error *error = lw_tracer_seize(&fixture->tracer);
    lw_error_destroy(error);
    *state = fixture;
    return error ? -1 : 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    kill(fixture->child, SIGKILL);
    waitpid(fixture->child, NULL, 0);
    lw_tracer_deinit(&fixture->tracer);
    close(fixture->pipe[0]);
    close(fixture->pipe[1]);
    free(fixture);
    return 0;
}

/* Dispatches one stop, which must be of this kind. */
static struct lw_stop pass(struct fixture *fixture, enum lw_stop_kind kind)
{
    struct lw_stop stop = lw_tracer_next(&fixture->tracer, lw_clock_now() + PATIENCE);
    assert_int_equal(stop.kind, kind);
    lw_tracer_dispatch(&fixture->tracer, &stop);
    return stop;
}

/* What the child has ended with, once there is something to read. */
static int end_of(struct fixture *fixture)
{
    (void)!write(fixture->pipe[1], "x", 1);
    return pass(fixture, LW_STOP_EXITED).status;
}

/* For instance when another thread was quicker, and that is the one that we went on with. */
static void test_an_interrupt_that_nobody_waits_for(void **state)
{
    struct fixture *fixture = *state;
    struct lw_thread *thread = lw_tracer_thread(&fixture->tracer, fixture->child);
    thread->interrupted = ptrace(PTRACE_INTERRUPT, fixture->child, NULL, NULL) == 0;
    pass(fixture, LW_STOP_TRAP);
    assert_false(thread->interrupted);
    await_sleep(fixture);
    assert_int_equal(end_of(fixture), 0);
}

static void test_a_sigcont_for_a_process_that_runs(void **state)
{
    struct fixture *fixture = *state;
    kill(fixture->child, SIGCONT);
    pass(fixture, LW_STOP_TRAP);
    assert_int_equal(pass(fixture, LW_STOP_SIGNAL).signal, SIGCONT);
    await_sleep(fixture);
    assert_int_equal(end_of(fixture), 0);
}

static void test_a_signal_that_is_ignored(void **state)
{
    struct fixture *fixture = *state;
    kill(fixture->child, SIGWINCH);
    assert_int_equal(pass(fixture, LW_STOP_SIGNAL).signal, SIGWINCH);
    await_sleep(fixture);
    assert_int_equal(end_of(fixture), 0);
}

/* Untraced, too. */
static void test_the_end_of_a_group_stop_breaks_the_call_off(void **state)
{
    struct fixture *fixture = *state;
    kill(fixture->child, SIGSTOP);
    assert_int_equal(pass(fixture, LW_STOP_SIGNAL).signal, SIGSTOP);
    pass(fixture, LW_STOP_GROUP);
    assert_true(lw_tracer_thread(&fixture->tracer, fixture->child)->stopped);
    kill(fixture->child, SIGCONT);
    pass(fixture, LW_STOP_TRAP);
    assert_int_equal(pass(fixture, LW_STOP_SIGNAL).signal, SIGCONT);
    assert_int_equal(pass(fixture, LW_STOP_EXITED).status, EINTR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_interrupt_that_nobody_waits_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_sigcont_for_a_process_that_runs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_signal_that_is_ignored, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_end_of_a_group_stop_breaks_the_call_off, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
