/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Progress: drawn by itself, on a terminal, once something takes long; erased at its end. */
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "leakwatch/report/progress.h"

#define LIMIT_MS 20000

struct terminal {
    int master;
    FILE *stream;
    struct lw_status_line line;
    struct lw_progress progress;
};

static void open_terminal(struct terminal *terminal)
{
    struct winsize size = {.ws_row = 24, .ws_col = 40};
    int slave = -1;

    assert_int_equal(openpty(&terminal->master, &slave, NULL, NULL, &size), 0);
    terminal->stream = fdopen(slave, "w");
    assert_non_null(terminal->stream);
    setenv("TERM", "xterm", 1);
    lw_status_line_init(&terminal->line, terminal->stream, true);
    assert_true(terminal->line.enabled);
    lw_progress_init(&terminal->progress, &terminal->line);
}

static void close_terminal(struct terminal *terminal)
{
    fclose(terminal->stream);
    close(terminal->master);
}

/* Reads until the text has come. */
static void expect(const struct terminal *terminal, const char *expected)
{
    struct pollfd descriptor = {.fd = terminal->master, .events = POLLIN};
    char text[4096] = "";
    size_t used = 0;

    while (!strstr(text, expected)) {
        assert_true(used + 1 < sizeof(text));
        assert_int_equal(poll(&descriptor, 1, LIMIT_MS), 1);
        ssize_t count = read(terminal->master, text + used, sizeof(text) - used - 1);
        assert_true(count > 0);
        used += (size_t)count;
        text[used] = '\0';
    }
}

static bool is_silent(const struct terminal *terminal)
{
    struct pollfd descriptor = {.fd = terminal->master, .events = POLLIN};
    return poll(&descriptor, 1, 0) == 0;
}

static void test_drawn_and_erased(void **state)
{
    struct terminal terminal;

    (void)state;
    open_terminal(&terminal);
    lw_progress_begin(&terminal.progress);
    lw_progress_tell(&terminal.progress, "reading %s (%d of %d)", "libfoo\033[2J.so", 3, 12);
    expect(&terminal, "\rreading libfoo\\x1b[2J.so (3 of 12)\033[K");
    lw_progress_begin(&terminal.progress); /* goes on */
    lw_progress_tell(&terminal.progress, "naming stacks %s", "ééééééééééééééééééééééééééééééé");
    expect(&terminal, "\rnaming stacks ééééééééééééééééééééééééé\033[K"); /* 39 columns */
    lw_progress_end(&terminal.progress);
    expect(&terminal, "\r\033[K");
    assert_true(is_silent(&terminal));
    lw_progress_end(&terminal.progress);
    assert_true(is_silent(&terminal));
    close_terminal(&terminal);
}

static void test_silent_when_quick(void **state)
{
    struct terminal terminal;

    (void)state;
    open_terminal(&terminal);
    for (int i = 0; i < 3; i++) {
        lw_progress_begin(&terminal.progress);
        lw_progress_tell(&terminal.progress, "naming stacks");
        usleep(20000);
        lw_progress_end(&terminal.progress);
    }
    assert_true(is_silent(&terminal));
    close_terminal(&terminal);
}

static void test_silent_without_a_terminal(void **state)
{
    struct lw_status_line line = {.stream = stderr};
    struct lw_progress progress;

    (void)state;
    lw_progress_init(&progress, &line);
    lw_progress_begin(&progress);
    assert_false(progress.begun);
    lw_progress_tell(&progress, "naming stacks");
    lw_progress_tell(NULL, "naming stacks");
    lw_progress_end(&progress);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_drawn_and_erased),
        cmocka_unit_test(test_silent_when_quick),
        cmocka_unit_test(test_silent_without_a_terminal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
