/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A comparison as folded stacks with two weights, before and after: what difffolded.pl prints, and
 * flamegraph.pl draws in red and blue. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "folded.h"
#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/vector.h"
#include "leakwatch/report/diff.h"
#include "stream.h"

struct folded_line {
    char *names;
    uint64_t before, after;
};

typedef LW_VECTOR(struct folded_line) line_vector;

static void release_lines(line_vector *lines)
{
    lw_vector_for_each (line, lines)
        free(line->names);
    lw_vector_deinit(lines);
}

static int add_line(line_vector *lines, const struct lw_diff *diff,
                    const struct lw_diff_stack *stack)
{
    bool blocks = lw_diff_counts_blocks(diff);
    struct folded_line line = {
        .before = blocks ? stack->from.blocks : stack->from.bytes,
        .after = blocks ? stack->to.blocks : stack->to.bytes,
    };
    size_t size;

    if (line.before == 0 && line.after == 0)
        return 0;
    FILE *stream = open_memstream(&line.names, &size);
    if (!stream)
        return -ENOMEM;
    int result = lw_folded_write_names(stream, lw_diff_shown_stack(stack));
    if (fclose(stream) != 0)
        result = -ENOMEM;
    if (result == 0)
        result = lw_vector_push(lines, line);
    if (result != 0)
        free(line.names);
    return result;
}

static int compare_lines(const void *left, const void *right)
{
    const struct folded_line *a = left, *b = right;

    return strcmp(a->names, b->names);
}

/* flamegraph.pl takes the difference from the first of two lines with the same names, so there must
 * not be two. */
static void write_lines(FILE *stream, const line_vector *lines)
{
    for (size_t i = 0; i < lines->count;) {
        struct folded_line sum = lines->items[i];

        while (++i < lines->count && strcmp(lines->items[i].names, sum.names) == 0) {
            sum.before += lines->items[i].before;
            sum.after += lines->items[i].after;
        }
        fprintf(stream, "%s %llu %llu\n", sum.names, (unsigned long long)sum.before,
                (unsigned long long)sum.after);
    }
}

static int write_folded(FILE *stream, const struct lw_writer_options *options,
                        const struct lw_diff *diff)
{
    LW_CLEANUP(release_lines) line_vector lines = {0};

    (void)options;
    for (size_t i = 0; i < diff->stack_count; i++) {
        int result = add_line(&lines, diff, &diff->stacks[i]);
        if (result != 0)
            return result;
    }
    if (lines.count > 0)
        qsort(lines.items, lines.count, sizeof(lines.items[0]), compare_lines);
    write_lines(stream, &lines);
    return lw_stream_flush(stream);
}

const struct lw_diff_writer lw_diff_folded_writer = {.name = "folded", .write = write_folded};
