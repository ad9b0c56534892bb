/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which frames of a stack only pass the request for memory on. */
#include "frame_role.h"

#include <ctype.h>
#include <string.h>

#include "name_groups.h"

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool begins_with_one_of(const char *text, const char *const *list)
{
    for (; *list; list++)
        if (begins(text, *list))
            return true;
    return false;
}

static bool is_runtime_module(const char *module)
{
    static const char *const names[] = {"libc.so",     "libc-2.",    "libc.musl-",  "ld-linux",
                                        "ld-musl-",    "libpthread", "libstdc++",   "libsupc++",
                                        "libc++",      "libgcc_s.",  "libjemalloc", "libtcmalloc",
                                        "libmimalloc", NULL};

    return begins_with_one_of(module, names);
}

static bool is_runtime_scope(const char *name)
{
    static const char *const scopes[] = {
        "std::",  "__gnu_cxx::",   "__cxxabiv1::", "operator new", "alloc::", "<alloc::", "<core::",
        "<std::", "core::alloc::", "hashbrown::",  "__rust_",      "__rdl_",  "__rg_",    NULL};

    return begins_with_one_of(name, scopes);
}

/* Whether `rest`, which follows "malloc" in a name, says no more than which one: "0", "_n",
 * "_usable". */
static bool is_variant(const char *rest, size_t length)
{
    static const char *const words[] = {"",     "n",       "x",      "array",    "aligned",
                                        "zero", "usable",  "num",    "internal", "default",
                                        "impl", "vprintf", "printf", "slow"};
    const size_t count = sizeof(words) / sizeof(words[0]);

    while (length > 0) {
        size_t word = 0, i = 0;

        while (word < length && isalpha((unsigned char)rest[word]))
            word++;
        while (i < count && (strlen(words[i]) != word || strncasecmp(words[i], rest, word) != 0))
            i++;
        if (i == count)
            return false;
        word += word < length; /* what parts it from the next one: an underscore, a digit */
        rest += word;
        length -= word;
    }
    return true;
}

/* A function of C or a method, by the last word of its name. */
static bool is_allocator_name(const char *name, size_t length)
{
    static const char *const stems[] = {
        "malloc", "calloc", "realloc",       "reallocarray", "memalign", "valloc",     "palloc",
        "zalloc", "memdup", "aligned_alloc", "strdup",       "strndup",  "slice_alloc"};

    for (size_t i = 0; i < sizeof(stems) / sizeof(stems[0]); i++) {
        const size_t stem = strlen(stems[i]);

        for (size_t at = 0; at + stem <= length; at++)
            if (strncasecmp(name + at, stems[i], stem) == 0 &&
                is_variant(name + at + stem, length - at - stem))
                return true;
    }
    return false;
}

static bool is_allocator_function(const char *name)
{
    static const char *const others[] = {"l_alloc", "ngx_alloc"}; /* Lua's, nginx's */
    size_t length = strcspn(name, "(<.@ [");

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (strlen(others[i]) == length && strncmp(others[i], name, length) == 0)
            return true;
    for (size_t i = length; i > 1; i--)
        if (name[i - 1] == ':' && name[i - 2] == ':') {
            name += i;
            length -= i;
            break;
        }
    return begins(name, "operator new") || is_allocator_name(name, length);
}

static bool passes_on(const struct lw_report_frame *frame)
{
    lw_name_groups groups = {0};
    bool result = false;

    if (frame->module && is_runtime_module(frame->module))
        return true;
    /* DWARF names some inlined functions of the library's headers without their scope. */
    if (frame->file && strstr(frame->file, "/include/c++/"))
        return true;
    if (!frame->function)
        return false;
    if (lw_name_find_groups(frame->function, &groups) == 0) {
        const char *name = frame->function + lw_name_start(frame->function, &groups);

        result = is_runtime_scope(name) || is_allocator_function(name);
    }
    lw_vector_deinit(&groups);
    return result;
}

size_t lw_report_own_frame(const struct lw_report_stack *stack)
{
    size_t index = 0;

    /* A stack is taken where a watched function begins, whatever its name is. */
    if (stack->frame_count > 0 && !stack->frames[0].is_return)
        index = 1;
    while (index < stack->frame_count && passes_on(&stack->frames[index]))
        index++;
    return index;
}
