/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Folded stacks: the order of the frames, their names, and each weight. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "report_sample.h"

static char *written(const struct lw_report *report, enum lw_weight weight)
{
    const struct lw_writer_options options = {.weight = weight};
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);

    assert_non_null(stream);
    assert_int_equal(lw_folded_writer.report(stream, &options, report), 0);
    fclose(stream);
    return text;
}

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
        char *text = written(&sample.report, (enum lw_weight)i);
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
    char *text = written(&sample.report, LW_WEIGHT_EXPIRED_BLOCKS);
    assert_string_equal(text, "[truncated];operator new(unsigned long);f<a: b>(int)\\x0a 2\n");
    free(text);
    sample.stack.frames = &sample.frames[3];
    sample.stack.frame_count = 1;
    sample.frames[3].module = NULL;
    sample.raw.truncated = false;
    text = written(&sample.report, LW_WEIGHT_EXPIRED_BLOCKS);
    assert_string_equal(text, "0x7f1234567777 2\n");
    free(text);
    sample.stack.frame_count = 0;
    text = written(&sample.report, LW_WEIGHT_EXPIRED_BLOCKS);
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
    char *text = written(&sample.report, LW_WEIGHT_EXPIRED_BYTES);
    assert_string_equal(text, "libx.so+0x777;serve;keep;malloc 3000\n"
                              "libx.so+0x777;serve;keep;malloc 7\n");
    free(text);
}

static void test_full_disk(void **state)
{
    const struct lw_writer_options options = {0};
    struct sample sample;

    (void)state;
    sample_init(&sample);
    FILE *full = fopen("/dev/full", "w");
    assert_non_null(full);
    assert_int_equal(lw_folded_writer.report(full, &options, &sample.report), -ENOSPC);
    fclose(full);
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
