/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options from LEAKWATCH_OPTIONS and --config: what they may say, what overrides what, refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "leakwatch/app/options.h"
#include "leakwatch/base/clock.h"
#include "options_child.h"

#define FILE_NAME "lw.conf"

static char directory[] = "/tmp/leakwatch-config-XXXXXX";

static int enter_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) && chdir(directory) == 0 ? 0 : -1;
}

static int leave_directory(void **state)
{
    (void)state;
    unlink("other.conf");
    unlink(FILE_NAME);
    return chdir("/") == 0 && rmdir(directory) == 0 ? 0 : -1;
}

static int forget(void **state)
{
    (void)state;
    return unsetenv("LEAKWATCH_OPTIONS");
}

static void write_bytes(const char *name, const char *bytes, size_t size)
{
    FILE *file = fopen(name, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void configure(const char *text)
{
    write_bytes(FILE_NAME, text, strlen(text));
}

static void set_environment(const char *text)
{
    assert_int_equal(setenv("LEAKWATCH_OPTIONS", text, 1), 0);
}

/* Refused with exactly this reason, and a line on --help. */
static void expect_refusal(const char **arguments, const char *reason)
{
    char output[4096], expected[1024];
    int code = parse_in_child(arguments, output, sizeof(output));

    snprintf(expected, sizeof(expected),
             "leakwatch: %s\n"
             "Try `leakwatch --help' or `leakwatch --usage' for more information.\n",
             reason);
    assert_string_equal(output, expected);
    assert_int_equal(code, LW_EXIT_USAGE);
}

static void test_every_way_to_write_a_line(void **state)
{
    struct lw_options options;

    (void)state;
    configure("# a comment\n"
              "\n"
              "  expire = 5m   # with a unit\n"
              "interval=1m\n"
              "count 3\r\n"
              "show-blocks\n"
              "--duration=1h\n"
              "\t--top 4\n"
              "-vl8 -z 4k --sort=age # several\n"
              "output = \"my \\\"own\\\" file #1\"\n"
              "format = json:'it''s a' # one\n"
              "--format pprof:a\\ b\n"
              "format text");
    parse(&options, LIST("--config", FILE_NAME, "4711"));
    assert_int_equal(options.pid, 4711);
    assert_int_equal(options.expire_ns, 300 * LW_NS_PER_SECOND);
    assert_int_equal(options.interval_ns, 60 * LW_NS_PER_SECOND);
    assert_int_equal(options.count, 3);
    assert_true(options.report.show_blocks);
    assert_int_equal(options.duration_ns, 3600 * LW_NS_PER_SECOND);
    assert_int_equal(options.report.top, 4);
    assert_int_equal(options.verbosity, 1);
    assert_int_equal(options.depth, 8);
    assert_int_equal(options.min_size, 4096);
    assert_int_equal(options.report.sort, LW_SORT_AGE);
    assert_int_equal(options.output_count, 3);
    assert_string_equal(options.outputs[0].file, "its a");
    assert_string_equal(options.outputs[1].file, "a b");
    assert_string_equal(options.outputs[2].file, "my \"own\" file #1");
    lw_options_deinit(&options);
}

static void test_the_environment(void **state)
{
    struct lw_options options;

    (void)state;
    set_environment("-e 5m --sort=growth -qa");
    parse(&options, LIST("--", "ls", "--config=none"));
    assert_string_equal(options.command[1], "--config=none"); /* the command's own */
    assert_int_equal(options.expire_ns, 300 * LW_NS_PER_SECOND);
    assert_int_equal(options.report.sort, LW_SORT_GROWTH);
    assert_true(options.quiet);
    assert_true(options.report.show_blocks);
    lw_options_deinit(&options);
    set_environment("expire = 7\ninterval 8");
    parse(&options, LIST("1"));
    assert_int_equal(options.expire_ns, 7 * LW_NS_PER_SECOND);
    assert_int_equal(options.interval_ns, 8 * LW_NS_PER_SECOND);
    lw_options_deinit(&options);
    set_environment("");
    parse(&options, LIST("1"));
    assert_int_equal(options.expire_ns, 10 * LW_NS_PER_SECOND);
    lw_options_deinit(&options);
}

static void test_the_command_line_overrides_files_and_these_the_environment(void **state)
{
    struct lw_options options;

    (void)state;
    set_environment("-e 1 -i 1 -n 1 -T 1 --format=json:a");
    configure("expire 2\ninterval 2\ncount 2\nformat pprof:b");
    write_bytes("other.conf", "expire 3\ninterval 3", 19);
    parse(&options,
          LIST("-e", "4", "--format=text", "--config", FILE_NAME, "--config=other.conf", "1"));
    assert_int_equal(options.expire_ns, 4 * LW_NS_PER_SECOND);
    assert_int_equal(options.interval_ns, 3 * LW_NS_PER_SECOND);
    assert_int_equal(options.count, 2);
    assert_int_equal(options.report.top, 1);
    assert_int_equal(options.output_count, 3); /* formats add up */
    lw_options_deinit(&options);
}

static void test_files_that_the_environment_names(void **state)
{
    struct lw_options options;

    (void)state;
    set_environment("-e 1 -i 1 --config=" FILE_NAME " -n 1");
    configure("pid = 5\nexpire 2\ncount 2");
    parse(&options, LIST("-T", "3"));
    assert_int_equal(options.pid, 5);
    assert_int_equal(options.expire_ns, 2 * LW_NS_PER_SECOND);
    assert_int_equal(options.interval_ns, LW_NS_PER_SECOND);
    assert_int_equal(options.count, 1);
    assert_int_equal(options.report.top, 3);
    lw_options_deinit(&options);
}

static void test_what_is_configured_yields_where_it_contradicts(void **state)
{
    struct lw_options options;

    (void)state;
    configure("pid 5\nquiet\nsample auto\nmax-overhead 2\noutput file");
    parse(&options, LIST("--config", FILE_NAME));
    assert_int_equal(options.pid, 5);
    assert_true(options.quiet && options.sample_auto && options.max_overhead == 2);
    assert_string_equal(options.outputs[0].file, "file");
    lw_options_deinit(&options);
    parse(&options, LIST("--config", FILE_NAME, "6", "-v", "--sample=1M", "--format=json:own"));
    assert_int_equal(options.pid, 6);
    assert_false(options.quiet || options.sample_auto);
    assert_int_equal(options.verbosity, 1);
    assert_int_equal(options.sample_bytes, 1 << 20);
    assert_int_equal(options.output_count, 1);
    assert_null(options.output);
    lw_options_deinit(&options);
    parse(&options, LIST("--config", FILE_NAME, "--engine=trap", "--", "ls"));
    assert_int_equal(options.pid, 0);
    assert_non_null(options.command);
    assert_false(options.sample_auto);
    lw_options_deinit(&options);
    set_environment("-v --max-overhead=3");
    parse(&options, LIST("-v", "--sample=auto", "1"));
    assert_int_equal(options.verbosity, 2);
    assert_true(options.max_overhead == 3);
    lw_options_deinit(&options);
    parse(&options, LIST("-q", "--sample=auto", "--max-overhead=4", "1"));
    assert_true(options.quiet && options.verbosity == 0 && options.max_overhead == 4);
    lw_options_deinit(&options);
}

static void test_contradictions_of_one_source_are_refused(void **state)
{
    (void)state;
    configure("quiet\nverbose");
    expect_refusal(LIST("--config", FILE_NAME, "1"), "--quiet and --verbose contradict each other");
    configure("engine trap\nsample auto");
    expect_refusal(LIST("--config", FILE_NAME, "1"),
                   "--sample is not for --engine=trap, which sees every allocation anyway");
    configure("format json:own\noutput file");
    expect_refusal(LIST("--config", FILE_NAME, "1"),
                   "nothing is left for --output: every --format has a file of its own");
    configure("pid 1\npid 2");
    expect_refusal(LIST("--config", FILE_NAME),
                   FILE_NAME ":2: more than one PID is given (1 and 2): watch one at a time");
}

static void test_bad_lines_are_told_with_their_number(void **state)
{
    static const struct {
        const char *text, *reason;
    } cases[] = {
        {"\n#\n  expire 0", ":3: --expire must be longer than 0"},
        {"expire\n", ":1: option '--expire' requires an argument"},
        {"quiet = yes", ":1: option '--quiet' doesn't allow an argument"},
        {"nonsense", ":1: unrecognized option '--nonsense'"},
        {"e 1", ":1: option '--e=1' is ambiguous; possibilities: '--engine' '--expire' "
                "'--error-exitcode'"},
        {"output my file", ":1: more than one value for output: quote one that has blanks"},
        {"output 'my file", ":1: the quote (') is not closed"},
        {"-o \"my file", ":1: the quote (\") is not closed"},
        {"output =", ":1: --output needs the name of a file"},
        {"= 5", ":1: '= 5' does not begin with the name of an option"},
        {"quiet\n-q 4711", ":2: '4711' is not an option"},
        {"-- ls", ":1: 'ls' is not an option"},
        {"version", ":1: unrecognized option '--version'"},
        {"config " FILE_NAME, ":1: --config is not for a file that is read by --config"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char reason[256];

        configure(cases[i].text);
        snprintf(reason, sizeof(reason), "%s%s", FILE_NAME, cases[i].reason);
        expect_refusal(LIST("--config=" FILE_NAME, "1"), reason);
    }
    set_environment("-e 0");
    expect_refusal(LIST("1"), "LEAKWATCH_OPTIONS: --expire must be longer than 0");
    set_environment("--nonsense");
    expect_refusal(LIST("1"), "LEAKWATCH_OPTIONS: unrecognized option '--nonsense'");
    set_environment("-p 1");
    expect_refusal(LIST("-e", "1"), "LEAKWATCH_OPTIONS: a PID is not taken from the environment");
    set_environment("--config=none");
    expect_refusal(LIST("1"), "LEAKWATCH_OPTIONS: --config 'none' cannot be read: "
                              "No such file or directory");
}

static void test_files_that_hold_no_options(void **state)
{
    (void)state;
    expect_refusal(LIST("--config=none", "1"),
                   "--config 'none' cannot be read: No such file or directory");
    expect_refusal(LIST("--config=/", "1"), "--config '/' cannot be read: Is a directory");
    expect_refusal(LIST("--config=/dev/zero", "1"),
                   "--config '/dev/zero' is not a text of options");
    write_bytes(FILE_NAME, "quiet\0\n", 7);
    expect_refusal(LIST("--config=" FILE_NAME, "1"),
                   "--config '" FILE_NAME "' is not a text of options");
}

/* Nobody is kept from help by what is configured. */
static void test_help_comes_first(void **state)
{
    char output[16384];

    (void)state;
    set_environment("--nonsense");
    assert_int_equal(parse_in_child(LIST("--config=none", "--help"), output, sizeof(output)), 0);
    assert_non_null(strstr(output, "--config=FILE"));
    assert_int_equal(parse_in_child(LIST("--version"), output, sizeof(output)), 0);
    expect_refusal(LIST("--other"), "unrecognized option '--other'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_every_way_to_write_a_line, forget),
        cmocka_unit_test_teardown(test_the_environment, forget),
        cmocka_unit_test_teardown(test_the_command_line_overrides_files_and_these_the_environment,
                                  forget),
        cmocka_unit_test_teardown(test_files_that_the_environment_names, forget),
        cmocka_unit_test_teardown(test_what_is_configured_yields_where_it_contradicts, forget),
        cmocka_unit_test_teardown(test_contradictions_of_one_source_are_refused, forget),
        cmocka_unit_test_teardown(test_bad_lines_are_told_with_their_number, forget),
        cmocka_unit_test_teardown(test_files_that_hold_no_options, forget),
        cmocka_unit_test_teardown(test_help_comes_first, forget),
    };

    unsetenv("LEAKWATCH_OPTIONS");
    return cmocka_run_group_tests(tests, enter_directory, leave_directory);
}
