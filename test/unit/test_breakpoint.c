/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Planting, finding and masking breakpoints. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "breakpoint_child.h"

static void test_plant_and_lift(void **state)
{
    struct fixture *fixture = *state;
    const void *places[] = {subject_push, subject_lea, subject_load,
                            subject_pop,  subject_ret, (void *)getenv};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        uint64_t address = address_of(places[i]);
        assert_true(is_clean(fixture->memory, address, 16));
        struct lw_breakpoint *breakpoint = plant(fixture, places[i]);
        assert_int_equal(byte_at(fixture, address), lw_breakpoint_instruction[0]);
        assert_true(is_clean(fixture->memory, address + 1, 1));
        assert_ptr_equal(lw_breakpoint_find(fixture->table, address), breakpoint);
        assert_null(lw_breakpoint_find(fixture->table, address + 1));
        assert_int_equal(lw_breakpoint_lift(fixture->table, breakpoint), 0);
        assert_false(breakpoint->planted);
        assert_true(is_clean(fixture->memory, address, 16));
        assert_ptr_equal(lw_breakpoint_find(fixture->table, address), breakpoint);
        assert_int_equal(lw_breakpoint_lift(fixture->table, breakpoint), 0);
    }
}

static void test_plant_again(void **state)
{
    struct fixture *fixture = *state;
    struct lw_breakpoint *first = plant(fixture, subject_lea), *again;
    uint64_t copy = first->copy;
    int one, other;
    assert_null(first->owner);
    assert_int_equal(lw_breakpoint_plant(fixture->table, first->address, &one, &again), 0);
    assert_ptr_equal(again, first);
    assert_ptr_equal(first->owner, &one);
    assert_int_equal(lw_breakpoint_lift(fixture->table, first), 0);
    assert_int_equal(lw_breakpoint_plant(fixture->table, first->address, &other, &again), 0);
    assert_ptr_equal(again, first);
    assert_ptr_equal(first->owner, &other);
    assert_ptr_equal(plant(fixture, subject_lea)->owner, &other);
    assert_true(first->planted && first->copy == copy);
    assert_int_equal(byte_at(fixture, first->address), lw_breakpoint_instruction[0]);
    assert_int_equal(lw_breakpoint_table_lift_all(fixture->table), 1);
}

static void test_hit(void **state)
{
    struct fixture *fixture = *state;
    struct lw_breakpoint *push = plant(fixture, subject_push), *lea = plant(fixture, subject_lea);
    assert_ptr_equal(lw_breakpoint_hit(fixture->table, push->address + LW_BREAKPOINT_SIZE), push);
    assert_ptr_equal(lw_breakpoint_hit(fixture->table, lea->address + LW_BREAKPOINT_SIZE), lea);
    assert_null(lw_breakpoint_hit(fixture->table, push->address));
    assert_null(lw_breakpoint_hit(fixture->table, 0));
    assert_int_equal(lw_breakpoint_lift(fixture->table, push), 0); /* a late hit */
    assert_ptr_equal(lw_breakpoint_hit(fixture->table, push->address + LW_BREAKPOINT_SIZE), push);
}

static void test_is_short(void **state)
{
    struct fixture *fixture = *state;
    assert_true(plant(fixture, subject_push)->is_short);
    assert_true(plant(fixture, subject_pop)->is_short);
    assert_false(plant(fixture, subject_lea)->is_short);
    assert_false(plant(fixture, subject_ret)->is_short); /* leads elsewhere */
}

static void test_rewind(void **state)
{
    struct fixture *fixture = *state;
    struct lw_breakpoint *push = plant(fixture, subject_push), *ret = plant(fixture, subject_ret);
    uint64_t address;
    unsigned stack;
    check_rewind(fixture, push->copy, subject_push);
    check_rewind(fixture, push->copy + 1, subject_lea);
    check_rewind(fixture, ret->copy, subject_ret);
    assert_false(lw_breakpoint_rewind(fixture->table, push->copy + 2, &address, &stack));
    assert_false(lw_breakpoint_rewind(fixture->table, ret->copy + 1, &address, &stack));
    assert_false(lw_breakpoint_rewind(fixture->table, push->address, &address, &stack));
    assert_int_equal(lw_breakpoint_lift(fixture->table, push), 0); /* threads may still be there */
    check_rewind(fixture, push->copy, subject_push);
}

static void test_what_cannot_be_planted(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(plant_error(fixture, (void *)16), -EFAULT);
    assert_int_equal(plant_error(fixture, subject_syscall), -ENOTSUP);
    assert_int_equal(plant_error(fixture, fixture->far), -ENOSPC); /* a pc-relative operand */
    assert_true(is_clean(fixture->memory, address_of(subject_syscall), 2));
    assert_true(is_clean(fixture->memory, address_of(fixture->far), 16));
    assert_int_equal(lw_breakpoint_table_lift_all(fixture->table), 0);
    assert_true(lw_breakpoint_table_verify(fixture->table, NULL));
}

static void test_code_that_another_has_changed(void **state)
{
    struct fixture *fixture = *state;
    uint64_t address = address_of(subject_lea);
    plant(fixture, subject_push); /* our own change is no other's */
    set_byte(fixture, address + 4, 2);
    assert_int_equal(plant_error(fixture, subject_lea), -EBUSY);
    assert_int_equal(byte_at(fixture, address), subject_lea[0]);
    set_byte(fixture, address + 4, subject_lea[4]);
    plant(fixture, subject_lea);
    set_byte(fixture, address_of(subject_ret), lw_breakpoint_instruction[0]); /* a debugger's */
    assert_int_equal(plant_error(fixture, subject_ret), -EBUSY);
    set_byte(fixture, address_of(subject_ret), subject_ret[0]);
}

/* Padding that is not what the file has is left alone; there is other. */
static void test_padding_that_another_has_changed(void **state)
{
    struct fixture *fixture = *state;
    unsigned paddings = 0;
    int error;
    while ((error = plant_error(fixture, subject_push)) == 0) {
        uint64_t copy = lw_breakpoint_find(fixture->table, address_of(subject_push))->copy;
        uint64_t last = page_of(copy) + PAGE - 1;
        assert_int_equal(lw_breakpoint_table_lift_all(fixture->table), 1);
        assert_int_equal(lw_breakpoint_table_restore_padding(fixture->table), 0);
        set_byte(fixture, last, (uint8_t)~byte_at(fixture, last));
        assert_true(++paddings < 10);
        create_table(fixture);
    }
    assert_int_equal(error, -EBUSY);
    assert_in_range(paddings, 2, 3); /* of the executable, the C library and the dynamic linker */
    assert_true(is_clean(fixture->memory, address_of(subject_push), 1));
}

static void test_mask(void **state)
{
    struct fixture *fixture = *state;
    struct lw_breakpoint *push = plant(fixture, subject_push), *ret = plant(fixture, subject_ret);
    struct lw_masked_memory masked;
    lw_masked_memory_init(&masked, fixture->memory, fixture->table);
    size_t size = (size_t)(ret->address - push->address) + 1;
    assert_false(is_clean(fixture->memory, push->address, size));
    /* From before to behind, from the one to the other, each alone, neither. */
    assert_true(is_clean(&masked.memory, push->address - 8, size + 16));
    assert_true(is_clean(&masked.memory, push->address, size));
    assert_true(is_clean(&masked.memory, push->address, 1));
    assert_true(is_clean(&masked.memory, ret->address, 1));
    assert_true(is_clean(&masked.memory, push->address + 1, size - 2));
    assert_true(is_clean(&masked.memory, push->address - 1, 1));
    /* The copies. */
    uint64_t page = page_of(push->copy);
    assert_false(is_clean(fixture->memory, page, PAGE));
    assert_true(is_clean(&masked.memory, page, PAGE));
    assert_true(is_clean(&masked.memory, push->copy + 1, 2));
    assert_int_equal(lw_memory_write(&masked.memory, push->address, "x", 1), -EACCES);

    /* Where nothing of ours is, nothing is made up. */
    assert_int_equal(lw_breakpoint_lift(fixture->table, push), 0);
    uint8_t bytes[] = {1, 2};
    lw_breakpoint_mask(fixture->table, push->address, bytes, sizeof(bytes));
    assert_true(bytes[0] == 1 && bytes[1] == 2);
    assert_int_equal(masked.memory.read(&masked.memory, 16, bytes, 1), -EFAULT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_plant_and_lift),
        TEST(test_plant_again),
        TEST(test_hit),
        TEST(test_is_short),
        TEST(test_rewind),
        TEST(test_what_cannot_be_planted),
        TEST(test_code_that_another_has_changed),
        TEST(test_padding_that_another_has_changed),
        TEST(test_mask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
