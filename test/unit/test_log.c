/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines of the log: what is left out, what is escaped, and what the journal gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "leakwatch/base/log.h"

/* What a line of each level comes out as. `journal_offset`: how far JOURNAL_STREAM's inode is off
 * from that of stderr; below 0: it is not set. */
static void log_all(int journal_offset, char *text, size_t size)
{
    struct stat status;
    char stream[64];
    int ends[2], saved = dup(STDERR_FILENO);

    assert_true(saved >= 0);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(fstat(STDERR_FILENO, &status), 0);
    snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)status.st_dev,
             (uintmax_t)status.st_ino + (unsigned)journal_offset);
    if (journal_offset < 0)
        unsetenv("JOURNAL_STREAM");
    else
        setenv("JOURNAL_STREAM", stream, 1);
    lw_log_find_journal();
    lw_log(LW_LOG_ERROR, "e\n%d", 1);
    lw_warn("w");
    lw_info("i");
    lw_debug("d");
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(ends[1]);
    ssize_t count = read(ends[0], text, size - 1);
    close(ends[0]);
    assert_true(count >= 0);
    text[count] = '\0';
}

static void test_levels(void **state)
{
    char text[512];

    (void)state;
    lw_log_set_level(LW_LOG_WARNING);
    log_all(-1, text, sizeof(text));
    assert_string_equal(text, "leakwatch: e\\x0a1\nleakwatch: w\n");
    lw_log_set_level(LW_LOG_ERROR);
    log_all(-1, text, sizeof(text));
    assert_string_equal(text, "leakwatch: e\\x0a1\n");
}

static void test_journal(void **state)
{
    char text[512];

    (void)state;
    lw_log_set_level(LW_LOG_DEBUG);
    log_all(0, text, sizeof(text));
    assert_string_equal(text, "<3>leakwatch: e\\x0a1\n<4>leakwatch: w\n"
                              "<6>leakwatch: i\n<7>leakwatch: d\n");
    /* stderr has been sent elsewhere since */
    log_all(1, text, sizeof(text));
    assert_string_equal(text, "leakwatch: e\\x0a1\nleakwatch: w\nleakwatch: i\nleakwatch: d\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_journal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
