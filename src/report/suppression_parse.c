/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The text of suppressions: valgrind's braces and LeakSanitizer's lines, in any order. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "leakwatch/base/cleanup.h"
#include "suppression_set.h"

/* A line without the blanks around it. */
struct line {
    const char *start;
    size_t length;
};

struct parser {
    struct lw_suppressions *set;
    const char *file;
    bool is_default;
    const char *next, *end;
    struct line line; /* the current one */
    unsigned number;
};

/* Of a line, in a message. */
#define SHOWN_LENGTH 60

/* "FILE:LINE: " and what `format` says. */
#define bad_line(parser, format, ...)                                                              \
    lw_error_create(EINVAL, "%s:%u: " format, (parser)->file, (parser)->number, ##__VA_ARGS__)
#define SHOWN(line) (int)((line).length < SHOWN_LENGTH ? (line).length : SHOWN_LENGTH), (line).start

static lw_error *no_memory(void)
{
    return lw_error_create(ENOMEM, "out of memory");
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

static bool equals(struct line line, const char *text)
{
    return line.length == strlen(text) && memcmp(line.start, text, line.length) == 0;
}

/* Takes a prefix away. */
static bool skip(struct line *line, const char *prefix)
{
    size_t length = strlen(prefix);

    if (line->length < length || memcmp(line->start, prefix, length) != 0)
        return false;
    line->start += length;
    line->length -= length;
    return true;
}

static void trim(struct line *line)
{
    while (line->length > 0 && is_blank(line->start[0])) {
        line->start++;
        line->length--;
    }
    while (line->length > 0 && is_blank(line->start[line->length - 1]))
        line->length--;
}

/* Takes what stands before the first `separator` off the line, or all of it. */
static struct line split(struct line *line, char separator)
{
    const char *found = memchr(line->start, separator, line->length);
    struct line part = {line->start, found ? (size_t)(found - line->start) : line->length};
    size_t taken = part.length + (found != NULL);

    line->start += taken;
    line->length -= taken;
    trim(&part);
    return part;
}

static bool is_one_of(struct line line, const char *const *words)
{
    for (; *words; words++)
        if (equals(line, *words))
            return true;
    return false;
}

/* The next line that is neither empty nor a comment; false at the end. */
static bool next_line(struct parser *parser)
{
    while (parser->next < parser->end) {
        const char *start = parser->next;
        const char *newline = memchr(start, '\n', (size_t)(parser->end - start));
        const char *end = newline ? newline : parser->end;

        parser->next = newline ? newline + 1 : parser->end;
        parser->number++;
        parser->line = (struct line){start, (size_t)(end - start)};
        trim(&parser->line);
        if (parser->line.length > 0 && parser->line.start[0] != '#')
            return true;
    }
    return false;
}

static lw_error *add_pattern(struct parser *parser, struct lw_rule *rule, enum lw_pattern_kind kind,
                             struct line text, int line)
{
    lw_auto_free char *copy = strndup(text.start, text.length);
    struct lw_pattern pattern = {.kind = kind, .line = line, .text = copy};

    if (!copy || lw_vector_push(&parser->set->patterns, pattern) != 0)
        return no_memory();
    copy = NULL; /* the set's now */
    rule->count++;
    return NULL;
}

static lw_error *add_rule(struct parser *parser, struct lw_rule rule, struct line name)
{
    if (parser->set->rules.count == LW_RULES_MAX)
        return bad_line(parser, "there are more than %d suppressions", LW_RULES_MAX);
    lw_auto_free char *copy = strndup(name.start, name.length);
    rule.shown.name = copy;
    rule.shown.file = parser->file;
    rule.shown.is_default = parser->is_default;
    if (!copy || lw_vector_push(&parser->set->rules, rule) != 0)
        return no_memory();
    copy = NULL; /* the set's now */
    return NULL;
}

/* ---- LeakSanitizer: leak:PATTERN ---- */

/* What the other sanitizers suppress: AddressSanitizer, ThreadSanitizer, UBSan. */
/* clang-format off */
static const char *const other_types[] = {
    "interceptor_name", "interceptor_via_fun", "interceptor_via_lib", "odr_violation",
    "alloc_dealloc_mismatch",
    "race", "race_top", "mutex", "thread", "signal", "called_from_lib", "deadlock",
    "vptr", "vptr_check", "alignment", "bool", "bounds", "enum", "float-cast-overflow",
    "float-divide-by-zero", "function", "implicit-integer-sign-change",
    "implicit-signed-integer-truncation", "implicit-unsigned-integer-truncation",
    "integer-divide-by-zero", "invalid-builtin-use", "nonnull-attribute", "null",
    "nullability-arg", "nullability-assign", "nullability-return", "object-size",
    "pointer-overflow", "return", "returns-nonnull-attribute", "shift", "shift-base",
    "shift-exponent", "signed-integer-overflow", "undefined", "unreachable",
    "unsigned-integer-overflow", "unsigned-shift-base", "vla-bound", NULL,
};
/* clang-format on */

static lw_error *parse_sanitizer(struct parser *parser)
{
    struct lw_rule rule = {.shown.line = parser->number, .first = parser->set->patterns.count};
    struct line pattern = parser->line;

    if (!skip(&pattern, "leak:")) {
        struct line type = split(&pattern, ':');
        if (!is_one_of(type, other_types) || type.length == parser->line.length)
            return bad_line(parser,
                            "'%.*s' is neither leak:PATTERN nor the { of a suppression of "
                            "valgrind's",
                            SHOWN(parser->line));
        parser->set->skipped++;
        return NULL;
    }
    trim(&pattern);
    if (pattern.length == 0)
        return bad_line(parser, "leak: needs a pattern behind the colon");
    lw_error *error = add_pattern(parser, &rule, LW_PATTERN_ANY_NAME, pattern, 0);
    return error ? error : add_rule(parser, rule, parser->line);
}

/* ---- valgrind: { name, tool:kind, frames } ---- */

/* Of Memcheck's errors. */
/* clang-format off */
static const char *const other_kinds[] = {
    "Param", "User", "CoreMem", "Addr1", "Addr2", "Addr4", "Addr8", "Addr16", "Addr32", "Value0",
    "Value1", "Value2", "Value4", "Value8", "Value16", "Value32", "Cond", "Jump", "Free",
    "Overlap", "Mempool", "FishyValue", "BadAlign", "BadSize", "SizeMismatch", "AlignMismatch",
    "ReallocZero", NULL,
};
/* clang-format on */

static const char *const leak_kinds[] = {"definite", "indirect", "possible", "reachable",
                                         "all",      "none",     NULL};

static lw_error *expect_line(struct parser *parser, unsigned begin)
{
    if (next_line(parser))
        return NULL;
    return bad_line(parser, "the suppression that begins in line %u has no }", begin);
}

/* "tool,tool:kind": is it about leaks? */
static lw_error *parse_kind(struct parser *parser, bool *is_leak)
{
    struct line kind = parser->line, tools = split(&kind, ':');
    bool is_memcheck = false;

    if (tools.length == parser->line.length)
        return bad_line(parser, "'%.*s' is no TOOL:KIND such as Memcheck:Leak",
                        SHOWN(parser->line));
    while (tools.length > 0)
        is_memcheck |= equals(split(&tools, ','), "Memcheck");
    trim(&kind);
    *is_leak = is_memcheck && equals(kind, "Leak");
    if (is_memcheck && !*is_leak && !is_one_of(kind, other_kinds))
        return bad_line(parser, "Memcheck knows no '%.*s'; leaks are Memcheck:Leak", SHOWN(kind));
    return NULL;
}

/* Which kind a leak is cannot be told without a search of the memory: any will do. */
static lw_error *parse_leak_kinds(struct parser *parser, struct line kinds, struct lw_rule *rule)
{
    bool any = false;

    do {
        struct line kind = split(&kinds, ',');
        if (!is_one_of(kind, leak_kinds))
            return bad_line(parser,
                            "'%.*s' is not one of definite, indirect, possible, reachable, all, "
                            "none",
                            SHOWN(kind));
        any |= !equals(kind, "none");
    } while (kinds.length > 0);
    rule->never = !any;
    return NULL;
}

/* The number of a line; 0: it is none. */
static int parse_number(struct line digits)
{
    int number = 0;

    if (digits.length > 9)
        return 0;
    for (size_t i = 0; i < digits.length; i++) {
        if (digits.start[i] < '0' || digits.start[i] > '9')
            return 0;
        number = number * 10 + (digits.start[i] - '0');
    }
    return number;
}

/* FILE[:LINE] */
static lw_error *parse_source(struct parser *parser, struct line text, struct lw_rule *rule)
{
    const char *colon = memrchr(text.start, ':', text.length);
    int number = 0;

    if (colon) {
        struct line digits = {colon + 1, text.length - (size_t)(colon + 1 - text.start)};
        number = parse_number(digits);
        if (number == 0)
            return bad_line(parser, "'%.*s' is no number of a line", SHOWN(digits));
        text.length = (size_t)(colon - text.start);
    }
    return add_pattern(parser, rule, LW_PATTERN_SOURCE, text, number);
}

static lw_error *parse_frame(struct parser *parser, struct lw_rule *rule)
{
    struct line text = parser->line;

    if (equals(text, "..."))
        return add_pattern(parser, rule, LW_PATTERN_FRAMES, text, 0);
    bool source = skip(&text, "src:"), function = !source && skip(&text, "fun:");
    if (!source && !function && !skip(&text, "obj:"))
        return bad_line(parser, "'%.*s' is not fun:, obj: or src: with a pattern, nor ... or }",
                        SHOWN(text));
    if (text.length == 0)
        return bad_line(parser, "'%.*s' needs a pattern behind the colon", SHOWN(parser->line));
    if (source)
        return parse_source(parser, text, rule);
    return add_pattern(parser, rule, function ? LW_PATTERN_FUNCTION : LW_PATTERN_MODULE, text, 0);
}

/* The lines behind Memcheck:Leak, up to the brace. */
static lw_error *parse_frames(struct parser *parser, struct lw_rule *rule)
{
    struct line kinds = parser->line;
    lw_error *error = NULL;

    if (skip(&kinds, "match-leak-kinds:")) {
        error = parse_leak_kinds(parser, kinds, rule);
        if (!error)
            error = expect_line(parser, rule->shown.line);
    }
    while (!error && !equals(parser->line, "}")) {
        error = parse_frame(parser, rule);
        if (!error)
            error = expect_line(parser, rule->shown.line);
    }
    if (error)
        return error;
    const struct lw_pattern *patterns = parser->set->patterns.items;
    for (size_t i = 0; i < rule->count; i++)
        if (patterns[rule->first + i].kind != LW_PATTERN_FRAMES)
            return NULL;
    return bad_line(parser, "the suppression needs a frame (fun:, obj: or src:) to match");
}

static lw_error *parse_valgrind(struct parser *parser)
{
    const unsigned begin = parser->number;
    struct lw_rule rule = {.shown.line = begin, .first = parser->set->patterns.count};
    bool is_leak = false;
    lw_error *error = expect_line(parser, begin);
    struct line name = parser->line;

    if (!error && equals(name, "}"))
        error = bad_line(parser, "the suppression needs a name and a kind");
    if (!error)
        error = expect_line(parser, begin);
    if (!error)
        error = parse_kind(parser, &is_leak);
    if (!error)
        error = expect_line(parser, begin);
    if (!error && is_leak) {
        error = parse_frames(parser, &rule);
        return error ? error : add_rule(parser, rule, name);
    }
    while (!error && !equals(parser->line, "}"))
        error = expect_line(parser, begin);
    parser->set->skipped++;
    return error;
}

lw_error *lw_suppressions_parse(struct lw_suppressions *set, const char *file, bool is_default,
                                const char *text, size_t length)
{
    struct parser parser = {
        .set = set, .file = file, .is_default = is_default, .next = text, .end = text + length};
    lw_error *error = NULL;

    if (memchr(text, '\0', length))
        return lw_error_create(EINVAL, "%s has a NUL byte in it: this is no suppressions file",
                               file);
    while (!error && next_line(&parser))
        error = equals(parser.line, "{") ? parse_valgrind(&parser) : parse_sanitizer(&parser);
    return error;
}
