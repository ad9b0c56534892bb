/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reports as a flame graph: one SVG file, which shows all by itself and answers in a browser. */
#include "svg.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "assets.h"
#include "frame_name.h"
#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/units.h"
#include "markup.h"
#include "stream.h"

#define WIDTH       1200 /* where nobody stretches it */
#define GRAPH_TOP   76
#define LINE_HEIGHT 17u
/* Narrower frames, in parts of the whole, are left out: nobody sees them, but browsers draw them.
 */
#define NARROWEST 5000

/* What a person calls a weight. */
static const struct {
    const char *of, *nothing;
} weight_words[] = {
    [LW_WEIGHT_EXPIRED_BYTES] = {"expired bytes", "Nothing has expired."},
    [LW_WEIGHT_EXPIRED_BLOCKS] = {"expired blocks", "Nothing has expired."},
    [LW_WEIGHT_LIVE_BYTES] = {"live bytes", "Nothing is live."},
    [LW_WEIGHT_LIVE_BLOCKS] = {"live blocks", "Nothing is live."},
};

/* part / whole * scale, rounded to `digits` decimals; from integers, since printf's %f would follow
 * the locale. */
static void put_part(FILE *stream, uint64_t part, uint64_t whole, unsigned scale, unsigned digits)
{
    uint64_t power = 1;

    for (unsigned i = 0; i < digits; i++)
        power *= 10;
    uint64_t value = (uint64_t)(((unsigned __int128)part * scale * power + whole / 2) / whole);
    fprintf(stream, "%llu.%0*llu", (unsigned long long)(value / power), (int)digits,
            (unsigned long long)(value % power));
}

/* The same colour for the same function in every graph; a hue for each module. */
static void put_colour(const struct lw_svg *svg, const struct lw_flame_node *node)
{
    const struct lw_report_frame *frame = node->frame;
    FILE *stream = svg->stream;
    uint32_t hue = 2166136261u, tone = 2166136261u; /* FNV-1a */

    if (!frame) {
        fputs("#cccccc", stream);
        return;
    }
    for (const char *c = frame->module; c && *c; c++)
        hue = (hue ^ (unsigned char)*c) * 16777619u;
    for (const char *c = frame->function; c && *c; c++)
        tone = (tone ^ (unsigned char)*c) * 16777619u;
    fprintf(stream, "hsl(%u,%u%%,%u%%)", (hue >> 8) % 24 * 15, 55 + (tone >> 8) % 20,
            66 + (tone >> 16) % 12);
}

static char *node_name(const struct lw_flame_node *node)
{
    if (node->frame)
        return lw_frame_name(node->frame);
    return strdup(node->truncated ? LW_TRUNCATED_NAME : "all");
}

static void put_sizes(const struct lw_svg *svg, const struct lw_flame_node *node)
{
    char size[LW_UNITS_MAX], bytes[LW_UNITS_MAX], blocks[LW_UNITS_MAX];

    fprintf(svg->stream, "%s (%s bytes) in %s block%s", lw_format_size(node->bytes, size),
            lw_format_count(node->bytes, bytes), lw_format_count(node->blocks, blocks),
            node->blocks == 1 ? "" : "s");
}

/* What is shown of a frame that is pointed at: name, sizes, place. */
static int put_title(const struct lw_svg *svg, const struct lw_flame_node *node, const char *name)
{
    const struct lw_report_frame *frame = node->frame;
    int result = 0;

    fputs("<title>", svg->stream);
    result = lw_markup_text(svg->stream, name);
    fputs("\n", svg->stream);
    svg->put_sizes(svg, node);
    fputs(", ", svg->stream);
    put_part(svg->stream, lw_flame_node_value(&svg->tree, node), svg->total, 100, 1);
    fputs("%", svg->stream);
    if (frame && frame->file && result == 0) {
        fputs("\n", svg->stream);
        result = lw_markup_text(svg->stream, frame->file);
        fprintf(svg->stream, ":%d%s", frame->line, node->several_lines ? " and others" : "");
    }
    if (frame && frame->module && result == 0) {
        fprintf(svg->stream, "%s(", frame->file ? " " : "\n");
        result = lw_markup_text(svg->stream, frame->module);
        fputs(")", svg->stream);
    }
    fputs("</title>", svg->stream);
    return result;
}

static int put_frame(const struct lw_svg *svg, const struct lw_flame_node *node, uint64_t start)
{
    FILE *stream = svg->stream;
    uint64_t value = lw_flame_node_value(&svg->tree, node);
    lw_auto_free char *name = node_name(node);

    if (!name)
        return -ENOMEM;
    fputs("<svg class=\"frame\" x=\"", stream);
    put_part(stream, start, svg->total, 100, 5);
    fprintf(stream, "%%\" y=\"%u\" width=\"", node->depth * LINE_HEIGHT);
    put_part(stream, value, svg->total, 100, 5);
    fprintf(stream, "%%\" height=\"%u\" data-x=\"", LINE_HEIGHT - 1);
    put_part(stream, start, svg->total, 1, 9);
    fputs("\" data-width=\"", stream);
    put_part(stream, value, svg->total, 1, 9);
    fprintf(stream, "\" data-depth=\"%u\">", node->depth);
    int result = put_title(svg, node, name);
    fputs("<rect width=\"100%\" height=\"100%\" fill=\"", stream);
    svg->put_colour(svg, node);
    fputs("\"/><text x=\"3\" y=\"12\">", stream);
    if (result == 0)
        result = lw_markup_text(stream, name);
    fputs("</text></svg>\n", stream);
    return result;
}

/* The node, which begins at `start`, and all below it. */
static int put_frames(const struct lw_svg *svg, uint32_t index, uint64_t start)
{
    const struct lw_flame_node *node = &svg->tree.nodes.items[index];
    int result = put_frame(svg, node, start);

    for (uint32_t i = node->first_child; i != 0 && result == 0;) {
        const struct lw_flame_node *child = &svg->tree.nodes.items[i];
        uint64_t value = lw_flame_node_value(&svg->tree, child);

        if (value * NARROWEST < svg->total)
            break; /* those that follow are smaller still */
        result = put_frames(svg, i, start);
        start += value;
        i = child->next_sibling;
    }
    return result;
}

static int put_heading(const struct lw_svg *svg)
{
    const struct lw_report *report = svg->report;
    const struct lw_report_context *context = &report->context;
    FILE *stream = svg->stream;
    char expire[LW_UNITS_MAX], elapsed[LW_UNITS_MAX], day[64] = "";
    time_t seconds = (time_t)(context->time_ns / LW_NS_PER_SECOND);
    struct tm tm;

    if (gmtime_r(&seconds, &tm))
        strftime(day, sizeof(day), "%Y-%m-%d %H:%M:%S UTC", &tm);
    fputs("<text class=\"heading\" x=\"10\" y=\"20\">", stream);
    int result = lw_markup_text(stream, context->exe ? context->exe : "");
    fprintf(stream, " (PID %d): %s by call stack</text>\n<text class=\"note\" x=\"10\" y=\"38\">",
            (int)context->pid, weight_words[svg->tree.weight].of);
    if (svg->total == 0)
        fputs(weight_words[svg->tree.weight].nothing, stream);
    else
        put_sizes(svg, &svg->tree.nodes.items[0]);
    fprintf(stream, "; expired: older than %s; %s into the watch, %s%s</text>\n",
            lw_format_duration(report->expire_ns, expire),
            lw_format_duration(context->elapsed_ns, elapsed), day,
            report->sample_bytes ? "; estimated from samples" : "");
    return result;
}

static const char controls[] =
    "<foreignObject id=\"controls\" x=\"10\" y=\"42\" width=\"100%\" height=\"34\" "
    "style=\"display:none\"><div xmlns=\"http://www.w3.org/1999/xhtml\" class=\"controls\">"
    "<span id=\"details\"></span><span id=\"matched\"></span>"
    "<input id=\"search\" type=\"search\" placeholder=\"Search (/)\" "
    "title=\"Functions, files and modules that contain this text\"/>"
    "<button id=\"reset\" title=\"Click a frame to zoom in. Keys: / searches, arrows move, Enter "
    "zooms in, Backspace out, Escape resets\">Reset (Esc)</button></div></foreignObject>\n";

static const char style[] =
    "svg { background: #fff; font-family: sans-serif; }\n"
    ".heading { font-size: 16px; font-weight: bold; }\n.note { font-size: 12px; fill: #444; }\n"
    ".controls { display: flex; gap: 8px; align-items: center; font: 12px sans-serif; "
    "padding-right: 20px; }\n"
    "#details { flex: 1; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }\n";

static int put_document(const struct lw_svg *svg)
{
    FILE *stream = svg->stream;
    unsigned height = (svg->tree.max_depth + 1) * LINE_HEIGHT;

    fprintf(stream,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%u\">\n"
            "<style>\n%s%s</style>\n",
            WIDTH, GRAPH_TOP + height + 10, style, lw_asset_flame_css);
    int result = svg->put_heading(svg);
    fprintf(stream, "%s<svg id=\"graph\" y=\"%d\" width=\"100%%\" height=\"%u\">\n", controls,
            GRAPH_TOP, height);
    if (result == 0 && svg->total > 0)
        result = put_frames(svg, 0, 0);
    fprintf(stream, "</svg>\n<script><![CDATA[\n%s%s]]></script>\n</svg>\n", lw_asset_flame_js,
            lw_asset_svg_start_js);
    return result;
}

int lw_svg_write(struct lw_svg *svg, enum lw_weight weight)
{
    int result = lw_flame_tree_build(&svg->tree, svg->report, weight, LW_FLAME_INWARD);

    if (result == 0) {
        svg->total = lw_flame_node_value(&svg->tree, &svg->tree.nodes.items[0]);
        result = put_document(svg);
    }
    lw_flame_tree_deinit(&svg->tree);
    return result ? result : lw_stream_flush(svg->stream);
}

static int write_report(FILE *stream, const struct lw_writer_options *options,
                        const struct lw_report *report)
{
    struct lw_svg svg = {
        .stream = stream,
        .report = report,
        .put_heading = put_heading,
        .put_sizes = put_sizes,
        .put_colour = put_colour,
    };

    return lw_svg_write(&svg, options->weight);
}

const struct lw_writer lw_svg_writer = {
    .name = "svg",
    .whole_file = true,
    .report = write_report,
};
