/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A comparison as a flame graph, red where something has grown and blue where it has shrunk. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/units.h"
#include "leakwatch/report/diff.h"
#include "markup.h"
#include "svg.h"
#include "text_pen.h"

/*
 * A frame is as wide as what it had before and has after, together: so what is gone is seen, too.
 * The tree sums two figures for each node, the bytes and the blocks of a report's stacks. Here they
 * are, in bytes or blocks: `bytes` before and after together, `blocks` after.
 */
static uint64_t after_of(const struct lw_flame_node *node)
{
    return node->blocks;
}

static uint64_t before_of(const struct lw_flame_node *node)
{
    return node->bytes - node->blocks;
}

static bool counts_blocks(const struct lw_svg *svg)
{
    return lw_diff_counts_blocks(svg->subject);
}

static const char *format_figure(const struct lw_svg *svg, uint64_t figure,
                                 char buffer[LW_UNITS_MAX])
{
    return counts_blocks(svg) ? lw_format_count(figure, buffer) : lw_format_size(figure, buffer);
}

/* "+3.00 KiB: from 1.00 KiB to 4.00 KiB" */
static void put_sizes(const struct lw_svg *svg, const struct lw_flame_node *node)
{
    uint64_t before = before_of(node), after = after_of(node);
    char text[LW_UNITS_MAX];

    fprintf(svg->stream, "%c%s", after < before ? '-' : '+',
            format_figure(svg, after < before ? before - after : after - before, text));
    fprintf(svg->stream, ": from %s", format_figure(svg, before, text));
    fprintf(svg->stream, " to %s%s", format_figure(svg, after, text),
            counts_blocks(svg) ? " blocks" : "");
}

/* The stronger the larger the change is, as a part of what there is; grey: none. */
static void put_colour(const struct lw_svg *svg, const struct lw_flame_node *node)
{
    uint64_t before = before_of(node), after = after_of(node);
    uint64_t change = after < before ? before - after : after - before;
    unsigned pale = 235 - (unsigned)((unsigned __int128)change * 150 / (node->bytes + 1));

    if (change == 0)
        fputs("#ebebeb", svg->stream);
    else if (after > before)
        fprintf(svg->stream, "rgb(255,%u,%u)", pale, pale);
    else
        fprintf(svg->stream, "rgb(%u,%u,255)", pale, pale);
}

static int put_side(const struct lw_svg *svg, const struct lw_diff_side *side)
{
    int result = lw_markup_text(svg->stream, side->saved->path);

    fprintf(svg->stream, ":%zu (PID %d)", side->saved->line, (int)side->saved->report.context.pid);
    return result;
}

static int put_heading(const struct lw_svg *svg)
{
    const struct lw_diff *diff = svg->subject;
    FILE *stream = svg->stream;
    const char *weight = lw_diff_counts_blocks(diff) ? "blocks" : "bytes";

    fprintf(stream,
            "<text class=\"heading\" x=\"10\" y=\"20\">Change of %s %s, red: growth, blue: "
            "shrinkage</text>\n<text class=\"note\" x=\"10\" y=\"38\">",
            lw_weight_is_live(diff->options.weight) ? "live" : "expired", weight);
    if (svg->total == 0)
        fputs("Nothing in either report", stream);
    else
        put_sizes(svg, &svg->tree.nodes.items[0]);
    fputs("; from ", stream);
    int result = put_side(svg, &diff->before);
    fputs(" to ", stream);
    if (result == 0)
        result = put_side(svg, &diff->after);
    fprintf(stream, "; as wide as before and after together%s</text>\n",
            diff->note_count > 0 ? "; not fully comparable" : "");
    return result;
}

/* Figures so large that their sums in the tree do not overflow. */
static uint64_t bounded(uint64_t figure, size_t stacks)
{
    uint64_t most = UINT64_MAX / 4 / (stacks + 1);

    return figure < most ? figure : most;
}

static int write_svg(FILE *stream, const struct lw_writer_options *options,
                     const struct lw_diff *diff)
{
    size_t count = diff->stack_count;
    lw_auto_free struct lw_report_stack *stacks = calloc(count + 1, sizeof(*stacks));
    bool blocks = lw_diff_counts_blocks(diff);

    (void)options;
    if (!stacks)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        const struct lw_diff_stack *stack = &diff->stacks[i];
        uint64_t before = bounded(blocks ? stack->from.blocks : stack->from.bytes, count);
        uint64_t after = bounded(blocks ? stack->to.blocks : stack->to.bytes, count);

        stacks[i] = *lw_diff_shown_stack(stack);
        stacks[i].facts.stats.expired_bytes = before + after;
        stacks[i].facts.stats.expired_blocks = after;
    }
    const struct lw_report report = {.stacks = stacks, .every_count = count};
    struct lw_svg svg = {
        .stream = stream,
        .report = &report,
        .subject = diff,
        .put_heading = put_heading,
        .put_sizes = put_sizes,
        .put_colour = put_colour,
    };
    return lw_svg_write(&svg, LW_WEIGHT_EXPIRED_BYTES);
}

const struct lw_diff_writer lw_diff_svg_writer = {.name = "svg", .write = write_svg};
