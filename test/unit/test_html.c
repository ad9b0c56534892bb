/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The page's data: which stacks are in it, and that no name can break out of it. test_pages.py has
 * a browser show a real page. */
#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "whole_file.h"

/* As a browser finds it: from the element's begin to the first thing that looks like its end. */
static struct json_object *data_of(char *page)
{
    static const char begin[] = "<script type=\"application/json\" id=\"data\">";
    char *data = strstr(page, begin);

    assert_non_null(data);
    data += strlen(begin);
    char *end = strstr(data, "</script>");
    assert_non_null(end);
    *end = '\0';
    struct json_object *object = json_tokener_parse(data);
    assert_non_null(object);
    return object;
}

static struct json_object *member(struct json_object *object, const char *key)
{
    struct json_object *found = NULL;

    assert_true(json_object_object_get_ex(object, key, &found));
    return found;
}

static void test_data(void **state)
{
    static const struct lw_report_point points[] = {{1500 * LW_NS_PER_MS, 10, 5, 4096},
                                                    {2 * LW_NS_PER_SECOND, 20, 15, 0}};
    struct sample sample;

    (void)state;
    sample_init(&sample);
    sample.report.history = points;
    sample.report.history_count = 2;
    char *page = write_whole_file(&lw_html_writer, &sample.report, LW_WEIGHT_LIVE_BYTES, NULL);
    struct json_object *data = data_of(page);
    assert_string_equal(json_object_get_string(member(data, "weight")), "live-bytes");
    assert_string_equal(
        json_object_to_json_string_ext(member(data, "history"), JSON_C_TO_STRING_PLAIN),
        "[[1.500,10,5,4096],[2.000,20,15,null]]");
    struct json_object *report = member(data, "report");
    assert_int_equal(json_object_get_int(member(report, "pid")), 4711);
    assert_int_equal(json_object_array_length(member(report, "stacks")), 1);
    json_object_put(data);
    free(page);
}

static void test_names_stay_data(void **state)
{
    static const char name[] = "</script><script>alert(1)<!--";
    struct sample sample;

    (void)state;
    sample_init(&sample);
    sample.frames[0].function = name;
    sample.report.context.exe = "/bin/<script>alert(2)";
    char *page = write_whole_file(&lw_html_writer, &sample.report, LW_WEIGHT_LIVE_BYTES, NULL);
    assert_null(strstr(page, "<script>alert"));
    assert_null(strstr(page, "<!--"));
    assert_non_null(strstr(page, "<title>/bin/&lt;script&gt;alert(2) (PID 4711)</title>"));
    struct json_object *data = data_of(page);
    struct json_object *stack =
        json_object_array_get_idx(member(member(data, "report"), "stacks"), 0);
    struct json_object *frame = json_object_array_get_idx(member(stack, "frames"), 0);
    assert_string_equal(json_object_get_string(member(frame, "function")), name);
    json_object_put(data);
    free(page);
}

/* The largest 1000 of those that have live blocks, however few are listed. */
static void test_many_stacks(void **state)
{
    static struct lw_report_stack stacks[1100];
    struct sample sample;

    (void)state;
    sample_init(&sample);
    for (size_t i = 0; i < 1100; i++) {
        stacks[i] = sample.stack;
        stacks[i].id = (uint32_t)i + 1;
        stacks[i].facts.stats.expired_bytes = i;
        stacks[i].facts.stats.live_blocks = i % 20 ? 3 : 0; /* 55 have nothing */
    }
    sample.report.stacks = stacks;
    sample.report.every_count = 1100;
    char *page = write_whole_file(&lw_html_writer, &sample.report, LW_WEIGHT_LIVE_BYTES, NULL);
    struct json_object *data = data_of(page);
    struct json_object *shown = member(member(data, "report"), "stacks");
    assert_int_equal(json_object_array_length(shown), 1000);
    assert_int_equal(
        json_object_get_int(member(json_object_array_get_idx(shown, 0), "expired_bytes")), 1099);
    struct json_object *left = member(data, "left_out");
    assert_int_equal(json_object_get_int(member(left, "stacks")), 45);
    assert_int_equal(json_object_get_int(member(left, "live_bytes")), 45 * 3500);
    json_object_put(data);
    free(page);
}

static void test_full_disk(void **state)
{
    (void)state;
    expect_full_disk_to_be_told(&lw_html_writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data),
        cmocka_unit_test(test_names_stay_data),
        cmocka_unit_test(test_many_stacks),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
