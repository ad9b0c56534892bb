/* SPDX-License-Identifier: GPL-2.0-or-later */
/* massif's format line by line. test_formats.py has ms_print read a real one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "whole_file.h"

#define SNAPSHOT(number, time, bytes)                                                              \
    "#-----------\nsnapshot=" #number "\n#-----------\ntime=" #time "\nmem_heap_B=" #bytes         \
    "\nmem_heap_extra_B=0\nmem_stacks_B=0\n"

static void test_exactly_this(void **state)
{
    /* of the first, 100 bytes are suppressed */
    static const struct lw_report_point points[] = {
        {20 * LW_NS_PER_SECOND, 1000, 600, 4096, 0, 100}, {80500 * LW_NS_PER_MS, 3500, 3000, 4096}};
    struct sample sample;

    (void)state;
    sample_init(&sample);
    sample.report.context.exe = "/bin/app";
    sample.report.history = points;
    sample.report.history_count = 2;
    sample.raw.truncated = true;
    sample.frames[1].function = "keep()::{lambda()#1}::run"; /* # begins a comment there */
    char *text =
        write_whole_file(&lw_massif_writer, &sample.report, LW_WEIGHT_EXPIRED_BLOCKS, NULL);
    assert_string_equal(
        text,
        "desc: leakwatch " LEAKWATCH_VERSION ", expired bytes of PID 4711\n"
        "cmd: /bin/app\ntime_unit: ms\n" SNAPSHOT(0, 0, 0) "heap_tree=empty\n" SNAPSHOT(
            1, 20000,
            500) "heap_tree=empty\n" SNAPSHOT(2, 80500,
                                              3000) "heap_tree=detailed\n"
                                                    "n1: 3000 (blocks older than 10.0s)\n"
                                                    " n1: 3000 0x7F000009A01A: malloc (in "
                                                    "/lib/libc.so.6)\n"
                                                    "  n1: 3000 0x5501201: "
                                                    "keep()::{lambda():1}::run (app.c:42)\n"
                                                    "   n1: 3000 0x5501201: serve (app.c:99)\n"
                                                    "    n1: 3000 0x7F1234567777: libx.so+0x777 "
                                                    "(in /lib/libx.so)\n"
                                                    "     n0: 3000 [truncated]\n");
    free(text);
}

static void test_live_and_small(void **state)
{
    struct lw_report_frame frames[] = {{.function = "a"}, {.function = "b"}, {.function = "c"}};
    struct lw_report_stack stacks[3];
    struct sample sample;

    (void)state;
    sample_init(&sample);
    for (size_t i = 0; i < 3; i++) {
        stacks[i] = sample.stack;
        stacks[i].frames = &frames[i];
        stacks[i].frame_count = 1;
        stacks[i].facts.stats.live_bytes = i == 0 ? 1000000 : 100 * i;
    }
    sample.report.stacks = stacks;
    sample.report.every_count = 3;
    char *text = write_whole_file(&lw_massif_writer, &sample.report, LW_WEIGHT_LIVE_BLOCKS, NULL);
    char *tree = strstr(text, "heap_tree=detailed\n");
    assert_non_null(tree);
    assert_string_equal(tree, "heap_tree=detailed\n"
                              "n2: 1000300 (live blocks)\n"
                              " n0: 1000000 0x0: a\n"
                              " n0: 300 in 2 places, all below leakwatch's threshold (0.10%)\n");
    free(text);
}

static void test_nothing_at_all(void **state)
{
    struct lw_report report = {.context = {.pid = 1}};

    (void)state;
    char *text = write_whole_file(&lw_massif_writer, &report, LW_WEIGHT_EXPIRED_BYTES, NULL);
    assert_non_null(strstr(text, "heap_tree=detailed\nn0: 0 (blocks older than "));
    free(text);
}

static void test_full_disk(void **state)
{
    (void)state;
    expect_full_disk_to_be_told(&lw_massif_writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exactly_this),
        cmocka_unit_test(test_live_and_small),
        cmocka_unit_test(test_nothing_at_all),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
