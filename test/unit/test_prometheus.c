/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Metrics: each line, what names may contain, how many stacks there are, and which are the same.
 * test_metrics.py has promtool and node_exporter read a real file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../../src/report/stack_hash.h"
#include "whole_file.h"

#define TARGET     "pid=\"4711\",comm=\"app\""
#define FIRST_HASH "7d9b65945499a8c5"

static void metrics_sample_init(struct sample *sample)
{
    sample_init(sample);
    sample->report.context.exe = "/bin/app";
    sample->report.context.name = "app";
    sample->report.context.engine = "record";
    sample->report.losses.folded_blocks = 6;
}

static char *written(const struct lw_report *report)
{
    return write_whole_file(&lw_prometheus_writer, report, LW_WEIGHT_EXPIRED_BYTES, NULL);
}

static void expect(const char *text, const char *line)
{
    if (!strstr(text, line))
        fail_msg("no '%s' in:\n%s", line, text);
}

static void expect_line(const struct lw_report *report, const char *line)
{
    char *text = written(report);

    expect(text, line);
    free(text);
}

static void test_figures(void **state)
{
    struct sample sample;

    (void)state;
    metrics_sample_init(&sample);
    char *text = written(&sample.report);
    expect(text, "# HELP leakwatch_watching 1 while the process is watched, 0 once that has "
                 "ended.\n# TYPE leakwatch_watching gauge\nleakwatch_watching{" TARGET "} 1\n");
    expect(text, "\nleakwatch_watch_info{" TARGET ",exe=\"/bin/app\",engine=\"record\",version=\"");
    expect(text, "\nleakwatch_last_report_timestamp_seconds{" TARGET "} 1700000000.007\n");
    expect(text, "\nleakwatch_elapsed_seconds{" TARGET "} 80.500\n");
    expect(text, "\nleakwatch_expire_seconds{" TARGET "} 10.000\n");
    expect(text, "\nleakwatch_live_bytes{" TARGET "} 3500\n");
    expect(text, "\nleakwatch_live_blocks{" TARGET "} 3\n");
    expect(text, "\nleakwatch_expired_bytes{" TARGET "} 3000\n");
    expect(text, "\nleakwatch_expired_blocks{" TARGET "} 2\n");
    expect(text, "\nleakwatch_expired_stacks{" TARGET "} 1\n");
    expect(text, "\nleakwatch_resident_memory_bytes{" TARGET "} 4194304\n");
    expect(text, "\nleakwatch_sample_bytes{" TARGET "} 0\n");
    expect(text, "\n# TYPE leakwatch_allocations_total counter\n"
                 "leakwatch_allocations_total{" TARGET "} 10\n");
    expect(text, "\nleakwatch_frees_total{" TARGET "} 7\n");
    expect(text, "\nleakwatch_reallocations_total{" TARGET "} 2\n");
    expect(text, "\nleakwatch_losses_total{" TARGET ",kind=\"folded_blocks\"} 6\n");
    expect(text, "\nleakwatch_stack_expired_bytes{" TARGET ",stack=\"" FIRST_HASH
                 "\",function=\"keep\"} 3000\n");
    expect(text, "\nleakwatch_stack_expired_blocks{" TARGET ",stack=\"" FIRST_HASH
                 "\",function=\"keep\"} 2\n");
    expect(text, "\nleakwatch_stack_expired_bytes{" TARGET ",stack=\"other\",function=\"\"} 0\n");
    assert_null(strstr(text, "error_bytes"));
    free(text);
}

static void test_what_is_not_known(void **state)
{
    struct sample sample;

    (void)state;
    metrics_sample_init(&sample);
    sample.report.context.rss_bytes = 0;
    sample.report.context.summary = true;
    sample.report.sample_bytes = 512 << 10;
    sample.report.live_bytes_error = 70;
    sample.report.expired_bytes_error = 60;
    char *text = written(&sample.report);
    assert_null(strstr(text, "resident_memory"));
    expect(text, "\nleakwatch_watching{" TARGET "} 0\n"); /* this was the last */
    expect(text, "\nleakwatch_sample_bytes{" TARGET "} 524288\n");
    expect(text, "\nleakwatch_live_error_bytes{" TARGET "} 70\n");
    expect(text, "\nleakwatch_expired_error_bytes{" TARGET "} 60\n");
    free(text);
}

static void test_names(void **state)
{
    struct sample sample;

    (void)state;
    metrics_sample_init(&sample);
    sample.report.context.name = "a\"b\\\n";
    sample.report.context.exe = "/bin/\x1b[2J\"";
    sample.frames[1].function = "f<\"x\">(char*)";
    expect_line(&sample.report, "\nleakwatch_live_bytes{pid=\"4711\",comm=\"a\\\"b\\\\\\\\x0a\"} ");
    expect_line(&sample.report, ",exe=\"/bin/\\\\x1b[2J\\\"\",engine=");
    expect_line(&sample.report, ",function=\"f<\\\"x\\\">(char*)\"} 3000\n");
}

/* The first that does not only pass the request on (frame_role.h), else the outermost. */
static void test_who_asked(void **state)
{
    struct sample sample;

    (void)state;
    metrics_sample_init(&sample);
    sample.frames[1].module = sample.frames[2].module = "libc.so.6";
    expect_line(&sample.report, ",function=\"libx.so+0x777\"} 3000\n");
    sample.stack.frame_count = 1;
    expect_line(&sample.report, ",function=\"malloc\"} 3000\n");
    sample.stack.frame_count = 0;
    expect_line(&sample.report, ",function=\"\"} 3000\n");
}

enum { MANY = 60 };

static void test_bounds(void **state)
{
    struct sample sample;
    struct lw_report_stack stacks[MANY];
    struct lw_report_frame frames[MANY];
    size_t lines = 0;

    (void)state;
    metrics_sample_init(&sample);
    for (size_t i = 0; i < MANY; i++) {
        frames[i] = sample.frames[0];
        frames[i].offset += i;
        stacks[i] = sample.stack;
        stacks[i].frames = &frames[i];
        stacks[i].frame_count = 1;
        stacks[i].facts.stats.expired_bytes = 1000 - i;
    }
    sample.report.stacks = stacks;
    sample.report.every_count = sample.report.stack_count = MANY; /* --top=0 */
    char *text = written(&sample.report);
    for (const char *at = text; (at = strstr(at, "\nleakwatch_stack_expired_bytes{")); at++)
        lines++;
    assert_int_equal(lines, 51);
    /* 950 + 949 + ... + 941 */
    expect(text, "_stack_expired_bytes{" TARGET ",stack=\"other\",function=\"\"} 9455\n");
    expect(text, "_stack_expired_blocks{" TARGET ",stack=\"other\",function=\"\"} 20\n");
    free(text);
    sample.report.stack_count = 2; /* --top=2 */
    expect_line(&sample.report, "_blocks{" TARGET ",stack=\"other\",function=\"\"} 116\n");
}

/* Two series of the same labels would make the whole file invalid. */
static void test_the_same_hash_is_one_series(void **state)
{
    struct sample sample;

    (void)state;
    metrics_sample_init(&sample);
    struct lw_report_stack stacks[] = {sample.stack, sample.stack, sample.stack};
    stacks[1].facts.stats.expired_bytes = 5;
    stacks[2].facts.stats.expired_bytes = stacks[2].facts.stats.expired_blocks = 0;
    sample.report.stacks = stacks;
    sample.report.every_count = 3;
    expect_line(&sample.report, "stack=\"" FIRST_HASH "\",function=\"keep\"} 3005\n");
    expect_line(&sample.report, "stack=\"" FIRST_HASH "\",function=\"keep\"} 4\n");
}

static void test_hash(void **state)
{
    struct sample sample;

    (void)state;
    metrics_sample_init(&sample);
    const uint64_t hash = lw_stack_hash(&sample.report, &sample.stack);
    /* elsewhere: loaded at other addresses, without debug information, in another place */
    for (int i = 0; i < 4; i++)
        sample.frames[i].address += 0x1000;
    sample.frames[2].function = NULL;
    sample.frames[1] = sample.frames[0];
    sample.stack.frames++;
    sample.stack.frame_count--;
    sample.frames[1].module = sample.modules[0].path = "libc-2.36.so";
    assert_true(lw_stack_hash(&sample.report, &sample.stack) == hash);
    sample.modules[0].build_id = "abc124"; /* another build */
    assert_false(lw_stack_hash(&sample.report, &sample.stack) == hash);
    sample.modules[0].build_id = "abc123";
    sample.frames[3].offset++;
    assert_false(lw_stack_hash(&sample.report, &sample.stack) == hash);
    sample.frames[3].offset--;
    sample.frames[2].module = "app2"; /* which has no build-id */
    assert_false(lw_stack_hash(&sample.report, &sample.stack) == hash);
    /* addresses of a JIT's code mean nothing */
    sample.frames[2].module = NULL;
    sample.frames[2].module_number = 0;
    const uint64_t jit = lw_stack_hash(&sample.report, &sample.stack);
    sample.frames[2].offset++;
    assert_true(lw_stack_hash(&sample.report, &sample.stack) == jit);
}

static void test_attach(void **state)
{
    const struct lw_writer_options options = {0};
    const struct lw_report_attach attach = sample_attach();
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);

    (void)state;
    assert_non_null(stream);
    assert_int_equal(lw_prometheus_writer.attach(stream, &options, &attach), 0);
    fclose(stream);
    expect(text, "\nleakwatch_watching{" TARGET "} 1\n");
    expect(text, "\nleakwatch_watch_info{" TARGET ",exe=\"/bin/app\",engine=\"trap\",version=\"");
    assert_null(strstr(text, "bytes")); /* nothing is known yet */
    free(text);
}

static void test_full_disk(void **state)
{
    const struct lw_writer_options options = {0};
    struct sample sample;

    (void)state;
    metrics_sample_init(&sample);
    FILE *full = fopen("/dev/full", "w");
    assert_non_null(full);
    assert_true(lw_prometheus_writer.report(full, &options, &sample.report) < 0);
    fclose(full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures),   cmocka_unit_test(test_what_is_not_known),
        cmocka_unit_test(test_names),     cmocka_unit_test(test_who_asked),
        cmocka_unit_test(test_bounds),    cmocka_unit_test(test_the_same_hash_is_one_series),
        cmocka_unit_test(test_hash),      cmocka_unit_test(test_attach),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
