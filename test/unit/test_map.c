/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The hash map, against a plain array of what it must hold; and vectors, which are as small. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "leakwatch/base/map.h"
#include "leakwatch/base/vector.h"

static void test_empty(void **state)
{
    (void)state;
    struct lw_map map = {0};
    uint64_t value = 7;
    assert_false(lw_map_get(&map, 1, &value));
    assert_false(lw_map_remove(&map, 1, &value));
    assert_int_equal(value, 7);
    lw_map_deinit(&map);
}

static void test_set_get_remove(void **state)
{
    (void)state;
    struct lw_map map = {0};
    uint64_t value = 0;
    assert_int_equal(lw_map_set(&map, 0, 10), 0);
    assert_int_equal(lw_map_set(&map, UINT64_MAX - 1, 11), 0);
    assert_int_equal(map.count, 2);
    assert_true(lw_map_get(&map, 0, &value));
    assert_int_equal(value, 10);
    assert_true(lw_map_get(&map, UINT64_MAX - 1, NULL));
    assert_int_equal(lw_map_set(&map, 0, 12), 0);
    assert_int_equal(map.count, 2);
    assert_true(lw_map_remove(&map, 0, &value));
    assert_int_equal(value, 12);
    assert_false(lw_map_remove(&map, 0, NULL));
    assert_int_equal(map.count, 1);
    lw_map_deinit(&map);
    assert_int_equal(map.count, 0);
    assert_false(lw_map_get(&map, UINT64_MAX - 1, NULL));
}

static void test_reserved_key(void **state)
{
    (void)state;
    struct lw_map map = {0};
    assert_int_equal(lw_map_set(&map, UINT64_MAX, 1), -EINVAL);
    assert_int_equal(lw_map_set(&map, 1, 1), 0);
    assert_false(lw_map_get(&map, UINT64_MAX, NULL));
    assert_false(lw_map_remove(&map, UINT64_MAX, NULL));
    assert_int_equal(map.count, 1);
    lw_map_deinit(&map);
}

/* Few keys and many removals, so that clusters form, wrap around the end and are cut in the middle.
 */
static void test_random(void **state)
{
    (void)state;
    enum { KEYS = 300, STEPS = 200000 };
    uint64_t expected[KEYS] = {0}; /* 0: absent */
    size_t count = 0;
    struct lw_map map = {0};
    srandom(4711);
    for (int step = 1; step <= STEPS; step++) {
        /* the range of keys swells and shrinks */
        size_t key = (size_t)random() % (size_t)(step / 1000 % 2 ? KEYS : 20);
        if (random() % 2) {
            assert_int_equal(lw_map_set(&map, key * 4096, (uint64_t)step), 0);
            count += expected[key] == 0;
            expected[key] = (uint64_t)step;
        } else {
            uint64_t value = 0;
            assert_int_equal(lw_map_remove(&map, key * 4096, &value), expected[key] != 0);
            assert_int_equal(value, expected[key]);
            count -= expected[key] != 0;
            expected[key] = 0;
        }
        assert_int_equal(map.count, count);
        if (step % 500 != 0)
            continue;
        for (size_t i = 0; i < KEYS; i++) {
            uint64_t value = 0;
            assert_int_equal(lw_map_get(&map, i * 4096, &value), expected[i] != 0);
            assert_int_equal(value, expected[i]);
        }
    }
    lw_map_deinit(&map);
}

static void test_vector(void **state)
{
    (void)state;
    LW_VECTOR(int) vector = {0};
    for (int i = 0; i < 1000; i++)
        assert_int_equal(lw_vector_push(&vector, i), 0);
    assert_int_equal(vector.count, 1000);
    lw_vector_swap_remove(&vector, 3);
    assert_int_equal(vector.items[3], 999);
    assert_int_equal(vector.count, 999);
    int sum = 0;
    lw_vector_for_each (item, &vector) {
        sum += *item;
    }
    assert_int_equal(sum, 999 * 1000 / 2 - 3);
    lw_vector_clear(&vector);
    assert_int_equal(vector.count, 0);
    lw_vector_deinit(&vector);
    assert_null(vector.items);
}

static void test_vector_overflow(void **state)
{
    (void)state;
    void *items = NULL;
    size_t capacity = SIZE_MAX / 8;
    assert_int_equal(lw_vector_grow(&items, &capacity, 16), -ENOMEM);
    assert_int_equal(capacity, SIZE_MAX / 8);
    capacity = SIZE_MAX / 2 + 1;
    assert_int_equal(lw_vector_grow(&items, &capacity, 1), -ENOMEM);
    assert_null(items);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),        cmocka_unit_test(test_set_get_remove),
        cmocka_unit_test(test_reserved_key), cmocka_unit_test(test_random),
        cmocka_unit_test(test_vector),       cmocka_unit_test(test_vector_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
