/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Running past breakpoints, and leaving the code as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "breakpoint_child.h"
#include "leakwatch/arch/registers.h"

/* The child runs from one breakpoint to the next, and past each in its copy. */
static void pass(const struct fixture *fixture, const void *expected)
{
    struct lw_registers registers;
    int status;
    assert_int_equal(waitpid(fixture->child, &status, 0), fixture->child);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(WSTOPSIG(status), SIGTRAP);
    assert_int_equal(lw_registers_read(fixture->child, &registers), 0);
    const struct lw_breakpoint *breakpoint =
        lw_breakpoint_hit(fixture->table, lw_registers_pc(&registers));
    assert_non_null(breakpoint);
    assert_true(breakpoint->address == address_of(expected));
    assert_int_equal(lw_registers_write_pc(fixture->child, breakpoint->copy), 0);
    assert_int_equal(ptrace(PTRACE_CONT, fixture->child, NULL, NULL), 0);
}

static void test_running_past(void **state)
{
    struct fixture *fixture = *state;
    const void *places[] = {subject_push, subject_lea, subject_load, subject_pop, subject_ret};
    const size_t count = sizeof(places) / sizeof(places[0]);
    assert_int_equal(give_order(fixture, CALL_SUBJECT), 47);
    for (size_t i = 0; i < count; i++)
        plant(fixture, places[i]);
    assert_int_equal(ptrace(PTRACE_SEIZE, fixture->child, NULL, PTRACE_O_EXITKILL), 0);
    send_order(fixture, CALL_SUBJECT);
    for (size_t i = 0; i < count; i++)
        pass(fixture, places[i]);
    assert_int_equal(receive_answer(fixture), 47);
    assert_int_equal(lw_breakpoint_table_lift_all(fixture->table), count);
    assert_int_equal(give_order(fixture, CALL_SUBJECT), 47);
}

static void test_leaves_no_trace(void **state)
{
    struct fixture *fixture = *state;
    size_t bytes = 1;
    assert_true(lw_breakpoint_table_verify(fixture->table, &bytes));
    assert_int_equal(bytes, 0);
    uint64_t copy = plant(fixture, subject_push)->copy;
    plant(fixture, subject_ret);
    plant(fixture, (void *)getenv);
    assert_false(lw_breakpoint_table_verify(fixture->table, &bytes));
    assert_int_equal(lw_breakpoint_table_lift_all(fixture->table), 3);
    assert_int_equal(lw_breakpoint_table_lift_all(fixture->table), 0);
    assert_true(is_clean(fixture->memory, page_of(address_of(subject)), PAGE));
    assert_true(is_clean(fixture->memory, page_of(address_of((void *)getenv)), PAGE));
    assert_false(is_clean(fixture->memory, page_of(copy), PAGE));
    assert_false(lw_breakpoint_table_verify(fixture->table, NULL)); /* the copies */
    assert_int_equal(lw_breakpoint_table_restore_padding(fixture->table), 0);
    assert_true(is_clean(fixture->memory, page_of(copy), PAGE));
    assert_true(lw_breakpoint_table_verify(fixture->table, &bytes));
    assert_true(bytes > PAGE); /* pages of two modules, and padding */
}

/* One changed byte, next to what was ours or in the padding behind the copies. */
static void test_verify_sees_every_byte(void **state)
{
    struct fixture *fixture = *state;
    uint64_t copy = plant(fixture, subject_push)->copy;
    assert_int_equal(lw_breakpoint_table_lift_all(fixture->table), 1);
    assert_int_equal(lw_breakpoint_table_restore_padding(fixture->table), 0);
    const uint64_t places[] = {address_of(subject_push), address_of(subject_push) + 1,
                               address_of(subject_push) - 1, copy, page_of(copy) + PAGE - 1};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        uint8_t original = byte_at(fixture, places[i]);
        assert_true(lw_breakpoint_table_verify(fixture->table, NULL));
        set_byte(fixture, places[i], original ^ 0x10);
        assert_false(lw_breakpoint_table_verify(fixture->table, NULL));
        set_byte(fixture, places[i], original);
    }
    assert_true(lw_breakpoint_table_verify(fixture->table, NULL));
}

static void test_clean_copy(void **state)
{
    struct fixture *fixture = *state;
    struct lw_breakpoint *push = plant(fixture, subject_push), *ret = plant(fixture, subject_ret);
    pid_t forked = (pid_t)give_order(fixture, FORK);
    struct lw_process_memory copy;
    assert_true(forked > 0);
    assert_null(lw_process_memory_init(&copy, forked));
    assert_false(is_clean(&copy.memory, push->address, 1));
    assert_int_equal(lw_breakpoint_lift(fixture->table, ret), 0); /* since the fork */
    plant(fixture, subject_lea);                                  /* likewise */

    /* First the breakpoints, while there is a handler for them, should we be killed. */
    assert_int_equal(lw_breakpoint_table_lift_copy(fixture->table, &copy.memory), 0);
    assert_true(is_clean(&copy.memory, page_of(push->address), PAGE));
    assert_false(is_clean(&copy.memory, page_of(push->copy), PAGE));
    assert_int_equal(lw_breakpoint_table_clean_copy(fixture->table, &copy.memory), 0);
    assert_true(is_clean(&copy.memory, page_of(push->address), PAGE));
    assert_true(is_clean(&copy.memory, page_of(ret->address), PAGE));
    assert_true(is_clean(&copy.memory, page_of(push->copy), PAGE));
    /* The target's own are still there. */
    assert_int_equal(byte_at(fixture, push->address), lw_breakpoint_instruction[0]);
    assert_false(is_clean(fixture->memory, page_of(push->copy), PAGE));
    assert_true(push->planted);
    kill(forked, SIGKILL);
    lw_process_memory_deinit(&copy);
}

static void test_forgets_what_is_unmapped(void **state)
{
    struct fixture *fixture = *state;
    if (!fixture->plugin)
        skip();
    struct lw_breakpoint *kept = plant(fixture, subject_push);
    struct lw_breakpoint *anonymous = plant(fixture, fixture->nops);
    struct lw_breakpoint *lost = plant(fixture, fixture->plugin_function);
    uint64_t address = lost->address, copy = lost->copy, where;
    unsigned stack;
    lw_breakpoint_table_forget_unmapped(fixture->table);
    assert_ptr_equal(lw_breakpoint_find(fixture->table, address), lost);

    assert_int_equal(give_order(fixture, CLOSE_PLUGIN), 0);
    assert_int_equal(lw_module_table_refresh(fixture->modules, NULL), 0);
    lw_breakpoint_table_forget_unmapped(fixture->table);
    assert_null(lw_breakpoint_find(fixture->table, address));
    assert_false(lw_breakpoint_rewind(fixture->table, copy, &where, &stack));
    assert_ptr_equal(lw_breakpoint_find(fixture->table, kept->address), kept);
    assert_ptr_equal(lw_breakpoint_find(fixture->table, anonymous->address), anonymous);
    assert_int_equal(lw_breakpoint_table_lift_all(fixture->table), 2);
    assert_int_equal(byte_at(fixture, address), 0); /* what is there now was not written to */
    plant(fixture, subject_lea);                    /* looks for room again */
    assert_int_equal(lw_breakpoint_table_lift_all(fixture->table), 1);
    assert_int_equal(lw_breakpoint_table_restore_padding(fixture->table), 0);
    assert_true(lw_breakpoint_table_verify(fixture->table, NULL));
}

static void test_room_runs_out(void **state)
{
    struct fixture *fixture = *state;
    int planted = 0, error;
    uint64_t last_copy = 0;
    while ((error = plant_error(fixture, fixture->nops + planted)) == 0) {
        uint64_t address = address_of(fixture->nops + planted);
        const struct lw_breakpoint *breakpoint = lw_breakpoint_find(fixture->table, address);
        check_rewind(fixture, breakpoint->copy, fixture->nops + planted);
        last_copy = breakpoint->copy;
        assert_true(++planted < NOPS * PAGE);
    }
    assert_int_equal(error, -ENOSPC);
    assert_true(planted > 10);
    assert_true(page_of(last_copy) == page_of(last_copy + 5));
    assert_int_equal(byte_at(fixture, address_of(fixture->nops + planted)), 0x90);
    assert_int_equal(lw_breakpoint_table_lift_all(fixture->table), planted);
    assert_int_equal(lw_breakpoint_table_restore_padding(fixture->table), 0);
    assert_true(lw_breakpoint_table_verify(fixture->table, NULL));
    for (int page = 0; page < NOPS; page++)
        assert_true(is_clean(fixture->memory, address_of(fixture->nops + page * PAGE), PAGE));
}

static void test_a_target_that_is_gone(void **state)
{
    struct fixture *fixture = *state;
    struct lw_breakpoint *push = plant(fixture, subject_push);
    kill(fixture->child, SIGKILL);
    waitpid(fixture->child, NULL, 0);
    assert_int_equal(lw_breakpoint_lift(fixture->table, push), -ESRCH);
    assert_true(push->planted);
    assert_int_equal(lw_breakpoint_table_restore_padding(fixture->table), -ESRCH);
    assert_int_equal(lw_breakpoint_table_lift_all(fixture->table), -ESRCH);
    assert_false(lw_breakpoint_table_verify(fixture->table, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_running_past),
        TEST(test_leaves_no_trace),
        TEST(test_verify_sees_every_byte),
        TEST(test_clean_copy),
        TEST(test_forgets_what_is_unmapped),
        TEST(test_room_runs_out),
        TEST(test_a_target_that_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
