/* SPDX-License-Identifier: GPL-2.0-or-later */
/* System calls by borrowed threads of processes that are stopped, continued, killed, or end. */
#include <poll.h>

#include "remote_child.h"

/* ---- Stopped processes ---- */

/* The main thread is in a group-stop, as far as the tracer has been told. */
static bool is_stopped(struct fixture *fixture)
{
    return lw_tracer_thread(&fixture->tracer, fixture->child)->stopped;
}

static void await_stopped(struct fixture *fixture)
{
    for (int i = 0; i < 5000 && !is_stopped(fixture); i++)
        pump(fixture, 1, NULL, 0);
    assert_true(is_stopped(fixture));
}

static void *borrow_from_stopped(void *argument)
{
    struct fixture *fixture = argument;
    fixture_attach(fixture);
    await_stopped(fixture);
    unsigned rounds = board->rounds;
    for (int n = 0; n < REPETITIONS; n++) {
        struct lw_remote_call *call = begin(fixture);
        expect_calls(fixture, call);
        end(call);
        if (n % 50 == 0)
            pump(fixture, 1, NULL, 0);
        assert_true(is_stopped(fixture));
    }
    pump(fixture, 20, NULL, 0);
    assert_int_equal(board->rounds, rounds);
    return NULL; /* the end of the thread detaches */
}

static void test_a_stopped_process_stays_stopped(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < LENGTH(kinds); i++) {
        if (kinds[i].body == wait_in_epoll || kinds[i].body == read_from_pipe)
            continue;
        *fixture = (struct fixture){.random = 1};
        fixture_fork(fixture, &kinds[i].body, 1);
        kill(fixture->child, SIGSTOP);
        for (int n = 0; n < 5000 && task_state(fixture->child) != 'T'; n++)
            usleep(1000);
        run_in_thread(fixture, borrow_from_stopped);
        unsigned rounds = board->rounds;
        usleep(10000);
        assert_int_equal(task_state(fixture->child), 'T');
        assert_int_equal(board->rounds, rounds);
        kill(fixture->child, SIGCONT);
        for (int n = 0; n < 5000 && board->rounds < rounds + 2; n++)
            usleep(1000);
        assert_true(board->rounds >= rounds + 2);
        /* The stop itself makes these calls fail, traced or not. */
        if (kinds[i].body != nap_in_epoll && kinds[i].body != nap_in_semop &&
            kinds[i].body != nap_in_sigtimedwait)
            expect_no_harm(kinds[i].name);
        kill(fixture->child, SIGKILL);
        waitpid(fixture->child, NULL, 0);
        fixture_detach(fixture);
    }
}

static void stop_amid(struct fixture *fixture, int moment)
{
    if (moment == 0)
        kill(fixture->child, SIGSTOP);
    struct lw_remote_call *call = begin(fixture);
    if (moment == 1)
        kill(fixture->child, SIGSTOP);
    expect_calls(fixture, call);
    if (moment == 2)
        kill(fixture->child, SIGSTOP);
    if (moment == 3) {
        kill(fixture->child, SIGSTOP);
        expect_calls(fixture, call);
        kill(fixture->child, SIGCONT);
        expect_calls(fixture, call);
        kill(fixture->child, SIGSTOP);
    }
    end(call);
}

static void test_a_stop_in_the_middle_is_not_lost(void **state)
{
    struct fixture *fixture = *state;
    static const struct kind stopped[] = {{"running", compute}, {"nanosleep", nap_in_nanosleep}};
    for (size_t i = 0; i < LENGTH(stopped); i++) {
        start(fixture, &stopped[i]);
        for (int n = 0; n < REPETITIONS; n++) {
            stop_amid(fixture, n % 4);
            await_stopped(fixture);
            unsigned rounds = board->rounds;
            pump(fixture, 5, NULL, 0);
            assert_int_equal(board->rounds, rounds);
            kill(fixture->child, SIGCONT);
            assert_true(pump(fixture, 5000, &board->rounds, rounds + 1));
        }
        expect_no_harm(stopped[i].name);
        fixture_kill(fixture);
    }
}

static void test_continued_in_the_middle(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, &kinds[0]);
    for (int n = 0; n < 50; n++) {
        kill(fixture->child, SIGSTOP);
        await_stopped(fixture);
        unsigned rounds = board->rounds;
        struct lw_remote_call *call = begin(fixture);
        expect_calls(fixture, call);
        kill(fixture->child, SIGCONT);
        if (n % 2)
            expect_calls(fixture, call);
        end(call);
        assert_true(pump(fixture, 5000, &board->rounds, rounds + 1));
        assert_false(is_stopped(fixture));
    }
    expect_no_harm("continued");
    fixture_kill(fixture);
}

/* A call of ours that a stop breaks off is made again. */
static void test_a_call_is_broken_off(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, &kinds[0]);
    for (int n = 0; n < 5; n++) {
        pid_t helper = fork();
        if (helper == 0) {
            usleep(10000);
            kill(fixture->child, SIGSTOP);
            usleep(10000);
            kill(fixture->child, SIGCONT);
            usleep(10000);
            _exit(write(pipe_fds[1], "four", 4) != 4);
        }
        char buffer[8] = "";
        uint64_t address;
        struct lw_memory *memory = &fixture->memory.memory;
        struct lw_remote_call *call = begin(fixture);
        assert_int_equal(lw_remote_call_store(call, memory, buffer, sizeof(buffer), &address), 0);
        assert_int_equal(make(call, SYS_read, (uint64_t)pipe_fds[0], address, 4, 0), 4);
        assert_int_equal(lw_memory_read_all(memory, address, buffer, sizeof(buffer)), 0);
        assert_string_equal(buffer, "four");
        end(call);
        assert_true(pump(fixture, 5000, &board->rounds, board->rounds + 1));
    }
    expect_no_harm("broken off");
    fixture_kill(fixture);
}

/* ---- The end of the target ---- */

static struct lw_stop next_end(struct fixture *fixture)
{
    uint64_t deadline = lw_clock_now() + 5 * LW_NS_PER_SECOND;
    for (;;) {
        struct lw_stop stop = lw_tracer_next(&fixture->tracer, deadline);
        assert_true(lw_clock_now() < deadline);
        if (lw_tracer_dispatch(&fixture->tracer, &stop) != LW_TRACE_GOES_ON)
            return stop;
    }
}

static void expect_gone(struct lw_remote_call *call)
{
    const uint64_t arguments[6] = {0};
    int64_t result;
    int error = 0;
    for (int n = 0; n < 100000 && error == 0; n++)
        error = lw_remote_call_make(call, SYS_getpid, arguments, &result);
    assert_int_equal(error, -ESRCH);
    assert_int_equal(lw_remote_call_make(call, SYS_getpid, arguments, &result), -ESRCH);
    assert_int_equal(lw_remote_call_end(call, NULL), -ESRCH);
}

static void test_killed_in_the_middle(void **state)
{
    struct fixture *fixture = *state;
    for (int moment = 0; moment < 3; moment++) {
        start(fixture, &kinds[(size_t)moment * 2]);
        struct lw_remote_call *call = begin(fixture);
        if (moment > 0)
            make(call, SYS_getpid, 0, 0, 0, 0);
        kill(fixture->child, SIGKILL);
        if (moment < 2)
            expect_gone(call);
        else
            assert_int_equal(lw_remote_call_end(call, NULL), -ESRCH);
        struct lw_stop stop = next_end(fixture);
        assert_int_equal(stop.kind, LW_STOP_KILLED);
        assert_int_equal(stop.signal, SIGKILL);
        struct lw_remote_call *none;
        assert_int_equal(lw_remote_call_begin(&fixture->tracer, &fixture->code, &none), -ESRCH);
        fixture_detach(fixture);
    }
}

/* Waits for the test's order without being the best one to borrow. */
static void end_on_order(void)
{
    char byte;
    struct pollfd order = {.fd = pipe_fds[0], .events = POLLIN};
    while (ppoll(&order, 1, NULL, NULL) != 1)
        ;
    EXPECT(read(pipe_fds[0], &byte, 1) == 1);
    if (board->order == 1)
        _exit(33);
    execl("/bin/sleep", "sleep", "30", NULL);
    _exit(127);
}

/* Borrows the main thread, or the other one. Where the better one gets no processor in time, the
 * worse one is borrowed: then it is tried again. */
static struct lw_remote_call *begin_by(struct fixture *fixture, bool main_thread)
{
    for (int n = 0; n < 500; n++) {
        struct lw_remote_call *call = begin(fixture);
        if ((lw_remote_call_thread(call) == fixture->child) == main_thread)
            return call;
        end(call);
        pump(fixture, 10, NULL, 0);
    }
    fail_msg("the wrong thread is borrowed");
    return NULL;
}

static void test_ended_by_another_thread(void **state)
{
    struct fixture *fixture = *state;
    /* The borrowed one is the main thread, or another. */
    static void (*const bodies[][2])(void) = {{compute, end_on_order}, {end_on_order, compute}};
    for (int way = 0; way < 4; way++) {
        *fixture = (struct fixture){.random = 1};
        fixture_fork(fixture, bodies[way % 2], 2);
        fixture_attach(fixture);
        board->order = way / 2;
        struct lw_remote_call *call = begin_by(fixture, way % 2 == 0);
        assert_int_equal(make(call, SYS_gettid, 0, 0, 0, 0) == fixture->child, way % 2 == 0);
        assert_int_equal(write(pipe_fds[1], "", 1), 1);
        expect_gone(call);
        struct lw_stop stop = next_end(fixture);
        assert_int_equal(stop.tid, fixture->child);
        assert_int_equal(stop.kind, way / 2 ? LW_STOP_EXITED : LW_STOP_EXEC);
        assert_int_equal(stop.status, way / 2 ? 33 : 0);
        if (stop.kind == LW_STOP_EXEC)
            fixture_kill(fixture);
        else
            fixture_detach(fixture);
    }
}

/* ---- A tracer that ends ---- */

/* Values that live in vector registers. */
static void compute_with_vectors(void)
{
    typedef double vector __attribute__((vector_size(16)));
    vector a = {1, 2}, b = {5, 6};
    for (int i = 0; i < 20000; i++) {
        __asm__ volatile("" : "+x"(a), "+x"(b));
        a = a * 0.5 + b;
        b = b * 0.25 + 1;
    }
    EXPECT(a[0] > 2.66 && a[0] < 2.67 && a[1] > 2.66 && a[1] < 2.67);
}

static unsigned calls_before_the_end;
/* What nobody ends, and is lost with a killed leakwatch: kept, or it would be found to leak. */
static struct lw_remote_call *left_behind[1024];
static unsigned left_count;

/* The end of its thread does to the tracees what SIGKILL does. */
static void *borrow_and_end(void *argument)
{
    struct fixture *fixture = argument;
    uint64_t address;
    fixture_attach(fixture);
    await_sleep(fixture);
    struct lw_remote_call *call = begin(fixture);
    assert_true(left_count < LENGTH(left_behind));
    left_behind[left_count++] = call;
    for (unsigned i = 0; i < calls_before_the_end; i++)
        expect_calls(fixture, call);
    if (calls_before_the_end % 2)
        lw_remote_call_store(call, &fixture->memory.memory, "abc", 4, &address);
    return NULL;
}

static void test_the_thread_finds_its_way_back(void **state)
{
    struct fixture *fixture = *state;
    struct kind all[LENGTH(kinds) + 1];
    memcpy(all, kinds, sizeof(kinds));
    all[LENGTH(kinds)] = (struct kind){"vectors", compute_with_vectors};
    for (size_t i = 0; i < LENGTH(all); i++) {
        *fixture = (struct fixture){.random = 1};
        fixture_fork(fixture, &all[i].body, 1);
        for (int n = 0; n < REPETITIONS / 20 + 1; n++) {
            calls_before_the_end = n % 3;
            run_in_thread(fixture, borrow_and_end);
            const unsigned rounds = board->rounds;
            for (unsigned wait = 0; wait < 5000 && board->rounds < rounds + 2; wait++) {
                if (wait % 20 == 10)
                    feed(fixture, all[i].body);
                usleep(1000);
            }
            if (board->rounds < rounds + 2)
                fail_msg("%s: stands still", all[i].name);
            expect_no_harm(all[i].name);
            fixture_detach(fixture);
        }
        kill(fixture->child, SIGKILL);
        waitpid(fixture->child, NULL, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stopped_process_stays_stopped),
        cmocka_unit_test(test_a_stop_in_the_middle_is_not_lost),
        cmocka_unit_test(test_continued_in_the_middle),
        cmocka_unit_test(test_a_call_is_broken_off),
        cmocka_unit_test(test_killed_in_the_middle),
        cmocka_unit_test(test_ended_by_another_thread),
        cmocka_unit_test(test_the_thread_finds_its_way_back),
    };
    int failed = cmocka_run_group_tests(tests, setup_board, teardown_board);
    one_by_one = true;
    return failed + cmocka_run_group_tests(tests, setup_board, teardown_board);
}
