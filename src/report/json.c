/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reports as JSON: one object a line, with the keys that leakwatch(1) lists. */
#include <errno.h>
#include <json-c/json.h>
#include <string.h>
#include <time.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/text.h"
#include "leakwatch/report/report.h"
#include "stream.h"

/*
 * json-c's constructors return NULL when memory has run out, which as a value means null: a number
 * must not silently become null. So every value goes through `put`, which remembers a failure, and
 * the line is then not written at all.
 */
struct json {
    struct json_object *object;
    bool failed;
};

static void json_release(struct json *json)
{
    json_object_put(json->object);
}

#define lw_auto_json LW_CLEANUP(json_release)

static void put(struct json *json, const char *key, struct json_object *value)
{
    if (json->failed || !value || json_object_object_add(json->object, key, value) != 0) {
        json_object_put(value);
        json->failed = true;
    }
}

/* An object whose first key is "type", unless that is NULL. */
static struct json json_begin(const char *type)
{
    struct json json = {json_object_new_object(), false};

    json.failed = !json.object;
    if (type)
        put(&json, "type", json_object_new_string(type));
    return json;
}

static void put_null(struct json *json, const char *key)
{
    if (!json->failed && json_object_object_add(json->object, key, NULL) != 0)
        json->failed = true;
}

/* Takes `inner` over. */
static void put_object(struct json *json, const char *key, struct json inner)
{
    json->failed |= inner.failed;
    put(json, key, inner.object);
}

static void put_unsigned(struct json *json, const char *key, uint64_t value)
{
    put(json, key, json_object_new_uint64(value));
}

static void put_signed(struct json *json, const char *key, int64_t value)
{
    put(json, key, json_object_new_int64(value));
}

static void put_bool(struct json *json, const char *key, bool value)
{
    put(json, key, json_object_new_boolean(value));
}

/* Written from integers: printf's %f would follow the locale's decimal point. */
static void put_seconds(struct json *json, const char *key, uint64_t ns)
{
    char text[32];

    snprintf(text, sizeof(text), "%llu.%03llu", ns / LW_NS_PER_SECOND,
             ns % LW_NS_PER_SECOND / LW_NS_PER_MS);
    put(json, key, json_object_new_double_s((double)ns / (double)LW_NS_PER_SECOND, text));
}

/* The length of the UTF-8 character at `s`, 0 when it is malformed, overlong or a surrogate. */
static size_t utf8_length(const unsigned char *s)
{
    size_t length = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

    if (length == 0 || s[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return length;
}

static bool is_utf8(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;

    while (*s) {
        size_t length = utf8_length(s);
        if (length == 0)
            return false;
        s += length;
    }
    return true;
}

/* json-c copies bytes as they are, but a file name may hold any. It escapes control characters
 * itself, so only what is not UTF-8 needs help. */
static struct json_object *new_text(const char *text)
{
    if (is_utf8(text))
        return json_object_new_string(text);
    lw_auto_free char *escaped = lw_text_escape(text);
    return escaped ? json_object_new_string(escaped) : NULL;
}

static void put_text(struct json *json, const char *key, const char *text)
{
    if (text)
        put(json, key, new_text(text));
    else
        put_null(json, key);
}

/* The array `key` of `json`, which owns it; NULL after a failure. */
static struct json_object *put_array(struct json *json, const char *key)
{
    struct json_object *array = json_object_new_array();

    put(json, key, array);
    return json->failed ? NULL : array;
}

/* Takes `value` over. */
static void append(struct json *json, struct json_object *array, struct json_object *value)
{
    if (!array || !value || json_object_array_add(array, value) != 0) {
        json_object_put(value);
        json->failed = true;
    }
}

static void append_object(struct json *json, struct json_object *array, struct json inner)
{
    json->failed |= inner.failed;
    append(json, array, inner.object);
}

static int write_line(FILE *stream, const struct json *json)
{
    const char *text = NULL;

    if (!json->failed)
        text = json_object_to_json_string_ext(json->object, JSON_C_TO_STRING_PLAIN |
                                                                JSON_C_TO_STRING_NOSLASHESCAPE);
    if (!text)
        return -ENOMEM;
    fputs(text, stream);
    putc('\n', stream);
    return lw_stream_flush(stream);
}

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
    struct json_object *frames = put_array(&json, "frames");
    for (size_t i = 0; i < stack->frame_count; i++)
        append_object(&json, frames, frame_object(&stack->frames[i]));
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

/* RFC 3339, in UTC. */
static void put_time(struct json *json, const char *key, uint64_t time_ns)
{
    time_t seconds = (time_t)(time_ns / LW_NS_PER_SECOND);
    struct tm tm;
    char day[64] = "", text[96];

    if (!gmtime_r(&seconds, &tm) || strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        json->failed = true;
    snprintf(text, sizeof(text), "%s.%03uZ", day,
             (unsigned)(time_ns % LW_NS_PER_SECOND / LW_NS_PER_MS));
    put_text(json, key, text);
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
    put_object(&json, "events", events_object(&report->events));
    put_object(&json, "losses", losses_object(&report->losses));
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
