/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text within the width of a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "report/text_page.h"
#include "report/text_width.h"

static void expect(unsigned columns, bool verbose, const char *text, const char *expected)
{
    const struct lw_writer_options options = {.columns = columns, .verbose = verbose};
    struct lw_text_page page;
    char *result = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&result, &size);

    assert_non_null(stream);
    assert_int_equal(lw_text_page_begin(&page, stream, &options), 0);
    fputs(text, page.pen.stream);
    assert_int_equal(lw_text_page_end(&page), 0);
    fclose(stream);
    assert_string_equal(result, expected);
    free(result);
}

static void test_passed_on(void **state)
{
    const char *text = "one line that is much longer than what fits\n\nanother\n";

    (void)state;
    expect(0, false, text, text);
    expect(30, true, text, text);
    expect(80, false, text, text);
}

static void test_wrapped(void **state)
{
    (void)state;
    expect(30, false, "  live     1.52 MiB in 31,310 blocks, +697 KiB since then\n",
           "  live     1.52 MiB in 31,310\n"
           "           blocks, +697 KiB\n"
           "           since then\n");
    expect(40, false, "    12s to 15s old; 2 late frees; stack 17 and more\n",
           "    12s to 15s old; 2 late frees;\n"
           "      stack 17 and more\n");
    expect(30, false, "a b\n\n#1  244 KiB in 2,078 blocks, +176 KiB\n",
           "a b\n\n"
           "#1  244 KiB in 2,078 blocks,\n"
           "    +176 KiB\n");
    /* exactly as wide, and one more */
    expect(30, false, "0123456789 0123456789 01234567\n", "0123456789 0123456789 01234567\n");
    expect(30, false, "0123456789 0123456789 012345678\n", "0123456789 0123456789\n  012345678\n");
}

static void test_what_cannot_be_broken(void **state)
{
    (void)state;
    expect(30, false, "0123456789012345678901234567890123456789\n",
           "0123456789012345678901234567890123456789\n");
    expect(5, false, "0123456789 0123456789 0123456789\n", /* as if it were 20 */
           "0123456789\n  0123456789\n  0123456789\n");
}

static void test_width(void **state)
{
    (void)state;
    assert_int_equal(lw_text_width(""), 0);
    assert_int_equal(lw_text_width("±…a"), 3);
    assert_int_equal(lw_text_width("\033[1;35mab\033[0m"), 2);
    assert_int_equal(lw_text_fit("±…a", 2), 5);
    assert_int_equal(lw_text_fit("±…a", 0), 0);
    assert_int_equal(lw_text_fit("ab", 9), 2);
    assert_int_equal(lw_text_fit("a\033[0mb", 1), 5);
    expect(30, false, "\033[1m0123456789 012345678 012345678\033[0m\n",
           "\033[1m0123456789 012345678 012345678\033[0m\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passed_on),
        cmocka_unit_test(test_wrapped),
        cmocka_unit_test(test_what_cannot_be_broken),
        cmocka_unit_test(test_width),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
