/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs the parser of options in a child, which it may end. */
#ifndef LEAKWATCH_TEST_OPTIONS_CHILD_H
#define LEAKWATCH_TEST_OPTIONS_CHILD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "leakwatch/app/options.h"

#define LIST(...) ((const char *[]){"leakwatch", __VA_ARGS__, NULL})

static void parse(struct lw_options *options, const char **arguments)
{
    int count = 0;

    while (arguments[count])
        count++;
    lw_options_parse(options, count, (char **)arguments);
}

/* Runs the parser in a child; its exit code, and what it printed on both streams. */
static int parse_in_child(const char **arguments, char *output, size_t size)
{
    int ends[2], status;
    size_t used = 0;
    ssize_t count;

    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct lw_options options;
        dup2(ends[1], STDOUT_FILENO);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        parse(&options, arguments);
        _exit(99); /* accepted */
    }
    close(ends[1]);
    while (used < size - 1 && (count = read(ends[0], output + used, size - 1 - used)) > 0)
        used += (size_t)count;
    output[used] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#endif
