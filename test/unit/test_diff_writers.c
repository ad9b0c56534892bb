/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A comparison as text, JSON, folded stacks and SVG. */
#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "diff_sample.h"

static char *written(const struct lw_diff_writer *writer, const struct lw_diff *diff)
{
    const struct lw_writer_options options = {0};
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);

    assert_non_null(stream);
    assert_int_equal(writer->write(stream, &options, diff), 0);
    fclose(stream);
    return text;
}

/* One stack that grows, one that may have, one that is gone. */
static struct compared usual(struct made *before, struct made *after)
{
    made_init(before, 60);
    made_add(before, "grows", 0x10, 3000);
    made_add(before, "goes", 0x40, 50);
    before->report.totals.expired_bytes += 10;
    before->report.totals.expired_blocks += 1;
    before->report.totals.expired_stacks++;
    made_init(after, 90);
    made_add(after, "perhaps", 0x50, 4);
    made_add(after, "grows", 0x10, 5000);
    after->report.context.rss_bytes = 3 << 20;
    return compare(before, after, NULL);
}

static void test_text(void **state)
{
    struct made before, after;

    (void)state;
    setenv("TZ", "UTC", 1);
    struct compared compared = usual(&before, &after);
    char *text = written(&lw_diff_text_writer, compared.diff);
    assert_string_equal(
        text,
        "Change of expired blocks in 30.0s of one watch\n"
        "  before   saved.json:1: PID 100 (app) at 2023-11-14 22:14:20 +0000, 1m 00s into the "
        "watch\n"
        "  after    later.json:1: PID 100 (app) at 2023-11-14 22:14:50 +0000, 1m 30s into the "
        "watch\n"
        "  note     saved.json:1 lists 2 of 3 stacks; what the others had, 10 B in 1 block, may "
        "be any stack's: watch with --top=0 to compare all\n"
        "  expired  +1.90 KiB and +976 blocks, +3.80 KiB a minute:\n"
        "           from 2.99 KiB (3,060 bytes) in 1,526 blocks to 4.89 KiB (5,004 bytes) in "
        "2,502 blocks\n"
        "  RSS      +2.00 MiB, +4.00 MiB a minute: from 1.00 MiB to 3.00 MiB\n"
        "  stacks   1 grew, 1 gone, 1 unclear\n"
        "\n"
        "#1  grew: +1.95 KiB and +1,000 blocks, +3.91 KiB a minute\n"
        "    from 2.93 KiB (3,000 bytes) in 1,500 blocks to 4.88 KiB (5,000 bytes) in 2,500 "
        "blocks; stack 2 (before: 1)\n"
        "    malloc  (libc.so.6)\n"
        "  > grows  app.c:7  (app)\n"
        "\n"
        "#2  unclear: up to +4 B and +2 blocks\n"
        "    from at most 10 B (it is not listed) to 4 B in 2 blocks; stack 1\n"
        "    malloc  (libc.so.6)\n"
        "  > perhaps  app.c:7  (app)\n"
        "\n"
        "#3  gone: -50 B and -25 blocks, -100 B a minute\n"
        "    from 50 B in 25 blocks to 0 B in 0 blocks; stack 2\n"
        "    malloc  (libc.so.6)\n"
        "  > goes  app.c:7  (app)\n");
    free(text);
    compared.diff->options.top = 2;
    text = written(&lw_diff_text_writer, compared.diff);
    assert_null(strstr(text, "#3"));
    assert_non_null(strstr(text, "\n1 more stack has changed, or may have; --top=0 lists all.\n"));
    free(text);
    compared_deinit(&compared);
}

static void test_text_of_what_is_odd(void **state)
{
    struct made before, after;

    (void)state;
    made_init(&before, 60);
    before.report.context.summary = true;
    made_add(&before, "bell\a", 0x10, 1000)->facts.expired_bytes_error = 30;
    before.report.sample_bytes = 100;
    made_init(&after, 90);
    after.report.context.pid = 200;
    made_add(&after, "bell\a", 0x10, 9000);
    made_add(&after, NULL, 0x777, 10000);
    struct compared compared = compare(&before, &after, NULL);
    char *text = written(&lw_diff_text_writer, compared.diff);
    assert_non_null(strstr(text, "Change of expired blocks\n")); /* not of one watch */
    assert_null(strstr(text, "a minute"));
    assert_null(strstr(text, "RSS")); /* a summary has another one */
    assert_non_null(strstr(text, "grew: +7.81 KiB ± 30 B and +4,000 blocks\n"));
    assert_non_null(strstr(text, "from 1000 B ± 30 B in 500 blocks to "));
    assert_non_null(strstr(text, "  > bell\\x07  app.c:7  (app)\n"));
    assert_non_null(strstr(text, "  > 0x000000550777  app.c:7  (app+0x777)\n"));
    free(text);
    compared_deinit(&compared);
}

static void test_text_of_nothing(void **state)
{
    struct made before, after;

    (void)state;
    made_init(&before, 60);
    made_init(&after, 90);
    struct compared compared = compare(&before, &after, NULL);
    char *text = written(&lw_diff_text_writer, compared.diff);
    assert_non_null(strstr(text, "  expired  +0 B and +0 blocks:\n"));
    assert_non_null(strstr(text, "  stacks   none\n"));
    free(text);
    compared_deinit(&compared);
}

static int64_t number(struct json_object *object, const char *key)
{
    return json_object_get_int64(json_object_object_get(object, key));
}

static void test_json(void **state)
{
    struct made before, after;

    (void)state;
    struct compared compared = usual(&before, &after);
    char *text = written(&lw_diff_json_writer, compared.diff);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    struct json_object *diff = json_tokener_parse(text);
    assert_string_equal(json_object_get_string(json_object_object_get(diff, "type")), "diff");
    assert_int_equal(number(diff, "change_bytes"), 1944);
    struct json_object *side = json_object_object_get(diff, "before");
    assert_int_equal(number(side, "line"), 1);
    assert_int_equal(number(json_object_object_get(side, "unlisted"), "bytes"), 10);
    assert_int_equal(number(json_object_object_get(diff, "stack_counts"), "unclear"), 1);
    assert_int_equal(json_object_array_length(json_object_object_get(diff, "notes")), 1);
    struct json_object *stacks = json_object_object_get(diff, "stacks");
    assert_int_equal(json_object_array_length(stacks), 3);
    struct json_object *grown = json_object_array_get_idx(stacks, 0);
    assert_string_equal(json_object_get_string(json_object_object_get(grown, "change")), "grew");
    assert_int_equal(number(grown, "change_blocks"), 1000);
    assert_int_equal(number(json_object_object_get(grown, "after"), "id"), 2);
    struct json_object *frames = json_object_object_get(grown, "frames");
    struct json_object *frame = json_object_array_get_idx(frames, 1);
    assert_string_equal(json_object_get_string(json_object_object_get(frame, "build_id")), "a0");
    /* not known is another thing than nothing */
    struct json_object *perhaps = json_object_array_get_idx(stacks, 1), *part;
    assert_true(json_object_object_get_ex(perhaps, "before", &part));
    assert_null(part);
    struct json_object *gone = json_object_array_get_idx(stacks, 2);
    assert_int_equal(number(json_object_object_get(gone, "after"), "bytes"), 0);
    json_object_put(diff);
    free(text);
    compared_deinit(&compared);
}

/* Stacks of the same names are one line. */
static void test_folded(void **state)
{
    struct made before, after;

    (void)state;
    made_init(&before, 60);
    made_add(&before, "twice", 0x10, 100);
    made_add(&before, "goes;on", 0x30, 40);
    made_init(&after, 90);
    made_add(&after, "twice", 0x10, 150);
    made_add(&after, "twice", 0x18, 30);
    made_add(&after, "empty", 0x40, 0);
    after.raw.truncated = true;
    struct compared compared = compare(&before, &after, NULL);
    char *text = written(&lw_diff_folded_writer, compared.diff);
    assert_string_equal(text, "[truncated];twice;malloc 0 180\n"
                              "goes:on;malloc 40 0\n"
                              "twice;malloc 100 0\n");
    free(text);
    compared_deinit(&compared);

    after.raw.truncated = false;
    compared =
        compare(&before, &after, &(struct lw_diff_options){.weight = LW_WEIGHT_EXPIRED_BLOCKS});
    text = written(&lw_diff_folded_writer, compared.diff);
    assert_string_equal(text, "goes:on;malloc 20 0\ntwice;malloc 50 90\n");
    free(text);
    compared_deinit(&compared);
}

/* What is gone is drawn, too; names stay text. */
static void test_svg(void **state)
{
    struct made before, after;

    (void)state;
    made_init(&before, 60);
    made_add(&before, "grows", 0x10, 100);
    made_add(&before, "goes<b>", 0x30, 400);
    made_add(&before, "stays", 0x40, 250);
    made_init(&after, 90);
    made_add(&after, "grows", 0x10, 300);
    made_add(&after, "stays", 0x40, 250);
    struct compared compared = compare(&before, &after, NULL);
    char *text = written(&lw_diff_svg_writer, compared.diff);
    assert_non_null(strstr(text, ">Change of expired bytes, red: growth, blue: shrinkage<"));
    assert_non_null(strstr(text, ">-200 B: from 750 B to 550 B; from saved.json:1 (PID 100) to "));
    assert_non_null(strstr(text, "<title>grows\n+200 B: from 100 B to 300 B, 30.8%\n"));
    assert_non_null(strstr(text, "<title>goes&lt;b&gt;\n-400 B: from 400 B to 0 B, 30.8%\n"));
    assert_non_null(strstr(text, "rgb(255,161,161)"));
    assert_non_null(strstr(text, "rgb(86,86,255)"));
    assert_non_null(strstr(text, "#ebebeb"));
    assert_null(strstr(text, "<b>"));
    free(text);
    compared_deinit(&compared);
    compared =
        compare(&before, &after, &(struct lw_diff_options){.weight = LW_WEIGHT_EXPIRED_BLOCKS});
    text = written(&lw_diff_svg_writer, compared.diff);
    assert_non_null(strstr(text, "<title>grows\n+100: from 50 to 150 blocks, 30.8%\n"));
    free(text);
    compared_deinit(&compared);
}

static void test_svg_of_nothing_and_of_enormous_figures(void **state)
{
    struct made before, after;

    (void)state;
    made_init(&before, 60);
    made_init(&after, 90);
    struct compared compared = compare(&before, &after, NULL);
    char *text = written(&lw_diff_svg_writer, compared.diff);
    assert_non_null(strstr(text, "Nothing in either report"));
    free(text);
    compared_deinit(&compared);
    for (int i = 0; i < 4; i++) {
        made_add(&before, "huge", i, 0)->facts.stats.expired_bytes = INT64_MAX;
        made_add(&after, "huge", i, 0)->facts.stats.expired_bytes = INT64_MAX;
    }
    compared = compare(&before, &after, NULL);
    text = written(&lw_diff_svg_writer, compared.diff);
    assert_non_null(strstr(text, "<title>huge\n+0 B: from "));
    free(text);
    compared_deinit(&compared);
}

static void test_full_disk(void **state)
{
    static const struct lw_diff_writer *const writers[] = {
        &lw_diff_text_writer, &lw_diff_json_writer, &lw_diff_folded_writer, &lw_diff_svg_writer};
    const struct lw_writer_options options = {0};
    struct made before, after;

    (void)state;
    struct compared compared = usual(&before, &after);
    for (size_t i = 0; i < sizeof(writers) / sizeof(writers[0]); i++) {
        FILE *full = fopen("/dev/full", "w");
        assert_non_null(full);
        assert_true(writers[i]->write(full, &options, compared.diff) < 0);
        fclose(full);
    }
    compared_deinit(&compared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_text_of_what_is_odd),
        cmocka_unit_test(test_text_of_nothing),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_folded),
        cmocka_unit_test(test_svg),
        cmocka_unit_test(test_svg_of_nothing_and_of_enormous_figures),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
