/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Building reports: choice, order, cut, comparison with the last report, RSS trend, naming. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "leakwatch/base/clock.h"
#include "leakwatch/report/report.h"

/* Stand-ins for the layers below: module 1 is "app" at 0x1000; each named frame is an inlined
 * function within an outer one. Being defined here, they keep the real ones out of this program. */
static struct lw_module fake_module = {.id = 1, .path = "/bin/app", .name = "app", .bias = 0x1000};
static unsigned resolved;

const struct lw_module *lw_module_table_get(struct lw_module_table *table, uint32_t id)
{
    assert_non_null(table);
    return id == 1 ? &fake_module : NULL;
}

size_t lw_symbolizer_resolve(struct lw_symbolizer *symbolizer, uint32_t module, uint64_t offset,
                             bool is_return, const struct lw_symbol **symbols)
{
    static const struct lw_symbol pair[] = {{"inner", 0, "a.c", 7, true},
                                            {"outer", 5, "b.c", 9, false}};
    static const struct lw_symbol single[] = {{"alone", 2, NULL, 0, false}};

    assert_non_null(symbolizer);
    assert_int_equal(module, 1);
    resolved++;
    *symbols = is_return ? pair : single;
    return is_return ? (offset == 0x20 ? 2 : 1) : 1;
}

#define FAKE(type) ((type *)&fake_module) /* any address: the stand-ins do not look */
#define MAX_STACKS 8

struct picture {
    struct lw_snapshot snapshot;
    struct lw_snapshot_stack stacks[MAX_STACKS];
    struct lw_stack *raw[MAX_STACKS];
};

static void add_stack(struct picture *picture, uint32_t id, uint64_t expired_bytes,
                      uint64_t expired_blocks, uint64_t oldest_ns)
{
    size_t index = picture->snapshot.stack_count++;
    struct lw_stack *raw = calloc(1, sizeof(*raw) + 3 * sizeof(raw->frames[0]));

    raw->id = id;
    raw->depth = 3;
    raw->frames[0] = (struct lw_frame){.offset = 0x10, .module = 1};
    raw->frames[1] = (struct lw_frame){.offset = 0x20, .module = 1, .is_return = true};
    raw->frames[2] = (struct lw_frame){.offset = 0x30, .module = 0, .is_return = true};
    picture->raw[index] = raw;
    picture->stacks[index] = (struct lw_snapshot_stack){
        .stack = raw,
        .stats = {.live_bytes = expired_bytes,
                  .live_blocks = expired_blocks,
                  .expired_bytes = expired_bytes,
                  .expired_blocks = expired_blocks,
                  .allocs = expired_blocks},
        .expired_oldest_ns = oldest_ns,
        .live_oldest_ns = oldest_ns,
    };
    picture->snapshot.stacks = picture->stacks;
    picture->snapshot.totals.expired_bytes += expired_bytes;
    picture->snapshot.totals.expired_blocks += expired_blocks;
    picture->snapshot.totals.live_bytes += expired_bytes;
    picture->snapshot.totals.live_blocks += expired_blocks;
    picture->snapshot.totals.expired_stacks += expired_blocks > 0;
}

static void picture_deinit(struct picture *picture)
{
    for (size_t i = 0; i < picture->snapshot.stack_count; i++)
        free(picture->raw[i]);
}

static struct lw_report *build(struct lw_report_builder *builder, const struct picture *picture,
                               double seconds, uint64_t rss, bool summary)
{
    struct lw_report_context context = {.pid = 1,
                                        .elapsed_ns = (uint64_t)(seconds * LW_NS_PER_SECOND),
                                        .rss_bytes = rss,
                                        .number = 1,
                                        .summary = summary};
    struct lw_report *report = lw_report_build(builder, &picture->snapshot, &context);

    assert_non_null(report);
    return report;
}

static void expect_order(enum lw_report_sort sort, size_t top, const uint32_t *ids, size_t count)
{
    struct lw_report_options options = {.sort = sort, .top = top};
    struct lw_report_builder *builder = lw_report_builder_create(&options, NULL, NULL);
    struct picture before = {0}, now = {0};

    add_stack(&before, 1, 900, 1, 10);
    add_stack(&before, 2, 10, 1, 10);
    lw_report_destroy(build(builder, &before, 1, 0, false));
    add_stack(&now, 1, 800, 1, 30); /* shrank by 100 */
    add_stack(&now, 2, 500, 7, 10); /* grew by 490 */
    add_stack(&now, 3, 500, 2, 40); /* grew by 500 */
    add_stack(&now, 4, 0, 0, 0);    /* nothing expired: never listed */
    add_stack(&now, 5, 0, 3, 5);    /* blocks of size 0 are blocks */
    struct lw_report *report = build(builder, &now, 2, 0, false);
    assert_int_equal(report->stack_count, count);
    assert_int_equal(report->stack_total, 4);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(report->stacks[i].id, ids[i]);
    lw_report_destroy(report);
    picture_deinit(&before);
    picture_deinit(&now);
    lw_report_builder_destroy(builder);
}

static void test_order(void **state)
{
    (void)state;
    expect_order(LW_SORT_BYTES, 0, (uint32_t[]){1, 2, 3, 5}, 4); /* 2 and 3 tie: by id */
    expect_order(LW_SORT_BLOCKS, 0, (uint32_t[]){2, 5, 3, 1}, 4);
    expect_order(LW_SORT_AGE, 0, (uint32_t[]){3, 1, 2, 5}, 4);
    expect_order(LW_SORT_GROWTH, 0, (uint32_t[]){3, 2, 5, 1}, 4); /* the one that shrank last */
    expect_order(LW_SORT_BYTES, 2, (uint32_t[]){1, 2}, 2);
    expect_order(LW_SORT_BYTES, 100, (uint32_t[]){1, 2, 3, 5}, 4);
}

static void test_cut_is_counted_and_not_named(void **state)
{
    struct lw_report_options options = {.top = 1};
    struct lw_report_builder *builder = lw_report_builder_create(
        &options, FAKE(struct lw_symbolizer), FAKE(struct lw_module_table));
    struct picture picture = {0};

    (void)state;
    add_stack(&picture, 1, 100, 1, 10);
    add_stack(&picture, 2, 300, 3, 10);
    add_stack(&picture, 3, 20, 2, 10);
    resolved = 0;
    struct lw_report *report = build(builder, &picture, 1, 0, false);
    assert_int_equal(report->stacks[0].id, 2);
    assert_int_equal(report->stack_total, 3);
    assert_int_equal(report->cut_bytes, 120);
    assert_int_equal(report->cut_blocks, 3);
    /* the two frames in a module of the one listed stack, one of them also to read the module */
    assert_int_equal(resolved, 3);
    lw_report_destroy(report);
    picture_deinit(&picture);
    lw_report_builder_destroy(builder);
}

/* A flame graph is of every stack, listed or not. */
static void test_every_stack_on_demand(void **state)
{
    struct lw_report_options options = {.top = 1, .every_stack = true};
    struct lw_report_builder *builder = lw_report_builder_create(
        &options, FAKE(struct lw_symbolizer), FAKE(struct lw_module_table));
    struct picture picture = {0};

    (void)state;
    add_stack(&picture, 1, 100, 1, 10);
    add_stack(&picture, 2, 0, 0, 0); /* nothing expired */
    add_stack(&picture, 3, 200, 1, 10);
    struct lw_report *report = build(builder, &picture, 1, 0, false);
    assert_int_equal(report->stack_count, 1);
    assert_int_equal(report->stack_total, 2);
    assert_int_equal(report->cut_bytes, 100);
    assert_int_equal(report->every_count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(report->stacks[i].id, ((uint32_t[]){3, 1, 2})[i]);
        assert_true(report->stacks[i].frame_count > 0);
    }
    lw_report_destroy(report);
    picture_deinit(&picture);
    lw_report_builder_destroy(builder);
}

static void test_verdicts(void **state)
{
    const struct lw_report_options options = {.every_stack = true};
    struct lw_report_builder *builder = lw_report_builder_create(&options, NULL, NULL);
    struct picture picture = {0};

    (void)state;
    add_stack(&picture, 700, 0, 0, 10); /* nothing of it ever expires */
    add_stack(&picture, 3, 0, 1, 10);
    struct lw_stack_stats *stats = &picture.stacks[1].stats;
    for (unsigned i = 1; i <= 4; i++) {
        stats->expired_bytes = 100 * i;
        struct lw_report *report = build(builder, &picture, 10 * i, 0, false);
        assert_int_equal(report->stacks[0].verdict.steps, i - 1);
        assert_int_equal(report->stacks[0].verdict.kind,
                         i < 4 ? LW_VERDICT_UNCLEAR : LW_VERDICT_LEAK);
        assert_int_equal(report->stacks[1].verdict.kind, LW_VERDICT_UNCLEAR);
        assert_int_equal(report->stacks[1].verdict.steps, 0);
        lw_report_destroy(report);
    }
    /* a summary that follows at once is no further step; one long after is, but is not kept */
    const struct {
        double seconds;
        unsigned steps;
    } ends[] = {{40.1, 3}, {46, 4}, {40.2, 3}};
    for (size_t i = 0; i < 3; i++) {
        struct lw_report *report = build(builder, &picture, ends[i].seconds, 0, true);
        assert_int_equal(report->stacks[0].verdict.steps, ends[i].steps);
        assert_int_equal(report->stacks[0].verdict.kind, LW_VERDICT_LEAK);
        lw_report_destroy(report);
    }
    picture_deinit(&picture);
    lw_report_builder_destroy(builder);
}

static void test_deltas(void **state)
{
    struct lw_report_options options = {0};
    struct lw_report_builder *builder = lw_report_builder_create(&options, NULL, NULL);
    struct picture first = {0}, second = {0}, third = {0};

    (void)state;
    add_stack(&first, 3, 100, 2, 10);
    struct lw_report *report = build(builder, &first, 1, 0, false);
    assert_false(report->has_previous);
    assert_int_equal(report->stacks[0].delta_bytes, 100);
    assert_int_equal(report->delta_expired_blocks, 2);
    lw_report_destroy(report);

    add_stack(&second, 3, 0, 0, 0); /* all freed */
    add_stack(&second, 9, 40, 1, 10);
    report = build(builder, &second, 2, 0, false);
    assert_true(report->has_previous);
    assert_int_equal(report->stack_count, 1);
    assert_int_equal(report->stacks[0].delta_bytes, 40);
    assert_int_equal(report->delta_expired_bytes, -60);
    assert_int_equal(report->delta_expired_blocks, -1);
    assert_int_equal(report->delta_live_bytes, -60);
    lw_report_destroy(report);

    add_stack(&third, 3, 70, 1, 10); /* and again: compared with 0, not with 100 */
    add_stack(&third, 9, 30, 1, 10);
    report = build(builder, &third, 3, 0, false);
    assert_int_equal(report->stacks[0].delta_bytes, 70);
    assert_int_equal(report->stacks[1].delta_bytes, -10);
    assert_int_equal(report->stacks[1].delta_blocks, 0);
    lw_report_destroy(report);
    picture_deinit(&first);
    picture_deinit(&second);
    picture_deinit(&third);
    lw_report_builder_destroy(builder);
}

static void test_summary(void **state)
{
    struct lw_report_options options = {0};
    struct lw_report_builder *builder = lw_report_builder_create(&options, NULL, NULL);
    struct picture picture = {0};

    (void)state;
    add_stack(&picture, 1, 0, 0, 0);
    picture.stacks[0].stats.live_blocks = 4;
    picture.stacks[0].stats.live_bytes = 4000;
    add_stack(&picture, 2, 10, 1, 10);
    add_stack(&picture, 3, 0, 0, 0);
    picture.stacks[2].stats.late_frees = 1;
    add_stack(&picture, 4, 0, 0, 0); /* everything freed in time: nothing to say */
    picture.stacks[3].stats.frees = 9;
    lw_report_destroy(build(builder, &picture, 1, 0, false));

    struct lw_report *report = build(builder, &picture, 2, 0, true);
    assert_int_equal(report->stack_count, 3);
    assert_int_equal(report->stacks[0].id, 2); /* expired first, then by live bytes */
    assert_int_equal(report->stacks[1].id, 1);
    assert_int_equal(report->stacks[2].id, 3);
    assert_false(report->has_previous); /* over the whole watch, not since the last report */
    assert_int_equal(report->stacks[0].delta_bytes, 10);
    assert_int_equal(report->delta_expired_bytes, 10);
    lw_report_destroy(report);
    picture_deinit(&picture);
    lw_report_builder_destroy(builder);
}

static void test_summary_is_not_remembered(void **state)
{
    struct lw_report_options options = {0};
    struct lw_report_builder *builder = lw_report_builder_create(&options, NULL, NULL);
    struct picture first = {0}, second = {0};

    (void)state;
    add_stack(&first, 1, 10, 1, 10);
    add_stack(&second, 1, 25, 1, 10);
    lw_report_destroy(build(builder, &first, 1, 1000, false));
    lw_report_destroy(build(builder, &second, 2, 9000, true));
    struct lw_report *report = build(builder, &second, 61, 2000, false);
    assert_int_equal(report->stacks[0].delta_bytes, 15);
    lw_report_destroy(report);
    report = build(builder, &second, 62, 9000, true); /* nor does it tell of itself */
    assert_int_equal(report->rss_per_minute, 1000);   /* the 9000 left no trace */
    lw_report_destroy(report);
    picture_deinit(&first);
    picture_deinit(&second);
    lw_report_builder_destroy(builder);
}

static void test_rss_trend(void **state)
{
    struct lw_report_options options = {0};
    struct lw_report_builder *builder = lw_report_builder_create(&options, NULL, NULL);
    struct picture picture = {0};
    /* the least-squares line through (10,5000) (20,4000) (40,4500): by hand -150/14 a second */
    const struct {
        unsigned seconds;
        uint64_t rss;
    } points[] = {{10, 5000}, {20, 4000}, {30, 0}, {40, 4500}};
    struct lw_report *report = NULL;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        lw_report_destroy(report);
        report = build(builder, &picture, points[i].seconds, points[i].rss, false);
        assert_int_equal(report->has_rss_trend, i >= 1);
        if (i == 1 || i == 2) /* an unknown RSS is no point */
            assert_int_equal(report->rss_per_minute, -6000);
    }
    assert_int_equal(report->rss_per_minute, -643); /* -10.714 * 60 = -642.86 */
    lw_report_destroy(report);
    report = build(builder, &picture, 50, 100, true); /* without the recorder's memory */
    assert_int_equal(report->rss_per_minute, -643);
    lw_report_destroy(report);
    lw_report_builder_destroy(builder);
}

static void test_two_points_close_together_make_no_trend(void **state)
{
    struct lw_report_options options = {0};
    struct lw_report_builder *builder = lw_report_builder_create(&options, NULL, NULL);
    struct picture picture = {0};

    (void)state;
    lw_report_destroy(build(builder, &picture, 5, 1000, false));
    struct lw_report *report = build(builder, &picture, 5.9, 1100, false);
    assert_false(report->has_rss_trend);
    assert_int_equal(report->rss_per_minute, 0);
    lw_report_destroy(report);
    report = build(builder, &picture, 7, 2000, false);
    assert_true(report->has_rss_trend);
    lw_report_destroy(report);
    lw_report_builder_destroy(builder);
}

static void test_names(void **state)
{
    struct lw_report_options options = {0};
    struct lw_report_builder *builder = lw_report_builder_create(
        &options, FAKE(struct lw_symbolizer), FAKE(struct lw_module_table));
    struct picture picture = {0};

    (void)state;
    add_stack(&picture, 1, 10, 1, 10);
    struct lw_report *report = build(builder, &picture, 1, 0, false);
    const struct lw_report_frame *frames = report->stacks[0].frames;
    assert_int_equal(report->stacks[0].frame_count, 4);
    assert_string_equal(frames[0].function, "alone");
    assert_int_equal(frames[0].function_offset, 2);
    assert_null(frames[0].file);
    assert_int_equal(frames[0].address, 0x1010);
    assert_string_equal(frames[1].function, "inner");
    assert_true(frames[1].inlined);
    assert_string_equal(frames[2].function, "outer");
    assert_false(frames[2].inlined);
    assert_int_equal(frames[2].line, 9);
    assert_string_equal(frames[2].module, "app");
    assert_string_equal(frames[2].module_path, "/bin/app");
    assert_int_equal(frames[2].offset, 0x20);
    assert_null(frames[3].function); /* module 0: an address and no more */
    assert_null(frames[3].module);
    assert_int_equal(frames[3].address, 0x30);
    lw_report_destroy(report);
    picture_deinit(&picture);
    lw_report_builder_destroy(builder);
}

static void test_modules_of_the_frames(void **state)
{
    struct lw_report_options options = {0};
    struct lw_report_builder *builder =
        lw_report_builder_create(&options, NULL, FAKE(struct lw_module_table));
    struct picture picture = {0};

    (void)state;
    add_stack(&picture, 1, 100, 1, 10);
    add_stack(&picture, 2, 100, 1, 10);
    struct lw_report *report = build(builder, &picture, 1, 0, false);
    assert_int_equal(report->module_count, 1);
    assert_string_equal(report->modules[0].path, "/bin/app");
    assert_string_equal(report->modules[0].build_id, "");
    assert_int_equal(report->modules[0].end, 0); /* its file could not be read */
    const struct lw_report_frame *frames = report->stacks[1].frames;
    assert_int_equal(frames[0].module_number, 1);
    assert_int_equal(frames[1].module_number, 1);
    assert_int_equal(frames[2].module_number, 0);
    assert_false(frames[0].is_return);
    assert_true(frames[1].is_return);
    lw_report_destroy(report);
    picture_deinit(&picture);
    lw_report_builder_destroy(builder);
}

static void test_history(void **state)
{
    struct lw_report_options options = {0};
    struct lw_report_builder *builder = lw_report_builder_create(&options, NULL, NULL);
    struct picture picture = {0};
    const unsigned reports = 5000;

    (void)state;
    add_stack(&picture, 1, 100, 1, 10);
    for (unsigned i = 0; i < reports; i++) {
        struct lw_report *report = build(builder, &picture, i, 1000 + i, false);
        size_t count = report->history_count;
        const struct lw_report_point *points = report->history;
        if (i < 2048)
            assert_int_equal(count, i + 1);
        assert_in_range(count, 1, 2048);
        if (i > 2048)
            assert_true(count >= 1024);
        assert_int_equal(points[count - 1].elapsed_ns, i * LW_NS_PER_SECOND); /* the latest */
        assert_int_equal(points[0].elapsed_ns, 0);                            /* and the first */
        for (size_t j = 1; j < count; j++)
            assert_true(points[j - 1].elapsed_ns < points[j].elapsed_ns);
        lw_report_destroy(report);
    }
    struct lw_report *summary = build(builder, &picture, reports, 77, true);
    const struct lw_report_point *last = &summary->history[summary->history_count - 1];
    assert_int_equal(last->elapsed_ns, reports * LW_NS_PER_SECOND);
    assert_int_equal(last->live_bytes, 100);
    assert_int_equal(last->expired_bytes, 100);
    assert_int_equal(last->rss_bytes, 0);
    assert_int_equal(last[-1].rss_bytes, 1000 + last[-1].elapsed_ns / LW_NS_PER_SECOND);
    lw_report_destroy(summary);
    picture_deinit(&picture);
    lw_report_builder_destroy(builder);
}

static void test_errors_of_estimates(void **state)
{
    struct lw_report_options options = {0};
    struct lw_report_builder *builder = lw_report_builder_create(&options, NULL, NULL);
    struct picture picture = {0};

    (void)state;
    add_stack(&picture, 1, 10, 1, 10);
    struct lw_report *report = build(builder, &picture, 1, 0, false);
    assert_int_equal(report->sample_bytes, 0);
    lw_report_destroy(report);
    picture.snapshot.sample_bytes = 4096;
    picture.snapshot.live_bytes_error = 5;
    picture.snapshot.expired_bytes_error = 6;
    picture.stacks[0].live_bytes_error = 7;
    picture.stacks[0].expired_bytes_error = 8;
    report = build(builder, &picture, 2, 0, false);
    assert_int_equal(report->sample_bytes, 4096);
    assert_int_equal(report->live_bytes_error, 5);
    assert_int_equal(report->expired_bytes_error, 6);
    assert_int_equal(report->stacks[0].facts.live_bytes_error, 7);
    assert_int_equal(report->stacks[0].facts.expired_bytes_error, 8);
    lw_report_destroy(report);
    picture_deinit(&picture);
    lw_report_builder_destroy(builder);
}

static void test_blocks(void **state)
{
    const struct lw_snapshot_block blocks[] = {{0x10, 1, 9}, {0x20, 2, 8}, {0x30, 3, 7}};

    (void)state;
    for (int shown = 0; shown < 2; shown++) {
        struct lw_report_options options = {.show_blocks = shown};
        struct lw_report_builder *builder = lw_report_builder_create(&options, NULL, NULL);
        struct picture picture = {0};

        add_stack(&picture, 1, 10, 2, 10);
        picture.snapshot.blocks = (struct lw_snapshot_block *)blocks;
        picture.snapshot.block_count = 3;
        picture.stacks[0].first_block = 1;
        picture.stacks[0].block_count = 2;
        struct lw_report *report = build(builder, &picture, 1, 0, false);
        assert_int_equal(report->stacks[0].block_count, shown ? 2 : 0);
        if (shown)
            assert_int_equal(report->stacks[0].blocks[0].address, 0x20);
        lw_report_destroy(report);
        picture_deinit(&picture);
        lw_report_builder_destroy(builder);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_cut_is_counted_and_not_named),
        cmocka_unit_test(test_every_stack_on_demand),
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_deltas),
        cmocka_unit_test(test_summary),
        cmocka_unit_test(test_summary_is_not_remembered),
        cmocka_unit_test(test_rss_trend),
        cmocka_unit_test(test_two_points_close_together_make_no_trend),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_modules_of_the_frames),
        cmocka_unit_test(test_history),
        cmocka_unit_test(test_errors_of_estimates),
        cmocka_unit_test(test_blocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
