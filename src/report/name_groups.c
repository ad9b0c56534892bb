/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The brackets of a demangled C++ or Rust name, told apart from operators. */
#include "name_groups.h"

#include <ctype.h>
#include <string.h>

/* Deeper brackets are ordinary text: no one reads them, and a name may come from anyone. */
#define MAX_DEPTH 64

#define ANONYMOUS "(anonymous namespace)"

/* Open brackets, as indices of groups; those beyond MAX_DEPTH are only counted. */
struct nesting {
    size_t open[MAX_DEPTH];
    unsigned depth;
    size_t beyond;
};

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$' || (c & 0x80);
}

static bool is_operator(const char *name, size_t at)
{
    return begins(name + at, "operator") && !is_word(name[at + 8]) &&
           (at == 0 || !is_word(name[at - 1]));
}

/* Bytes at `at` whose brackets are none; 0: there are no such. */
static size_t literal_length(const char *name, size_t at)
{
    /* the longer ones first */
    static const char *const operators[] = {"()", "->*", "->", "<=>", "<<=", ">>=", "<<",
                                            ">>", "<=",  ">=", "<",   ">",   "[]"};

    if (begins(name + at, ANONYMOUS))
        return strlen(ANONYMOUS);
    if (begins(name + at, "->") || begins(name + at, "=>"))
        return 2;
    if (!is_operator(name, at))
        return 0;
    size_t length = strlen("operator");
    for (size_t i = 0; i < sizeof(operators) / sizeof(operators[0]); i++)
        if (begins(name + at + length, operators[i]))
            return length + strlen(operators[i]);
    return length;
}

static int open_group(lw_name_groups *groups, struct nesting *nesting, size_t at, char bracket)
{
    if (nesting->depth == MAX_DEPTH) {
        nesting->beyond++;
        return 0;
    }
    const struct lw_name_group group = {
        .start = at + 1,
        .parent = nesting->depth > 0 ? nesting->open[nesting->depth - 1] + 1 : 0,
        .open = bracket,
    };
    nesting->open[nesting->depth++] = groups->count;
    return lw_vector_push(groups, group);
}

/* A `<` without partner is a "less" when what is around it ends; a `>` without one is "greater". */
static void close_group(lw_name_groups *groups, struct nesting *nesting, size_t at, char bracket)
{
    const char partner = bracket == ')' ? '(' : bracket == '>' ? '<' : bracket == ']' ? '[' : '{';
    unsigned depth = nesting->depth;

    if (nesting->beyond > 0) {
        nesting->beyond--;
        return;
    }
    while (depth > 0 && groups->items[nesting->open[depth - 1]].open != partner) {
        if (groups->items[nesting->open[depth - 1]].open != '<')
            return;
        depth--;
    }
    if (depth == 0)
        return;
    groups->items[nesting->open[depth - 1]].end = at;
    nesting->depth = depth - 1;
}

/* Takes out those that were never closed; what is in them belongs to what is around them. */
static int keep_closed(lw_name_groups *groups)
{
    /* of each old group the new index + 1, or that of the nearest closed one around it */
    LW_VECTOR(size_t) numbers = {0};
    size_t kept = 0;
    int result = 0;

    for (size_t i = 0; i < groups->count && result == 0; i++) {
        struct lw_name_group group = groups->items[i];

        group.parent = group.parent ? numbers.items[group.parent - 1] : 0;
        group.depth = group.parent ? groups->items[group.parent - 1].depth + 1 : 1;
        result = lw_vector_push(&numbers, group.end ? kept + 1 : group.parent);
        if (group.end)
            groups->items[kept++] = group;
    }
    groups->count = kept;
    lw_vector_deinit(&numbers);
    return result;
}

int lw_name_find_groups(const char *name, lw_name_groups *groups)
{
    struct nesting nesting = {0};
    int result = 0;

    for (size_t at = 0; name[at] && result == 0; at++) {
        const size_t literal = literal_length(name, at);

        if (literal > 0)
            at += literal - 1;
        else if (strchr("(<{[", name[at]))
            result = open_group(groups, &nesting, at, name[at]);
        else if (strchr(")>}]", name[at]))
            close_group(groups, &nesting, at, name[at]);
    }
    return result == 0 ? keep_closed(groups) : result;
}

size_t lw_name_step(const lw_name_groups *groups, size_t at, size_t *next)
{
    at++;
    while (*next < groups->count && groups->items[*next].start < at)
        ++*next;
    if (*next < groups->count && groups->items[*next].start == at)
        return groups->items[*next].end;
    return at;
}

/* " const" and the like behind a list of parameters: bytes, 0 when there is none. */
static size_t qualifier_length(const char *text)
{
    static const char *const qualifiers[] = {" const", " volatile", " &&", " &"};

    for (size_t i = 0; i < sizeof(qualifiers) / sizeof(qualifiers[0]); i++)
        if (begins(text, qualifiers[i]) && !is_word(text[strlen(qualifiers[i])]))
            return strlen(qualifiers[i]);
    return 0;
}

/* Whether the blank there is between a type and what it is the type of. */
static bool parts_type(const char *blank)
{
    if (blank[1] == '\0' || blank[1] == '[')
        return false;
    return blank[1] != '(' || begins(blank + 1, ANONYMOUS);
}

size_t lw_name_start(const char *name, const lw_name_groups *groups)
{
    size_t start = 0, next = 0;

    for (size_t at = 0; name[at];) {
        size_t qualifiers = 0, more;

        if (is_operator(name, at)) /* what follows may have blanks of its own */
            return start;
        if (begins(name + at, ANONYMOUS)) {
            at += strlen(ANONYMOUS);
            continue;
        }
        if (name[at] == ')')
            while ((more = qualifier_length(name + at + 1 + qualifiers)) > 0)
                qualifiers += more;
        if (qualifiers > 0) {
            at += 1 + qualifiers;
            continue;
        }
        if (name[at] == ' ' && parts_type(name + at))
            start = at + 1;
        at = lw_name_step(groups, at, &next);
    }
    return start;
}
