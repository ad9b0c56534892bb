/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A comparison as one line of JSON, with the keys that leakwatch-diff(1) lists. */
#include "json_values.h"
#include "leakwatch/report/diff.h"

static struct json amount_object(const struct lw_diff_amount *amount, bool sampled)
{
    struct json json = json_begin(NULL);

    put_unsigned(&json, "bytes", amount->bytes);
    put_unsigned(&json, "blocks", amount->blocks);
    if (sampled)
        put_unsigned(&json, "error_bytes", amount->error);
    return json;
}

static struct json side_object(const struct lw_diff_side *side)
{
    const struct lw_report *report = &side->saved->report;
    struct json json = json_begin(NULL);

    put_text(&json, "file", side->saved->path);
    put_unsigned(&json, "line", side->saved->line);
    put_text(&json, "exe", report->context.exe);
    put_signed(&json, "pid", report->context.pid);
    put_time(&json, "time", report->context.time_ns);
    put_seconds(&json, "elapsed_s", report->context.elapsed_ns);
    put_seconds(&json, "expire_s", report->expire_ns);
    put_unsigned(&json, "rss_bytes", report->context.rss_bytes);
    put_unsigned(&json, "sample_bytes", report->sample_bytes);
    put_object(&json, "total", amount_object(&side->total, report->sample_bytes != 0));
    put_object(&json, "unlisted", amount_object(&side->unlisted, false));
    return json;
}

static struct json frame_object(const struct lw_report_frame *frame, const struct lw_report *report)
{
    struct json json = json_begin(NULL);

    put_text(&json, "function", frame->function);
    put_text(&json, "module", frame->module);
    put_text(&json, "build_id",
             frame->module_number ? report->modules[frame->module_number - 1].build_id : NULL);
    put_unsigned(&json, "offset", frame->offset);
    put_text(&json, "file", frame->file);
    put_signed(&json, "line", frame->line);
    put_bool(&json, "inlined", frame->inlined);
    return json;
}

/* What a stack had in one of the reports: null where that is not known. */
static void put_part(struct json *json, const char *key, const struct lw_diff_side *side,
                     const struct lw_report_stack *stack, const struct lw_diff_amount *amount,
                     bool unknown)
{
    if (unknown) {
        put_null(json, key);
        return;
    }
    struct json part = amount_object(amount, side->saved->report.sample_bytes != 0);
    if (stack)
        put_unsigned(&part, "id", stack->id);
    else
        put_null(&part, "id");
    put_object(json, key, part);
}

static struct json stack_object(const struct lw_diff *diff, const struct lw_diff_stack *stack)
{
    const struct lw_report_stack *shown = lw_diff_shown_stack(stack);
    const struct lw_diff_side *side = stack->after ? &diff->after : &diff->before;
    struct json json = json_begin(NULL);

    put_text(&json, "change", lw_change_name(stack->change));
    put_signed(&json, "change_bytes", stack->change_bytes);
    put_signed(&json, "change_blocks", stack->change_blocks);
    put_part(&json, "before", &diff->before, stack->before, &stack->from, stack->from_unknown);
    put_part(&json, "after", &diff->after, stack->after, &stack->to, stack->to_unknown);
    put_bool(&json, "truncated", shown->facts.stack->truncated);
    struct json_object *frames = put_array(&json, "frames");
    for (size_t i = 0; i < shown->frame_count; i++)
        append_object(&json, frames, frame_object(&shown->frames[i], &side->saved->report));
    return json;
}

static struct json counts_object(const struct lw_diff *diff)
{
    struct json json = json_begin(NULL);

    for (int change = 0; change < LW_CHANGE_COUNT; change++)
        put_unsigned(&json, lw_change_name((enum lw_change)change), diff->changes[change]);
    return json;
}

static int write_json(FILE *stream, const struct lw_writer_options *options,
                      const struct lw_diff *diff)
{
    lw_auto_json struct json json = json_begin("diff");
    const struct lw_diff_amount *from = &diff->before.total, *to = &diff->after.total;

    (void)options;
    put_text(&json, "weight", lw_weight_name(diff->options.weight));
    put_text(&json, "by", diff->options.by == LW_DIFF_BY_FUNCTION ? "function" : "address");
    put_bool(&json, "same_watch", diff->same_watch);
    put_object(&json, "before", side_object(&diff->before));
    put_object(&json, "after", side_object(&diff->after));
    put_text(&json, "change", lw_change_name(diff->total_change));
    put_signed(&json, "change_bytes", (int64_t)to->bytes - (int64_t)from->bytes);
    put_signed(&json, "change_blocks", (int64_t)to->blocks - (int64_t)from->blocks);
    struct json_object *notes = put_array(&json, "notes");
    for (size_t i = 0; i < diff->note_count; i++)
        append(&json, notes, new_text(diff->notes[i]));
    put_object(&json, "stack_counts", counts_object(diff));
    struct json_object *stacks = put_array(&json, "stacks");
    for (size_t i = 0; i < lw_diff_listed(diff); i++)
        append_object(&json, stacks, stack_object(diff, &diff->stacks[i]));
    return write_line(stream, &json);
}

const struct lw_diff_writer lw_diff_json_writer = {
    .name = "json", .has_notes = true, .write = write_json};
