/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Breakpoints whose tracer ends: the child runs past them, and they are found and taken out. */
#include "remote_child.h"

#include "leakwatch/arch/trap_handler.h"
#include "leakwatch/trace/guard.h"
#include "leakwatch/trace/leftovers.h"

#define FUNCTIONS 3

/* The copies go to the padding behind this program's code, which would end just before a page. */
__asm__(".pushsection .text\n.skip 1024, 0xcc\n.popsection");

__attribute__((noipa)) static unsigned add(unsigned n)
{
    return n + 1;
}

__attribute__((noipa)) static unsigned double_it(unsigned n)
{
    return 2 * n;
}

/* Its first instruction is relative to its place. */
__attribute__((noipa)) static unsigned load(unsigned n)
{
    static volatile unsigned seven = 7;
    return seven + n;
}

static unsigned (*const functions[FUNCTIONS])(unsigned) = {add, double_it, load};

static uint64_t address_of(unsigned i)
{
    return (uint64_t)(uintptr_t)functions[i];
}

static void call_all(void)
{
    EXPECT(add(5) == 6);
    EXPECT(double_it(5) == 10);
    EXPECT(load(5) == 12);
}

static void fork_child_that_calls(void)
{
    int status = -1;
    call_all();
    pid_t child = fork();
    if (child == 0) {
        call_all();
        _exit(0);
    }
    EXPECT(waitpid(child, &status, 0) == child);
    EXPECT(status == 0);
}

static bool await_rounds(unsigned more)
{
    const unsigned goal = board->rounds + more;
    for (int i = 0; i < 5000 && (int)(board->rounds - goal) < 0; i++)
        usleep(1000);
    return (int)(board->rounds - goal) >= 0;
}

static bool is_planted(struct fixture *fixture, unsigned i)
{
    uint8_t byte = 0;
    lw_memory_read_all(&fixture->memory.memory, address_of(i), &byte, 1);
    return byte == 0xcc;
}

/* On threads of their own: their end is that of a tracer that was killed. */
static void *plant_and_end(void *argument)
{
    struct fixture *fixture = argument;
    struct lw_breakpoint *breakpoint;
    fixture_attach(fixture);
    struct lw_remote_call *call = begin(fixture);
    int error = lw_guard_install(fixture->breakpoints, call);
    end(call);
    for (unsigned i = 0; !error && i < FUNCTIONS; i++)
        error = lw_breakpoint_plant(fixture->breakpoints, address_of(i), NULL, &breakpoint);
    return error ? "plant" : NULL;
}

static void *plant_and_leave(void *argument)
{
    struct fixture *fixture = argument;
    struct lw_leave_result left;
    uint64_t pause = 0;
    unsigned lifted;
    if (plant_and_end(fixture))
        return "plant";
    pump(fixture, 5, NULL, 0);
    if (lw_guard_remove(&fixture->tracer, &lifted, &pause) != 0 || lifted != FUNCTIONS)
        return "remove";
    return lw_tracer_leave(&fixture->tracer, &left) == 0 ? NULL : "leave";
}

static struct lw_task_status begin_child(struct fixture *fixture, void (*body)(void))
{
    struct lw_task_status status;
    *fixture = (struct fixture){.random = 1};
    fixture_fork(fixture, &body, 1);
    assert_true(await_rounds(2));
    assert_int_equal(lw_task_status_read(fixture->child, fixture->child, &status), 0);
    return status;
}

static void expect_as_before(struct fixture *fixture, const struct lw_task_status *before)
{
    struct lw_task_status now;
    assert_true(await_rounds(2));
    expect_no_harm("guard");
    assert_int_equal(lw_task_status_read(fixture->child, fixture->child, &now), 0);
    assert_int_equal(now.signals_caught, before->signals_caught);
    assert_int_equal(now.signals_blocked, before->signals_blocked);
    assert_int_equal(now.tracer, 0);
    for (unsigned i = 0; i < FUNCTIONS; i++)
        assert_false(is_planted(fixture, i));
    assert_true(lw_breakpoint_table_verify(fixture->breakpoints, NULL));
}

static void end_child(struct fixture *fixture)
{
    fixture_detach(fixture);
    kill(fixture->child, SIGKILL);
    waitpid(fixture->child, NULL, 0);
}

static void survive(struct fixture *fixture, void (*body)(void))
{
    struct lw_task_status before = begin_child(fixture, body);
    struct lw_memory *memory = &fixture->memory.memory;
    bool found = false;
    run_in_thread(fixture, plant_and_end);
    assert_true(await_rounds(20));
    expect_no_harm("without a tracer");
    for (unsigned i = 0; i < FUNCTIONS; i++)
        assert_true(is_planted(fixture, i));
    assert_null(lw_leftovers_clear(fixture->child, memory, fixture->modules, &found));
    assert_true(found);
    expect_as_before(fixture, &before);
    assert_null(lw_leftovers_clear(fixture->child, memory, fixture->modules, &found));
    assert_false(found);
    end_child(fixture);
}

static void test_breakpoints_outlive_their_tracer(void **state)
{
    for (int i = 0; i < 10; i++)
        survive(*state, call_all);
}

static void test_children_are_born_meanwhile(void **state)
{
    survive(*state, fork_child_that_calls);
}

static void test_nothing_stays_after_a_proper_end(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < 10; i++) {
        struct lw_task_status before = begin_child(fixture, fork_child_that_calls);
        run_in_thread(fixture, plant_and_leave);
        expect_as_before(fixture, &before);
        end_child(fixture);
    }
}

/* Reads of an action: of what there was, and of what the handler has replaced, which fails. */
static unsigned actions_read;
static ssize_t (*read_whole)(struct lw_memory *memory, uint64_t address, void *buffer, size_t size);

static ssize_t read_but_one(struct lw_memory *memory, uint64_t address, void *buffer, size_t size)
{
    if (size == sizeof(struct lw_signal_action) && ++actions_read == 2)
        return -EFAULT;
    return read_whole(memory, address, buffer, size);
}

/* The handler is there, though it looks as if putting it in had failed. */
static void *install_in_vain_and_leave(void *argument)
{
    struct fixture *fixture = argument;
    struct lw_leave_result left;
    struct lw_task_status status;
    uint64_t pause = 0;
    unsigned lifted;
    fixture_attach(fixture);
    struct lw_memory *memory = &fixture->memory.memory;
    struct lw_remote_call *call = begin(fixture);
    actions_read = 0;
    read_whole = memory->read;
    memory->read = read_but_one;
    int error = lw_guard_install(fixture->breakpoints, call);
    memory->read = read_whole;
    end(call);
    if (error != -EFAULT || lw_task_status_read(fixture->child, fixture->child, &status) != 0 ||
        !(status.signals_caught & (1ull << (SIGTRAP - 1))))
        return "install in vain";
    if (lw_guard_remove(&fixture->tracer, &lifted, &pause) != 0)
        return "remove";
    return lw_tracer_leave(&fixture->tracer, &left) == 0 ? NULL : "leave";
}

static void test_nothing_stays_of_an_installation_that_failed(void **state)
{
    struct fixture *fixture = *state;
    struct lw_task_status before = begin_child(fixture, call_all);
    run_in_thread(fixture, install_in_vain_and_leave);
    expect_as_before(fixture, &before);
    end_child(fixture);
}

static void wait_for_sharing_child(void)
{
    pid_t child = vfork();
    if (child == 0) {
        nanosleep(&(const struct timespec){.tv_sec = 2}, NULL);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

/* As where no thread may make the call that takes the guard out. */
static void *leave_with_guard(void *argument)
{
    struct fixture *fixture = argument;
    struct lw_leave_result left;
    bool shares = false;
    fixture_attach(fixture);
    struct lw_remote_call *call = begin(fixture);
    int error = lw_guard_install(fixture->breakpoints, call);
    end(call);
    lw_vector_for_each (thread, &fixture->tracer.threads)
        shares |= (*thread)->foreign;
    if (error || !shares)
        return "install";
    return lw_tracer_leave(&fixture->tracer, &left) == 0 ? NULL : "leave";
}

static void test_a_guard_that_stays_is_whole(void **state)
{
    struct fixture *fixture = *state;
    static void (*const bodies[])(void) = {wait_for_sharing_child, nap_in_nanosleep};
    *fixture = (struct fixture){.random = 1};
    fixture_fork(fixture, bodies, LENGTH(bodies));
    for (int i = 0; i < 1000 && task_state(fixture->child) != 'D'; i++)
        usleep(1000);
    run_in_thread(fixture, leave_with_guard);
    assert_false(lw_breakpoint_table_verify(fixture->breakpoints, NULL));
    end_child(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_breakpoints_outlive_their_tracer),
        cmocka_unit_test(test_children_are_born_meanwhile),
        cmocka_unit_test(test_nothing_stays_after_a_proper_end),
        cmocka_unit_test(test_nothing_stays_of_an_installation_that_failed),
        cmocka_unit_test(test_a_guard_that_stays_is_whole),
    };
    return cmocka_run_group_tests(tests, setup_board, teardown_board);
}
