/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line: every option, every refusal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "leakwatch/app/options.h"
#include "leakwatch/base/clock.h"
#include "options_child.h"

static void expect_refusal(const char **arguments, const char *reason)
{
    char output[4096];
    int code = parse_in_child(arguments, output, sizeof(output));

    if (code != LW_EXIT_USAGE || !strstr(output, reason))
        fail_msg("expected refusal with '%s', got %d: %s", reason, code, output);
    char *second = strchr(output, '\n') + 1; /* one line of reason, one of help */
    assert_int_equal(strncmp(second, "Try ", 4), 0);
    assert_ptr_equal(strchr(second, '\n'), second + strlen(second) - 1);
}

static void test_defaults(void **state)
{
    struct lw_options options;

    (void)state;
    parse(&options, LIST("4711"));
    assert_int_equal(options.pid, 4711);
    assert_null(options.command);
    assert_int_equal(options.expire_ns, 10 * LW_NS_PER_SECOND);
    assert_int_equal(options.interval_ns, 10 * LW_NS_PER_SECOND);
    assert_int_equal(options.count, 0);
    assert_true(options.duration_ns == LW_NEVER);
    assert_int_equal(options.mark_ns, 0);
    assert_int_equal(options.depth, 64);
    assert_int_equal(options.min_size, 0);
    assert_true(options.max_size == UINT64_MAX);
    assert_int_equal(options.engine, LW_ENGINE_AUTO);
    assert_int_equal(options.sample_bytes, 0);
    assert_false(options.sample_auto);
    assert_true(options.max_overhead == 5);
    assert_int_equal(options.report.top, 10);
    assert_int_equal(options.report.sort, LW_SORT_BYTES);
    assert_false(options.report.show_blocks);
    assert_null(options.output);
    assert_int_equal(options.output_count, 1);
    assert_ptr_equal(options.outputs[0].writer, &lw_text_writer);
    assert_null(options.outputs[0].file);
    assert_int_equal(options.weight, LW_WEIGHT_EXPIRED_BYTES);
    assert_false(options.report.every_stack);
    assert_int_equal(options.error_exitcode, 0);
    assert_false(options.quiet);
    assert_int_equal(options.verbosity, 0);
    assert_int_equal(options.color, LW_COLOR_AUTO);
}

static void test_short_options(void **state)
{
    struct lw_options options;

    (void)state;
    parse(&options, LIST("-p", "1", "-e500ms", "-i", "5m", "-n3", "-d", "1.5", "-T0", "-l", "1024",
                         "-z", "4k", "-Z1M", "-a", "-o", "x.%p", "-vv"));
    assert_int_equal(options.pid, 1);
    assert_int_equal(options.expire_ns, 500 * LW_NS_PER_MS);
    assert_int_equal(options.interval_ns, 300 * LW_NS_PER_SECOND);
    assert_int_equal(options.count, 3);
    assert_int_equal(options.duration_ns, 1500 * LW_NS_PER_MS);
    assert_int_equal(options.report.top, 0);
    assert_int_equal(options.depth, 1024);
    assert_int_equal(options.min_size, 4096);
    assert_int_equal(options.max_size, 1 << 20);
    assert_true(options.report.show_blocks);
    assert_string_equal(options.outputs[0].file, "x.%p");
    assert_int_equal(options.verbosity, 2);
}

static void test_long_options(void **state)
{
    struct lw_options options;

    (void)state;
    parse(&options, LIST("--pid=7", "--expire=30", "--interval=2s", "--count=1", "--duration=1h",
                         "--mark=20s", "--top=5", "--depth=1", "--min-size=1", "--max-size=1",
                         "--show-blocks", "--output=-", "--format=json", "--sort=growth",
                         "--error-exitcode=9", "--quiet", "--color=never"));
    assert_int_equal(options.pid, 7);
    assert_int_equal(options.expire_ns, 30 * LW_NS_PER_SECOND);
    assert_int_equal(options.duration_ns, 3600 * LW_NS_PER_SECOND);
    assert_int_equal(options.mark_ns, 20 * LW_NS_PER_SECOND);
    assert_int_equal(options.report.top, 5);
    assert_int_equal(options.depth, 1);
    assert_int_equal(options.min_size, options.max_size);
    assert_int_equal(options.output_count, 1);
    assert_ptr_equal(options.outputs[0].writer, &lw_json_writer);
    assert_int_equal(options.report.sort, LW_SORT_GROWTH);
    assert_int_equal(options.error_exitcode, 9);
    assert_true(options.quiet);
    assert_int_equal(options.color, LW_COLOR_NEVER);
    parse(&options, LIST("--color", "7", "--sort=age"));
    assert_int_equal(options.color, LW_COLOR_ALWAYS);
    assert_int_equal(options.report.sort, LW_SORT_AGE);
}

/* Beside what is written anyway. */
static void test_metrics_file(void **state)
{
    struct lw_options options;

    (void)state;
    parse(&options, LIST("--metrics-file=a.prom", "7"));
    assert_int_equal(options.output_count, 2);
    assert_ptr_equal(options.outputs[0].writer, &lw_text_writer);
    assert_null(options.outputs[0].file);
    assert_ptr_equal(options.outputs[1].writer, &lw_prometheus_writer);
    assert_string_equal(options.outputs[1].file, "a.prom");
    assert_true(options.report.every_stack);
    parse(&options, LIST("--metrics-file=a.prom", "--format=json", "-o", "b", "7"));
    assert_int_equal(options.output_count, 2);
    assert_ptr_equal(options.outputs[0].writer, &lw_json_writer);
    assert_string_equal(options.outputs[0].file, "b");
    assert_string_equal(options.outputs[1].file, "a.prom");
    parse(&options, LIST("--format=prometheus", "7"));
    assert_int_equal(options.output_count, 1);
    assert_ptr_equal(options.outputs[0].writer, &lw_prometheus_writer);
}

static void test_several_formats(void **state)
{
    struct lw_options options;

    (void)state;
    parse(&options, LIST("--format=json:a:b", "--format=text", "--format=folded:-", "-ox.log",
                         "--weight=live-blocks", "7"));
    assert_int_equal(options.output_count, 3);
    assert_ptr_equal(options.outputs[0].writer, &lw_json_writer);
    assert_string_equal(options.outputs[0].file, "a:b");
    assert_ptr_equal(options.outputs[1].writer, &lw_text_writer);
    assert_string_equal(options.outputs[1].file, "x.log");
    assert_ptr_equal(options.outputs[2].writer, &lw_folded_writer);
    assert_string_equal(options.outputs[2].file, "-");
    assert_int_equal(options.weight, LW_WEIGHT_LIVE_BLOCKS);
    assert_true(options.report.every_stack);

    expect_refusal(LIST("1", "--format=text", "--format=json"),
                   "text and json would both be written to standard output");
    expect_refusal(LIST("1", "--format=text:-", "--format=json:x", "--format=folded"),
                   "text and folded would both be written to standard output");
    expect_refusal(LIST("1", "--format=text:x", "--format=json:x"), "both be written to x: give");
    expect_refusal(LIST("1", "--format=text:x", "--format=json", "-o", "x"),
                   "both be written to x: give");
    expect_refusal(LIST("1", "--format=json:x", "-o", "y"), "nothing is left for --output");
    expect_refusal(LIST("1", "--format=json:"), "'--format=json:' needs the name of a file");
    expect_refusal(LIST("1", "--format=xml:x"),
                   "--format 'xml' is not one of text, json, folded, ");
    expect_refusal(LIST("1", "--weight=bytes"), "--weight 'bytes' is not one of expired-bytes,");
}

static void test_suppressions(void **state)
{
    const char *many[20] = {"leakwatch", "1"};
    struct lw_options options;

    (void)state;
    parse(&options, LIST("1"));
    assert_int_equal(options.suppression_file_count, 0);
    assert_false(options.no_default_suppressions);
    parse(&options, LIST("1", "--suppressions=a", "--suppressions", "b",
                         "--no-default-suppressions", "--generate-suppressions=c.%p"));
    assert_int_equal(options.suppression_file_count, 2);
    assert_string_equal(options.suppression_files[0], "a");
    assert_string_equal(options.suppression_files[1], "b");
    assert_true(options.no_default_suppressions);
    /* it does not take the text's place, and wants every stack */
    assert_int_equal(options.output_count, 2);
    assert_ptr_equal(options.outputs[0].writer, &lw_text_writer);
    assert_null(options.outputs[0].file);
    assert_ptr_equal(options.outputs[1].writer, &lw_suppressions_writer);
    assert_string_equal(options.outputs[1].file, "c.%p");
    assert_true(options.report.every_stack);

    expect_refusal(LIST("1", "--suppressions="), "--suppressions needs the name of a file");
    expect_refusal(LIST("1", "--generate-suppressions="),
                   "--generate-suppressions needs the name of a file");
    expect_refusal(LIST("1", "--generate-suppressions=-"),
                   "text and suppressions would both be written to standard output");
    expect_refusal(LIST("1", "--format=suppressions:x"), "--format 'suppressions' is not one of");
    for (size_t i = 2; i < 19; i++)
        many[i] = "--suppressions=a";
    expect_refusal(many, "more than 16 --suppressions are given");
}

static void test_engine_and_sampling(void **state)
{
    struct lw_options options;

    (void)state;
    parse(&options, LIST("1", "--engine=trap"));
    assert_int_equal(options.engine, LW_ENGINE_TRAP);
    parse(&options, LIST("1", "--engine=record", "--sample=512k"));
    assert_int_equal(options.engine, LW_ENGINE_RECORD);
    assert_int_equal(options.sample_bytes, 512 << 10);
    assert_false(options.sample_auto);
    parse(&options, LIST("1", "--sample=1k", "--engine=auto"));
    assert_int_equal(options.engine, LW_ENGINE_AUTO);
    assert_int_equal(options.sample_bytes, 1024);
    parse(&options, LIST("1", "--sample=1024G"));
    assert_true(options.sample_bytes == 1ull << 40);

    parse(&options, LIST("1", "--max-overhead=0.25", "--sample=auto"));
    assert_true(options.sample_auto);
    assert_int_equal(options.sample_bytes, 0);
    assert_true(options.max_overhead == 0.25);
    parse(&options, LIST("1", "--sample=1M", "--sample=auto", "--max-overhead=100%"));
    assert_true(options.sample_auto); /* the last one counts */
    assert_int_equal(options.sample_bytes, 0);
    assert_true(options.max_overhead == 100);
    parse(&options, LIST("1", "--sample=auto", "--sample=1M"));
    assert_false(options.sample_auto);
    assert_int_equal(options.sample_bytes, 1 << 20);
    assert_true(options.max_overhead == 5);
}

static void test_refused_sampling(void **state)
{
    (void)state;
    expect_refusal(LIST("1", "--engine=ebpf"), "--engine 'ebpf' is not one of auto, record, trap");
    expect_refusal(LIST("1", "--sample=0"),
                   "--sample '0' is not auto, nor a size from 1k to 1024G");
    expect_refusal(LIST("1", "--sample=1023"), "--sample '1023' is not auto");
    expect_refusal(LIST("1", "--sample=1025G"), "--sample '1025G' is not auto");
    expect_refusal(LIST("1", "--sample=much"), "--sample 'much' is not auto");
    expect_refusal(LIST("1", "--sample=-1"), "--sample '-1' is not auto");
    expect_refusal(LIST("1", "--sample=64k", "--engine=trap"),
                   "which sees every allocation anyway");
    expect_refusal(LIST("1", "--engine=trap", "--sample=auto"),
                   "which sees every allocation anyway");
    expect_refusal(LIST("1", "--max-overhead=5"), "--max-overhead is for --sample=auto");
    expect_refusal(LIST("1", "--max-overhead=5", "--sample=1M"), "is for --sample=auto");
    expect_refusal(LIST("1", "--sample=auto", "--max-overhead=0"), "--max-overhead '0' is not");
    expect_refusal(LIST("1", "--sample=auto", "--max-overhead=100.5"), "'100.5' is not a number");
    expect_refusal(LIST("1", "--sample=auto", "--max-overhead=-1"), "'-1' is not a number");
    expect_refusal(LIST("1", "--sample=auto", "--max-overhead=little"), "'little' is not a number");
}

static void test_pid_or_command(void **state)
{
    struct lw_options options;
    const char **arguments;

    (void)state;
    parse(&options, LIST("12", "-e", "5")); /* options after a PID are ours */
    assert_int_equal(options.pid, 12);
    assert_int_equal(options.expire_ns, 5 * LW_NS_PER_SECOND);

    arguments = LIST("-e", "3", "--", "server", "-e", "7", "--help");
    parse(&options, arguments); /* those after a command are its own */
    assert_int_equal(options.pid, 0);
    assert_ptr_equal(options.command, arguments + 4);
    assert_string_equal(options.command[3], "--help");
    assert_null(options.command[4]);
    assert_int_equal(options.expire_ns, 3 * LW_NS_PER_SECOND);

    parse(&options, LIST("server", "-p", "1", "--", "x")); /* no "--" needed */
    assert_string_equal(options.command[0], "server");
    assert_string_equal(options.command[3], "--");
    assert_int_equal(options.pid, 0);

    parse(&options, LIST("--", "123")); /* a program may be called 123 */
    assert_int_equal(options.pid, 0);
    assert_string_equal(options.command[0], "123");

    parse(&options, LIST("12x"));
    assert_string_equal(options.command[0], "12x");
}

static void test_refused_targets(void **state)
{
    char output[4096];

    (void)state;
    expect_refusal((const char *[]){"leakwatch", NULL}, "nothing to watch");
    expect_refusal(LIST("-e", "5"), "nothing to watch");
    expect_refusal(LIST("1", "2"), "more than one PID is given (1 and 2)");
    expect_refusal(LIST("-p", "1", "2"), "more than one PID");
    expect_refusal(LIST("-p", "1", "--", "ls"), "not both (PID 1 and 'ls')");
    expect_refusal(LIST("1", "ls"), "not both");
    expect_refusal(LIST("0"), "'0' is not a PID");
    expect_refusal(LIST("-p", "-1"), "'-1' is not a PID");
    expect_refusal(LIST("-p", "+1"), "is not a PID");
    expect_refusal(LIST("-p", ""), "'' is not a PID");
    expect_refusal(LIST("-p", "1x"), "'1x' is not a PID");
    expect_refusal(LIST("99999999999"), "is not a PID");
    expect_refusal(LIST("99999999999999999999999"), "is not a PID");
    expect_refusal(LIST(""), "command is empty");
    expect_refusal(LIST("--", ""), "command is empty");
    assert_int_equal(parse_in_child(LIST("2147483647"), output, sizeof(output)), 99);
}

static void test_refused_values(void **state)
{
    (void)state;
    expect_refusal(LIST("1", "-e", "0"), "--expire must be longer than 0");
    expect_refusal(LIST("1", "-e", "0ms"), "--expire must be longer than 0");
    expect_refusal(LIST("1", "-e", "soon"), "--expire 'soon' is not a time");
    expect_refusal(LIST("1", "-i", "-5"), "--interval '-5' is not a time");
    expect_refusal(LIST("1", "-d", "99999999999999999999d"), "--duration");
    expect_refusal(LIST("1", "--mark=0"), "--mark must be longer than 0");
    expect_refusal(LIST("1", "--mark=soon"), "--mark 'soon' is not a time");
    expect_refusal(LIST("1", "-n", "0"), "--count '0' is not a whole number from 1");
    expect_refusal(LIST("1", "-n", "-1"), "--count '-1'");
    expect_refusal(LIST("1", "-n", " 1"), "--count ' 1'");
    expect_refusal(LIST("1", "-T", "many"), "--top 'many'");
    expect_refusal(LIST("1", "-l", "0"), "--depth '0' is not a whole number from 1 to 1024");
    expect_refusal(LIST("1", "-l", "1025"), "--depth '1025'");
    expect_refusal(LIST("1", "-z", "big"), "--min-size 'big' is not a size");
    expect_refusal(LIST("1", "-Z", "99999999999999999999G"), "--max-size");
    expect_refusal(LIST("1", "-z", "2", "-Z", "1"), "no block can be both");
    expect_refusal(LIST("1", "--format=xml"), "--format 'xml' is not one of text, json");
    expect_refusal(LIST("1", "--sort=size"), "--sort 'size' is not one of bytes,");
    expect_refusal(LIST("1", "--color=red"), "--color 'red' is not one of auto,");
    expect_refusal(LIST("1", "--error-exitcode=256"), "from 0 to 255");
    expect_refusal(LIST("1", "-o", ""), "--output needs the name of a file");
    expect_refusal(LIST("1", "--metrics-file="), "--metrics-file needs the name of a file");
    expect_refusal(LIST("1", "--metrics-file=-"),
                   "text and prometheus would both be written to standard output");
    expect_refusal(LIST("1", "-q", "-v"), "contradict");
    expect_refusal(LIST("1", "--nonsense"), "unrecognized option '--nonsense'");
    expect_refusal(LIST("1", "-x"), "invalid option -- 'x'");
    expect_refusal(LIST("-e"), "requires an argument");
}

static void test_help(void **state)
{
    char output[16384];

    (void)state;
    assert_int_equal(parse_in_child(LIST("--help"), output, sizeof(output)), 0);
    assert_non_null(strstr(output, "--expire=TIME"));
    assert_non_null(strstr(output, "(default 10s)"));
    assert_non_null(strstr(output, "--engine=ENGINE"));
    assert_non_null(strstr(output, "--sample=SIZE|auto"));
    assert_non_null(strstr(output, "--max-overhead=PERCENT"));
    char *examples = strstr(output, "Examples:\n");
    assert_non_null(examples);
    assert_non_null(strstr(examples, "\n  leakwatch -p 4711 "));
    assert_int_equal(parse_in_child(LIST("--version"), output, sizeof(output)), 0);
    assert_string_equal(output, "leakwatch " LEAKWATCH_VERSION "\n");
    assert_int_equal(parse_in_child(LIST("--usage"), output, sizeof(output)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_short_options),
        cmocka_unit_test(test_long_options),
        cmocka_unit_test(test_metrics_file),
        cmocka_unit_test(test_several_formats),
        cmocka_unit_test(test_suppressions),
        cmocka_unit_test(test_engine_and_sampling),
        cmocka_unit_test(test_refused_sampling),
        cmocka_unit_test(test_pid_or_command),
        cmocka_unit_test(test_refused_targets),
        cmocka_unit_test(test_refused_values),
        cmocka_unit_test(test_help),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
