/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the text of a report is composed of: names, counts, sizes and times. */
#include "text_pen.h"

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/text.h"

/* Nothing can be laid out in fewer. */
#define MIN_COLUMNS 20

struct lw_pen lw_pen_init(FILE *stream, const struct lw_writer_options *options)
{
    const unsigned columns =
        options->columns > 0 && options->columns < MIN_COLUMNS ? MIN_COLUMNS : options->columns;

    if (!options->color)
        return (struct lw_pen){stream, "", "", "", "", "", options->verbose, columns};
    /* Red and magenta can be read on a dark and on a light background alike. */
    return (struct lw_pen){.stream = stream,
                           .bold = "\033[1m",
                           .dim = "\033[2m",
                           .plain = "\033[0m",
                           .mark = "\033[1;35m",
                           .grown = "\033[1;31m",
                           .verbose = options->verbose,
                           .columns = columns};
}

void lw_pen_name(const struct lw_pen *pen, const char *name)
{
    lw_auto_free char *escaped = lw_text_escape(name);

    fputs(escaped ? escaped : "(out of memory)", pen->stream);
}

const char *lw_plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

void lw_pen_count(const struct lw_pen *pen, uint64_t count, const char *noun)
{
    char text[LW_UNITS_MAX];

    fprintf(pen->stream, "%s %s%s", lw_format_count(count, text), noun, lw_plural(count));
}

void lw_pen_bytes(const struct lw_pen *pen, uint64_t bytes)
{
    char text[LW_UNITS_MAX];

    fprintf(pen->stream, "%s%s%s", pen->bold, lw_format_size(bytes, text), pen->plain);
    if (bytes >= 1024)
        fprintf(pen->stream, " (%s bytes)", lw_format_count(bytes, text));
}

void lw_pen_estimate(const struct lw_pen *pen, uint64_t bytes, uint64_t error)
{
    char text[LW_UNITS_MAX], more[LW_UNITS_MAX];

    fprintf(pen->stream, "%s%s%s ± %s", pen->bold, lw_format_size(bytes, text), pen->plain,
            lw_format_size(error, more));
}

const char *lw_format_time(uint64_t ns, char buffer[LW_UNITS_MAX])
{
    if (ns >= LW_NS_PER_SECOND)
        return lw_format_duration(ns, buffer);
    if (ns >= 100 * LW_NS_PER_MS) /* cut: rounded, 999.9 would become 1e+03 */
        snprintf(buffer, LW_UNITS_MAX, "%llums", ns / LW_NS_PER_MS);
    else if (ns >= LW_NS_PER_MS)
        snprintf(buffer, LW_UNITS_MAX, "%.3gms", (double)ns / (double)LW_NS_PER_MS);
    else
        snprintf(buffer, LW_UNITS_MAX, "%lluus", ns / LW_NS_PER_US);
    return buffer;
}

/* What the form that lw_format_duration chooses leaves out is a part of this. */
static uint64_t shown_unit(uint64_t ns)
{
    const uint64_t minute = 60 * LW_NS_PER_SECOND;

    if (ns < 60 * minute)
        return LW_NS_PER_SECOND;
    return ns < 24 * 60 * minute ? minute : 60 * minute;
}

const char *lw_format_setting(uint64_t ns, char buffer[LW_UNITS_MAX])
{
    if (ns < LW_NS_PER_SECOND)
        snprintf(buffer, LW_UNITS_MAX, "%.9gms", (double)ns / (double)LW_NS_PER_MS);
    else if (ns < 60 * LW_NS_PER_SECOND || ns % shown_unit(ns) != 0)
        snprintf(buffer, LW_UNITS_MAX, "%.15gs", (double)ns / (double)LW_NS_PER_SECOND);
    else
        lw_format_duration(ns, buffer);
    return buffer;
}

void lw_pen_delta(const struct lw_pen *pen, int64_t delta)
{
    char text[LW_UNITS_MAX];

    fprintf(pen->stream, ", %s%s%s", delta > 0 ? pen->grown : pen->bold,
            lw_format_size_delta(delta, text), pen->plain);
}
