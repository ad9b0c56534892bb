/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cohorts: what reports say of the blocks of a window, while it is open and after. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "leakwatch/base/clock.h"
#include "leakwatch/report/report.h"

#define SECOND LW_NS_PER_SECOND
#define STACKS 3

struct picture {
    struct lw_snapshot snapshot;
    struct lw_snapshot_stack stacks[STACKS];
    struct lw_stack raw[STACKS];
};

/* Stacks 2, 5 and 8, of which each has allocated so many blocks of ten bytes so far, and so many of
 * the marked ones live. */
static void draw(struct picture *picture, const uint64_t *allocs, const uint64_t *marked)
{
    *picture = (struct picture){.snapshot = {.cut_ns = 77 * SECOND, .stack_count = STACKS}};
    picture->snapshot.stacks = picture->stacks;
    for (uint32_t i = 0; i < STACKS; i++) {
        picture->raw[i].id = 2 + 3 * i;
        picture->stacks[i] = (struct lw_snapshot_stack){
            .stack = &picture->raw[i],
            .stats = {.allocs = allocs[i], .alloc_bytes = 10 * allocs[i]},
            .marked_blocks = marked[i],
            .marked_bytes = 10 * marked[i],
            .marked_bytes_error = 3 * i,
        };
    }
}

#define DRAW(picture, a, b, c, x, y, z)                                                            \
    draw((picture), (const uint64_t[]){a, b, c}, (const uint64_t[]){x, y, z})

static struct lw_report *build(struct lw_report_builder *builder, const struct picture *picture,
                               struct lw_cohort *cohort, double seconds, bool summary)
{
    const struct lw_report_context context = {.elapsed_ns = (uint64_t)(seconds * (double)SECOND),
                                              .number = 1,
                                              .summary = summary,
                                              .cohort = cohort};
    struct lw_report *report = lw_report_build(builder, &picture->snapshot, &context);
    assert_non_null(report);
    return report;
}

static void expect_sums(const struct lw_report *report, uint64_t allocated, uint64_t live)
{
    assert_int_equal(report->cohort.allocated.blocks, allocated);
    assert_int_equal(report->cohort.allocated.bytes, 10 * allocated);
    assert_int_equal(report->cohort.live.blocks, live);
    assert_int_equal(report->cohort.live.bytes, 10 * live);
}

static void test_no_cohort(void **state)
{
    const struct lw_report_options options = {0};
    struct lw_report_builder *builder = lw_report_builder_create(&options, NULL, NULL);
    struct lw_cohort none = {0};
    struct picture picture;

    (void)state;
    DRAW(&picture, 1, 2, 3, 0, 0, 0);
    struct lw_report *report = build(builder, &picture, &none, 1, false);
    assert_null(report->cohort.cohort);
    lw_report_destroy(report);
    report = build(builder, &picture, NULL, 2, false);
    assert_null(report->cohort.cohort);
    lw_report_destroy(report);
    lw_report_builder_destroy(builder);
}

static void test_the_first_window(void **state)
{
    const struct lw_report_options options = {.top = 1};
    struct lw_report_builder *builder = lw_report_builder_create(&options, NULL, NULL);
    struct lw_cohort cohort;
    struct picture picture;

    (void)state;
    lw_cohort_init(&cohort, 10 * SECOND);
    assert_int_equal(cohort.after_ns, 0);
    assert_true(cohort.until_ns == UINT64_MAX); /* whatever is allocated */
    DRAW(&picture, 4, 0, 5, 3, 0, 5);
    struct lw_report *report = build(builder, &picture, &cohort, 5, false);
    assert_true(report->cohort.cohort->open);
    expect_sums(report, 9, 8);
    assert_int_equal(report->cohort.live_bytes_error, 7); /* sqrt(3² + 6²) */
    assert_int_equal(report->cohort.stack_total, 2);
    assert_int_equal(report->cohort.stack_count, 1); /* the top */
    assert_int_equal(report->cohort.stacks[0].id, 8);
    assert_int_equal(report->cohort.stacks[0].allocated_marked.blocks, 5);
    lw_report_destroy(report);
    assert_int_equal(cohort.drain.count, 0);

    DRAW(&picture, 10, 2, 8, 0, 0, 0);
    assert_int_equal(lw_cohort_close(&cohort, &picture.snapshot, 10 * SECOND), 0);
    assert_int_equal(cohort.until_ns, 77 * SECOND);
    assert_int_equal(cohort.ended_ns, 10 * SECOND);
    /* what comes after it does not belong to it */
    DRAW(&picture, 1000, 2000, 3000, 6, 2, 0);
    report = build(builder, &picture, &cohort, 15, false);
    expect_sums(report, 20, 8);
    assert_int_equal(report->cohort.stacks[0].id, 2);
    assert_int_equal(report->cohort.stacks[0].allocated_marked.blocks, 10);
    lw_report_destroy(report);
    DRAW(&picture, 2000, 3000, 4000, 1, 0, 0);
    lw_report_destroy(build(builder, &picture, &cohort, 20, false));
    report = build(builder, &picture, &cohort, 20, true); /* adds nothing */
    expect_sums(report, 20, 1);
    assert_int_equal(cohort.drain.count, 2);
    assert_int_equal(cohort.drain.points[0].bytes, 80);
    assert_int_equal(cohort.drain.points[1].bytes, 10);
    lw_report_destroy(report);
    lw_cohort_deinit(&cohort);
    lw_report_builder_destroy(builder);
}

static void test_another_window(void **state)
{
    const struct lw_report_options options = {0};
    struct lw_report_builder *builder = lw_report_builder_create(&options, NULL, NULL);
    struct lw_cohort cohort;
    struct picture picture;

    (void)state;
    lw_cohort_init(&cohort, 10 * SECOND);
    DRAW(&picture, 100, 0, 300, 0, 0, 0);
    assert_int_equal(lw_cohort_close(&cohort, &picture.snapshot, 10 * SECOND), 0);
    lw_report_destroy(build(builder, &picture, &cohort, 11, false));
    picture.snapshot.stack_count = 2; /* the third is not yet there */
    assert_int_equal(lw_cohort_renew(&cohort, &picture.snapshot, 30 * SECOND), 0);
    assert_int_equal(cohort.number, 2);
    assert_int_equal(cohort.after_ns, 77 * SECOND);
    assert_true(cohort.open && cohort.until_ns == UINT64_MAX);
    assert_int_equal(cohort.window_ns, 10 * SECOND);
    assert_int_equal(cohort.began_ns, 30 * SECOND);
    assert_int_equal(cohort.drain.count, 0); /* that of the first is forgotten */

    DRAW(&picture, 104, 5, 7, 4, 1, 7);
    struct lw_report *report = build(builder, &picture, &cohort, 35, false);
    expect_sums(report, 4 + 5 + 7, 12);
    lw_report_destroy(report);
    DRAW(&picture, 105, 6, 8, 0, 0, 0);
    assert_int_equal(lw_cohort_close(&cohort, &picture.snapshot, 40 * SECOND), 0);
    /* a block more than was counted: it came while the counts were read */
    DRAW(&picture, 500, 600, 700, 6, 1, 0);
    report = build(builder, &picture, &cohort, 45, false);
    expect_sums(report, 6 + 6 + 8, 7);
    lw_report_destroy(report);
    lw_cohort_deinit(&cohort);
    lw_report_builder_destroy(builder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_cohort),
        cmocka_unit_test(test_the_first_window),
        cmocka_unit_test(test_another_window),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
