/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Diagnostics on stderr, one line and one write each. */
#include "leakwatch/base/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/text.h"

/* The one setting of the program that is not passed: set before any thread starts, then only read.
 */
static enum lw_log_level log_level = LW_LOG_WARNING;
static bool to_journal; /* likewise */

void lw_log_set_level(enum lw_log_level level)
{
    log_level = level;
}

void lw_log_find_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat status;

    to_journal = stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
                 fstat(STDERR_FILENO, &status) == 0 && status.st_dev == device &&
                 status.st_ino == inode;
}

enum lw_log_level lw_log_get_level(void)
{
    return log_level;
}

/* A diagnostic that cannot be written has nowhere to be reported: give up silently. */
static void write_all(const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t written = write(STDERR_FILENO, bytes, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return;
        bytes += written;
        length -= (size_t)written;
    }
}

/* A terminal or pipe that nobody reads must not hold up the caller: it may be the tracer, for whom
 * threads of the process under watch wait. */
static bool can_take(size_t length)
{
    struct pollfd descriptor = {.fd = STDERR_FILENO, .events = POLLOUT};
    return length <= PIPE_BUF && poll(&descriptor, 1, 0) == 1 && (descriptor.revents & POLLOUT);
}

/* The whole line, or NULL when memory has run out. */
static char *format_line(enum lw_log_level level, const char *format, va_list arguments)
{
    /* as sd-daemon(3) has them */
    static const char *const priorities[] = {"<3>", "<4>", "<6>", "<7>"};
    lw_auto_free char *message = NULL;
    if (vasprintf(&message, format, arguments) < 0) {
        message = NULL; /* its value is undefined then */
        return NULL;
    }
    lw_auto_free char *escaped = lw_text_escape(message);
    char *line = NULL;
    if (!escaped ||
        asprintf(&line, "%sleakwatch: %s\n", to_journal ? priorities[level] : "", escaped) < 0)
        return NULL;
    return line;
}

void lw_log(enum lw_log_level level, const char *format, ...)
{
    if (level > log_level)
        return;
    int saved_errno = errno;
    va_list arguments;
    va_start(arguments, format);
    lw_auto_free char *line = format_line(level, format, arguments);
    va_end(arguments);
    const char *text = line ? line : "leakwatch: out of memory while writing a message\n";
    if (can_take(strlen(text)))
        write_all(text, strlen(text));
    errno = saved_errno;
}
