/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Comparing two reports: which stacks are the same, and what is certain about them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "diff_sample.h"

/* That of the function; NULL: there is none. */
static const struct lw_diff_stack *find(const struct lw_diff *diff, const char *function)
{
    for (size_t i = 0; i < diff->stack_count; i++)
        if (strcmp(lw_diff_shown_stack(&diff->stacks[i])->frames[1].function, function) == 0)
            return &diff->stacks[i];
    return NULL;
}

static void expect(const struct lw_diff *diff, const char *function, enum lw_change change,
                   int64_t bytes)
{
    const struct lw_diff_stack *stack = find(diff, function);

    assert_non_null(stack);
    assert_string_equal(lw_change_name(stack->change), lw_change_name(change));
    assert_int_equal(stack->change_bytes, bytes);
}

/* True if a note contains the words. */
static bool has_note(const struct lw_diff *diff, const char *words)
{
    for (size_t i = 0; i < diff->note_count; i++)
        if (strstr(diff->notes[i], words))
            return true;
    return false;
}

static void test_every_kind_of_change(void **state)
{
    struct made before, after;

    (void)state;
    made_init(&before, 60);
    made_add(&before, "grows", 0x10, 100);
    made_add(&before, "stays", 0x20, 500);
    made_add(&before, "shrinks", 0x30, 300);
    made_add(&before, "goes", 0x40, 50);
    made_init(&after, 90);
    made_add(&after, "comes", 0x50, 70);
    made_add(&after, "shrinks", 0x30, 290);
    made_add(&after, "grows", 0x10, 1100);
    made_add(&after, "stays", 0x20, 500);
    struct compared compared = compare(&before, &after, NULL);
    struct lw_diff *diff = compared.diff;
    static const char *const order[] = {"grows", "comes", "shrinks", "goes", "stays"};
    assert_int_equal(diff->stack_count, 5);
    for (size_t i = 0; i < 5; i++)
        assert_ptr_equal(find(diff, order[i]), &diff->stacks[i]);
    expect(diff, "grows", LW_CHANGE_GREW, 1000);
    assert_int_equal(find(diff, "grows")->change_blocks, 500);
    expect(diff, "comes", LW_CHANGE_NEW, 70);
    expect(diff, "stays", LW_CHANGE_NONE, 0);
    expect(diff, "shrinks", LW_CHANGE_SHRANK, -10);
    expect(diff, "goes", LW_CHANGE_GONE, -50);
    assert_int_equal(diff->changes[LW_CHANGE_GREW], 1);
    assert_int_equal(diff->changes[LW_CHANGE_NONE], 1);
    assert_true(diff->same_watch);
    assert_int_equal(diff->apart_ns, 30 * LW_NS_PER_SECOND);
    int64_t rate;
    assert_true(lw_diff_per_minute(diff, -10, &rate));
    assert_int_equal(rate, -20);
    assert_int_equal(diff->note_count, 0);
    assert_true(lw_diff_has_growth(diff));
    assert_int_equal(lw_diff_listed(diff), 4);
    diff->options.top = 3;
    assert_int_equal(lw_diff_listed(diff), 3);
    compared_deinit(&compared);
}

static void test_no_growth(void **state)
{
    struct made before, after;

    (void)state;
    made_init(&before, 60);
    made_add(&before, "shrinks", 0x30, 300);
    made_init(&after, 90);
    made_add(&after, "shrinks", 0x30, 290);
    struct compared compared = compare(&before, &after, NULL);
    assert_false(lw_diff_has_growth(compared.diff));
    compared_deinit(&compared);
}

/* Equal stacks of one report are one; what is inlined is not compared, nor where it is loaded. */
static void test_what_is_the_same(void **state)
{
    struct made before, after;

    (void)state;
    made_init(&before, 60);
    made_add(&before, "twice", 0x10, 100);
    made_add(&before, "twice", 0x10, 200);
    made_add(&before, "inlined", 0x20, 10);
    before.frames[2][0] = before.frames[2][1];
    before.frames[2][0].inlined = true;
    made_init(&after, 90);
    made_add(&after, "twice", 0x10, 400);
    made_add(&after, "outer", 0x20, 20);
    after.stacks[1].frames = &after.frames[1][1];
    after.stacks[1].frame_count = 1;
    made_add(&after, "twice", 0x11, 5);
    struct compared compared = compare(&before, &after, NULL);
    assert_int_equal(compared.diff->stack_count, 3);
    assert_int_equal(compared.diff->stacks[0].change_bytes, 100);
    assert_int_equal(compared.diff->stacks[1].change_bytes, 10);
    assert_int_equal(compared.diff->stacks[2].change, LW_CHANGE_NEW);
    compared_deinit(&compared);

    /* a cut stack is another one */
    after.raw.truncated = true;
    compared = compare(&before, &after, NULL);
    assert_int_equal(compared.diff->stack_count, 5);
    compared_deinit(&compared);
}

/* Another process of the same build is elsewhere in memory; its files may be elsewhere, too. */
static void test_two_processes(void **state)
{
    struct made before, after;

    (void)state;
    made_init(&before, 60);
    made_add(&before, "keep", 0x10, 100);
    made_add(&before, "jit", 0, 100);
    before.frames[1][1].module = NULL;
    before.frames[1][1].module_number = 0;
    before.frames[1][1].address = 0x7000;
    made_init(&after, 60);
    after.report.context.pid = 200;
    after.modules[1].path = "/srv/app";
    made_add(&after, "keep", 0x10, 100);
    after.frames[0][1].address = 0x660010;
    made_add(&after, "jit", 0, 150);
    after.frames[1][1].module = NULL;
    after.frames[1][1].module_number = 0;
    after.frames[1][1].address = 0x8000;
    struct compared compared = compare(&before, &after, NULL);
    assert_false(compared.diff->same_watch);
    assert_int_equal(compared.diff->apart_ns, 0);
    assert_int_equal(compared.diff->stack_count, 2);
    expect(compared.diff, "keep", LW_CHANGE_NONE, 0);
    expect(compared.diff, "jit", LW_CHANGE_GREW, 50);
    assert_int_equal(compared.diff->note_count, 0);
    int64_t rate;
    assert_false(lw_diff_per_minute(compared.diff, 10, &rate));
    compared_deinit(&compared);

    /* in one process, another address is another function */
    after.report.context.pid = 100;
    after.modules[1].path = "/bin/app";
    compared = compare(&before, &after, NULL);
    assert_true(compared.diff->same_watch);
    assert_int_equal(compared.diff->stack_count, 3);
    compared_deinit(&compared);
}

static void test_other_builds(void **state)
{
    const struct lw_diff_options by_function = {.by = LW_DIFF_BY_FUNCTION};
    struct made before, after;

    (void)state;
    made_init(&before, 60);
    made_add(&before, "keep", 0x10, 100);
    made_init(&after, 70);
    after.report.context.pid = 200;
    after.modules[1].build_id = "a1";
    made_add(&after, "keep", 0x18, 130);
    struct compared compared = compare(&before, &after, NULL);
    assert_int_equal(compared.diff->stack_count, 2);
    assert_true(has_note(compared.diff, "different builds of app (build-ids a0 and a1)"));
    compared_deinit(&compared);
    compared = compare(&before, &after, &by_function);
    assert_int_equal(compared.diff->stack_count, 1);
    expect(compared.diff, "keep", LW_CHANGE_GREW, 30);
    assert_int_equal(compared.diff->note_count, 0);
    compared_deinit(&compared);

    after.modules[1].path = "/bin/other";
    compared = compare(&before, &after, NULL);
    assert_true(has_note(compared.diff, "different programs, /bin/app and /bin/other"));
    compared_deinit(&compared);

    /* without build-ids, the same name and offset are the same */
    after.modules[1].path = "/bin/app";
    before.modules[1].build_id = after.modules[1].build_id = "";
    after.frames[0][1].offset = 0x10;
    after.modules[0].build_id = "2c";
    after.frames[0][0].module = after.frames[0][1].module;
    after.frames[0][0].module_number = 2;
    before.frames[0][0] = after.frames[0][0];
    compared = compare(&before, &after, NULL);
    expect(compared.diff, "keep", LW_CHANGE_GREW, 30);
    assert_int_equal(compared.diff->note_count, 1);
    assert_true(has_note(compared.diff, "libc.so.6: other builds"));
    compared_deinit(&compared);
}

/* One report lists its largest stack only: of the others there is a bound. */
static void test_cut_reports(void **state)
{
    struct made before, after;

    (void)state;
    made_init(&before, 60);
    made_add(&before, "large", 0x10, 1000);
    before.report.totals.expired_bytes += 60; /* of two more stacks */
    before.report.totals.expired_blocks += 30;
    before.report.totals.expired_stacks += 2;
    made_init(&after, 90);
    made_add(&after, "large", 0x10, 1001);
    made_add(&after, "perhaps", 0x20, 60);
    made_add(&after, "surely", 0x30, 61);
    struct compared compared = compare(&before, &after, NULL);
    struct lw_diff *diff = compared.diff;
    assert_int_equal(diff->before.unlisted.bytes, 60);
    assert_int_equal(diff->before.unlisted.blocks, 30);
    assert_int_equal(diff->after.unlisted.bytes, 0);
    expect(diff, "large", LW_CHANGE_GREW, 1);
    expect(diff, "perhaps", LW_CHANGE_UNCLEAR, 60);
    assert_true(find(diff, "perhaps")->from_unknown);
    expect(diff, "surely", LW_CHANGE_GREW, 61);
    assert_int_equal(find(diff, "surely")->rank, 1);
    assert_int_equal(diff->changes[LW_CHANGE_NEW], 0);
    assert_true(has_note(diff, "saved.json:1 lists 1 of 3 stacks; what the others had, 60 B in 30 "
                               "blocks, may be any stack's: watch with --top=0"));
    compared_deinit(&compared);

    /* the other way round, nothing is gone */
    compared = compare(&after, &before, NULL);
    expect(compared.diff, "perhaps", LW_CHANGE_UNCLEAR, -60);
    expect(compared.diff, "surely", LW_CHANGE_SHRANK, -61);
    assert_true(find(compared.diff, "surely")->to_unknown);
    assert_true(has_note(compared.diff, "the second report is older"));
    compared_deinit(&compared);
}

static void test_weights(void **state)
{
    const struct lw_diff_options blocks = {.weight = LW_WEIGHT_EXPIRED_BLOCKS};
    const struct lw_diff_options live = {.weight = LW_WEIGHT_LIVE_BYTES};
    struct made before, after;

    (void)state;
    made_init(&before, 60);
    made_add(&before, "few", 0x10, 100);
    made_add(&before, "many", 0x20, 100);
    made_init(&after, 90);
    made_add(&after, "few", 0x10, 1000)->facts.stats.expired_blocks = 50;
    made_add(&after, "many", 0x20, 200)->facts.stats.live_bytes = 70;
    after.report.expire_ns = 20 * LW_NS_PER_SECOND;
    struct compared compared = compare(&before, &after, &blocks);
    expect(compared.diff, "few", LW_CHANGE_NONE, 900);
    expect(compared.diff, "many", LW_CHANGE_GREW, 100);
    assert_ptr_equal(find(compared.diff, "many"), &compared.diff->stacks[0]);
    assert_true(has_note(compared.diff, "older than 10s, the second those older than 20s (-e)"));
    compared_deinit(&compared);
    compared = compare(&before, &after, &live);
    expect(compared.diff, "many", LW_CHANGE_SHRANK, -30);
    assert_int_equal(compared.diff->after.unlisted.bytes, 130);
    assert_true(has_note(compared.diff, "only the summary of a watch with --top=0 lists all"));
    assert_false(has_note(compared.diff, "older than"));
    compared_deinit(&compared);
}

static void test_samples(void **state)
{
    struct made before, after;

    (void)state;
    made_init(&before, 60);
    made_add(&before, "doubtful", 0x10, 10000)->facts.expired_bytes_error = 300;
    made_add(&before, "grows", 0x20, 10000)->facts.expired_bytes_error = 300;
    before.report.sample_bytes = 1000;
    made_init(&after, 90);
    after.report.sample_bytes = 1000;
    made_add(&after, "doubtful", 0x10, 11000)->facts.expired_bytes_error = 400;
    made_add(&after, "grows", 0x20, 11001)->facts.expired_bytes_error = 400;
    made_add(&after, "rare", 0x30, 2000);
    made_add(&after, "comes", 0x40, 2001);
    struct compared compared = compare(&before, &after, NULL);
    expect(compared.diff, "doubtful", LW_CHANGE_UNCLEAR, 1000);
    expect(compared.diff, "grows", LW_CHANGE_GREW, 1001);
    expect(compared.diff, "rare", LW_CHANGE_UNCLEAR, 2000);
    expect(compared.diff, "comes", LW_CHANGE_NEW, 2001);
    assert_int_equal(
        lw_diff_error(&find(compared.diff, "grows")->from, &find(compared.diff, "grows")->to), 500);
    assert_true(has_note(compared.diff, "both reports are estimated from samples"));
    compared_deinit(&compared);
}

static void test_enormous_figures(void **state)
{
    struct made before, after;

    (void)state;
    made_init(&before, 60);
    made_add(&before, "huge", 0x10, 0);
    made_init(&after, 90);
    for (int i = 0; i < 3; i++) {
        struct lw_report_stack *stack = made_add(&after, "huge", 0x10, 0);
        stack->facts.stats.expired_bytes = stack->facts.stats.expired_blocks = INT64_MAX;
    }
    after.report.totals.expired_bytes = INT64_MAX;
    struct compared compared = compare(&before, &after, NULL);
    expect(compared.diff, "huge", LW_CHANGE_NEW, INT64_MAX);
    compared_deinit(&compared);
    compared = compare(&after, &before, NULL);
    expect(compared.diff, "huge", LW_CHANGE_GONE, -INT64_MAX);
    int64_t rate;
    assert_false(lw_diff_per_minute(compared.diff, -INT64_MAX, &rate));
    compared_deinit(&compared);
}

static void test_nothing_in_either(void **state)
{
    struct made before, after;

    (void)state;
    made_init(&before, 60);
    made_init(&after, 90);
    struct compared compared = compare(&before, &after, NULL);
    assert_int_equal(lw_diff_listed(compared.diff), 0);
    assert_false(lw_diff_has_growth(compared.diff));
    compared_deinit(&compared);
    /* a report without stacks names no files */
    after.report.module_count = 0;
    compared = compare(&before, &after, NULL);
    assert_true(compared.diff->same_watch);
    after.report.context.elapsed_ns -= 3 * LW_NS_PER_SECOND;
    compared_deinit(&compared);
    compared = compare(&before, &after, NULL);
    assert_false(compared.diff->same_watch);
    compared_deinit(&compared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_of_change),
        cmocka_unit_test(test_no_growth),
        cmocka_unit_test(test_what_is_the_same),
        cmocka_unit_test(test_two_processes),
        cmocka_unit_test(test_other_builds),
        cmocka_unit_test(test_cut_reports),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_enormous_figures),
        cmocka_unit_test(test_nothing_in_either),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
