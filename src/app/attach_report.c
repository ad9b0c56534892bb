/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Gathering what the first report says. */
#include "attach_report.h"

#include <errno.h>
#include <stdlib.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/target/process.h"

/* The functions of one set under the names that people know, each once (symbol versions repeat
 * them). */
static int describe_set(const struct lw_allocator_set *set, struct lw_module_table *modules,
                        struct lw_report_allocator *allocator)
{
    const struct lw_module *module = lw_module_table_get(modules, set->module);
    const char **functions = calloc(set->sites.count, sizeof(*functions));
    if (!functions)
        return -ENOMEM;
    lw_vector_for_each (site, &set->sites)
        functions[allocator->function_count++] = site->function->label;
    allocator->functions = functions;
    allocator->module = module->path;
    allocator->build_id = module->build_id;
    allocator->version = "";
    return 0;
}

int lw_attach_report_write(const struct lw_options *options, const struct lw_watch *watch,
                           const struct lw_writer_options *writing, FILE *stream)
{
    const struct lw_engine_attachment *attachment = lw_watch_attachment(watch);
    size_t count = attachment->sets.count;
    lw_auto_free char *exe = lw_process_exe(attachment->pid);
    lw_auto_free struct lw_report_allocator *allocators = calloc(count + 1, sizeof(*allocators));
    if (!allocators)
        return -ENOMEM;
    int result = 0;
    for (size_t i = 0; i < count && !result; i++)
        result = describe_set(&attachment->sets.items[i], lw_watch_modules(watch), &allocators[i]);

    struct lw_task_status status = {0};
    bool alive = lw_task_status_read(attachment->pid, attachment->pid, &status) == 0;
    const struct lw_report_attach attach = {
        .pid = attachment->pid,
        .exe = exe ? exe : "",
        .engine = "trap",
        .engine_reason = "",
        .threads = attachment->threads,
        .pause_ns = attachment->pause_ns,
        .expire_ns = options->expire_ns,
        .interval_ns = options->interval_ns,
        .min_size = options->min_size,
        .max_size = options->max_size,
        .from_start = attachment->from_start,
        .stopped = alive && (status.state == 'T'),
        .allocators = allocators,
        .allocator_count = count,
    };
    if (!result)
        result = options->writer->attach(stream, writing, &attach);
    for (size_t i = 0; i < count; i++)
        free((void *)allocators[i].functions);
    return result;
}
