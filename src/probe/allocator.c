/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of allocator functions, and finding them in a module. */
#include "leakwatch/probe/allocator.h"

#include <errno.h>
#include <string.h>

#include "flow.h"
#include "leakwatch/base/map.h"

/* clang-format off */
#define ALLOCATE(symbol, label, size)  {symbol, label, LW_ACT_ALLOCATE, size, LW_NO_ARGUMENT}
#define RELEASE(symbol, label)         {symbol, label, LW_ACT_RELEASE, LW_NO_ARGUMENT, LW_NO_ARGUMENT}

/* C11, POSIX, glibc and C23 functions; C++ operators under their Itanium ABI names (size_t is `m`). */
const struct lw_allocator_function lw_allocator_functions[] = {
    ALLOCATE("malloc", "malloc", 0),
    {"calloc", "calloc", LW_ACT_ALLOCATE, 1, 0},
    {"realloc", "realloc", LW_ACT_REALLOCATE, 1, LW_NO_ARGUMENT},
    {"reallocarray", "reallocarray", LW_ACT_REALLOCATE, 2, 1},
    RELEASE("free", "free"),
    RELEASE("cfree", "cfree"),
    RELEASE("free_sized", "free_sized"),
    RELEASE("free_aligned_sized", "free_aligned_sized"),
    ALLOCATE("memalign", "memalign", 1),
    ALLOCATE("aligned_alloc", "aligned_alloc", 1),
    {"posix_memalign", "posix_memalign", LW_ACT_STORE, 2, LW_NO_ARGUMENT},
    ALLOCATE("valloc", "valloc", 0),
    ALLOCATE("pvalloc", "pvalloc", 0),
    ALLOCATE("_Znwm", "operator new", 0),
    ALLOCATE("_Znam", "operator new[]", 0),
    ALLOCATE("_ZnwmRKSt9nothrow_t", "operator new(nothrow)", 0),
    ALLOCATE("_ZnamRKSt9nothrow_t", "operator new[](nothrow)", 0),
    ALLOCATE("_ZnwmSt11align_val_t", "operator new(align)", 0),
    ALLOCATE("_ZnamSt11align_val_t", "operator new[](align)", 0),
    ALLOCATE("_ZnwmSt11align_val_tRKSt9nothrow_t", "operator new(align, nothrow)", 0),
    ALLOCATE("_ZnamSt11align_val_tRKSt9nothrow_t", "operator new[](align, nothrow)", 0),
    RELEASE("_ZdlPv", "operator delete"),
    RELEASE("_ZdaPv", "operator delete[]"),
    RELEASE("_ZdlPvm", "operator delete(size)"),
    RELEASE("_ZdaPvm", "operator delete[](size)"),
    RELEASE("_ZdlPvRKSt9nothrow_t", "operator delete(nothrow)"),
    RELEASE("_ZdaPvRKSt9nothrow_t", "operator delete[](nothrow)"),
    RELEASE("_ZdlPvSt11align_val_t", "operator delete(align)"),
    RELEASE("_ZdaPvSt11align_val_t", "operator delete[](align)"),
    RELEASE("_ZdlPvmSt11align_val_t", "operator delete(size, align)"),
    RELEASE("_ZdaPvmSt11align_val_t", "operator delete[](size, align)"),
    RELEASE("_ZdlPvSt11align_val_tRKSt9nothrow_t", "operator delete(align, nothrow)"),
    RELEASE("_ZdaPvSt11align_val_tRKSt9nothrow_t", "operator delete[](align, nothrow)"),
};
/* clang-format on */
const size_t lw_allocator_function_count =
    sizeof(lw_allocator_functions) / sizeof(lw_allocator_functions[0]);

const struct lw_allocator_function *lw_allocator_function_named(const char *symbol)
{
    for (size_t i = 0; i < lw_allocator_function_count; i++)
        if (strcmp(lw_allocator_functions[i].symbol, symbol) == 0)
            return &lw_allocator_functions[i];
    return NULL;
}

/*
 * Does an operator only pass on to another allocator function, which counts the block then? It does
 * when no path leads to its end without calling one. Those that align may round the size up before
 * they pass it on (libstdc++'s do), so what the program asked for is known to them alone.
 */
static int only_forwards(const struct lw_elf_image *image, const struct lw_address_list *watched,
                         const struct lw_allocator_function *function, uint64_t address,
                         bool *forwards)
{
    *forwards = false;
    if (strncmp(function->symbol, "_Z", 2) != 0 ||
        (function->act != LW_ACT_RELEASE && strstr(function->symbol, "align_val_t")))
        return 0;
    struct lw_flow_summary summary;
    int error = lw_flow_walk(image, address, watched, false, &summary);
    *forwards = summary.exits.count == 0;
    lw_flow_summary_deinit(&summary);
    return error;
}

/* Walks one function and adds it. */
static int add_site(struct lw_allocator_set *set, const struct lw_elf_image *image,
                    const struct lw_address_list *watched,
                    const struct lw_allocator_function *function, uint64_t address)
{
    struct lw_allocator_site site = {.function = function, .address = address};
    bool forwards;
    int error = only_forwards(image, watched, function, address, &forwards);
    if (error || forwards)
        return error;
    struct lw_flow_summary summary;
    error = lw_flow_walk(image, address, watched, true, &summary);
    site.ends_in_watched = summary.ends_in_watched;
    lw_vector_for_each (exit, &summary.exits)
        if (!error)
            error = lw_vector_push(&site.exits, *exit);
    if (!error)
        error = lw_vector_push(&set->sites, site);
    if (error)
        lw_vector_deinit(&site.exits);
    lw_flow_summary_deinit(&summary);
    return error;
}

/* The entries of all functions of the table, each address once, with their functions. */
static int find_entries(const struct lw_elf_image *image, struct lw_address_list *entries,
                        struct lw_map *functions)
{
    for (size_t i = 0; i < lw_allocator_function_count; i++) {
        struct lw_elf_symbol found[4]; /* versions of one name at different addresses */
        size_t count = lw_elf_image_find_symbols(image, lw_allocator_functions[i].symbol, found,
                                                 sizeof(found) / sizeof(found[0]));
        for (size_t j = 0; j < count; j++) {
            if (found[j].kind != LW_ELF_FUNCTION || lw_map_get(functions, found[j].address, NULL))
                continue;
            int error = lw_map_set(functions, found[j].address, i);
            if (!error)
                error = lw_vector_push(&entries->list, found[j].address);
            if (error)
                return error;
        }
    }
    return 0;
}

int lw_allocator_set_find(struct lw_allocator_set *set, const struct lw_module *module)
{
    *set = (struct lw_allocator_set){.module = module->id};
    if (!module->image || module->is_vdso)
        return 0;
    struct lw_address_list entries = {0};
    struct lw_map functions = {0};
    int error = find_entries(module->image, &entries, &functions);
    lw_vector_for_each (entry, &entries.list) {
        uint64_t index;
        if (!error && lw_map_get(&functions, *entry, &index))
            error = add_site(set, module->image, &entries, &lw_allocator_functions[index], *entry);
    }
    lw_vector_deinit(&entries.list);
    lw_map_deinit(&functions);
    return error;
}

void lw_allocator_set_deinit(struct lw_allocator_set *set)
{
    lw_vector_for_each (site, &set->sites)
        lw_vector_deinit(&site->exits);
    lw_vector_deinit(&set->sites);
}

lw_error *lw_allocator_explain_none(pid_t pid)
{
    return lw_error_create(ENOENT,
                           "process %d has no allocator that can be watched: no module exports "
                           "malloc, calloc, realloc, free, posix_memalign, operator new or the "
                           "like (a program with an allocator of its own, or a stripped static "
                           "one, cannot be watched)",
                           (int)pid);
}
