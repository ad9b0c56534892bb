/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads a line of JSON back into the report that it was written from, and believes none of it. */
#include "leakwatch/report/saved_report.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "saved_lines.h"

/* Seconds: more than any clock here tells, and nanoseconds of it are in 64 bits. */
#define LONGEST_TIME 1e10

/* What is read from, and the first thing that is wrong with it: after that, all else is 0. */
struct reading {
    const char *path;
    size_t line;
    lw_error *error;
};

/* One object of the line, and what it is to whom an error is told. */
struct part {
    struct reading *reading;
    struct json_object *object;
    const char *name;
};

static void fail(struct reading *reading, lw_error *error)
{
    if (reading->error)
        lw_error_destroy(error);
    else
        reading->error = error;
}

static void fail_value(const struct part *part, const char *key, const char *expected)
{
    fail(part->reading, lw_error_create(EINVAL, "%s:%zu: '%s' of %s is not %s", part->reading->path,
                                        part->reading->line, key, part->name, expected));
}

/* NULL if it is null, too. */
static struct json_object *get(const struct part *part, const char *key)
{
    struct json_object *value = NULL;

    if (!part->reading->error && !json_object_object_get_ex(part->object, key, &value))
        fail(part->reading,
             lw_error_create(EINVAL, "%s:%zu: %s has no '%s' (another version's file?)",
                             part->reading->path, part->reading->line, part->name, key));
    return value;
}

static uint64_t get_number(const struct part *part, const char *key, uint64_t max)
{
    struct json_object *value = get(part, key);

    if (part->reading->error)
        return 0;
    /* json-c takes what is beyond 64 bits for the largest number there is */
    if (!json_object_is_type(value, json_type_int) || json_object_get_int64(value) < 0 ||
        json_object_get_uint64(value) > max) {
        fail_value(part, key, "a whole number, or out of its range");
        return 0;
    }
    return json_object_get_uint64(value);
}

static uint64_t get_count(const struct part *part, const char *key)
{
    return get_number(part, key, INT64_MAX);
}

static uint64_t get_seconds(const struct part *part, const char *key)
{
    struct json_object *value = get(part, key);
    double seconds =
        json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double)
            ? json_object_get_double(value)
            : -1;

    if (part->reading->error)
        return 0;
    if (!(seconds >= 0 && seconds <= LONGEST_TIME)) { /* nor NaN */
        fail_value(part, key, "a number of seconds");
        return 0;
    }
    /* JSON has milliseconds, of which most have no exact double */
    return (uint64_t)llround(seconds * 1000) * LW_NS_PER_MS;
}

static bool get_bool(const struct part *part, const char *key)
{
    struct json_object *value = get(part, key);

    if (!part->reading->error && !json_object_is_type(value, json_type_boolean))
        fail_value(part, key, "true or false");
    return json_object_get_boolean(value);
}

/* NULL if it is null, or after a failure. */
static const char *get_name(const struct part *part, const char *key)
{
    struct json_object *value = get(part, key);

    if (!value || part->reading->error)
        return NULL;
    if (!json_object_is_type(value, json_type_string)) {
        fail_value(part, key, "a string");
        return NULL;
    }
    return json_object_get_string(value);
}

/* Never NULL. */
static const char *get_text(const struct part *part, const char *key)
{
    const char *text = get_name(part, key);

    if (!text)
        fail_value(part, key, "a string");
    return text ? text : "";
}

static struct part get_object(const struct part *part, const char *key)
{
    struct part inner = {part->reading, get(part, key), key};

    if (!part->reading->error && !json_object_is_type(inner.object, json_type_object))
        fail_value(part, key, "an object");
    return inner;
}

/* Items for the elements of the array `key`, the caller's, all 0; NULL after a failure. */
static void *get_array(const struct part *part, const char *key, size_t item_size,
                       struct json_object **array, size_t *count)
{
    *array = get(part, key);
    if (!part->reading->error && !json_object_is_type(*array, json_type_array))
        fail_value(part, key, "an array");
    if (part->reading->error)
        return NULL;
    size_t length = json_object_array_length(*array);
    void *items = calloc(length + 1, item_size);
    if (items)
        *count = length;
    else
        fail(part->reading, lw_error_create(ENOMEM, "out of memory"));
    return items;
}

static struct part get_element(const struct part *part, struct json_object *array, size_t index,
                               const char *name)
{
    struct part inner = {part->reading, json_object_array_get_idx(array, index), name};

    if (!part->reading->error && !json_object_is_type(inner.object, json_type_object))
        fail(part->reading, lw_error_create(EINVAL, "%s:%zu: %s is not an object",
                                            part->reading->path, part->reading->line, name));
    return inner;
}

/* As json.c writes it: RFC 3339, in UTC. */
static uint64_t get_time(const struct part *part, const char *key)
{
    const char *text = get_text(part, key);
    struct tm tm = {0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    uint64_t ns = 0;

    if (end && *end == '.')
        for (uint64_t unit = LW_NS_PER_SECOND / 10; isdigit((unsigned char)*++end); unit /= 10)
            ns += (uint64_t)(*end - '0') * unit;
    time_t seconds = timegm(&tm);
    if (part->reading->error)
        return 0;
    if (!end || strcmp(end, "Z") != 0 || seconds < 0 || (double)seconds > LONGEST_TIME) {
        fail_value(part, key, "a time such as 2026-11-21T17:27:43.654Z");
        return 0;
    }
    return (uint64_t)seconds * LW_NS_PER_SECOND + ns;
}

static void read_modules(const struct part *part, struct lw_report *report)
{
    struct json_object *array;

    report->modules =
        get_array(part, "modules", sizeof(*report->modules), &array, &report->module_count);
    for (size_t i = 0; i < report->module_count && !part->reading->error; i++) {
        struct part module = get_element(part, array, i, "a module");

        report->modules[i] = (struct lw_report_module){
            .path = get_text(&module, "path"),
            .build_id = get_text(&module, "build_id"),
            .is_executable = get_bool(&module, "executable"),
        };
    }
}

static struct lw_report_frame read_frame(const struct part *part, const struct lw_report *report)
{
    struct lw_report_frame frame = {
        .function = get_name(part, "function"),
        .module = get_name(part, "module"),
        .offset = get_number(part, "offset", UINT64_MAX),
        .address = get_number(part, "address", UINT64_MAX),
        .file = get_name(part, "file"),
        .line = (int)get_number(part, "line", INT32_MAX),
        .inlined = get_bool(part, "inlined"),
    };

    if (!frame.module || !get(part, "module_index"))
        return frame;
    size_t index = get_count(part, "module_index");
    if (part->reading->error)
        return frame;
    if (index >= report->module_count) {
        fail_value(part, "module_index", "that of a module");
        return frame;
    }
    frame.module_number = index + 1;
    frame.module_path = report->modules[index].path;
    return frame;
}

static void read_frames(const struct part *part, const struct lw_report *report,
                        struct lw_report_stack *stack)
{
    struct json_object *array;

    stack->frames = get_array(part, "frames", sizeof(*stack->frames), &array, &stack->frame_count);
    for (size_t i = 0; i < stack->frame_count && !part->reading->error; i++) {
        struct part frame = get_element(part, array, i, "a frame");
        stack->frames[i] = read_frame(&frame, report);
    }
}

static void read_stack(const struct part *part, const struct lw_report *report,
                       struct lw_report_stack *stack)
{
    static const struct lw_stack complete = {0}, cut = {.truncated = true};
    struct lw_snapshot_stack *facts = &stack->facts;

    stack->id = (uint32_t)get_number(part, "id", UINT32_MAX);
    facts->stack = get_bool(part, "truncated") ? &cut : &complete;
    facts->stats.expired_bytes = get_count(part, "expired_bytes");
    facts->stats.expired_blocks = get_count(part, "expired_blocks");
    facts->stats.live_bytes = get_count(part, "live_bytes");
    facts->stats.live_blocks = get_count(part, "live_blocks");
    if (report->sample_bytes != 0) {
        facts->expired_bytes_error = get_count(part, "expired_error_bytes");
        facts->live_bytes_error = get_count(part, "live_error_bytes");
    }
    read_frames(part, report, stack);
}

static void read_stacks(const struct part *part, struct lw_report *report)
{
    struct json_object *array;

    report->stacks =
        get_array(part, "stacks", sizeof(*report->stacks), &array, &report->stack_count);
    report->every_count = report->stack_total = report->stack_count;
    for (size_t i = 0; i < report->stack_count && !part->reading->error; i++) {
        struct part stack = get_element(part, array, i, "a stack");
        read_stack(&stack, report, &report->stacks[i]);
    }
}

static void read_totals(const struct part *part, struct lw_report *report)
{
    struct part live = get_object(part, "live"), expired = get_object(part, "expired");

    report->totals.live_bytes = get_count(&live, "bytes");
    report->totals.live_blocks = get_count(&live, "blocks");
    report->totals.expired_bytes = get_count(&expired, "bytes");
    report->totals.expired_blocks = get_count(&expired, "blocks");
    report->totals.expired_stacks = get_count(&expired, "stacks");
    if (report->sample_bytes != 0) {
        report->live_bytes_error = get_count(&live, "error_bytes");
        report->expired_bytes_error = get_count(&expired, "error_bytes");
    }
}

static void read_report(const struct part *part, struct lw_report *report)
{
    report->context.summary = strcmp(get_text(part, "type"), "summary") == 0;
    report->context.pid = (pid_t)get_number(part, "pid", INT32_MAX);
    report->context.time_ns = get_time(part, "time");
    report->context.elapsed_ns = get_seconds(part, "elapsed_s");
    report->context.rss_bytes = get_count(part, "rss_bytes");
    report->context.exe = "";
    report->expire_ns = get_seconds(part, "expire_s");
    report->sample_bytes = get_count(part, "sample_bytes");
    read_totals(part, report);
    read_modules(part, report);
    read_stacks(part, report);
    for (size_t i = 0; i < report->module_count; i++)
        if (report->modules[i].is_executable)
            report->context.exe = report->modules[i].path;
}

static lw_error *read_line(const char *path, const struct lw_saved_line *line,
                           struct lw_saved_report **result)
{
    struct reading reading = {.path = path, .line = line->number};
    struct lw_saved_report *saved = calloc(1, sizeof(*saved));

    if (!saved)
        return lw_error_create(ENOMEM, "out of memory");
    saved->path = path;
    saved->line = line->number;
    reading.error = lw_saved_line_parse(line, path, &saved->json);
    if (!reading.error) {
        const struct part part = {&reading, saved->json, "the report"};
        read_report(&part, &saved->report);
    }
    if (reading.error)
        lw_saved_report_destroy(saved);
    else
        *result = saved;
    return reading.error;
}

lw_error *lw_saved_reports_read(const char *path, const long numbers[], size_t count,
                                struct lw_saved_report *reports[])
{
    bool standard = strcmp(path, "-") == 0;
    lw_auto_fclose FILE *file = standard ? NULL : fopen(path, "re");
    size_t done = 0;

    if (!standard && !file)
        return lw_error_create(errno, "cannot open %s: %s", path, strerror(errno));
    struct lw_saved_line *lines = calloc(count, sizeof(*lines));
    if (!lines)
        return lw_error_create(ENOMEM, "out of memory");
    const char *name = standard ? "standard input" : path;
    lw_error *error = lw_saved_lines_choose(standard ? stdin : file, name, numbers, count, lines);
    while (done < count && !error) {
        error = read_line(name, &lines[done], &reports[done]);
        done += !error;
    }
    for (size_t i = 0; i < count; i++)
        free(lines[i].text);
    free(lines);
    for (size_t i = 0; i < done && error; i++)
        lw_saved_report_destroy(lw_take_pointer(reports[i]));
    return error;
}

void lw_saved_report_destroy(struct lw_saved_report *saved)
{
    if (!saved)
        return;
    for (size_t i = 0; i < saved->report.stack_count; i++)
        free(saved->report.stacks[i].frames);
    free(saved->report.stacks);
    free(saved->report.modules);
    json_object_put(saved->json);
    free(saved);
}
