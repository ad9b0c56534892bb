/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Output files: their names, their modes, rotation and failure. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "leakwatch/base/text.h"
#include "leakwatch/report/output.h"

static char directory[64];

static const char *in_directory(const char *name)
{
    static char path[128];

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return path;
}

static int set_up(void **state)
{
    (void)state;
    strcpy(directory, "/tmp/leakwatch-test-XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"a", "b", "a.1", "link", "pipe", "w.42.100%"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(in_directory(names[i]));
    return rmdir(directory);
}

static void expect_error(lw_error *error, int code, const char *part)
{
    assert_non_null(error);
    assert_int_equal(lw_error_code(error), code);
    if (!strstr(lw_error_message(error), part))
        fail_msg("missing '%s' in: %s", part, lw_error_message(error));
    lw_error_destroy(error);
}

static void expect_content(const char *name, const char *expected)
{
    char *text = lw_text_read_file(in_directory(name), NULL);

    assert_non_null(text);
    assert_string_equal(text, expected);
    free(text);
}

static void test_standard_output(void **state)
{
    static const char *const patterns[] = {NULL, "-"};
    struct lw_output output;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_null(lw_output_open(&output, patterns[i], 1));
        assert_ptr_equal(output.stream, stdout);
        assert_null(output.path);
        assert_null(lw_output_reopen(&output));
        assert_null(lw_output_close(&output));
        assert_true(fileno(stdout) >= 0); /* still open */
    }
}

static void test_names(void **state)
{
    struct lw_output output;

    (void)state;
    assert_null(lw_output_open(&output, in_directory("w.%p.100%%"), 42));
    assert_string_equal(output.path, in_directory("w.42.100%"));
    assert_false(lw_output_is_terminal(&output));
    assert_true(fcntl(fileno(output.stream), F_GETFD) & FD_CLOEXEC);
    assert_false(fcntl(fileno(output.stream), F_GETFL) & O_NONBLOCK);
    assert_null(lw_output_close(&output));
    expect_error(lw_output_open(&output, in_directory("%x"), 42), EINVAL, "%p (the PID)");
    expect_error(lw_output_open(&output, in_directory("a%"), 42), EINVAL, "%p (the PID)");
}

static void test_appends_and_rotates(void **state)
{
    struct lw_output output;
    struct stat status;
    char old[128];

    (void)state;
    for (int round = 0; round < 2; round++) {
        assert_null(lw_output_open(&output, in_directory("a"), 1));
        fputs("x", output.stream);
        assert_null(lw_output_close(&output));
    }
    expect_content("a", "xx");
    assert_int_equal(stat(in_directory("a"), &status), 0);
    if (geteuid() == 0)
        assert_int_equal(status.st_mode & 0777, 0600);

    assert_null(lw_output_open(&output, in_directory("a"), 1));
    fputs("old", output.stream);
    strcpy(old, in_directory("a"));
    assert_int_equal(rename(old, in_directory("a.1")), 0);
    assert_null(lw_output_reopen(&output));
    fputs("new", output.stream);
    assert_null(lw_output_close(&output));
    expect_content("a.1", "xxold");
    expect_content("a", "new");
}

static void test_failed_reopen_keeps_the_old(void **state)
{
    struct lw_output output;
    char name[160];

    (void)state;
    strcpy(name, in_directory("b"));
    assert_null(lw_output_open(&output, name, 1));
    FILE *stream = output.stream;
    assert_int_equal(unlink(name), 0);
    assert_int_equal(mkdir(name, 0700), 0);
    expect_error(lw_output_reopen(&output), EISDIR, name);
    assert_ptr_equal(output.stream, stream);
    assert_true(fputs("still works", output.stream) >= 0);
    assert_null(lw_output_close(&output));
    assert_int_equal(rmdir(name), 0);
}

static void test_refusals(void **state)
{
    struct lw_output output;
    char pipe_name[128];

    (void)state;
    expect_error(lw_output_open(&output, in_directory("no/such"), 1), ENOENT, "No such file");
    expect_error(lw_output_open(&output, directory, 1), EISDIR, directory);
    strcpy(pipe_name, in_directory("pipe"));
    assert_int_equal(mkfifo(pipe_name, 0600), 0);
    expect_error(lw_output_open(&output, pipe_name, 1), ENXIO, "nobody reads");
    assert_int_equal(symlink("a", in_directory("link")), 0);
    if (geteuid() == 0) {
        expect_error(lw_output_open(&output, in_directory("link"), 1), ELOOP, "symbolic link");
    } else {
        assert_null(lw_output_open(&output, in_directory("link"), 1));
        assert_null(lw_output_close(&output));
    }
}

static void test_full_disk(void **state)
{
    struct lw_output output;

    (void)state;
    assert_null(lw_output_open(&output, "/dev/full", 1));
    fputs("lost", output.stream);
    expect_error(lw_output_close(&output), ENOSPC, "cannot write to /dev/full");
    assert_null(output.stream);
    assert_null(lw_output_close(&output)); /* once is enough, twice does no harm */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_standard_output),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_appends_and_rotates),
        cmocka_unit_test(test_failed_reopen_keeps_the_old),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
