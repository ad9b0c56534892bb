/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reports as massif writes its own, for ms_print: totals over time, and the latest ones as a tree
 * from the allocator outward. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "flame_tree.h"
#include "frame_name.h"
#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/text.h"
#include "leakwatch/base/units.h"
#include "stream.h"

/* Nodes below a thousandth of the whole are told together, as massif does it below a hundredth. */
#define SMALLEST      1000
#define SMALLEST_TEXT "0.10%%"

struct massif {
    FILE *stream;
    struct lw_flame_tree tree;
    const struct lw_report *report;
    bool live;
};

static void massif_release(struct massif *massif)
{
    lw_flame_tree_deinit(&massif->tree);
}

#define lw_auto_massif LW_CLEANUP(massif_release)

/* Names, without what begins a comment there. */
static int put_name(FILE *stream, const char *text)
{
    lw_auto_free char *escaped = text ? lw_text_escape(text) : NULL;

    if (!escaped)
        return -ENOMEM;
    for (const char *c = escaped; *c; c++)
        putc(*c == '#' ? ':' : *c, stream);
    return 0;
}

static int put_place(FILE *stream, const struct lw_report_frame *frame)
{
    const char *slash = frame->file ? strrchr(frame->file, '/') : NULL;
    int result = 0;

    if (frame->file) {
        fputs(" (", stream);
        result = put_name(stream, slash ? slash + 1 : frame->file);
        fprintf(stream, ":%d)", frame->line);
    } else if (frame->module_path) {
        fputs(" (in ", stream);
        result = put_name(stream, frame->module_path);
        fputs(")", stream);
    }
    return result;
}

static int put_label(const struct massif *massif, const struct lw_flame_node *node)
{
    char expire[LW_UNITS_MAX];

    if (!node->frame && node->truncated) {
        fputs(LW_TRUNCATED_NAME, massif->stream);
        return 0;
    }
    if (!node->frame) {
        if (massif->live)
            fputs("(live blocks)", massif->stream);
        else
            fprintf(massif->stream, "(blocks older than %s)",
                    lw_format_duration(massif->report->expire_ns, expire));
        return 0;
    }
    lw_auto_free char *name = lw_frame_name(node->frame);
    fprintf(massif->stream, "0x%llX: ", (unsigned long long)node->frame->address);
    int result = put_name(massif->stream, name);
    return result ? result : put_place(massif->stream, node->frame);
}

static bool is_small(const struct massif *massif, const struct lw_flame_node *node)
{
    return node->bytes * SMALLEST < massif->tree.nodes.items[0].bytes;
}

/* A line for the node, and the lines of its children, which it announces. */
static int put_node(const struct massif *massif, uint32_t index)
{
    const struct lw_flame_node *nodes = massif->tree.nodes.items, *node = &nodes[index];
    uint64_t shown = 0, small = 0, small_bytes = 0;

    for (uint32_t i = node->first_child; i != 0; i = nodes[i].next_sibling) {
        small += is_small(massif, &nodes[i]);
        small_bytes += is_small(massif, &nodes[i]) ? nodes[i].bytes : 0;
        shown += !is_small(massif, &nodes[i]);
    }
    fprintf(massif->stream, "%*sn%llu: %llu ", (int)node->depth, "",
            (unsigned long long)(shown + (small > 0)), (unsigned long long)node->bytes);
    int result = put_label(massif, node);
    putc('\n', massif->stream);
    for (uint32_t i = node->first_child; i != 0 && result == 0; i = nodes[i].next_sibling)
        if (!is_small(massif, &nodes[i]))
            result = put_node(massif, i);
    if (small > 0)
        fprintf(massif->stream,
                "%*sn0: %llu in %llu place%s, all below leakwatch's threshold (" SMALLEST_TEXT
                ")\n",
                (int)node->depth + 1, "", (unsigned long long)small_bytes,
                (unsigned long long)small, small == 1 ? "" : "s");
    return result;
}

static void put_snapshot(FILE *stream, size_t number, uint64_t elapsed_ns, uint64_t bytes)
{
    fprintf(stream,
            "#-----------\nsnapshot=%zu\n#-----------\ntime=%llu\nmem_heap_B=%llu\n"
            "mem_heap_extra_B=0\nmem_stacks_B=0\n",
            number, elapsed_ns / LW_NS_PER_MS, (unsigned long long)bytes);
}

/* Without what is suppressed, as in the tree. Of estimates, a part may exceed the whole. */
static uint64_t listed_bytes(const struct lw_report_point *point, bool live)
{
    uint64_t bytes = live ? point->live_bytes : point->expired_bytes;
    uint64_t hidden = live ? point->suppressed_live_bytes : point->suppressed_expired_bytes;

    return bytes > hidden ? bytes - hidden : 0;
}

/* From the attach, when nothing was known, to now. */
static int put_snapshots(const struct massif *massif)
{
    const struct lw_report *report = massif->report;
    FILE *stream = massif->stream;

    put_snapshot(stream, 0, 0, 0);
    fputs("heap_tree=empty\n", stream);
    for (size_t i = 0; i + 1 < report->history_count; i++) {
        const struct lw_report_point *point = &report->history[i];

        put_snapshot(stream, i + 1, point->elapsed_ns, listed_bytes(point, massif->live));
        fputs("heap_tree=empty\n", stream);
    }
    put_snapshot(stream, report->history_count ? report->history_count : 1,
                 report->context.elapsed_ns, massif->tree.nodes.items[0].bytes);
    fputs("heap_tree=detailed\n", stream);
    return put_node(massif, 0);
}

static int write_report(FILE *stream, const struct lw_writer_options *options,
                        const struct lw_report *report)
{
    lw_auto_massif struct massif massif = {
        .stream = stream,
        .report = report,
        .live = lw_weight_is_live(options->weight),
    };
    int result = lw_flame_tree_build(&massif.tree, report,
                                     massif.live ? LW_WEIGHT_LIVE_BYTES : LW_WEIGHT_EXPIRED_BYTES,
                                     LW_FLAME_OUTWARD);

    if (result != 0)
        return result;
    fprintf(stream, "desc: leakwatch " LEAKWATCH_VERSION ", %s bytes of PID %d\ncmd: ",
            massif.live ? "live" : "expired", (int)report->context.pid);
    result = put_name(stream, report->context.exe ? report->context.exe : "");
    fputs("\ntime_unit: ms\n", stream);
    if (result == 0)
        result = put_snapshots(&massif);
    return result ? result : lw_stream_flush(stream);
}

const struct lw_writer lw_massif_writer = {
    .name = "massif",
    .whole_file = true,
    .report = write_report,
};
