/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Folded stacks: the order of the frames, their names, and each weight. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "whole_file.h"

static void test_weights(void **state)
{
    static const char *const expected[] = {
        [LW_WEIGHT_EXPIRED_BYTES] = "libx.so+0x777;serve;keep;malloc 3000\n",
        [LW_WEIGHT_EXPIRED_BLOCKS] = "libx.so+0x777;serve;keep;malloc 2\n",
        [LW_WEIGHT_LIVE_BYTES] = "libx.so+0x777;serve;keep;malloc 3500\n",
        [LW_WEIGHT_LIVE_BLOCKS] = "libx.so+0x777;serve;keep;malloc 3\n",
    };
    struct sample sample;

    (void)state;
    sample_init(&sample);
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        char *text = write_whole_file(&lw_folded_writer, &sample.report, (enum lw_weight)i, NULL);
        assert_string_equal(text, expected[i]);
        free(text);
    }
}

static void test_names(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    sample.raw.truncated = true;
    sample.frames[0].function = "f<a; b>(int)\n";
    sample.frames[1].function = "operator new(unsigned long)";
    sample.stack.frame_count = 2;
    char *text =
        write_whole_file(&lw_folded_writer, &sample.report, LW_WEIGHT_EXPIRED_BLOCKS, NULL);
    assert_string_equal(text, "[truncated];operator new(unsigned long);f<a: b>(int)\\x0a 2\n");
    free(text);
    sample.stack.frames = &sample.frames[3];
    sample.stack.frame_count = 1;
    sample.frames[3].module = NULL;
    sample.raw.truncated = false;
    text = write_whole_file(&lw_folded_writer, &sample.report, LW_WEIGHT_EXPIRED_BLOCKS, NULL);
    assert_string_equal(text, "0x7f1234567777 2\n");
    free(text);
    sample.stack.frame_count = 0;
    text = write_whole_file(&lw_folded_writer, &sample.report, LW_WEIGHT_EXPIRED_BLOCKS, NULL);
    assert_string_equal(text, "[unknown] 2\n");
    free(text);
}

static void test_every_stack_that_has_some(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    struct lw_report_stack stacks[] = {sample.stack, sample.stack, sample.stack};
    sample.report.stacks = stacks;
    sample.report.every_count = 3; /* only the first is listed */
    stacks[1].facts.stats.expired_bytes = 0;
    stacks[2].facts.stats.expired_bytes = 7;
    char *text = write_whole_file(&lw_folded_writer, &sample.report, LW_WEIGHT_EXPIRED_BYTES, NULL);
    assert_string_equal(text, "libx.so+0x777;serve;keep;malloc 3000\n"
                              "libx.so+0x777;serve;keep;malloc 7\n");
    free(text);
}

static void test_full_disk(void **state)
{
    (void)state;
    expect_full_disk_to_be_told(&lw_folded_writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_every_stack_that_has_some),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
