/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reports as JSON: one object a line, with the keys that leakwatch(1) lists. */
#include "json_values.h"
#include "leakwatch/report/report.h"

static struct json allocator_object(const struct lw_report_allocator *allocator)
{
    struct json json = json_begin(NULL);

    put_text(&json, "module", allocator->module);
    put_text(&json, "build_id", allocator->build_id);
    struct json_object *functions = put_array(&json, "functions");
    for (size_t i = 0; i < allocator->function_count; i++)
        append(&json, functions, new_text(allocator->functions[i]));
    return json;
}

static int write_attach(FILE *stream, const struct lw_writer_options *options,
                        const struct lw_report_attach *attach)
{
    lw_auto_json struct json json = json_begin("attach");

    (void)options;
    put_signed(&json, "pid", attach->pid);
    put_text(&json, "exe", attach->exe);
    put_text(&json, "engine", attach->engine);
    put_text(&json, "engine_reason", attach->engine_reason);
    put_unsigned(&json, "threads", attach->threads);
    put_unsigned(&json, "pause_us", attach->pause_ns / LW_NS_PER_US);
    struct json_object *allocators = put_array(&json, "allocators");
    for (size_t i = 0; i < attach->allocator_count; i++)
        append_object(&json, allocators, allocator_object(&attach->allocators[i]));
    return write_line(stream, &json);
}

static struct json seconds_range(uint64_t min_ns, uint64_t max_ns)
{
    struct json json = json_begin(NULL);

    put_seconds(&json, "min", min_ns);
    put_seconds(&json, "max", max_ns);
    return json;
}

static struct json lifetime_object(const struct lw_stack_stats *stats)
{
    struct json json = json_begin(NULL);

    put_seconds(&json, "min", stats->lifetime_min_ns);
    put_seconds(&json, "mean", stats->frees ? stats->lifetime_sum_ns / stats->frees : 0);
    put_seconds(&json, "max", stats->lifetime_max_ns);
    return json;
}

static struct json frame_object(const struct lw_report_frame *frame)
{
    struct json json = json_begin(NULL);

    put_text(&json, "function", frame->function);
    put_text(&json, "module", frame->module);
    if (frame->module_number != 0)
        put_unsigned(&json, "module_index", frame->module_number - 1);
    else
        put_null(&json, "module_index");
    put_unsigned(&json, "offset", frame->offset);
    put_unsigned(&json, "address", frame->address);
    put_text(&json, "file", frame->file);
    put_signed(&json, "line", frame->line);
    put_bool(&json, "inlined", frame->inlined);
    return json;
}

static struct json module_object(const struct lw_report_module *module)
{
    struct json json = json_begin(NULL);

    put_text(&json, "path", module->path);
    put_text(&json, "build_id", module->build_id);
    put_bool(&json, "executable", module->is_executable);
    return json;
}

static void put_frames(struct json *json, const struct lw_report_stack *stack)
{
    struct json_object *frames = put_array(json, "frames");

    for (size_t i = 0; i < stack->frame_count; i++)
        append_object(json, frames, frame_object(&stack->frames[i]));
}

static void put_verdict(struct json *json, const struct lw_report_stack *stack,
                        const struct lw_report *report)
{
    const struct lw_verdict *verdict = &stack->verdict;
    char reason[LW_REASON_MAX];

    put_text(json, "verdict", lw_verdict_name(verdict->kind));
    put_text(json, "reason", lw_verdict_reason(verdict, &stack->facts, report->expire_ns, reason));
    if (verdict->has_growth)
        put_signed(json, "growth_bytes_per_minute", verdict->growth_minute);
    else
        put_null(json, "growth_bytes_per_minute");
    if (verdict->suggested_ns != 0)
        put_seconds(json, "suggested_expire_s", verdict->suggested_ns);
    else
        put_null(json, "suggested_expire_s");
}

/* Ages are those of the expired blocks; in a summary, of all that are still live. */
static struct json stack_object(const struct lw_report_stack *stack, const struct lw_report *report)
{
    bool summary = report->context.summary;
    const struct lw_snapshot_stack *facts = &stack->facts;
    const struct lw_stack_stats *stats = &facts->stats;
    struct json json = json_begin(NULL);

    put_unsigned(&json, "id", stack->id);
    put_unsigned(&json, "expired_bytes", stats->expired_bytes);
    put_unsigned(&json, "expired_blocks", stats->expired_blocks);
    put_signed(&json, "delta_bytes", stack->delta_bytes);
    put_unsigned(&json, "live_bytes", stats->live_bytes);
    put_unsigned(&json, "live_blocks", stats->live_blocks);
    if (report->sample_bytes != 0) {
        put_unsigned(&json, "expired_error_bytes", facts->expired_bytes_error);
        put_unsigned(&json, "live_error_bytes", facts->live_bytes_error);
    }
    put_unsigned(&json, "allocs", stats->allocs);
    put_unsigned(&json, "alloc_bytes", stats->alloc_bytes);
    put_unsigned(&json, "frees", stats->frees);
    put_unsigned(&json, "late_frees", stats->late_frees);
    put_object(&json, "age_s",
               summary ? seconds_range(facts->live_youngest_ns, facts->live_oldest_ns)
                       : seconds_range(facts->expired_youngest_ns, facts->expired_oldest_ns));
    put_object(&json, "lifetime_s", lifetime_object(stats));
    put_bool(&json, "truncated", facts->stack && facts->stack->truncated);
    put_verdict(&json, stack, report);
    put_frames(&json, stack);
    return json;
}

static struct json sum_object(struct lw_cohort_sum sum)
{
    struct json json = json_begin(NULL);

    put_unsigned(&json, "bytes", sum.bytes);
    put_unsigned(&json, "blocks", sum.blocks);
    return json;
}

static struct json marked_stack_object(const struct lw_report_stack *stack)
{
    struct json json = json_begin(NULL);

    put_unsigned(&json, "id", stack->id);
    put_object(&json, "allocated", sum_object(stack->allocated_marked));
    put_object(
        &json, "live",
        sum_object((struct lw_cohort_sum){stack->facts.marked_bytes, stack->facts.marked_blocks}));
    put_frames(&json, stack);
    return json;
}

/* Live bytes at the reports since the window ended. */
static void put_drain(struct json *json, const struct lw_growth *drain)
{
    struct json_object *points = put_array(json, "drain");

    for (uint32_t i = 0; i < drain->count; i++) {
        struct json point = json_begin(NULL);

        put_seconds(&point, "elapsed_s",
                    (uint64_t)((double)drain->points[i].seconds * (double)LW_NS_PER_SECOND));
        put_unsigned(&point, "bytes", drain->points[i].bytes);
        append_object(json, points, point);
    }
}

static struct json mark_object(const struct lw_report *report)
{
    const struct lw_report_cohort *told = &report->cohort;
    const struct lw_cohort *cohort = told->cohort;
    struct json json = json_begin(NULL), live = sum_object(told->live);

    put_unsigned(&json, "number", cohort->number);
    put_bool(&json, "open", cohort->open);
    put_seconds(&json, "from_s", cohort->began_ns);
    put_seconds(&json, "to_s", cohort->open ? report->context.elapsed_ns : cohort->ended_ns);
    put_object(&json, "allocated", sum_object(told->allocated));
    if (report->sample_bytes != 0)
        put_unsigned(&live, "error_bytes", told->live_bytes_error);
    put_object(&json, "live", live);
    put_drain(&json, &cohort->drain);
    struct json_object *stacks = put_array(&json, "stacks");
    for (size_t i = 0; i < told->stack_count; i++)
        append_object(&json, stacks, marked_stack_object(&told->stacks[i]));
    return json;
}

static struct json events_object(const struct lw_event_counts *events)
{
    struct json json = json_begin(NULL);

    put_unsigned(&json, "allocs", events->allocs);
    put_unsigned(&json, "frees", events->frees);
    put_unsigned(&json, "reallocs", events->reallocs);
    put_unsigned(&json, "failed_allocs", events->failed_allocs);
    put_unsigned(&json, "unknown_frees", events->unknown_frees);
    put_unsigned(&json, "missed_frees", events->missed_frees);
    return json;
}

static struct json losses_object(const struct lw_loss_counts *losses)
{
    struct json json = json_begin(NULL);

    put_unsigned(&json, "truncated_stacks", losses->truncated_stacks);
    put_unsigned(&json, "dropped_blocks", losses->dropped_blocks);
    put_unsigned(&json, "missed_returns", losses->missed_returns);
    put_unsigned(&json, "folded_blocks", losses->folded_blocks);
    return json;
}

static struct json hidden_object(const struct lw_report_hidden *hidden)
{
    struct json json = json_begin(NULL);

    put_unsigned(&json, "bytes", hidden->expired_bytes);
    put_unsigned(&json, "blocks", hidden->expired_blocks);
    put_unsigned(&json, "stacks", hidden->stacks);
    return json;
}

/* Those that were used, and the user's own that were not. */
static void put_suppressions(struct json *json, const struct lw_report *report)
{
    struct json_object *list = put_array(json, "suppressions");

    for (size_t i = 0; i < report->suppression_count; i++) {
        const struct lw_report_suppression *each = &report->suppressions[i];
        if (each->hidden.stacks == 0 && each->suppression->is_default)
            continue;
        struct json one = hidden_object(&each->hidden);
        put_text(&one, "name", each->suppression->name);
        put_text(&one, "file", each->suppression->file);
        put_unsigned(&one, "line", each->suppression->line);
        append_object(json, list, one);
    }
}

static int write_report(FILE *stream, const struct lw_writer_options *options,
                        const struct lw_report *report)
{
    const struct lw_report_context *context = &report->context;
    const struct lw_ledger_totals *totals = &report->totals;
    lw_auto_json struct json json = json_begin(context->summary ? "summary" : "report");
    struct json live = json_begin(NULL), expired = json_begin(NULL);

    (void)options;
    put_unsigned(&live, "bytes", totals->live_bytes);
    put_unsigned(&live, "blocks", totals->live_blocks);
    put_unsigned(&expired, "bytes", totals->expired_bytes);
    put_unsigned(&expired, "blocks", totals->expired_blocks);
    put_unsigned(&expired, "stacks", totals->expired_stacks);
    if (report->sample_bytes != 0) {
        put_unsigned(&live, "error_bytes", report->live_bytes_error);
        put_unsigned(&expired, "error_bytes", report->expired_bytes_error);
    }

    put_time(&json, "time", context->time_ns);
    put_signed(&json, "pid", context->pid);
    put_seconds(&json, "elapsed_s", context->elapsed_ns);
    put_seconds(&json, "expire_s", report->expire_ns);
    put_unsigned(&json, "rss_bytes", context->rss_bytes);
    put_unsigned(&json, "sample_bytes", report->sample_bytes);
    put_object(&json, "live", live);
    put_object(&json, "expired", expired);
    put_object(&json, "suppressed", hidden_object(&report->suppressed));
    if (context->summary)
        put_suppressions(&json, report);
    put_object(&json, "events", events_object(&report->events));
    put_object(&json, "losses", losses_object(&report->losses));
    if (report->cohort.cohort)
        put_object(&json, "mark", mark_object(report));
    struct json_object *stacks = put_array(&json, "stacks");
    for (size_t i = 0; i < report->stack_count; i++)
        append_object(&json, stacks, stack_object(&report->stacks[i], report));
    struct json_object *modules = put_array(&json, "modules");
    for (size_t i = 0; i < report->module_count; i++)
        append_object(&json, modules, module_object(&report->modules[i]));
    return write_line(stream, &json);
}

static int write_end(FILE *stream, const struct lw_writer_options *options,
                     const struct lw_report_end *end)
{
    bool exec = end->kind == LW_END_EXEC;
    lw_auto_json struct json json = json_begin(exec ? "exec" : "exit");

    (void)options;
    put_signed(&json, "pid", end->pid);
    if (exec) {
        put_text(&json, "exe", end->exe);
    } else if (end->kind == LW_END_EXIT && end->status < 0) {
        put_null(&json, "status");
        put_null(&json, "signal");
    } else if (end->kind == LW_END_SIGNAL) {
        put_signed(&json, "status", 128 + end->status); /* as a shell has it */
        put_signed(&json, "signal", end->status);
    } else {
        put_signed(&json, "status", end->status);
        put_null(&json, "signal");
    }
    return write_line(stream, &json);
}

static int write_detach(FILE *stream, const struct lw_writer_options *options,
                        const struct lw_report_detach *detach)
{
    lw_auto_json struct json json = json_begin("detach");

    (void)options;
    put_signed(&json, "pid", detach->pid);
    put_unsigned(&json, "threads", detach->threads);
    put_unsigned(&json, "probes_removed", detach->probes_removed);
    put_bool(&json, "code_verified", detach->code_verified);
    put_text(&json, "target_state", detach->target_state);
    put_unsigned(&json, "pause_us", detach->pause_ns / LW_NS_PER_US);
    return write_line(stream, &json);
}

const struct lw_writer lw_json_writer = {
    .name = "json",
    .attach = write_attach,
    .report = write_report,
    .end = write_end,
    .detach = write_detach,
};
