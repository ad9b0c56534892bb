/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The status line: its text, its width, and that it is only drawn on a terminal. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "leakwatch/base/clock.h"
#include "leakwatch/report/status_line.h"

static const struct lw_status sample = {
    .elapsed_ns = 80 * LW_NS_PER_SECOND,
    .next_report_ns = 3200 * LW_NS_PER_MS,
    .events_per_second = 1234.4,
    .live_blocks = 123456,
    .live_bytes = 3 << 20,
    .oldest_age_ns = 75 * LW_NS_PER_SECOND,
    .rss_bytes = 45 << 20,
};

static void test_format(void **state)
{
    char text[256];
    struct lw_status empty = {.next_report_ns = LW_NEVER};

    (void)state;
    lw_status_line_format(&sample, 200, text, sizeof(text));
    assert_string_equal(text, "1m 20s  1,234 events/s  123,456 live blocks, 3.00 MiB  "
                              "oldest 1m 15s  RSS 45.0 MiB  next report in 3.2s");
    lw_status_line_format(&empty, 200, text, sizeof(text));
    assert_string_equal(text, "0.0s  0 events/s  0 live blocks, 0 B");
}

static void test_cut(void **state)
{
    char text[256], tiny[5];

    (void)state;
    lw_status_line_format(&sample, 12, text, sizeof(text));
    assert_string_equal(text, "1m 20s  1,23");
    lw_status_line_format(&sample, 0, text, sizeof(text));
    assert_string_equal(text, "");
    lw_status_line_format(&sample, 200, tiny, sizeof(tiny));
    assert_string_equal(tiny, "1m 2");
}

static void test_silent_without_a_terminal(void **state)
{
    struct lw_status_line line;
    char *text = NULL;
    size_t size;
    int ends[2];

    (void)state;
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    FILE *stream = fdopen(ends[1], "w");
    lw_status_line_init(&line, stream, true);
    assert_false(line.enabled);
    lw_status_line_draw(&line, &sample);
    lw_status_line_clear(&line);
    fclose(stream);
    char byte;
    assert_int_equal(read(ends[0], &byte, 1), 0);
    close(ends[0]);

    FILE *memory = open_memstream(&text, &size); /* has no descriptor at all */
    lw_status_line_init(&line, memory, true);
    assert_false(line.enabled);
    fclose(memory);
    free(text);
}

static void test_on_a_terminal(void **state)
{
    struct winsize narrow = {.ws_row = 24, .ws_col = 13};
    struct lw_status_line line;
    char text[256] = "";

    (void)state;
    setenv("TERM", "xterm", 1);
    int controller = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(controller >= 0);
    assert_int_equal(grantpt(controller), 0);
    assert_int_equal(unlockpt(controller), 0);
    FILE *terminal = fopen(ptsname(controller), "w");
    assert_non_null(terminal);
    assert_int_equal(ioctl(controller, TIOCSWINSZ, &narrow), 0);

    lw_status_line_init(&line, terminal, false);
    assert_false(line.enabled);
    lw_status_line_init(&line, terminal, true);
    assert_true(line.enabled);
    lw_status_line_clear(&line); /* nothing is drawn: nothing to clear */
    lw_status_line_draw(&line, &sample);
    assert_true(line.drawn);
    lw_status_line_clear(&line);
    assert_false(line.drawn);
    /* what is flushed twice may come in two parts */
    while (strlen(text) < strlen("\r1m 20s  1,23\033[K\r\033[K"))
        assert_true(read(controller, text + strlen(text), sizeof(text) - 1 - strlen(text)) > 0);
    assert_string_equal(text, "\r1m 20s  1,23\033[K\r\033[K");

    setenv("TERM", "dumb", 1);
    lw_status_line_init(&line, terminal, true);
    assert_false(line.enabled);
    fclose(terminal);
    close(controller);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_silent_without_a_terminal),
        cmocka_unit_test(test_on_a_terminal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
