/* SPDX-License-Identifier: GPL-2.0-or-later */
/* System calls by borrowed threads, which must not notice: whatever they do meanwhile, whatever
 * signals come. */
#include "remote_child.h"

static void test_a_thread_notices_nothing(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < LENGTH(kinds); i++) {
        start(fixture, &kinds[i]);
        for (int n = 0; n < REPETITIONS; n++) {
            if (n % 4 != 0)
                await_sleep(fixture);
            struct lw_remote_call *call = begin(fixture);
            expect_calls(fixture, call);
            end(call);
            if (n % 8 == 0)
                feed(fixture, kinds[i].body);
        }
        unsigned rounds = board->rounds;
        feed(fixture, kinds[i].body);
        if (!pump(fixture, 5000, &board->rounds, rounds + 1))
            fail_msg("%s: stands still", kinds[i].name);
        expect_no_harm(kinds[i].name);
        fixture_kill(fixture);
    }
}

static void test_no_call_at_all(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, &kinds[2]);
    for (int n = 0; n < REPETITIONS; n++) {
        await_sleep(fixture);
        end(begin(fixture));
    }
    assert_true(pump(fixture, 5000, &board->rounds, board->rounds + 1));
    expect_no_harm("no call");
    fixture_kill(fixture);
}

static void test_a_restartable_sequence_is_aborted(void **state)
{
    struct fixture *fixture = *state;
    if (__rseq_size == 0)
        skip();
    start(fixture, &(struct kind){"restartable sequence", run_restartable_sequence});
    for (int n = 0; n < REPETITIONS; n++) {
        struct lw_remote_call *call = begin(fixture);
        expect_calls(fixture, call);
        board->borrowed++;
        end(call);
        assert_true(pump(fixture, 5000, &board->rounds, board->rounds + 1));
    }
    expect_no_harm("restartable sequence");
    fixture_kill(fixture);
}

/* ---- Signals ---- */

static void send_signals(struct fixture *fixture)
{
    fixture->random = fixture->random * 1103515245 + 12345;
    unsigned dice = fixture->random >> 16;
    if (dice & 1)
        kill(fixture->child, SIGUSR1);
    for (unsigned i = 0; i < (dice >> 1) % 4; i++) {
        union sigval value = {.sival_int = (int)fixture->queued};
        if (sigqueue(fixture->child, SIGRTMIN, value) == 0)
            fixture->queued++;
    }
}

static const struct kind signalled[] = {
    {"sigsuspend", wait_in_sigsuspend}, {"running", compute},    {"epoll_wait", nap_in_epoll},
    {"nanosleep", nap_in_nanosleep},    {"ppoll", nap_in_ppoll}, {"futex", nap_in_futex},
    {"semtimedop", nap_in_semop},
};

static void test_no_signal_is_lost(void **state)
{
    struct fixture *fixture = *state;
    for (size_t i = 0; i < LENGTH(signalled); i++) {
        start(fixture, &signalled[i]);
        for (int n = 0; n < REPETITIONS; n++) {
            send_signals(fixture);
            struct lw_remote_call *call = begin(fixture);
            send_signals(fixture);
            expect_calls(fixture, call);
            send_signals(fixture);
            end(call);
            if (n % 3 == 0)
                pump(fixture, 1, NULL, 0);
        }
        assert_true(fixture->queued > REPETITIONS);
        if (!pump(fixture, 10000, &board->queued, fixture->queued))
            fail_msg("%s: %u of %u signals came", signalled[i].name, board->queued,
                     fixture->queued);
        kill(fixture->child, SIGUSR1);
        assert_true(pump(fixture, 5000, &board->rounds, board->rounds + 1));
        expect_no_harm(signalled[i].name);
        assert_int_equal(board->queued, fixture->queued);
        fixture_kill(fixture);
    }
}

/* Untraced, the handler would have broken the call off. */
static void test_a_signal_that_comes_meanwhile_breaks_off_the_call(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, &(struct kind){"epoll_wait", wait_in_epoll});
    for (unsigned n = 0; n < 50; n++) {
        unsigned rounds = board->rounds;
        await_sleep(fixture);
        struct lw_remote_call *call = begin(fixture);
        expect_calls(fixture, call);
        kill(fixture->child, SIGUSR1);
        expect_calls(fixture, call);
        assert_int_equal(board->handled, n);
        end(call);
        assert_true(pump(fixture, 5000, &board->rounds, rounds + 1));
        assert_int_equal(board->handled, n + 1);
    }
    expect_no_harm("epoll_wait");
    fixture_kill(fixture);
}

static void test_many_threads(void **state)
{
    struct fixture *fixture = *state;
    static void (*const bodies[])(void) = {nap_in_epoll,     nap_in_semop, nap_in_poll,
                                           nap_in_nanosleep, nap_in_futex, nap_in_ppoll,
                                           nap_in_epoll,     nap_in_poll};
    *fixture = (struct fixture){.random = 7};
    fixture_fork(fixture, bodies, LENGTH(bodies));
    fixture_attach(fixture);
    for (int n = 0; n < 2 * REPETITIONS; n++) {
        if (n == REPETITIONS)
            expect_no_harm("threads without signals");
        if (n >= REPETITIONS)
            kill(fixture->child, SIGUSR1);
        struct lw_remote_call *call = begin(fixture);
        if (n >= REPETITIONS)
            kill(fixture->child, SIGUSR1);
        expect_calls(fixture, call);
        end(call);
        if (n % 2)
            pump(fixture, 1, NULL, 0);
    }
    assert_true(pump(fixture, 5000, &board->rounds, board->rounds + 20));
    /* A signal that wakes one thread may be taken by another: then a call fails with EINTR though
     * no handler ran, borrowed or not, traced or not. */
    assert_true(board->handled > 0);
    fixture_kill(fixture);
}

/* ---- Which thread ---- */

static void test_the_thread_that_minds_least_is_borrowed(void **state)
{
    struct fixture *fixture = *state;
    static void (*const bodies[][3])(void) = {
        {wait_in_epoll, compute, nap_in_futex},
        {read_from_pipe, wait_in_epoll, wait_in_epoll},
        {wait_in_epoll, read_from_pipe, wait_in_epoll},
    };
    static const bool main_thread[] = {false, true, false};
    for (size_t i = 0; i < LENGTH(bodies); i++) {
        *fixture = (struct fixture){.random = 1};
        fixture_fork(fixture, bodies[i], 3);
        usleep(20000);
        fixture_attach(fixture);
        struct lw_remote_call *call = begin(fixture);
        int64_t tid = make(call, SYS_gettid, 0, 0, 0, 0);
        assert_int_equal(tid == fixture->child, main_thread[i]);
        end(call);
        fixture_kill(fixture);
    }
}

static void wait_in_vfork(void)
{
    const struct timespec nap = {.tv_sec = 1, .tv_nsec = 500 * (long)LW_NS_PER_MS};
    pid_t child = vfork();
    if (child == 0) {
        nanosleep(&nap, NULL);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    board->handled++;
}

static void test_a_thread_that_does_not_stop(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, &(struct kind){"vfork", wait_in_vfork});
    for (int i = 0; i < 1000 && task_state(fixture->child) != 'D'; i++)
        usleep(1000);
    struct lw_remote_call *call;
    assert_int_equal(lw_remote_call_begin(&fixture->tracer, &fixture->code, &call), -ETIMEDOUT);
    assert_true(pump(fixture, 5000, &board->handled, 1));
    fixture_kill(fixture);
}

static void test_a_wake_up_is_not_lost(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, &kinds[0]);
    struct lw_remote_call *call = begin(fixture);
    lw_tracer_wake(&fixture->tracer);
    expect_calls(fixture, call);
    end(call);
    uint64_t now = lw_clock_now();
    struct lw_stop stop = lw_tracer_next(&fixture->tracer, now + 5 * LW_NS_PER_SECOND);
    assert_int_equal(stop.kind, LW_STOP_NONE);
    assert_true(lw_clock_now() - now < LW_NS_PER_SECOND);
    fixture_kill(fixture);
}

/* Another thread's signal may have all that are awake interrupted, the borrowed one too. Its next
 * stop is the call's, and nobody hears of another one. */
static void test_an_interrupt_meanwhile_is_not_awaited(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, &kinds[0]);
    struct lw_remote_call *call = begin(fixture);
    const pid_t tid = lw_remote_call_thread(call);
    struct lw_thread *thread = lw_tracer_thread(&fixture->tracer, tid);
    assert_non_null(thread);
    assert_int_equal(ptrace(PTRACE_INTERRUPT, tid, NULL, NULL), 0);
    thread->interrupted = true;
    expect_calls(fixture, call);
    assert_false(thread->interrupted);
    end(call);
    expect_no_harm("interrupted");
    fixture_kill(fixture);
}

/* ---- Stores ---- */

static void test_stores(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, &kinds[0]);
    for (int n = 0; n < 50; n++) {
        static const char name[] = "of leakwatch";
        uint8_t large[256];
        memset(large, n, sizeof(large));
        uint64_t first, second;
        struct lw_memory *memory = &fixture->memory.memory;
        struct lw_remote_call *call = begin(fixture);
        assert_int_equal(lw_remote_call_store(call, memory, name, sizeof(name), &first), 0);
        assert_int_equal(lw_remote_call_store(call, memory, large, sizeof(large), &second), 0);
        assert_true(second + sizeof(large) <= first && second % 16 == 0);
        int64_t fd = make(call, SYS_memfd_create, first, 0, 0, 0);
        assert_true(fd >= 0);
        assert_int_equal(make(call, SYS_write, (uint64_t)fd, second, 256, 0), 256);
        char path[64], target[64] = "";
        snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)fixture->child, (int)fd);
        assert_true(readlink(path, target, sizeof(target) - 1) > 0);
        assert_non_null(strstr(target, name));
        int file = open(path, O_RDONLY | O_CLOEXEC);
        uint8_t back[257];
        assert_int_equal(read(file, back, sizeof(back)), sizeof(large));
        assert_memory_equal(back, large, sizeof(large));
        close(file);
        assert_int_equal(make(call, SYS_close, (uint64_t)fd, 0, 0, 0), 0);
        assert_int_equal(lw_remote_call_store(call, memory, large, 257, &first), -E2BIG);
        end(call);
    }
    assert_true(pump(fixture, 5000, &board->rounds, board->rounds + 5));
    expect_no_harm("stores");
    fixture_kill(fixture);
}

/* A memory in which nothing is below a certain address, as below a stack that has not grown. */
static struct lw_memory *whole_memory;
static uint64_t lowest_refused;

static ssize_t read_partly(struct lw_memory *memory, uint64_t address, void *buffer, size_t size)
{
    (void)memory;
    if (lowest_refused == 0)
        lowest_refused = address;
    return address == lowest_refused ? -EFAULT
                                     : whole_memory->read(whole_memory, address, buffer, size);
}

static int write_partly(struct lw_memory *memory, uint64_t address, const void *buffer, size_t size)
{
    (void)memory;
    return whole_memory->write(whole_memory, address, buffer, size);
}

static void test_a_store_without_room_on_the_stack(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, &kinds[0]);
    struct lw_memory partly = {.read = read_partly, .write = write_partly};
    whole_memory = &fixture->memory.memory;
    lowest_refused = 0;
    uint64_t address = 0, word = 0x1234, back = 0;
    struct lw_remote_call *call = begin(fixture);
    assert_int_equal(lw_remote_call_store(call, &partly, &word, sizeof(word), &address), 0);
    assert_true(address != lowest_refused);
    assert_int_equal(lw_memory_read_all(whole_memory, address, &back, sizeof(back)), 0);
    assert_int_equal(back, word);
    end(call);
    assert_int_equal(lw_memory_read_all(whole_memory, address, &back, sizeof(back)), -EFAULT);
    assert_true(pump(fixture, 5000, &board->rounds, board->rounds + 5));
    expect_no_harm("store");
    fixture_kill(fixture);
}

static void test_instruction(void **state)
{
    struct fixture *fixture = *state;
    start(fixture, &kinds[2]);
    uint8_t bytes[3];
    assert_int_equal(lw_memory_read_all(&fixture->memory.memory, fixture->code.call, bytes, 3), 0);
    assert_memory_equal(bytes, "\x0f\x05\xc3", 3);
    struct lw_remote_call *call;
    for (int n = 0; n < 20; n++) {
        await_sleep(fixture);
        assert_int_equal(
            lw_remote_call_begin(&fixture->tracer,
                                 &(struct lw_remote_code){.call = fixture->code.call + 1}, &call),
            -EFAULT);
        assert_int_equal(
            lw_remote_call_begin(&fixture->tracer, &(struct lw_remote_code){.call = 8}, &call),
            -EFAULT);
    }
    assert_true(pump(fixture, 5000, &board->rounds, board->rounds + 1));
    expect_no_harm("refused");
    fixture_kill(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_thread_notices_nothing),
        cmocka_unit_test(test_no_call_at_all),
        cmocka_unit_test(test_a_restartable_sequence_is_aborted),
        cmocka_unit_test(test_no_signal_is_lost),
        cmocka_unit_test(test_a_signal_that_comes_meanwhile_breaks_off_the_call),
        cmocka_unit_test(test_many_threads),
        cmocka_unit_test(test_the_thread_that_minds_least_is_borrowed),
        cmocka_unit_test(test_a_thread_that_does_not_stop),
        cmocka_unit_test(test_a_wake_up_is_not_lost),
        cmocka_unit_test(test_an_interrupt_meanwhile_is_not_awaited),
        cmocka_unit_test(test_stores),
        cmocka_unit_test(test_a_store_without_room_on_the_stack),
        cmocka_unit_test(test_instruction),
    };
    int failed = cmocka_run_group_tests(tests, setup_board, teardown_board);
    one_by_one = true;
    return failed + cmocka_run_group_tests(tests, setup_board, teardown_board);
}
