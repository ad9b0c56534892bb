/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The SIGTRAP handler in a child whose tracer ends while a breakpoint is planted. */
#include "remote_child.h"

#include "leakwatch/arch/instruction.h"
#include "leakwatch/arch/page.h"
#include "leakwatch/trace/trap_handler.h"

__attribute__((noipa, aligned(16))) static unsigned first(void)
{
    __asm__ volatile("nop");
    return 1;
}

__attribute__((noipa, aligned(16))) static unsigned second(void)
{
    __asm__ volatile("nop");
    return 2;
}

static void *place;         /* executable memory, in the child too */
static void (*action)(int); /* of the child's, for SIGTRAP */
static unsigned flags;

static void on_trap(int number)
{
    uint64_t blocked = current_mask() >> (number - 1) & 1;
    EXPECT(blocked == !(flags & SA_NODEFER));
    board->handled++;
}

/* board->word: what the function has returned. */
static void call_first(void)
{
    static bool begun;
    struct sigaction trap = {.sa_handler = action, .sa_flags = (int)flags};
    if (!begun)
        sigaction(SIGTRAP, &trap, NULL);
    begun = true;
    board->word = first();
}

static bool await(_Atomic unsigned *counter, unsigned goal)
{
    for (int i = 0; i < 5000 && (int)(*counter - goal) < 0; i++)
        usleep(1000);
    return (int)(*counter - goal) >= 0;
}

static void write_code(struct fixture *fixture, const uint8_t *byte)
{
    assert_int_equal(lw_memory_write(&fixture->memory.memory, (uint64_t)(uintptr_t)first, byte, 1),
                     0);
}

/* Threads of their own: their end is that of a tracer that was killed. */
static void *plant_and_end(void *argument)
{
    struct fixture *fixture = argument;
    struct lw_memory *memory = &fixture->memory.memory;
    const uint64_t address = (uint64_t)(uintptr_t)place;
    const struct lw_trap_handler_pair pairs[] = {
        {.behind = 1, .go_on = 1},
        {.behind = (uint64_t)(uintptr_t)first + 1, .go_on = (uint64_t)(uintptr_t)second}};
    fixture_attach(fixture);
    if (lw_trap_handler_write(memory, address, pairs, LENGTH(pairs)) != 0)
        return "write";
    struct lw_remote_call *call = begin(fixture);
    struct lw_signal_action current;
    if (lw_trap_handler_read_action(call, memory, &current) != 0 || current.handler == address)
        return "installed before";
    if (lw_trap_handler_install(call, memory, address, &current) != 0 ||
        lw_trap_handler_read_action(call, memory, &current) != 0 || current.handler != address)
        return "not installed";
    end(call);
    write_code(fixture, lw_breakpoint_instruction);
    return NULL;
}

static uint8_t first_byte;

static void *lift_and_end(void *argument)
{
    struct fixture *fixture = argument;
    fixture_attach(fixture);
    write_code(fixture, &first_byte);
    /* A hit that is on its way still needs the handler. Whoever has begun a round since is past. */
    if (!pump(fixture, 5000, &board->rounds, board->rounds + 2))
        return "stands still";
    struct lw_remote_call *call = begin(fixture);
    int error = lw_trap_handler_remove(call, &fixture->memory.memory, (uint64_t)(uintptr_t)place);
    end(call);
    return error ? "remove" : NULL;
}

static void expect_signals(struct fixture *fixture, const struct lw_task_status *expected)
{
    struct lw_task_status now;
    assert_int_equal(lw_task_status_read(fixture->child, fixture->child, &now), 0);
    assert_int_equal(now.signals_caught, expected->signals_caught);
    assert_int_equal(now.signals_ignored, expected->signals_ignored);
    assert_int_equal(now.signals_blocked, expected->signals_blocked);
}

static struct lw_task_status begin_child(struct fixture *fixture)
{
    static void (*const body)(void) = call_first;
    struct lw_task_status status;
    *fixture = (struct fixture){.random = 1};
    fixture_fork(fixture, &body, 1);
    assert_true(await(&board->rounds, 2));
    assert_int_equal(lw_task_status_read(fixture->child, fixture->child, &status), 0);
    return status;
}

static void end_child(struct fixture *fixture, int expected)
{
    int status;
    if (expected == SIGKILL)
        kill(fixture->child, SIGKILL);
    assert_int_equal(waitpid(fixture->child, &status, 0), fixture->child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), expected);
}

static void test_hits_go_on_and_others_go_where_they_went(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        void (*action)(int);
        unsigned flags;
    } ways[] = {
        {SIG_DFL, 0}, {SIG_IGN, 0}, {on_trap, 0}, {on_trap, SA_NODEFER}, {on_trap, SA_SIGINFO}};
    for (size_t i = 0; i < LENGTH(ways); i++) {
        action = ways[i].action;
        flags = ways[i].flags;
        struct lw_task_status before = begin_child(fixture);
        assert_int_equal(board->word, 1);
        run_in_thread(fixture, plant_and_end);
        fixture_detach(fixture);
        assert_true(await(&board->rounds, board->rounds + 100));
        assert_int_equal(board->word, 2);
        for (unsigned n = 1; action != SIG_DFL && n <= 20; n++) {
            kill(fixture->child, SIGTRAP);
            assert_true(action == SIG_IGN || await(&board->handled, n));
            assert_true(await(&board->rounds, board->rounds + 2));
        }
        run_in_thread(fixture, lift_and_end);
        fixture_detach(fixture);
        assert_true(await(&board->rounds, board->rounds + 2));
        assert_int_equal(board->word, 1);
        expect_signals(fixture, &before);
        expect_no_harm("handler");
        end_child(fixture, SIGKILL);
    }
}

static void test_what_would_end_the_process_does(void **state)
{
    struct fixture *fixture = *state;
    action = SIG_DFL;
    flags = 0;
    begin_child(fixture);
    run_in_thread(fixture, plant_and_end);
    fixture_detach(fixture);
    assert_true(await(&board->rounds, board->rounds + 10));
    kill(fixture->child, SIGTRAP);
    end_child(fixture, SIGTRAP);
}

/* As by a leakwatch that finds the handler there and nothing else of the one before. */
static void *install_twice_and_end(void *argument)
{
    struct fixture *fixture = argument;
    struct lw_memory *memory = &fixture->memory.memory;
    const uint64_t address = (uint64_t)(uintptr_t)place;
    struct lw_signal_action current;
    fixture_attach(fixture);
    int error = lw_trap_handler_write(memory, address, NULL, 0);
    struct lw_remote_call *call = begin(fixture);
    for (int i = 0; !error && i < 2; i++) {
        error = lw_trap_handler_read_action(call, memory, &current);
        if (!error)
            error = lw_trap_handler_install(call, memory, address, &current);
    }
    if (!error)
        error = lw_trap_handler_remove(call, memory, address);
    end(call);
    return error ? "install twice" : NULL;
}

static void test_what_had_stayed_is_taken_out(void **state)
{
    struct fixture *fixture = *state;
    action = SIG_DFL;
    flags = 0;
    struct lw_task_status before = begin_child(fixture);
    run_in_thread(fixture, install_twice_and_end);
    fixture_detach(fixture);
    assert_true(await(&board->rounds, board->rounds + 2));
    expect_signals(fixture, &before);
    end_child(fixture, SIGKILL);
}

static int setup(void **state)
{
    place = mmap(NULL, LW_PAGE_SIZE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(&first_byte, (const void *)(uintptr_t)first, 1);
    return place == MAP_FAILED || setup_board(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hits_go_on_and_others_go_where_they_went),
        cmocka_unit_test(test_what_would_end_the_process_does),
        cmocka_unit_test(test_what_had_stayed_is_taken_out),
    };
    return cmocka_run_group_tests(tests, setup, teardown_board);
}
