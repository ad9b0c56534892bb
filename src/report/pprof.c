/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reports as pprof's profile.proto, compressed by gzip. */
#include <errno.h>
#include <profile.pb-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/map.h"
#include "leakwatch/base/text.h"
#include "leakwatch/base/vector.h"
#include "leakwatch/report/report.h"
#include "stream.h"

/* The six figures of a sample, in this order. */
static const struct {
    const char *type, *unit;
} sample_types[] = {
    {"alloc_objects", "count"}, {"alloc_space", "bytes"},     {"inuse_objects", "count"},
    {"inuse_space", "bytes"},   {"expired_objects", "count"}, {"expired_space", "bytes"},
};
#define SAMPLE_TYPES (sizeof(sample_types) / sizeof(sample_types[0]))

/* protobuf-c takes arrays of pointers, so every message is an allocation, and all are freed
 * together. A failed one is remembered, and the profile is then not written. */
struct profile {
    Leakwatch__Profile message;
    LW_VECTOR(void *) owned;
    LW_VECTOR(char *) strings;
    LW_VECTOR(Leakwatch__Function *) functions;
    LW_VECTOR(Leakwatch__Location *) locations;
    LW_VECTOR(Leakwatch__Mapping *) mappings;
    LW_VECTOR(Leakwatch__Sample *) samples;
    struct lw_map string_index, function_index, location_index; /* by hash */
    uint64_t *mapping_ids;                                      /* by the report's module number */
    bool failed;
};

static void *own(struct profile *profile, size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);

    if (!memory || lw_vector_push(&profile->owned, memory) != 0) {
        free(memory);
        profile->failed = true;
        return NULL;
    }
    return memory;
}

#define NEW(profile, type, initializer)                                                            \
    ({                                                                                             \
        type *made_ = own((profile), 1, sizeof(type));                                             \
        if (made_)                                                                                 \
            initializer(made_);                                                                    \
        made_;                                                                                     \
    })

#define ADD(profile, vector, item)                                                                 \
    ({                                                                                             \
        if (lw_vector_push(&(profile)->vector, (item)) != 0)                                       \
            (profile)->failed = true;                                                              \
        (profile)->vector.count;                                                                   \
    })

static void profile_deinit(struct profile *profile)
{
    lw_vector_for_each (memory, &profile->owned)
        free(*memory);
    lw_vector_deinit(&profile->owned);
    lw_vector_for_each (string, &profile->strings)
        free(*string);
    lw_vector_deinit(&profile->strings);
    lw_vector_deinit(&profile->functions);
    lw_vector_deinit(&profile->locations);
    lw_vector_deinit(&profile->mappings);
    lw_vector_deinit(&profile->samples);
    lw_map_deinit(&profile->string_index);
    lw_map_deinit(&profile->function_index);
    lw_map_deinit(&profile->location_index);
}

#define lw_auto_profile LW_CLEANUP(profile_deinit)

static uint64_t hash_text(const char *text)
{
    uint64_t hash = strlen(text);

    for (; *text; text++)
        hash = lw_hash64(hash ^ (unsigned char)*text);
    return hash;
}

/* Remembers under `key`, or the next free key (equal hashes of different things), what has the
 * index `added`. */
static void remember(struct profile *profile, struct lw_map *map, uint64_t key, uint64_t added)
{
    while (lw_map_get(map, key >> 1, NULL))
        key = lw_hash64(key + 1);
    if (lw_map_set(map, key >> 1, added) != 0)
        profile->failed = true;
}

/* Takes `text` over; NULL stands for memory that has run out. */
static int64_t add_owned_string(struct profile *profile, char *text)
{
    uint64_t index;

    if (!text) {
        profile->failed = true;
        return 0;
    }
    uint64_t key = hash_text(text), first = key;
    for (; lw_map_get(&profile->string_index, key >> 1, &index); key = lw_hash64(key + 1)) {
        if (strcmp(profile->strings.items[index], text) == 0) {
            free(text);
            return (int64_t)index;
        }
    }
    if (lw_vector_push(&profile->strings, text) != 0) {
        free(text);
        profile->failed = true;
        return 0;
    }
    remember(profile, &profile->string_index, first, profile->strings.count - 1);
    return (int64_t)profile->strings.count - 1;
}

/* proto3 strings are valid UTF-8, which escaped ones are. */
static int64_t add_string(struct profile *profile, const char *text)
{
    return add_owned_string(profile, lw_text_escape(text ? text : ""));
}

static Leakwatch__ValueType *new_value_type(struct profile *profile, const char *type,
                                            const char *unit)
{
    Leakwatch__ValueType *made = NEW(profile, Leakwatch__ValueType, leakwatch__value_type__init);

    if (made) {
        made->type = add_string(profile, type);
        made->unit = add_string(profile, unit);
    }
    return made;
}

static void add_mapping(struct profile *profile, const struct lw_report_module *module)
{
    Leakwatch__Mapping *mapping = NEW(profile, Leakwatch__Mapping, leakwatch__mapping__init);

    if (!mapping)
        return;
    mapping->id = ADD(profile, mappings, mapping);
    mapping->memory_start = module->start;
    mapping->memory_limit = module->end;
    mapping->file_offset = module->file_offset;
    mapping->filename = add_string(profile, module->path);
    mapping->build_id = add_string(profile, module->build_id);
}

/* pprof takes the first for the program. */
static void add_mappings(struct profile *profile, const struct lw_report *report)
{
    profile->mapping_ids = own(profile, report->module_count + 1, sizeof(*profile->mapping_ids));
    if (!profile->mapping_ids)
        return;
    for (int executable = 1; executable >= 0; executable--) {
        for (size_t i = 0; i < report->module_count; i++) {
            if (report->modules[i].is_executable != (executable != 0))
                continue;
            add_mapping(profile, &report->modules[i]);
            profile->mapping_ids[i + 1] = profile->mappings.count;
        }
    }
}

static uint64_t add_function(struct profile *profile, int64_t name, int64_t file)
{
    uint64_t key = lw_hash64((uint64_t)name << 32 | (uint64_t)file), first = key, id;

    for (; lw_map_get(&profile->function_index, key >> 1, &id); key = lw_hash64(key + 1)) {
        const Leakwatch__Function *known = profile->functions.items[id - 1];
        if (known->name == name && known->filename == file)
            return id;
    }
    Leakwatch__Function *made = NEW(profile, Leakwatch__Function, leakwatch__function__init);
    if (!made)
        return 0;
    made->id = ADD(profile, functions, made);
    made->name = made->system_name = name;
    made->filename = file;
    remember(profile, &profile->function_index, first, made->id);
    return made->id;
}

/* One line for each frame of the chain of inlined functions, as far as their names are known. */
static void add_lines(struct profile *profile, Leakwatch__Location *location,
                      const struct lw_report_frame *frames, size_t count)
{
    location->line = own(profile, count, sizeof(location->line[0]));
    for (size_t i = 0; i < count && location->line; i++) {
        const struct lw_report_frame *frame = &frames[i];
        Leakwatch__Line *line = NULL;

        if (frame->function)
            line = NEW(profile, Leakwatch__Line, leakwatch__line__init);
        if (!line)
            continue;
        line->function_id = add_function(profile, add_string(profile, frame->function),
                                         add_string(profile, frame->file));
        line->line = frame->line;
        location->line[location->n_line++] = line;
        if (location->mapping_id == 0)
            continue;
        Leakwatch__Mapping *mapping = profile->mappings.items[location->mapping_id - 1];
        mapping->has_functions = true;
        mapping->has_filenames |= frame->file != NULL;
        mapping->has_line_numbers |= frame->line != 0;
        mapping->has_inline_frames = true;
    }
}

/* The location of `count` frames at one address. It is within the call, not behind it. */
static uint64_t add_location(struct profile *profile, const struct lw_report_frame *frames,
                             size_t count)
{
    uint64_t address = frames->address - frames->is_return;
    uint64_t mapping = profile->mapping_ids[frames->module_number], id;
    uint64_t key = lw_hash64(address ^ lw_hash64(mapping)), first = key;

    for (; lw_map_get(&profile->location_index, key >> 1, &id); key = lw_hash64(key + 1)) {
        const Leakwatch__Location *known = profile->locations.items[id - 1];
        if (known->address == address && known->mapping_id == mapping)
            return id;
    }
    Leakwatch__Location *made = NEW(profile, Leakwatch__Location, leakwatch__location__init);
    if (!made)
        return 0;
    made->id = ADD(profile, locations, made);
    made->mapping_id = mapping;
    made->address = address;
    add_lines(profile, made, frames, count);
    remember(profile, &profile->location_index, first, made->id);
    return made->id;
}

static void add_label(struct profile *profile, Leakwatch__Sample *sample, const char *key,
                      uint64_t value, const char *unit)
{
    Leakwatch__Label *label =
        value != 0 ? NEW(profile, Leakwatch__Label, leakwatch__label__init) : NULL;

    if (!label) /* 0 is what is understood where there is none */
        return;
    label->key = add_string(profile, key);
    label->num = (int64_t)value;
    label->num_unit = add_string(profile, unit);
    sample->label[sample->n_label++] = label;
}

static void add_text_label(struct profile *profile, Leakwatch__Sample *sample, const char *key,
                           const char *value)
{
    Leakwatch__Label *label = NEW(profile, Leakwatch__Label, leakwatch__label__init);

    if (!label)
        return;
    label->key = add_string(profile, key);
    label->str = add_string(profile, value);
    sample->label[sample->n_label++] = label;
}

static void add_labels(struct profile *profile, Leakwatch__Sample *sample,
                       const struct lw_report_stack *stack)
{
    sample->label = own(profile, 5, sizeof(sample->label[0]));
    if (!sample->label)
        return;
    add_label(profile, sample, "stack", stack->id, "");
    add_label(profile, sample, "late_frees", stack->facts.stats.late_frees, "");
    add_label(profile, sample, "oldest", stack->facts.live_oldest_ns, "nanoseconds");
    add_text_label(profile, sample, "verdict", lw_verdict_name(stack->verdict.kind));
    add_label(profile, sample, "truncated", stack->facts.stack->truncated, "");
}

static void add_sample(struct profile *profile, const struct lw_report_stack *stack)
{
    const struct lw_stack_stats *stats = &stack->facts.stats;
    const uint64_t values[SAMPLE_TYPES] = {stats->allocs,         stats->alloc_bytes,
                                           stats->live_blocks,    stats->live_bytes,
                                           stats->expired_blocks, stats->expired_bytes};
    Leakwatch__Sample *sample = NEW(profile, Leakwatch__Sample, leakwatch__sample__init);

    if (!sample)
        return;
    sample->location_id = own(profile, stack->frame_count, sizeof(sample->location_id[0]));
    sample->value = own(profile, SAMPLE_TYPES, sizeof(sample->value[0]));
    if (!sample->location_id || !sample->value)
        return;
    for (size_t i = 0, next; i < stack->frame_count; i = next) {
        for (next = i + 1; next < stack->frame_count && stack->frames[next - 1].inlined;)
            next++;
        sample->location_id[sample->n_location_id++] =
            add_location(profile, &stack->frames[i], next - i);
    }
    for (size_t i = 0; i < SAMPLE_TYPES; i++)
        sample->value[i] = (int64_t)values[i];
    sample->n_value = SAMPLE_TYPES;
    add_labels(profile, sample, stack);
    ADD(profile, samples, sample);
}

static void describe(struct profile *profile, const struct lw_report *report)
{
    Leakwatch__Profile *message = &profile->message;
    char comment[128];

    add_string(profile, ""); /* has index 0 */
    message->sample_type = own(profile, SAMPLE_TYPES, sizeof(message->sample_type[0]));
    message->comment = own(profile, 1, sizeof(message->comment[0]));
    if (!message->sample_type || !message->comment)
        return;
    for (size_t i = 0; i < SAMPLE_TYPES; i++)
        message->sample_type[i] =
            new_value_type(profile, sample_types[i].type, sample_types[i].unit);
    message->n_sample_type = SAMPLE_TYPES;
    message->default_sample_type = add_string(profile, "expired_space");
    message->period_type = new_value_type(profile, "space", "bytes");
    message->period = report->sample_bytes ? (int64_t)report->sample_bytes : 1;
    message->time_nanos = (int64_t)report->context.time_ns;
    message->duration_nanos = (int64_t)report->context.elapsed_ns;
    snprintf(comment, sizeof(comment), "leakwatch " LEAKWATCH_VERSION ", PID %d",
             (int)report->context.pid);
    message->comment[0] = add_string(profile, comment);
    message->n_comment = 1;
}

#define HAND_OVER(message, field, vector)                                                          \
    ((message)->n_##field = (vector).count, (message)->field = (vector).items)

static void fill(struct profile *profile, const struct lw_report *report)
{
    Leakwatch__Profile *message = &profile->message;

    leakwatch__profile__init(message);
    describe(profile, report);
    add_mappings(profile, report);
    for (size_t i = 0; i < report->every_count && !profile->failed; i++)
        add_sample(profile, &report->stacks[i]);
    HAND_OVER(message, mapping, profile->mappings);
    HAND_OVER(message, sample, profile->samples);
    HAND_OVER(message, location, profile->locations);
    HAND_OVER(message, function, profile->functions);
    HAND_OVER(message, string_table, profile->strings);
}

static int write_compressed(FILE *stream, const void *data, size_t size)
{
    z_stream zip = {.next_in = (Bytef *)data, .avail_in = (uInt)size};
    unsigned char buffer[16384];
    int state;

    if (size > UINT32_MAX)
        return -EFBIG;
    if (deflateInit2(&zip, Z_DEFAULT_COMPRESSION, Z_DEFLATED, MAX_WBITS + 16 /* gzip */, 8,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return -ENOMEM;
    do {
        zip.next_out = buffer;
        zip.avail_out = sizeof(buffer);
        state = deflate(&zip, Z_FINISH);
        fwrite(buffer, 1, sizeof(buffer) - zip.avail_out, stream);
    } while (state == Z_OK);
    deflateEnd(&zip);
    return state == Z_STREAM_END ? lw_stream_flush(stream) : -EIO;
}

static int write_report(FILE *stream, const struct lw_writer_options *options,
                        const struct lw_report *report)
{
    lw_auto_profile struct profile profile = {0};

    (void)options;
    fill(&profile, report);
    if (profile.failed)
        return -ENOMEM;
    size_t size = leakwatch__profile__get_packed_size(&profile.message);
    lw_auto_free uint8_t *packed = malloc(size);
    if (!packed)
        return -ENOMEM;
    leakwatch__profile__pack(&profile.message, packed);
    return write_compressed(stream, packed, size);
}

const struct lw_writer lw_pprof_writer = {
    .name = "pprof",
    .whole_file = true,
    .binary = true,
    .report = write_report,
};
