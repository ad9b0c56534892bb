/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The frames of a stack as lines of text. */
#include "text_frames.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "frame_role.h"
#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/text.h"
#include "short_name.h"
#include "text_width.h"

#define INDENT 4
/* Columns that a name gets, however long what follows it is. */
#define MIN_NAME 24
/* Where no terminal sets a limit, names of functions keep to this. */
#define LONG_NAME 512
/* Components of a source file's path that are shown. */
#define PATH_COMPONENTS 2

/* What a line says of a frame; the strings are escaped. */
struct line {
    char *function, *file; /* NULL: unknown */
    char *module;
    const char *path;            /* the end of `file` that is shown */
    char offset[32], number[16]; /* behind the function and the file */
    struct lw_frame_look look;
    bool no_module;
};

static void line_deinit(struct line *line)
{
    free(line->function);
    free(line->file);
    free(line->module);
}

static char *escape(const char *text)
{
    char *escaped = text ? lw_text_escape(text) : NULL;

    return escaped || !text ? escaped : strdup("(out of memory)");
}

static const char *last_components(const char *path, unsigned count)
{
    for (const char *at = path + strlen(path); at > path; at--)
        if (at[-1] == '/' && --count == 0)
            return at - 1 == path ? path : at;
    return path;
}

static size_t width_of_rest(const struct line *line)
{
    size_t width = INDENT + strlen(line->offset);

    if (line->path)
        width += strlen("  ") + lw_text_width(line->path) + strlen(line->number);
    if (!line->no_module && line->module)
        width += strlen("  ()") + lw_text_width(line->module);
    return width;
}

/* Shortens what does not fit into `columns`: where there is a file, the module goes first, then the
 * function's name is shortened and, if that gets too short, the path. */
static void fit_line(struct line *line, size_t columns)
{
    size_t limit = LONG_NAME;

    if (columns > 0) {
        const size_t width = lw_text_width(line->function);

        line->no_module = line->path && width_of_rest(line) + width > columns;
        if (line->path && width_of_rest(line) + (width < MIN_NAME ? width : MIN_NAME) > columns)
            line->path = last_components(line->file, 1);
        const size_t rest = width_of_rest(line);
        limit = columns > rest + MIN_NAME ? columns - rest : MIN_NAME;
    }
    char *shorter = lw_name_shorten(line->function, limit);
    if (shorter) {
        free(line->function);
        line->function = shorter;
    }
}

static void describe(struct line *line, const struct lw_pen *pen,
                     const struct lw_report_frame *frame)
{
    const char *module = pen->verbose && frame->module_path ? frame->module_path : frame->module;

    line->function = escape(frame->function);
    line->file = escape(frame->file);
    line->module = escape(frame->module ? module : "no module");
    line->path = line->file;
    if (line->file && !pen->verbose)
        line->path = last_components(line->file, PATH_COMPONENTS);
    if (frame->file && frame->line > 0)
        snprintf(line->number, sizeof(line->number), ":%d", frame->line);
    if (frame->function && frame->inlined)
        strcpy(line->offset, " [inlined]");
    else if (frame->function && !line->look.no_offset)
        snprintf(line->offset, sizeof(line->offset), "+0x%" PRIx64, frame->function_offset);
    if (line->function && !pen->verbose)
        fit_line(line, pen->columns);
}

/* An address is shown where there is no name to show, and always under -v. */
static void print_function(const struct lw_pen *pen, const struct line *line,
                           const struct lw_report_frame *frame, const char *dim)
{
    const char *look = line->look.is_marked ? pen->mark : "";

    if (!frame->function)
        fprintf(pen->stream, "%s0x%012" PRIx64 "%s", line->look.is_marked ? look : dim,
                frame->address, line->look.is_leading ? "" : pen->plain);
    else if (pen->verbose)
        fprintf(pen->stream, "%s0x%012" PRIx64 "%s  ", dim, frame->address,
                line->look.is_leading ? "" : pen->plain);
    if (frame->function)
        fprintf(pen->stream, "%s%s%s%s", look, line->function,
                line->look.is_marked ? pen->plain : "", line->offset);
}

static void print_module(const struct lw_pen *pen, const struct line *line,
                         const struct lw_report_frame *frame, const char *dim)
{
    fprintf(pen->stream, "  %s(%s", dim, line->module);
    /* what addr2line wants */
    if (frame->module && (pen->verbose || !frame->function))
        fprintf(pen->stream, "+0x%" PRIx64, frame->offset);
    fprintf(pen->stream, ")%s", pen->plain);
}

static void print_line(const struct lw_pen *pen, const struct line *line,
                       const struct lw_report_frame *frame)
{
    /* within a line that is dim, nothing is dimmer */
    const char *dim = line->look.is_leading ? "" : pen->dim;

    if (line->look.is_marked)
        fprintf(pen->stream, "%s  > %s", pen->mark, pen->plain);
    else
        fprintf(pen->stream, "%s    ", line->look.is_leading ? pen->dim : "");
    print_function(pen, line, frame, dim);
    if (line->path)
        fprintf(pen->stream, "  %s%s", line->path, line->number);
    if (!line->no_module)
        print_module(pen, line, frame, dim);
    else if (line->look.is_leading)
        fputs(pen->plain, pen->stream);
    putc('\n', pen->stream);
}

void lw_text_frame(const struct lw_pen *pen, const struct lw_report_frame *frame,
                   const struct lw_frame_look *look)
{
    LW_CLEANUP(line_deinit) struct line line = {.look = *look};

    describe(&line, pen, frame);
    print_line(pen, &line, frame);
}

void lw_text_frames(const struct lw_pen *pen, struct lw_outer_frames *outer,
                    const struct lw_report *report, size_t index)
{
    const struct lw_report_stack *stack = &report->stacks[index];
    const size_t own = lw_report_own_frame(stack);
    const bool has_own = own < stack->frame_count;
    size_t as = 0, shared = 0;

    if (!pen->verbose)
        shared = lw_outer_frames_shared(outer, report, index, has_own ? own : 0, &as);
    for (size_t i = 0; i + shared < stack->frame_count; i++)
        lw_text_frame(
            pen, &stack->frames[i],
            &(struct lw_frame_look){.is_leading = has_own && i < own, .is_marked = i == own});
    if (shared > 0)
        fprintf(pen->stream, "    %s… %zu outer frames as in #%zu%s\n", pen->dim, shared, as + 1,
                pen->plain);
    if (stack->frame_count == 0)
        fputs("    no frame could be read\n", pen->stream);
    else if (stack->facts.stack->truncated)
        fputs("    (cut short: the outer frames are not known)\n", pen->stream);
}
