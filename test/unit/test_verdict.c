/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Verdicts on histories of many shapes, and the words for them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "leakwatch/base/clock.h"
#include "leakwatch/report/verdict.h"

#define SECONDS(count) ((uint64_t)((count) * (double)LW_NS_PER_SECOND))
#define EXPIRE         SECONDS(10)

/* Reports 10 s apart: the first history that has expired blocks in it begins at 10 s. */
struct shape {
    struct lw_growth growth;
    struct lw_snapshot_stack facts;
    double now;
};

static void report_with_error(struct shape *shape, uint64_t bytes, float error)
{
    shape->now += 10;
    lw_growth_add(&shape->growth, (struct lw_growth_point){bytes, (float)shape->now, error});
    shape->facts.stats.expired_bytes = bytes;
    shape->facts.stats.expired_blocks = bytes / 100;
    shape->facts.stats.allocs = bytes / 100;
}

static void report(struct shape *shape, uint64_t bytes)
{
    report_with_error(shape, bytes, 0);
}

#define SHAPE(...)                                                                                 \
    ({                                                                                             \
        const uint64_t bytes_[] = {__VA_ARGS__};                                                   \
        struct shape shape_ = {0};                                                                 \
        for (size_t i_ = 0; i_ < sizeof(bytes_) / sizeof(bytes_[0]); i_++)                         \
            report(&shape_, bytes_[i_]);                                                           \
        shape_.facts.live_oldest_ns = SECONDS(shape_.now);                                         \
        shape_;                                                                                    \
    })

static void frees(struct shape *shape, uint64_t late_frees, double longest)
{
    shape->facts.stats.frees = shape->facts.stats.late_frees = late_frees;
    shape->facts.stats.allocs += late_frees;
    shape->facts.stats.lifetime_max_ns = SECONDS(longest);
}

static struct lw_verdict judge(const struct shape *shape)
{
    return lw_verdict_judge(&shape->growth, &shape->facts, EXPIRE);
}

static void expect(const struct shape *shape, enum lw_verdict_kind kind, const char *expected)
{
    const struct lw_verdict verdict = judge(shape);
    char reason[LW_REASON_MAX];

    lw_verdict_reason(&verdict, &shape->facts, EXPIRE, reason);
    if (verdict.kind != kind || strcmp(reason, expected) != 0)
        fail_msg("%s: %s\ninstead of %s: %s", lw_verdict_name(verdict.kind), reason,
                 lw_verdict_name(kind), expected);
}

static void test_leaks(void **state)
{
    struct shape shape = SHAPE(100, 200, 300, 400, 500, 600, 700, 800);

    (void)state;
    expect(&shape, LW_VERDICT_LEAK, "grew in 7 of 7 reports; none of 8 blocks was freed");
    assert_true(judge(&shape).has_growth);
    assert_int_equal(judge(&shape).growth_minute, 600);
    shape.facts.stats.frees = 1000; /* in time: those that were kept are lost all the same */
    expect(&shape, LW_VERDICT_LEAK, "grew in 7 of 7 reports; no block that outlived 10s was freed");

    struct shape large = SHAPE(100000, 200000, 300000, 400000);
    frees(&large, 3, 35); /* of 4,003 */
    expect(&large, LW_VERDICT_LEAK,
           "grew in 3 of 3 reports; of 4,003 blocks that outlived 10s, 3 were freed");

    /* what the program allocates when it starts is no reason to overlook the rest */
    struct shape base = SHAPE(5000000, 5000100, 5000200, 5000300, 5000400, 5000500);
    expect(&base, LW_VERDICT_LEAK, "grew in 5 of 5 reports; none of 50,005 blocks was freed");
    /* one that begins when the watch is under way */
    struct shape late = SHAPE(900, 900, 900, 900, 900, 1000, 1100, 1200, 1300);
    expect(&late, LW_VERDICT_LEAK, "grew in 4 of the last 4 reports; none of 13 blocks was freed");
    /* a request less now and then */
    struct shape pauses = SHAPE(100, 200, 200, 300, 400, 500, 600, 600, 700);
    expect(&pauses, LW_VERDICT_LEAK, "grew in 6 of 8 reports; none of 7 blocks was freed");
}

static void test_growth_that_is_no_plain_leak(void **state)
{
    /* in bursts */
    struct shape bursts =
        SHAPE(100, 100, 100, 100, 200, 200, 200, 200, 200, 300, 300, 300, 300, 400);
    (void)state;
    expect(&bursts, LW_VERDICT_GROWING, "grew in 3 of 13 reports; none of 4 blocks was freed");
    /* a part is given back, after the threshold */
    struct shape partly = SHAPE(1000, 2000, 3000, 4000, 5000);
    frees(&partly, 50, 30);
    expect(&partly, LW_VERDICT_GROWING,
           "grew in 4 of 4 reports; of 100 blocks that outlived 10s, 50 were freed");
    /* up and down, but mostly up */
    struct shape uneven = SHAPE(1000, 3000, 2500, 4500, 4200, 6000, 5800, 7500);
    frees(&uneven, 1, 75);
    expect(&uneven, LW_VERDICT_GROWING,
           "grew in 4 of 7 reports; of 76 blocks that outlived 10s, 1 was freed");
}

static void test_caches(void **state)
{
    /* allocated once, when the process starts */
    struct shape start = SHAPE(7000, 7000, 7000, 7000);

    (void)state;
    expect(&start, LW_VERDICT_CACHE, "filled, then flat: +0 B in the last 2 reports");
    struct shape filled = SHAPE(1000, 3000, 5000, 7000, 7000, 7000, 7000, 7000, 7000);
    expect(&filled, LW_VERDICT_CACHE, "filled, then flat: +0 B in the last 4 reports");
    assert_true(judge(&filled).has_growth);
    assert_int_equal(judge(&filled).growth_minute, 0); /* that of now */
    /* one entry more is not growth */
    struct shape nearly = SHAPE(10000, 70000, 70000, 70000, 70000, 70100, 70100, 70100, 70100);
    expect(&nearly, LW_VERDICT_CACHE, "filled, then flat: +100 B in the last 4 reports");
    /* entries are replaced all the time, but some stay: no threshold makes it vanish */
    struct shape replaced = SHAPE(7000, 6800, 7200, 7000, 6900, 7100, 6800, 7000, 7300);
    frees(&replaced, 500, 30);
    expect(&replaced, LW_VERDICT_CACHE, "filled, then flat: +400 B in the last 4 reports");
}

static void test_slow_ones(void **state)
{
    struct shape queue = SHAPE(1000, 2000, 3000, 3000, 3100, 2900, 3000, 3000, 3000);

    (void)state;
    frees(&queue, 120, 35);
    queue.facts.live_oldest_ns = SECONDS(34);
    expect(&queue, LW_VERDICT_SLOW, "120 late frees, and no block older than 35.0s; try -e 45s");
    assert_int_equal(judge(&queue).suggested_ns, SECONDS(45));
    /* the more there is to do, the more it grows, but all of it goes */
    struct shape busier = SHAPE(1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000);
    frees(&busier, 120, 35);
    busier.facts.live_oldest_ns = SECONDS(35.1);
    expect(&busier, LW_VERDICT_SLOW, "120 late frees, and no block older than 35.1s; try -e 45s");
    /* as long as blocks from the beginning are there, nobody knows whether they will go */
    busier.facts.live_oldest_ns = SECONDS(90);
    expect(&busier, LW_VERDICT_GROWING,
           "grew in 8 of 8 reports; of 210 blocks that outlived 10s, 120 were freed");
    /* it turned over for long, and then some stayed */
    busier.facts.live_oldest_ns = SECONDS(60);
    assert_int_equal(judge(&busier).kind, LW_VERDICT_GROWING);
    /* a few have just been freed for the first time, as old as the stack itself: more may follow */
    struct shape young = SHAPE(1000, 2000, 3000, 4000);
    frees(&young, 1, 38);
    assert_int_equal(judge(&young).suggested_ns, 0);

    /* a burst that drains: what is left is as old as the stack */
    struct shape drains = SHAPE(9000, 9000, 8000, 7000, 6000, 4000);
    frees(&drains, 50, 60);
    expect(&drains, LW_VERDICT_SLOW, "given back by 50 late frees: -4.88 KiB since its height");
    assert_int_equal(judge(&drains).suggested_ns, 0);
    /* in the summary: nothing is left */
    struct shape gone = {.facts.live_oldest_ns = SECONDS(1)};
    frees(&gone, 1, 11.5);
    expect(&gone, LW_VERDICT_SLOW, "1 late free, and no block older than 11.5s; try -e 15s");
}

static void test_too_early(void **state)
{
    struct shape shape = {0};
    struct lw_verdict verdict = lw_verdict_judge(NULL, &shape.facts, EXPIRE);
    char reason[LW_REASON_MAX];

    (void)state;
    assert_int_equal(verdict.kind, LW_VERDICT_UNCLEAR);
    assert_false(verdict.has_growth);
    assert_string_equal(lw_verdict_reason(&verdict, &shape.facts, EXPIRE, reason),
                        "no block has outlived 10s yet");
    for (uint64_t i = 1; i <= 3; i++) {
        report(&shape, i * 100);
        verdict = judge(&shape);
        assert_int_equal(verdict.kind, LW_VERDICT_UNCLEAR);
        assert_int_equal(verdict.has_growth, i > 1);
        lw_verdict_reason(&verdict, &shape.facts, EXPIRE, reason);
        assert_int_equal(reason[19], '0' + (int)i); /* too early to tell: i of the 4 reports ... */
    }
    report(&shape, 400);
    assert_int_equal(judge(&shape).kind, LW_VERDICT_LEAK);
}

/* At the limit of memory, a cache that is full looks like a leak. */
static void test_folded_blocks_may_have_been_freed(void **state)
{
    struct shape shape = SHAPE(100000, 200000, 300000, 400000);

    (void)state;
    shape.facts.folded_blocks = 40; /* of 4,000 */
    expect(&shape, LW_VERDICT_LEAK,
           "grew in 3 of 3 reports; whether 40 folded blocks were freed is not known");
    shape.facts.folded_blocks = 41;
    expect(&shape, LW_VERDICT_GROWING,
           "grew in 3 of 3 reports; whether 41 folded blocks were freed is not known");
}

static void test_reports_in_quick_succession(void **state)
{
    struct lw_growth growth = {0};
    struct lw_snapshot_stack facts = {.stats = {.expired_blocks = 9}};

    (void)state;
    /* asked for by signals: they take no time, so that they do not count as standing still */
    for (int i = 0; i < 5; i++)
        lw_growth_add(&growth, (struct lw_growth_point){100, 10 + (float)i / 100, 0});
    assert_false(lw_verdict_judge(&growth, &facts, EXPIRE).has_growth);
    for (unsigned i = 1; i < 5; i++)
        lw_growth_add(&growth, (struct lw_growth_point){100 + 100 * i, 10 + 10 * (float)i, 0});
    assert_int_equal(lw_verdict_judge(&growth, &facts, EXPIRE).kind, LW_VERDICT_LEAK);
}

static void test_samples(void **state)
{
    struct shape steady = {0}, flat = {0}, few = {0}, within = {0}, kept = {0};

    (void)state;
    for (uint64_t i = 1; i <= 8; i++) {
        report_with_error(&steady, i << 20, 200e3f);
        report_with_error(&flat, (64 << 20) + i % 3 * 100000, 2e6f);
        report_with_error(&few, (1 << 20) + (i % 2) * 1000, 400e3f);
        report_with_error(&within, (8 << 20) + i * 200000, 1e6f);
        report_with_error(&kept, i << 20, 700e3f * sqrtf((float)i));
    }
    assert_int_equal(judge(&steady).kind, LW_VERDICT_LEAK);
    frees(&steady, 1, 75);
    assert_int_equal(judge(&steady).kind, LW_VERDICT_LEAK);
    frees(&flat, 50, 75);
    assert_int_equal(judge(&flat).kind, LW_VERDICT_CACHE);
    /* an error of 40%: it may have grown as well as not */
    frees(&few, 50, 75);
    expect(&few, LW_VERDICT_UNCLEAR, "too few samples to tell");
    /* steady, but it may be chance: within twice the error of the difference */
    frees(&within, 1, 75);
    assert_int_equal(judge(&within).kind, LW_VERDICT_UNCLEAR);
    /* what was there before is there still, and its error is in both */
    assert_int_equal(judge(&kept).kind, LW_VERDICT_LEAK);
    frees(&kept, 1, 75);
    assert_int_equal(judge(&kept).kind, LW_VERDICT_UNCLEAR);
}

static void test_long_watches(void **state)
{
    struct shape shape = {0}, fills = {0};

    (void)state;
    for (uint64_t i = 1; i <= 100000; i++) {
        report(&shape, i * 100);
        report(&fills, i < 1000 ? i * 100 : 100000);
    }
    assert_in_range(shape.growth.count, LW_GROWTH_POINTS / 2, LW_GROWTH_POINTS);
    assert_int_equal(shape.growth.points[0].bytes, 100);
    assert_int_equal(shape.growth.points[shape.growth.count - 1].bytes, 100000 * 100);
    const struct lw_verdict verdict = judge(&shape);
    assert_int_equal(verdict.kind, LW_VERDICT_LEAK);
    assert_int_equal(verdict.growth_minute, 600);
    assert_int_equal(verdict.stride, 8192);
    expect(&shape, LW_VERDICT_LEAK,
           "grew in 12 of 12 spans of 8192 reports; none of 100,000 blocks was freed");
    assert_int_equal(judge(&fills).kind, LW_VERDICT_CACHE);
}

static void expect_threshold(double longest, double expected, const char *shown)
{
    struct shape gone = {0};
    char text[LW_THRESHOLD_MAX];

    frees(&gone, 1, longest);
    const uint64_t suggested = judge(&gone).suggested_ns;
    assert_int_equal(suggested, SECONDS(expected));
    assert_string_equal(lw_verdict_threshold(suggested, text), shown);
}

/* A quarter more, and rounded up. */
static void test_thresholds(void **state)
{
    (void)state;
    expect_threshold(0.05, 0.1, "100ms");
    expect_threshold(0.42, 0.55, "550ms");
    expect_threshold(0.79, 1, "1s");
    expect_threshold(1.1, 1.5, "1.5s");
    expect_threshold(12, 15, "15s");
    expect_threshold(35, 45, "45s");
    expect_threshold(37, 60, "1m");
    expect_threshold(60, 90, "90s");
    expect_threshold(3000, 5400, "90m");
    expect_threshold(5000, 7200, "2h");
    expect_threshold(100000, 45 * 3600, "45h");
    expect_threshold(200000, 3 * 86400, "3d");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leaks),
        cmocka_unit_test(test_growth_that_is_no_plain_leak),
        cmocka_unit_test(test_caches),
        cmocka_unit_test(test_slow_ones),
        cmocka_unit_test(test_too_early),
        cmocka_unit_test(test_folded_blocks_may_have_been_freed),
        cmocka_unit_test(test_reports_in_quick_succession),
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_long_watches),
        cmocka_unit_test(test_thresholds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
