/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What keeps two reports from being compared, in words: a line each, names as they are. */
#include "diff_notes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/units.h"
#include "text_pen.h"

/* Of modules in a note. */
#define MOST_NAMES 3

static int note(struct lw_diff *diff, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static int note(struct lw_diff *diff, const char *format, ...)
{
    char **grown = realloc(diff->notes, (diff->note_count + 1) * sizeof(*grown));
    va_list arguments;
    char *text;

    if (!grown)
        return -ENOMEM;
    diff->notes = grown;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0)
        return -ENOMEM;
    diff->notes[diff->note_count++] = text;
    return 0;
}

static const char *name_of(const struct lw_report_module *module)
{
    const char *slash = strrchr(module->path, '/');

    return slash ? slash + 1 : module->path;
}

static const struct lw_report_module *find_program(const struct lw_report *report)
{
    for (size_t i = 0; i < report->module_count; i++)
        if (report->modules[i].is_executable)
            return &report->modules[i];
    return NULL;
}

static bool is_other_build(const struct lw_report_module *a, const struct lw_report_module *b)
{
    return a->build_id[0] && b->build_id[0] && strcmp(a->build_id, b->build_id) != 0;
}

static int note_order(struct lw_diff *diff)
{
    if (diff->before.saved->report.context.time_ns <= diff->after.saved->report.context.time_ns)
        return 0;
    return note(diff, "the second report is older than the first: growth is told as shrinkage, and "
                      "the other way round; give the older one first");
}

static int note_programs(struct lw_diff *diff)
{
    const struct lw_report_module *a = find_program(&diff->before.saved->report);
    const struct lw_report_module *b = find_program(&diff->after.saved->report);

    if (!a || !b)
        return 0;
    bool other_build = is_other_build(a, b);
    if (strcmp(name_of(a), name_of(b)) != 0 && (other_build || !a->build_id[0] || !b->build_id[0]))
        return note(diff, "these are different programs, %s and %s", a->path, b->path);
    if (!other_build || diff->options.by == LW_DIFF_BY_FUNCTION)
        return 0;
    return note(diff,
                "these are different builds of %s (build-ids %.12s and %.12s): no stack through it "
                "is the same in both; --by=function compares by names",
                name_of(a), a->build_id, b->build_id);
}

/* The other report has a file of the module's name, but none of its build. */
static bool has_another_build(const struct lw_report_module *module, const struct lw_report *other)
{
    bool found = false;

    for (size_t i = 0; i < other->module_count; i++) {
        if (strcmp(name_of(&other->modules[i]), name_of(module)) != 0)
            continue;
        if (!is_other_build(&other->modules[i], module))
            return false;
        found = true;
    }
    return found;
}

static int note_libraries(struct lw_diff *diff)
{
    const struct lw_report *before = &diff->before.saved->report;
    const struct lw_report *after = &diff->after.saved->report;
    lw_auto_free char *names = NULL;
    size_t size, count = 0;

    if (diff->options.by == LW_DIFF_BY_FUNCTION)
        return 0;
    FILE *stream = open_memstream(&names, &size);
    if (!stream)
        return -ENOMEM;
    for (size_t i = 0; i < before->module_count; i++) {
        const struct lw_report_module *module = &before->modules[i];
        if (module->is_executable || !has_another_build(module, after))
            continue;
        if (count++ < MOST_NAMES)
            fprintf(stream, "%s%s", count > 1 ? ", " : "", name_of(module));
    }
    if (fclose(stream) != 0)
        return -ENOMEM;
    if (count == 0)
        return 0;
    return note(diff,
                "%s%s: other builds in the second report: no stack through them is the same in "
                "both; --by=function compares by names",
                names, count > MOST_NAMES ? " and more" : "");
}

static int note_thresholds(struct lw_diff *diff)
{
    uint64_t a = diff->before.saved->report.expire_ns, b = diff->after.saved->report.expire_ns;
    char first[LW_UNITS_MAX], second[LW_UNITS_MAX];

    if (a == b || lw_weight_is_live(diff->options.weight))
        return 0;
    return note(diff,
                "the first report counts blocks older than %s, the second those older than %s (-e)",
                lw_format_setting(a, first), lw_format_setting(b, second));
}

static int note_samples(struct lw_diff *diff)
{
    bool a = diff->before.saved->report.sample_bytes != 0;
    bool b = diff->after.saved->report.sample_bytes != 0;

    if (!a && !b)
        return 0;
    return note(diff,
                "%s estimated from samples: changes smaller than twice their standard error are "
                "told as unclear",
                a && b ? "both reports are"
                : a    ? "the first report is"
                       : "the second report is");
}

/* That stacks are missing in the report, and how to get them. */
static int note_cut(struct lw_diff *diff, const struct lw_diff_side *side)
{
    const struct lw_report *report = &side->saved->report;
    char all[LW_UNITS_MAX], bytes[LW_UNITS_MAX], blocks[LW_UNITS_MAX];

    if (side->unlisted.bytes == 0 && side->unlisted.blocks == 0)
        return 0;
    lw_format_size(side->unlisted.bytes, bytes);
    lw_format_count(side->unlisted.blocks, blocks);
    if (!lw_weight_is_live(diff->options.weight))
        return note(diff,
                    "%s:%zu lists %zu of %s stacks; what the others had, %s in %s block%s, may be "
                    "any stack's: watch with --top=0 to compare all",
                    side->saved->path, side->saved->line, side->listed,
                    lw_format_count(report->totals.expired_stacks, all), bytes, blocks,
                    lw_plural(side->unlisted.blocks));
    return note(diff,
                "%s:%zu does not list all stacks with live blocks; what the others had, %s in %s "
                "block%s, may be any stack's: %s",
                side->saved->path, side->saved->line, bytes, blocks,
                lw_plural(side->unlisted.blocks),
                report->context.summary ? "watch with --top=0 to compare all"
                                        : "only the summary of a watch with --top=0 lists all");
}

int lw_diff_note(struct lw_diff *diff)
{
    int result = note_order(diff);

    if (result == 0)
        result = note_programs(diff);
    if (result == 0)
        result = note_libraries(diff);
    if (result == 0)
        result = note_thresholds(diff);
    if (result == 0)
        result = note_samples(diff);
    if (result == 0)
        result = note_cut(diff, &diff->before);
    if (result == 0)
        result = note_cut(diff, &diff->after);
    return result;
}
