/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text that is kept within the width of a terminal. */
#include "text_page.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"
#include "text_width.h"

/* The column at which a line's text begins: behind its indentation, and behind a label that two
 * blanks part from it. */
static size_t hanging_indent(const char *line, unsigned columns)
{
    const size_t blanks = strspn(line, " ");
    const size_t label = strcspn(line + blanks, " ");
    const size_t gap = strspn(line + blanks + label, " ");
    size_t indent = blanks + 2;

    if (gap >= 2)
        indent = lw_text_width(line) - lw_text_width(line + blanks + label + gap);
    return indent < columns / 2 ? indent : 2;
}

/* The bytes of the line that go before a break: up to the last blank that fits, rather one behind a
 * comma, a semicolon or a colon. All of it when it cannot be broken. */
static size_t find_break(const char *line, size_t columns)
{
    const size_t fitting = lw_text_fit(line, columns + 1), begin = strspn(line, " ");
    size_t last = 0;

    for (size_t i = fitting; i > begin + 1; i--) {
        if (line[i - 1] != ' ' || line[i - 2] == ' ')
            continue;
        if (last == 0)
            last = i - 1;
        if (strchr(",;:", line[i - 2]) && i > fitting / 2)
            return i - 1;
    }
    return last > 0 ? last : strlen(line);
}

static void write_line(FILE *stream, const char *line, unsigned columns)
{
    const size_t indent = hanging_indent(line, columns);
    size_t room = columns;

    while (lw_text_width(line) > room) {
        const size_t length = find_break(line, room);

        fprintf(stream, "%.*s\n", (int)length, line);
        line += length;
        line += strspn(line, " ");
        if (!*line)
            return;
        fprintf(stream, "%*s", (int)indent, "");
        room = columns - indent;
    }
    fprintf(stream, "%s\n", line);
}

int lw_text_page_begin(struct lw_text_page *page, FILE *stream,
                       const struct lw_writer_options *options)
{
    *page = (struct lw_text_page){.stream = stream, .pen = lw_pen_init(stream, options)};
    if (options->columns == 0 || options->verbose)
        return 0;
    page->pen.stream = open_memstream(&page->text, &page->size);
    return page->pen.stream ? 0 : -ENOMEM;
}

int lw_text_page_end(struct lw_text_page *page)
{
    if (page->pen.stream != page->stream) {
        if (fclose(page->pen.stream) != 0) {
            free(page->text);
            return -ENOMEM;
        }
        char *rest = page->text;
        for (char *line; (line = strsep(&rest, "\n")) && rest;)
            write_line(page->stream, line, page->pen.columns);
        free(page->text);
    }
    return lw_stream_flush(page->stream);
}
