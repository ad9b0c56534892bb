/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Escaping of hostile text, files read whole, and the messages that are made of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/error.h"
#include "leakwatch/base/log.h"
#include "leakwatch/base/text.h"

static void check_escape(const char *text, const char *expected)
{
    lw_auto_free char *escaped = lw_text_escape(text);
    assert_non_null(escaped);
    assert_string_equal(escaped, expected);
}

static void test_escape_keeps_printable(void **state)
{
    (void)state;
    check_escape("", "");
    check_escape("std::vector<int>::push_back(int&&) ~ \\x",
                 "std::vector<int>::push_back(int&&) ~ \\x");
    check_escape("caf\u00e9 \u20ac \U0001f600 \u00a0", "caf\u00e9 \u20ac \U0001f600 \u00a0");
    check_escape("\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf",
                 "\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf");
}

static void test_escape_controls(void **state)
{
    (void)state;
    check_escape("a\nb\tc", "a\\x0ab\\x09c");
    check_escape("\x1b[31m", "\\x1b[31m");
    check_escape("\x01\x1f\x20\x7e\x7f", "\\x01\\x1f ~\\x7f");
    check_escape("\xc2\x80\xc2\x9b\xc2\x9f\xc2\xa0", "\\xc2\\x80\\xc2\\x9b\\xc2\\x9f\xc2\xa0");
}

static void test_escape_invalid_utf8(void **state)
{
    (void)state;
    check_escape("\x80z\xff\xfe", "\\x80z\\xff\\xfe");
    check_escape("\xc0\xaf", "\\xc0\\xaf");                   /* overlong */
    check_escape("\xe0\x80\xaf", "\\xe0\\x80\\xaf");          /* overlong */
    check_escape("\xf0\x8f\xbf\xbf", "\\xf0\\x8f\\xbf\\xbf"); /* overlong */
    check_escape("\xed\xa0\x80", "\\xed\\xa0\\x80");          /* surrogate */
    check_escape("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"); /* beyond U+10FFFF */
    /* cut short by the end, and by another character */
    check_escape("x\xe2", "x\\xe2");
    check_escape("x\xe2\x82", "x\\xe2\\x82");
    check_escape("x\xf0\x9f\x98", "x\\xf0\\x9f\\x98");
    check_escape("\xe2\x82"
                 "a",
                 "\\xe2\\x82"
                 "a");
    check_escape("\xe2\xc3\xa9", "\\xe2\xc3\xa9");
}

static void test_read_file(void **state)
{
    (void)state;
    char path[] = "/tmp/lw-test-text-XXXXXX";
    lw_auto_close int fd = mkstemp(path);
    assert_true(fd >= 0);
    size_t length = 1;
    lw_auto_free char *empty = lw_text_read_file(path, &length);
    assert_string_equal(empty, "");
    assert_int_equal(length, 0);

    /* longer than any first read, a power of two, and with a NUL inside */
    enum { SIZE = 32768 };
    lw_auto_free char *content = malloc(SIZE);
    assert_non_null(content);
    for (int i = 0; i < SIZE; i++)
        content[i] = (char)(i * 7);
    assert_int_equal(write(fd, content, SIZE), SIZE);
    lw_auto_free char *whole = lw_text_read_file(path, &length);
    assert_int_equal(unlink(path), 0);
    assert_non_null(whole);
    assert_int_equal(length, SIZE);
    assert_memory_equal(whole, content, SIZE);
    assert_int_equal(whole[SIZE], 0);
}

static void test_read_file_failures(void **state)
{
    (void)state;
    errno = 0;
    assert_null(lw_text_read_file("/nonexistent/file", NULL));
    assert_int_equal(errno, ENOENT);
    assert_null(lw_text_read_file("/tmp", NULL));
    assert_int_equal(errno, EISDIR);
    assert_null(lw_text_read_file("/dev/zero", NULL));
    assert_int_equal(errno, EFBIG);
    lw_auto_free char *status = lw_text_read_file("/proc/self/status", NULL);
    assert_non_null(status);
    assert_memory_equal(status, "Name:", 5);
}

static void test_error(void **state)
{
    (void)state;
    lw_error *error = lw_error_create(EPERM, "cannot attach to %d: %s\n\n", 42, "no");
    assert_string_equal(lw_error_message(error), "cannot attach to 42: no");
    assert_int_equal(lw_error_code(error), EPERM);
    lw_error_destroy(error);
    error = lw_error_create(0, "%s", "");
    assert_string_equal(lw_error_message(error), "");
    lw_error_destroy(error);
    lw_error_destroy(NULL);
}

/* What lw_log writes to stderr at the given level, in `output`. */
static void capture_log(enum lw_log_level threshold, enum lw_log_level level, const char *text,
                        char output[256])
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    int saved = dup(STDERR_FILENO);
    assert_true(saved >= 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    enum lw_log_level before = lw_log_get_level();
    lw_log_set_level(threshold);
    errno = ERANGE;
    lw_log(level, "%s", text);
    int error_after = errno;
    lw_log_set_level(before);
    dup2(saved, STDERR_FILENO);
    ssize_t count = read(ends[0], output, 255);
    output[count > 0 ? count : 0] = '\0';
    close(saved);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(error_after, ERANGE);
}

static void test_log(void **state)
{
    (void)state;
    char output[256];
    assert_int_equal(lw_log_get_level(), LW_LOG_WARNING);
    capture_log(LW_LOG_WARNING, LW_LOG_WARNING, "a\x1b[0m\nb", output);
    assert_string_equal(output, "leakwatch: a\\x1b[0m\\x0ab\n");
    capture_log(LW_LOG_WARNING, LW_LOG_INFO, "unseen", output);
    assert_string_equal(output, "");
    capture_log(LW_LOG_ERROR, LW_LOG_WARNING, "unseen", output);
    assert_string_equal(output, "");
    capture_log(LW_LOG_DEBUG, LW_LOG_DEBUG, "seen", output);
    assert_string_equal(output, "leakwatch: seen\n");
}

static void test_clock(void **state)
{
    (void)state;
    uint64_t first = lw_clock_now();
    assert_true(first > 0);
    assert_true(lw_clock_now() >= first);
    assert_true(lw_clock_realtime() > 1600000000 * LW_NS_PER_SECOND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_escape_keeps_printable),
        cmocka_unit_test(test_escape_controls),
        cmocka_unit_test(test_escape_invalid_utf8),
        cmocka_unit_test(test_read_file),
        cmocka_unit_test(test_read_file_failures),
        cmocka_unit_test(test_error),
        cmocka_unit_test(test_log),
        cmocka_unit_test(test_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
