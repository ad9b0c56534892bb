/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A set of suppressions: which one, if any, matches a stack. */
#include "leakwatch/report/suppression.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "assets.h"
#include "leakwatch/base/cleanup.h"
#include "pattern.h"
#include "suppression_set.h"

/* Of a file; real ones have some 100 KiB. */
#define LARGEST_FILE (4u << 20)
#define DEFAULT_FILE "default.supp"
/* What valgrind calls a function or file that it does not know. */
#define UNKNOWN "???"

struct lw_suppressions *lw_suppressions_create(void)
{
    return calloc(1, sizeof(struct lw_suppressions));
}

void lw_suppressions_destroy(struct lw_suppressions *set)
{
    if (!set)
        return;
    lw_vector_for_each (rule, &set->rules)
        free((char *)rule->shown.name);
    lw_vector_for_each (pattern, &set->patterns)
        free(pattern->text);
    lw_vector_for_each (file, &set->files)
        free(*file);
    lw_vector_deinit(&set->rules);
    lw_vector_deinit(&set->patterns);
    lw_vector_deinit(&set->files);
    free(set);
}

/* At most `size` bytes; their number. */
static lw_error *read_all(const char *path, char *text, size_t size, size_t *length)
{
    lw_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count;

    *length = 0;
    if (fd < 0)
        return lw_error_create(errno, "cannot open the suppressions file %s: %m", path);
    while (*length < size && (count = read(fd, text + *length, size - *length)) != 0) {
        if (count > 0)
            *length += (size_t)count;
        else if (errno != EINTR)
            return lw_error_create(errno, "cannot read the suppressions file %s: %m", path);
    }
    return NULL;
}

static lw_error *keep_name(struct lw_suppressions *set, const char *path)
{
    if (lw_vector_push(&set->files, NULL) != 0)
        return lw_error_create(ENOMEM, "out of memory");
    char **name = &set->files.items[set->files.count - 1];
    *name = strdup(path);
    return *name ? NULL : lw_error_create(ENOMEM, "out of memory");
}

static lw_error *read_file(struct lw_suppressions *set, const char *path, char *text, size_t size)
{
    size_t length;
    lw_error *error = read_all(path, text, size, &length);

    if (!error && length == size)
        error = lw_error_create(EFBIG, "%s is larger than 4M: that is no suppressions file", path);
    if (!error)
        error = keep_name(set, path);
    if (error)
        return error;
    return lw_suppressions_parse(set, set->files.items[set->files.count - 1], false, text, length);
}

lw_error *lw_suppressions_read(struct lw_suppressions *set, const char *path)
{
    char *text = malloc(LARGEST_FILE + 1);

    if (!text)
        return lw_error_create(ENOMEM, "out of memory");
    lw_error *error = read_file(set, path, text, LARGEST_FILE + 1);
    free(text);
    return error;
}

lw_error *lw_suppressions_add_defaults(struct lw_suppressions *set)
{
    return lw_suppressions_parse(set, DEFAULT_FILE, true, lw_asset_default_supp,
                                 strlen(lw_asset_default_supp));
}

size_t lw_suppressions_count(const struct lw_suppressions *set)
{
    return set->rules.count;
}

const struct lw_suppression *lw_suppressions_get(const struct lw_suppressions *set, size_t index)
{
    return &set->rules.items[index].shown;
}

size_t lw_suppressions_skipped(const struct lw_suppressions *set)
{
    return set->skipped;
}

size_t lw_suppressions_mark_words(const struct lw_suppressions *set)
{
    return (set->patterns.count + 63) / 64;
}

bool lw_linkage_name_is_new(const char *linkage_name)
{
    return linkage_name &&
           (strncmp(linkage_name, "_Znw", 4) == 0 || strncmp(linkage_name, "_Zna", 4) == 0);
}

static bool matches_function(const char *pattern, const struct lw_frame_names *names)
{
    const char *linkage_name = names->linkage_name ? names->linkage_name : names->function;

    if (lw_pattern_glob(pattern, linkage_name ? linkage_name : UNKNOWN))
        return true;
    return names->function && lw_pattern_glob(pattern, names->function);
}

/* Debug information often has the whole path, which valgrind leaves away. */
static bool matches_source(const struct lw_pattern *pattern, const struct lw_frame_names *names)
{
    if (!names->file || (pattern->line != 0 && pattern->line != names->line))
        return false;
    const char *slash = strrchr(names->file, '/');
    return lw_pattern_glob(pattern->text, names->file) ||
           (slash && lw_pattern_glob(pattern->text, slash + 1));
}

static bool is_found(const char *pattern, const char *name)
{
    return name && lw_pattern_find(pattern, name);
}

static bool matches(const struct lw_pattern *pattern, const struct lw_frame_names *names)
{
    switch (pattern->kind) {
    case LW_PATTERN_FUNCTION:
        return matches_function(pattern->text, names);
    case LW_PATTERN_MODULE:
        return lw_pattern_glob(pattern->text, names->module_path ? names->module_path : UNKNOWN);
    case LW_PATTERN_SOURCE:
        return matches_source(pattern, names);
    case LW_PATTERN_ANY_NAME:
        return is_found(pattern->text, names->function) || is_found(pattern->text, names->file) ||
               is_found(pattern->text, names->module_path);
    case LW_PATTERN_FRAMES:
        break;
    }
    return false;
}

void lw_suppressions_mark(const struct lw_suppressions *set, const struct lw_frame_names *names,
                          uint64_t *marks)
{
    memset(marks, 0, lw_suppressions_mark_words(set) * sizeof(*marks));
    for (size_t i = 0; i < set->patterns.count; i++)
        if (matches(&set->patterns.items[i], names))
            marks[i / 64] |= 1ull << i % 64;
}

static bool has_mark(const uint64_t *marks, size_t pattern)
{
    return (marks[pattern / 64] >> pattern % 64 & 1) != 0;
}

static enum lw_suppression_verdict undecided(bool complete)
{
    return complete ? LW_SUPPRESSION_NONE : LW_SUPPRESSION_NEEDS_MORE;
}

static enum lw_suppression_verdict match_any_frame(const struct lw_rule *rule,
                                                   const struct lw_marked_stack *stack)
{
    return has_mark(stack->marks, rule->first) ? LW_SUPPRESSION_FOUND : undecided(stack->complete);
}

/* Beginning at `frame`. As lw_pattern_glob, with frames for characters: "..." is the *. The frames
 * beyond those that the rule names may be any. */
static enum lw_suppression_verdict match_frames(const struct lw_suppressions *set,
                                                const struct lw_rule *rule,
                                                const struct lw_marked_stack *stack, size_t frame)
{
    const size_t end = rule->first + rule->count;
    size_t pattern = rule->first, retry_pattern = 0, retry_frame = 0;
    bool can_retry = false;

    while (pattern < end) {
        if (set->patterns.items[pattern].kind == LW_PATTERN_FRAMES) {
            can_retry = true;
            retry_pattern = ++pattern;
            retry_frame = frame;
        } else if (stack->complete && !has_mark(stack->marks, pattern)) {
            return LW_SUPPRESSION_NONE;     /* no frame is like this: no need to try each */
        } else if (frame == stack->count) { /* to begin further out leaves still fewer frames */
            return undecided(stack->complete);
        } else if (has_mark(stack->frames[frame], pattern)) {
            pattern++;
            frame++;
        } else if (can_retry) {
            pattern = retry_pattern;
            frame = ++retry_frame;
        } else {
            return LW_SUPPRESSION_NONE;
        }
    }
    return LW_SUPPRESSION_FOUND;
}

static enum lw_suppression_verdict match_rule(const struct lw_suppressions *set,
                                              const struct lw_rule *rule,
                                              const struct lw_marked_stack *stack)
{
    if (set->patterns.items[rule->first].kind == LW_PATTERN_ANY_NAME)
        return match_any_frame(rule, stack);
    enum lw_suppression_verdict verdict = match_frames(set, rule, stack, 0);
    if (verdict != LW_SUPPRESSION_NONE || stack->operator_new == 0)
        return verdict;
    return match_frames(set, rule, stack, stack->operator_new);
}

static void join_marks(const struct lw_suppressions *set, const struct lw_marked_stack *stack)
{
    const size_t words = lw_suppressions_mark_words(set);

    memset(stack->marks, 0, words * sizeof(*stack->marks));
    for (size_t i = 0; i < stack->count; i++)
        for (size_t j = 0; j < words; j++)
            stack->marks[j] |= stack->frames[i][j];
}

enum lw_suppression_verdict lw_suppressions_find(const struct lw_suppressions *set,
                                                 const struct lw_marked_stack *stack, size_t *index)
{
    join_marks(set, stack);
    for (size_t i = 0; i < set->rules.count; i++) {
        const struct lw_rule *rule = &set->rules.items[i];
        if (rule->never)
            continue;
        enum lw_suppression_verdict verdict = match_rule(set, rule, stack);
        if (verdict == LW_SUPPRESSION_NONE)
            continue;
        *index = i;
        return verdict;
    }
    return LW_SUPPRESSION_NONE;
}
