/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The line at the bottom of a terminal that shows a person that the watch works. */
#include "leakwatch/report/status_line.h"

#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/text.h"
#include "leakwatch/base/units.h"
#include "terminal.h"
#include "text_width.h"

/* Room for the widest line; the terminal's width cuts it further. */
#define LINE_MAX_BYTES 256

void lw_status_line_init(struct lw_status_line *line, FILE *stream, bool enabled)
{
    const char *terminal = getenv("TERM");

    *line = (struct lw_status_line){.stream = stream};
    /* a dumb terminal knows no erase-to-end-of-line */
    line->enabled =
        enabled && isatty(fileno(stream)) == 1 && terminal && strcmp(terminal, "dumb") != 0;
}

static void append(char *buffer, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void append(char *buffer, size_t size, const char *format, ...)
{
    size_t used = strlen(buffer);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(buffer + used, size - used, format, arguments);
    va_end(arguments);
}

void lw_status_line_format(const struct lw_status *status, unsigned columns, char *buffer,
                           size_t size)
{
    char text[LW_UNITS_MAX], more[LW_UNITS_MAX];

    if (size == 0)
        return;
    buffer[0] = '\0';
    /* most telling first, since the end may be cut */
    append(buffer, size, "%s", lw_format_duration(status->elapsed_ns, text));
    double rate = status->events_per_second > 0 ? status->events_per_second : 0;
    append(buffer, size, "  %s events/s",
           lw_format_count(rate < 1e18 ? (uint64_t)(rate + 0.5) : UINT64_MAX, text));
    append(buffer, size, "  %s live blocks, %s", lw_format_count(status->live_blocks, text),
           lw_format_size(status->live_bytes, more));
    if (status->oldest_age_ns != 0)
        append(buffer, size, "  oldest %s", lw_format_duration(status->oldest_age_ns, text));
    if (status->rss_bytes != 0)
        append(buffer, size, "  RSS %s", lw_format_size(status->rss_bytes, text));
    if (status->next_report_ns != LW_NEVER)
        append(buffer, size, "  next report in %s",
               lw_format_duration(status->next_report_ns, text));
    if (columns < size) /* all of it is ASCII: a byte is a column */
        buffer[columns] = '\0';
}

void lw_status_line_show(struct lw_status_line *line, const char *text)
{
    struct pollfd terminal = {.fd = fileno(line->stream), .events = POLLOUT};

    if (!line->enabled || poll(&terminal, 1, 0) != 1)
        return;
    lw_auto_free char *escaped = lw_text_escape(text);
    if (!escaped)
        return;
    /* the last column stays free: writing there makes some terminals wrap */
    size_t fitting = lw_text_fit(escaped, lw_terminal_columns(terminal.fd) - 1);
    fprintf(line->stream, "\r%.*s\033[K", (int)fitting, escaped);
    fflush(line->stream);
    line->drawn = true;
}

void lw_status_line_draw(struct lw_status_line *line, const struct lw_status *status)
{
    char text[LINE_MAX_BYTES];

    if (!line->enabled)
        return;
    lw_status_line_format(status, sizeof(text), text, sizeof(text));
    lw_status_line_show(line, text);
}

void lw_status_line_clear(struct lw_status_line *line)
{
    if (!line->drawn)
        return;
    fputs("\r\033[K", line->stream);
    fflush(line->stream);
    line->drawn = false;
}
