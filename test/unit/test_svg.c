/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Flame graphs as SVG, apart from how they look: names of all kinds, nothing at all, full disks.
 * test_pages.py has a browser show a real one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "whole_file.h"

static void expect(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("missing: %s\nin:\n%s", part, text);
}

static void test_frames(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    sample.report.context.exe = "/bin/app";
    struct lw_report_stack stacks[] = {sample.stack, sample.stack};
    stacks[1].frames += 2; /* another way from serve */
    stacks[1].frame_count = 2;
    stacks[1].facts.stats.expired_bytes = 1000;
    stacks[1].facts.stats.expired_blocks = 1;
    sample.report.stacks = stacks;
    sample.report.every_count = 2;
    char *text = write_whole_file(&lw_svg_writer, &sample.report, LW_WEIGHT_EXPIRED_BYTES, NULL);
    expect(text, "/bin/app (PID 4711): expired bytes by call stack");
    expect(text, "3.91 KiB (4,000 bytes) in 3 blocks; expired: older than 10.0s");
    expect(text, "<title>serve\n3.91 KiB (4,000 bytes) in 3 blocks, 100.0%\nsrc/app.c:99 (app)<");
    expect(text, "y=\"51\" width=\"75.00000%\" height=\"16\" data-x=\"0.000000000\" "
                 "data-width=\"0.750000000\" data-depth=\"3\"><title>keep\n");
    free(text);
    text = write_whole_file(&lw_svg_writer, &sample.report, LW_WEIGHT_LIVE_BLOCKS, NULL);
    expect(text, "live blocks by call stack");
    expect(text, "width=\"50.00000%\"");
    free(text);
}

static void test_names_stay_text(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    sample.frames[0].function = "a<b>::operator&\"]]>\x1b\xef\xbf\xbf";
    sample.frames[1].file = "</title><script>alert(1)</script>.c";
    char *text = write_whole_file(&lw_svg_writer, &sample.report, LW_WEIGHT_EXPIRED_BYTES, NULL);
    expect(text, "a&lt;b&gt;::operator&amp;&quot;]]&gt;\\x1b?");
    expect(text, "&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;.c:42");
    assert_null(strstr(text, "<script>alert"));
    free(text);
}

static void test_what_nobody_sees_is_left_out(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    struct lw_report_stack stacks[] = {sample.stack, sample.stack};
    stacks[0].facts.stats.expired_bytes = 10000000;
    struct lw_report_frame tiny = {.function = "tiny"};
    stacks[1].frames = &tiny;
    stacks[1].frame_count = 1;
    stacks[1].facts.stats.expired_bytes = 1000;
    sample.report.stacks = stacks;
    sample.report.every_count = 2;
    char *text = write_whole_file(&lw_svg_writer, &sample.report, LW_WEIGHT_EXPIRED_BYTES, NULL);
    assert_null(strstr(text, "tiny"));
    free(text);
    stacks[1].facts.stats.expired_bytes = 100000;
    text = write_whole_file(&lw_svg_writer, &sample.report, LW_WEIGHT_EXPIRED_BYTES, NULL);
    expect(text, "<title>tiny\n");
    free(text);
}

static void test_nothing_at_all(void **state)
{
    struct lw_report report = {.context = {.pid = 1}};

    (void)state;
    char *text = write_whole_file(&lw_svg_writer, &report, LW_WEIGHT_EXPIRED_BYTES, NULL);
    expect(text, "Nothing has expired.");
    assert_null(strstr(text, "class=\"frame\""));
    free(text);
    text = write_whole_file(&lw_svg_writer, &report, LW_WEIGHT_LIVE_BYTES, NULL);
    expect(text, "Nothing is live.");
    free(text);
}

static void test_full_disk(void **state)
{
    (void)state;
    expect_full_disk_to_be_told(&lw_svg_writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_names_stay_text),
        cmocka_unit_test(test_what_nobody_sees_is_left_out),
        cmocka_unit_test(test_nothing_at_all),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
