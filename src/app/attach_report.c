/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Gathering what the first report says. */
#include "attach_report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/target/process.h"

/* Whether the function is watched, by whatever name its address is. */
static bool is_watched(const struct lw_allocator_set *set, const struct lw_elf_image *image,
                       const struct lw_allocator_function *function)
{
    struct lw_elf_symbol found[4]; /* versions of one name at different addresses */
    size_t count =
        lw_elf_image_find_symbols(image, function->symbol, found, sizeof(found) / sizeof(found[0]));
    lw_vector_for_each (site, &set->sites)
        for (size_t i = 0; i < count; i++)
            if (found[i].address == site->address)
                return true;
    return false;
}

/* The functions of one set under the names that people know, aliases too, each once. */
static int describe_set(const struct lw_allocator_set *set, struct lw_module_table *modules,
                        struct lw_report_allocator *allocator)
{
    const struct lw_module *module = lw_module_table_get(modules, set->module);
    const char **functions = calloc(lw_allocator_function_count, sizeof(*functions));
    if (!functions)
        return -ENOMEM;
    for (size_t i = 0; i < lw_allocator_function_count; i++)
        if (is_watched(set, module->image, &lw_allocator_functions[i]))
            functions[allocator->function_count++] = lw_allocator_functions[i].label;
    allocator->functions = functions;
    allocator->module = module->path;
    allocator->build_id = module->build_id;
    allocator->version = "";
    return 0;
}

static bool defines_malloc(const struct lw_allocator_set *set)
{
    lw_vector_for_each (site, &set->sites)
        if (strcmp(site->function->symbol, "malloc") == 0)
            return true;
    return false;
}

/* Those that define malloc first, before what libstdc++ adds to them; otherwise in the order they
 * were found. `allocators` has room for all. */
static int describe_sets(const struct lw_watch *watch, struct lw_report_allocator *allocators)
{
    const struct lw_engine_attachment *attachment = lw_watch_attachment(watch);
    size_t count = 0;
    for (int with_malloc = 1; with_malloc >= 0; with_malloc--) {
        lw_vector_for_each (set, &attachment->sets) {
            if (defines_malloc(set) != (with_malloc != 0))
                continue;
            int error = describe_set(set, lw_watch_modules(watch), &allocators[count++]);
            if (error)
                return error;
        }
    }
    return 0;
}

lw_error *lw_attach_report_write(const struct lw_options *options, const struct lw_watch *watch,
                                 struct lw_outputs *outputs, const sigset_t *ending,
                                 bool *interrupted)
{
    const struct lw_engine_attachment *attachment = lw_watch_attachment(watch);
    size_t count = attachment->sets.count;
    lw_auto_free char *exe = lw_process_exe(attachment->pid);
    lw_auto_free struct lw_report_allocator *allocators = calloc(count + 1, sizeof(*allocators));
    if (!allocators)
        return lw_error_create(ENOMEM, "out of memory");
    lw_error *error = NULL;
    int result = describe_sets(watch, allocators);
    struct lw_task_status status = {0};
    bool alive = lw_task_status_read(attachment->pid, attachment->pid, &status) == 0;
    const struct lw_report_attach attach = {
        .pid = attachment->pid,
        .exe = exe ? exe : "",
        .name = alive ? status.name : "",
        .engine = lw_watch_engine(watch),
        .engine_reason = attachment->reason,
        .threads = attachment->threads,
        .pause_ns = attachment->pause_ns,
        .expire_ns = options->expire_ns,
        .interval_ns = options->interval_ns,
        .min_size = options->min_size,
        .max_size = options->max_size,
        .sample_bytes = attachment->sample_bytes,
        .sample_auto = attachment->sample_auto,
        .max_overhead = options->max_overhead,
        .from_start = attachment->from_start,
        .stopped = attachment->stopped,
        .allocators = allocators,
        .allocator_count = count,
    };
    if (result == 0)
        error =
            lw_outputs_write(outputs, &(struct lw_message){.attach = &attach}, ending, interrupted);
    else
        error = lw_error_create(-result, "%s", strerror(-result));
    for (size_t i = 0; i < count; i++)
        free((void *)allocators[i].functions);
    return error;
}
