/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Output files: their names, their modes, rotation and failure. */
#include <dirent.h>
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
        assert_null(lw_output_open(&output, patterns[i], 1, false));
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
    assert_null(lw_output_open(&output, in_directory("w.%p.100%%"), 42, false));
    assert_string_equal(output.path, in_directory("w.42.100%"));
    assert_false(lw_output_is_terminal(&output));
    assert_true(fcntl(fileno(output.stream), F_GETFD) & FD_CLOEXEC);
    assert_false(fcntl(fileno(output.stream), F_GETFL) & O_NONBLOCK);
    assert_null(lw_output_close(&output));
    assert_int_equal(unlink(in_directory("w.42.100%")), 0);
    expect_error(lw_output_open(&output, in_directory("%x"), 42, false), EINVAL, "%p (the PID)");
    expect_error(lw_output_open(&output, in_directory("a%"), 42, false), EINVAL, "%p (the PID)");
}

static void test_appends_and_rotates(void **state)
{
    struct lw_output output;
    struct stat status;
    char old[128];

    (void)state;
    for (int round = 0; round < 2; round++) {
        assert_null(lw_output_open(&output, in_directory("a"), 1, false));
        fputs("x", output.stream);
        assert_null(lw_output_close(&output));
    }
    expect_content("a", "xx");
    assert_int_equal(stat(in_directory("a"), &status), 0);
    if (geteuid() == 0)
        assert_int_equal(status.st_mode & 0777, 0600);

    assert_null(lw_output_open(&output, in_directory("a"), 1, false));
    fputs("old", output.stream);
    strcpy(old, in_directory("a"));
    assert_int_equal(rename(old, in_directory("a.1")), 0);
    assert_null(lw_output_reopen(&output));
    fputs("new", output.stream);
    assert_null(lw_output_close(&output));
    expect_content("a.1", "xxold");
    expect_content("a", "new");
    assert_int_equal(unlink(in_directory("a")), 0);
    assert_int_equal(unlink(in_directory("a.1")), 0);
}

static void test_failed_reopen_keeps_the_old(void **state)
{
    struct lw_output output;
    char name[160];

    (void)state;
    strcpy(name, in_directory("b"));
    assert_null(lw_output_open(&output, name, 1, false));
    FILE *stream = output.stream;
    assert_int_equal(unlink(name), 0);
    assert_int_equal(mkdir(name, 0700), 0);
    expect_error(lw_output_reopen(&output), EISDIR, name);
    assert_ptr_equal(output.stream, stream);
    assert_true(fputs("still works", output.stream) >= 0);
    assert_null(lw_output_close(&output));
    assert_int_equal(rmdir(name), 0);
}

static void replace_contents(struct lw_output *output, const char *text, bool complete)
{
    assert_null(lw_output_begin(output));
    fputs(text, output->stream);
    assert_null(lw_output_commit(output, complete));
    assert_null(output->stream);
}

static size_t count_files(void)
{
    DIR *files = opendir(directory);
    size_t count = 0;

    assert_non_null(files);
    while (readdir(files))
        count++;
    closedir(files);
    return count - 2;
}

static void test_replaces_contents_at_once(void **state)
{
    struct lw_output output;
    struct stat status;
    char name[128], reading[16] = "";

    (void)state;
    strcpy(name, in_directory("c"));
    assert_null(lw_output_open(&output, name, 1, true));
    assert_true(lw_output_is_replaced(&output));
    assert_int_equal(access(name, F_OK), -1); /* nothing is made before there is something to say */
    replace_contents(&output, "first", true);
    assert_int_equal(stat(name, &status), 0);
    if (geteuid() == 0)
        assert_int_equal(status.st_mode & 0777, 0600);
    FILE *reader = fopen(name, "r");
    assert_non_null(reader);
    replace_contents(&output, "second, and longer", true);
    assert_int_equal(fread(reading, 1, sizeof(reading) - 1, reader), 5);
    assert_string_equal(reading, "first"); /* who reads meanwhile reads one whole contents */
    fclose(reader);
    replace_contents(&output, "half of the thi", false);
    expect_content("c", "second, and longer");
    assert_null(lw_output_reopen(&output));
    assert_null(lw_output_close(&output));
    expect_content("c", "second, and longer");
    assert_int_equal(unlink(name), 0);
    assert_int_equal(count_files(), 0);
}

static void test_a_left_temporary_file_is_no_obstacle(void **state)
{
    struct lw_output output;
    char name[128], temporary[160];

    (void)state;
    strcpy(name, in_directory("c"));
    snprintf(temporary, sizeof(temporary), "%s.%d.tmp", name, (int)getpid());
    assert_int_equal(symlink("victim", temporary), 0);
    assert_null(lw_output_open(&output, name, 1, true));
    replace_contents(&output, "x", true);
    assert_null(lw_output_close(&output));
    expect_content("c", "x");
    assert_int_equal(access(in_directory("victim"), F_OK), -1);
    assert_int_equal(unlink(name), 0);
    assert_int_equal(count_files(), 0);
}

static void test_what_cannot_be_replaced(void **state)
{
    struct lw_output output;
    char name[128];

    (void)state;
    expect_error(lw_output_open(&output, in_directory("no/such"), 1, true), ENOENT, "No such file");
    expect_error(lw_output_open(&output, directory, 1, true), EISDIR, directory);
    assert_null(lw_output_open(&output, "/dev/null", 1, true)); /* not by a file */
    assert_false(lw_output_is_replaced(&output));
    assert_null(lw_output_close(&output));
    assert_null(lw_output_open(&output, NULL, 1, true));
    assert_ptr_equal(output.stream, stdout);
    assert_null(lw_output_close(&output));

    strcpy(name, in_directory("a"));
    assert_null(lw_output_open(&output, name, 1, false));
    assert_null(lw_output_close(&output));
    assert_int_equal(symlink("a", in_directory("link")), 0);
    if (geteuid() == 0) {
        expect_error(lw_output_open(&output, in_directory("link"), 1, true), ELOOP,
                     "symbolic link");
    } else {
        assert_null(lw_output_open(&output, in_directory("link"), 1, true));
        replace_contents(&output, "through the link", true);
        assert_null(lw_output_close(&output));
        expect_content("a", "through the link");
    }
    assert_int_equal(unlink(in_directory("link")), 0);
    assert_int_equal(unlink(name), 0);
}

static void test_refusals(void **state)
{
    struct lw_output output;
    char pipe_name[128];

    (void)state;
    expect_error(lw_output_open(&output, in_directory("no/such"), 1, false), ENOENT,
                 "No such file");
    expect_error(lw_output_open(&output, directory, 1, false), EISDIR, directory);
    strcpy(pipe_name, in_directory("pipe"));
    assert_int_equal(mkfifo(pipe_name, 0600), 0);
    expect_error(lw_output_open(&output, pipe_name, 1, false), ENXIO, "nobody reads");
    assert_int_equal(symlink("a", in_directory("link")), 0);
    if (geteuid() == 0) {
        expect_error(lw_output_open(&output, in_directory("link"), 1, false), ELOOP,
                     "symbolic link");
    } else {
        assert_null(lw_output_open(&output, in_directory("link"), 1, false));
        assert_null(lw_output_close(&output));
    }
}

static void test_full_disk(void **state)
{
    struct lw_output output;

    (void)state;
    assert_null(lw_output_open(&output, "/dev/full", 1, false));
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
        cmocka_unit_test(test_replaces_contents_at_once),
        cmocka_unit_test(test_a_left_temporary_file_is_no_obstacle),
        cmocka_unit_test(test_what_cannot_be_replaced),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
