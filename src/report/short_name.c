/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Long names of functions, shortened to what tells them apart. */
#include "short_name.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "leakwatch/base/cleanup.h"
#include "name_groups.h"
#include "text_width.h"

#define ELLIPSIS "…"

/* A pair of brackets as it is shown. */
struct shown {
    size_t width; /* columns of what is left of its contents */
    bool elided;
};

struct elision {
    const char *name;
    lw_name_groups groups;
    struct shown *shown;          /* by index of the group */
    struct lw_name_group **order; /* the next to be elided first */
};

static void elision_deinit(struct elision *elision)
{
    lw_vector_deinit(&elision->groups);
    free(elision->shown);
    free(elision->order);
}

/* The same without what says little: the long form of std::string, inline and anonymous namespaces,
 * and that the compiler has made a clone. */
static char *leave_out_noise(const char *name)
{
    static const char *const longer[][2] = {
        {"std::__cxx11::", "std::"},
        {"std::__1::", "std::"},
        {"std::basic_string<char, std::char_traits<char>, std::allocator<char> >", "std::string"},
        {"std::basic_string<char, std::char_traits<char>, std::allocator<char>>", "std::string"},
        {"(anonymous namespace)::", ""},
    };
    static const char clone[] = " [clone ";
    char *text = strdup(name);

    for (size_t i = 0; text && i < sizeof(longer) / sizeof(longer[0]); i++) {
        const size_t from = strlen(longer[i][0]), to = strlen(longer[i][1]);
        char *out = text;

        for (const char *at = text; *at;) {
            if (strncmp(at, longer[i][0], from) == 0) {
                out = mempcpy(out, longer[i][1], to);
                at += from;
            } else {
                *out++ = *at++;
            }
        }
        *out = '\0';
    }
    char *end = text ? strstr(text, clone) : NULL;
    if (end)
        *end = '\0';
    return text;
}

/* Deepest first, then parameters, then the longest. */
static int compare_groups(const void *left, const void *right)
{
    const struct lw_name_group *a = *(struct lw_name_group *const *)left;
    const struct lw_name_group *b = *(struct lw_name_group *const *)right;

    if (a->depth != b->depth)
        return a->depth > b->depth ? -1 : 1;
    if (a->open != b->open)
        return a->open < b->open ? -1 : 1; /* '(' is the first of all in ASCII */
    if (a->end - a->start != b->end - b->start)
        return a->end - a->start > b->end - b->start ? -1 : 1;
    return a->start > b->start ? -1 : a->start < b->start;
}

static size_t width_between(const char *name, size_t start, size_t end)
{
    size_t width = 0;

    for (size_t i = start; i < end; i++)
        width += ((unsigned char)name[i] & 0xc0) != 0x80;
    return width;
}

static int elision_init(struct elision *elision, const char *name)
{
    lw_name_groups *groups = &elision->groups;

    elision->name = name;
    if (lw_name_find_groups(name, groups) != 0)
        return -ENOMEM;
    elision->shown = calloc(groups->count + 1, sizeof(*elision->shown));
    elision->order = calloc(groups->count + 1, sizeof(struct lw_name_group *));
    if (!elision->shown || !elision->order)
        return -ENOMEM;
    for (size_t i = 0; i < groups->count; i++) {
        const struct lw_name_group *group = &groups->items[i];

        elision->shown[i].width = width_between(name, group->start, group->end);
        elision->order[i] = &groups->items[i];
    }
    qsort(elision->order, groups->count, sizeof(struct lw_name_group *), compare_groups);
    return 0;
}

/* In braces is a lambda's number, in square brackets a size; and where a function returns a pointer
 * to one, its name is in parentheses: "void (*handler<int>(int))(int)". */
static bool is_left_out(const char *name, const struct lw_name_group *group)
{
    return group->open == '<' || (group->open == '(' && !strchr("*&", name[group->start]));
}

/* Leaves out the contents of brackets until at most `columns` of `width` are left, or nothing more
 * can be; returns what is left. */
static size_t elide(struct elision *elision, size_t width, size_t columns)
{
    for (size_t i = 0; i < elision->groups.count && width > columns; i++) {
        const struct lw_name_group *group = elision->order[i];
        struct shown *shown = &elision->shown[group - elision->groups.items];

        if (shown->width <= 1 || !is_left_out(elision->name, group))
            continue;
        const size_t saved = shown->width - 1;
        shown->elided = true;
        width -= saved;
        for (size_t up = group->parent; up; up = elision->groups.items[up - 1].parent)
            elision->shown[up - 1].width -= saved;
    }
    return width;
}

static char *write_elided(const struct elision *elision)
{
    const char *name = elision->name;
    const size_t count = elision->groups.count;
    char *text = malloc(strlen(name) * strlen(ELLIPSIS) + 1), *out = text;
    size_t next = 0;

    for (size_t at = 0; text && name[at];) {
        while (next < count && elision->groups.items[next].start < at)
            next++;
        if (next < count && elision->groups.items[next].start == at &&
            elision->shown[next].elided) {
            out = mempcpy(out, ELLIPSIS, strlen(ELLIPSIS));
            at = elision->groups.items[next].end;
        }
        *out++ = name[at++];
    }
    if (text)
        *out = '\0';
    return text;
}

/* Rust's "<Type as Trait>::method" without the trait, changed in place. */
static void leave_out_trait(char *name, const lw_name_groups *groups)
{
    size_t next = 1;

    if (groups->count == 0 || name[0] != '<' || groups->items[0].start != 1)
        return;
    const size_t end = groups->items[0].end;
    for (size_t at = 1; at < end; at = lw_name_step(groups, at, &next))
        if (strncmp(name + at, " as ", 4) == 0) {
            memmove(name + at, name + end, strlen(name + end) + 1);
            return;
        }
}

/* The name with as much left out in brackets as it takes. */
static char *leave_out_contents(const char *name, size_t columns)
{
    LW_CLEANUP(elision_deinit) struct elision elision = {0};

    if (elision_init(&elision, name) != 0)
        return NULL;
    elide(&elision, lw_text_width(name), columns);
    return write_elided(&elision);
}

/* Where the longest end of the name begins that follows a "::" in no brackets and takes at most
 * `columns`, or else the shortest one; 0: there is none. */
static size_t find_scope(const char *name, size_t columns)
{
    lw_name_groups groups = {0};
    size_t found = 0, next = 0, left = width_between(name, 0, strlen(name));

    if (lw_name_find_groups(name, &groups) == 0)
        for (size_t at = 0, end; name[at]; at = end) {
            if (strncmp(name + at, "::", 2) == 0) {
                found = at;
                /* behind the latter may be the scope of a type */
                if (left <= columns || strncmp(name + at, "::operator", 10) == 0)
                    break;
            }
            end = lw_name_step(&groups, at, &next);
            left -= width_between(name, at, end);
        }
    lw_vector_deinit(&groups);
    return found;
}

/* What nothing else has made short enough, cut on the left and, if need be, on the right. */
static char *cut(const char *name, size_t columns)
{
    const size_t scope = find_scope(name, columns - 1);
    char *text = NULL;

    if (scope > 0 && asprintf(&text, ELLIPSIS "%s", name + scope) < 0)
        return NULL;
    lw_auto_free char *end = text;
    const char *rest = end ? end : name;
    if (lw_text_width(rest) <= columns)
        return lw_take_pointer(end);
    if (asprintf(&text, "%.*s" ELLIPSIS, (int)lw_text_fit(rest, columns - 1), rest) < 0)
        return NULL;
    return text;
}

char *lw_name_shorten(const char *name, size_t columns)
{
    lw_name_groups groups = {0};

    if (lw_text_width(name) <= columns)
        return strdup(name);
    lw_auto_free char *plain = leave_out_noise(name);
    if (!plain || lw_text_width(plain) <= columns)
        return lw_take_pointer(plain);
    const char *start = plain;
    if (lw_name_find_groups(plain, &groups) == 0) {
        start = plain + lw_name_start(plain, &groups);
        if (start == plain)
            leave_out_trait(plain, &groups);
    }
    lw_vector_deinit(&groups);
    lw_auto_free char *shorter = leave_out_contents(start, columns);
    if (!shorter || lw_text_width(shorter) <= columns)
        return lw_take_pointer(shorter);
    return cut(shorter, columns);
}
