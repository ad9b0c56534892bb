/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reports read back from JSON: all that is needed of them, and what is said of files that are none.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/log.h"
#include "saved_sample.h"

static struct saved_file file;

static int make_file(void **state)
{
    (void)state;
    lw_log_set_level(LW_LOG_ERROR);
    saved_file_init(&file);
    return 0;
}

static int remove_file(void **state)
{
    (void)state;
    saved_file_deinit(&file);
    return 0;
}

/* Reads report `number` of `text`; NULL: the error, without the name of the file. */
static struct lw_saved_report *read_text(const char *text, long number, char error[200])
{
    struct lw_saved_report *report = NULL;

    saved_file_set(&file, text, strlen(text));
    lw_error *failed = lw_saved_reports_read(file.path, &number, 1, &report);
    if (!failed)
        return report;
    const char *message = lw_error_message(failed), *name = strstr(message, file.path);
    assert_non_null(name);
    snprintf(error, 200, "%.*s%s", (int)(name - message), message, name + strlen(file.path));
    lw_error_destroy(failed);
    return NULL;
}

static void expect_error(const char *text, long number, const char *expected)
{
    char error[200] = "";
    struct lw_saved_report *report = read_text(text, number, error);

    if (report || strncmp(error, expected, strlen(expected)) != 0)
        fail_msg("expected: %s\nfound: %s\nfor: %.300s", expected, report ? "a report" : error,
                 text);
}

static void test_all_comes_back(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    sample.raw.truncated = true;
    sample.report.sample_bytes = 4096;
    sample.report.live_bytes_error = 90;
    sample.stack.facts.expired_bytes_error = 80;
    sample.frames[3].module = NULL;
    sample.frames[3].module_number = 0;
    sample.frames[3].address = UINT64_MAX;
    struct lw_saved_report *saved = save(&sample.report);
    const struct lw_report *report = &saved->report;
    assert_int_equal(saved->line, 1);
    assert_int_equal(report->context.pid, 4711);
    assert_int_equal(report->context.time_ns, sample.report.context.time_ns);
    assert_int_equal(report->context.elapsed_ns, sample.report.context.elapsed_ns);
    assert_int_equal(report->context.rss_bytes, 4 << 20);
    assert_false(report->context.summary);
    assert_string_equal(report->context.exe, "/bin/app");
    assert_int_equal(report->expire_ns, sample.report.expire_ns);
    assert_int_equal(report->live_bytes_error, 90);
    assert_memory_equal(&report->totals, &sample.report.totals, sizeof(report->totals));
    assert_int_equal(report->module_count, 3);
    assert_string_equal(report->modules[0].build_id, "abc123");
    assert_int_equal(report->stack_count, 1);
    const struct lw_report_stack *stack = &report->stacks[0];
    assert_int_equal(stack->id, 17);
    assert_int_equal(stack->facts.stats.expired_bytes, 3000);
    assert_int_equal(stack->facts.stats.live_blocks, 3);
    assert_int_equal(stack->facts.expired_bytes_error, 80);
    assert_true(stack->facts.stack->truncated);
    assert_int_equal(stack->frame_count, 4);
    assert_string_equal(stack->frames[1].function, "keep");
    assert_string_equal(stack->frames[1].file, "src/app.c");
    assert_int_equal(stack->frames[1].line, 42);
    assert_true(stack->frames[1].inlined);
    assert_int_equal(stack->frames[1].module_number, 2);
    assert_string_equal(stack->frames[1].module_path, "/bin/app");
    assert_int_equal(stack->frames[1].offset, 0x1201);
    assert_null(stack->frames[3].function);
    assert_int_equal(stack->frames[3].module_number, 0);
    assert_int_equal(stack->frames[3].address, UINT64_MAX);
    lw_saved_report_destroy(saved);
}

/* A watch of three reports and a summary, which their PIDs tell apart. */
static char *make_watch(void)
{
    struct sample sample;
    char *all = NULL;
    size_t size;
    FILE *stream = open_memstream(&all, &size);

    fputs("{\"type\":\"attach\",\"pid\":1}\n\n", stream);
    for (int i = 1; i <= 4; i++) {
        sample_init(&sample);
        sample.report.context.pid = i;
        sample.report.context.summary = i == 4;
        char *line = saved_line(&sample.report);
        fputs(line, stream);
        free(line);
    }
    fputs("{\"type\":\"detach\",\"pid\":1}\n", stream);
    fclose(stream);
    return all;
}

static void test_reports_are_counted_from_both_ends(void **state)
{
    static const struct {
        long number;
        int pid;
        size_t line;
    } wanted[] = {{1, 1, 3}, {3, 3, 5}, {4, 4, 6}, {-1, 4, 6}, {-3, 2, 4}, {-4, 1, 3}};
    char *watch = make_watch(), error[200];

    (void)state;
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        struct lw_saved_report *report = read_text(watch, wanted[i].number, error);
        assert_non_null(report);
        assert_int_equal(report->report.context.pid, wanted[i].pid);
        assert_int_equal(report->line, wanted[i].line);
        lw_saved_report_destroy(report);
    }
    expect_error(watch, 5, " has 4 reports: there is no report 5");
    expect_error(watch, -5, " has 4 reports: there is no report -5");
    free(watch);
}

static void test_two_at_once(void **state)
{
    const long numbers[] = {-1, 2};
    struct lw_saved_report *reports[2];
    char *watch = make_watch();

    (void)state;
    saved_file_set(&file, watch, strlen(watch));
    assert_null(lw_saved_reports_read(file.path, numbers, 2, reports));
    assert_int_equal(reports[0]->report.context.pid, 4);
    assert_int_equal(reports[1]->report.context.pid, 2);
    lw_saved_report_destroy(reports[0]);
    lw_saved_report_destroy(reports[1]);
    free(watch);
}

static void test_a_last_line_that_is_being_written(void **state)
{
    char *watch = make_watch(), error[200];
    char *summary = strstr(watch, "{\"type\":\"summary\""), *detach = strchr(summary, '\n');

    (void)state;
    *detach = '\0'; /* whole, but for the end of the line */
    struct lw_saved_report *report = read_text(watch, -1, error);
    assert_non_null(report);
    assert_true(report->report.context.summary);
    lw_saved_report_destroy(report);
    detach[-5] = '\0';
    report = read_text(watch, -1, error);
    assert_non_null(report);
    assert_int_equal(report->report.context.pid, 3);
    lw_saved_report_destroy(report);
    free(watch);
}

/* Other programs put keys in another order, and blanks between them. */
static void test_another_order_of_keys(void **state)
{
    struct sample sample;
    char *text = NULL, error[200];

    (void)state;
    sample_init(&sample);
    char *line = saved_line(&sample.report), *rest = strchr(line, ',') + 1;
    assert_true(
        asprintf(&text, "{ %.*s , \"type\" : \"report\" }\r\n", (int)strlen(rest) - 2, rest) > 0);
    struct lw_saved_report *report = read_text(text, 1, error);
    if (!report)
        fail_msg("%s", error);
    lw_saved_report_destroy(report);
    free(text);
    free(line);
}

static void test_what_is_no_file_of_reports(void **state)
{
    char deep[300] = "{\"a\":";

    (void)state;
    expect_error("", -1, " has no report: ");
    expect_error("{\"type\":\"attach\"}\n", -1, " has no report: ");
    expect_error("Report 1 of PID 4711", -1, ":1: not JSON: ");
    expect_error("\n[1]\n", -1, ":2: not a JSON object");
    expect_error("{\"a\":1}\n", -1, ":1: not a line of --format=json");
    expect_error("{\"a\":1\n{}\n", -1, ":1: the line is cut short");
    expect_error("{\"a\":1}{\"b\":2}\n", -1, ":1: not JSON: ");
    expect_error("{\"a\":\"\xff\"}\n", -1, ":1: not JSON: ");
    expect_error("{\"type\":\"report\"}\n", -1, ":1: the report has no 'pid'");
    memset(deep + 5, '[', sizeof(deep) - 7);
    deep[sizeof(deep) - 2] = '\n';
    expect_error(deep, -1, ":1: not JSON: nesting too deep");
    const long last = -1;
    struct lw_saved_report *report;
    lw_error *failed = lw_saved_reports_read("/nowhere/a.json", &last, 1, &report);
    assert_string_equal(lw_error_message(failed),
                        "cannot open /nowhere/a.json: No such file or directory");
    lw_error_destroy(failed);
    failed = lw_saved_reports_read("/tmp", &last, 1, &report);
    assert_string_equal(lw_error_message(failed), "cannot read /tmp: Is a directory");
    lw_error_destroy(failed);
}

/* The sample's line with what is `old` first in it made `new`. */
static void expect_changed(const char *old, const char *new, const char *expected)
{
    lw_auto_free char *line = NULL, *text = NULL;
    struct sample sample;

    sample_init(&sample);
    line = saved_line(&sample.report);
    assert_non_null(strstr(line, old));
    size_t before = (size_t)(strstr(line, old) - line);
    assert_true(asprintf(&text, "%.*s%s%s", (int)before, line, new, line + before + strlen(old)) >
                0);
    expect_error(text, 1, expected);
}

static void test_wrong_values(void **state)
{
    (void)state;
    expect_changed("4711", "-1", ":1: 'pid' of the report is not ");
    expect_changed("4711", "\"4711\"", ":1: 'pid' of the report is not ");
    expect_changed("4711", "1.5", ":1: 'pid' of the report is not ");
    expect_changed("4711", "99999999999", ":1: 'pid' of the report is not ");
    expect_changed("\"bytes\":3500", "\"bytes\":9223372036854775808",
                   ":1: 'bytes' of live is not a whole number");
    expect_changed("\"bytes\":3500", "\"bytes\":123456789012345678901234567890",
                   ":1: 'bytes' of live is not a whole number");
    expect_changed("80.500", "1e300", ":1: 'elapsed_s' of the report is not ");
    expect_changed("80.500", "-1", ":1: 'elapsed_s' of the report is not ");
    expect_changed("80.500", "null", ":1: 'elapsed_s' of the report is not ");
    expect_changed("2023-11-14T22:13:20.007Z", "2023-11-14", ":1: 'time' of the report is not ");
    expect_changed("2023-11-14T22:13:20.007Z", "9999-11-14T22:13:20Z",
                   ":1: 'time' of the report is not ");
    expect_changed("2023-11-14T22:13:20.007Z", "1923-11-14T22:13:20Z",
                   ":1: 'time' of the report is not ");
    expect_changed("{\"bytes\":3500,\"blocks\":3}", "[]", ":1: 'live' of the report is not ");
    expect_changed("\"stacks\":[", "\"stacks\":[7,", ":1: a stack is not an object");
    expect_changed("\"frames\":[", "\"frames\":{},\"x\":[", ":1: 'frames' of a stack is not ");
    expect_changed("\"truncated\":false,", "", ":1: a stack has no 'truncated'");
    expect_changed("\"truncated\":false,", "\"truncated\":0,", ":1: 'truncated' of a stack is not");
    expect_changed("\"module_index\":2", "\"module_index\":3",
                   ":1: 'module_index' of a frame is not that of a module");
    expect_changed("\"function\":\"malloc\"", "\"function\":7", ":1: 'function' of a frame is not");
    expect_changed("\"path\":\"/bin/app\"", "\"path\":null", ":1: 'path' of a module is not ");
    expect_changed("\"sample_bytes\":0", "\"sample_bytes\":1", ":1: live has no 'error_bytes'");
}

/* Whatever stands in the file, it ends with a report or an error. */
static void test_damaged_lines(void **state)
{
    static const char *const pieces[] = {
        "{",  "}",    "[",  "]",    "\"",         ",",  ":",
        "-1", "null", "{}", "1e99", "\"frames\"", "\n", "\\u0000",
    };
    char *watch = make_watch(), *damaged = malloc(strlen(watch) + 100);
    unsigned seed = 1, read = 0;

    (void)state;
    for (int round = 0; round < 1500; round++) {
        size_t length = strlen(watch), at = (size_t)rand_r(&seed) % length;
        const char *piece = pieces[(size_t)rand_r(&seed) % (sizeof(pieces) / sizeof(pieces[0]))];
        size_t gone = (size_t)rand_r(&seed) % 4;
        const long numbers[] = {1 + rand_r(&seed) % 4, -1};
        struct lw_saved_report *reports[2];

        gone = gone > length - at ? length - at : gone;
        sprintf(damaged, "%.*s%s%s", (int)at, watch, piece, watch + at + gone);
        saved_file_set(&file, damaged, strlen(damaged));
        lw_error *error = lw_saved_reports_read(file.path, numbers, 2, reports);
        if (error) {
            lw_error_destroy(error);
            continue;
        }
        read++;
        lw_saved_report_destroy(reports[0]);
        lw_saved_report_destroy(reports[1]);
    }
    assert_true(read > 0 && read < 1500);
    free(damaged);
    free(watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_comes_back),
        cmocka_unit_test(test_reports_are_counted_from_both_ends),
        cmocka_unit_test(test_two_at_once),
        cmocka_unit_test(test_a_last_line_that_is_being_written),
        cmocka_unit_test(test_another_order_of_keys),
        cmocka_unit_test(test_what_is_no_file_of_reports),
        cmocka_unit_test(test_wrong_values),
        cmocka_unit_test(test_damaged_lines),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
