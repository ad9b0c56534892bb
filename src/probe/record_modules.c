/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the agent is told of the target's address space: modules with their rows, and stacks. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/log.h"
#include "leakwatch/target/maps.h"
#include "record.h"

int record_compile_rows(struct record_engine *record)
{
    size_t count = lw_module_table_count(record->engine.modules);
    while (record->rows.count < count) {
        const struct lw_module *module =
            lw_module_table_get(record->engine.modules, (uint32_t)record->rows.count + 1);
        struct record_rows rows = {0};
        int error = module->image ? lw_row_table_compile(module->image, &rows.table) : 0;
        if (!error)
            error = lw_vector_push(&record->rows, rows);
        if (error) {
            lw_row_table_deinit(&rows.table);
            return error;
        }
    }
    return 0;
}

/* Rows are never moved or changed once they are there: the agent may be reading any of them. */
static void publish_rows(struct record_engine *record, struct record_rows *rows)
{
    const size_t count = rows->table.count;
    if (rows->published || count == 0)
        return;
    rows->published = true;
    rows->first = record->next_row;
    if (count > LW_AGENT_ROWS - record->next_row) {
        lw_warn("no room for the call-frame information of another library: stacks will be cut "
                "there");
        rows->table.count = 0;
        return;
    }
    memcpy(&record->shared->row_start[rows->first], rows->table.start,
           count * sizeof(*rows->table.start));
    memcpy(&record->shared->row[rows->first], rows->table.row, count * sizeof(*rows->table.row));
    record->next_row += (uint32_t)count;
    free(lw_take_pointer(rows->table.start));
    free(lw_take_pointer(rows->table.row));
}

static int compare_modules(const void *a, const void *b)
{
    const struct lw_agent_module *left = a, *right = b;
    return left->start < right->start ? -1 : left->start > right->start;
}

/* Makes a list valid that has been written, and everything that was remembered before invalid. */
static void publish(struct record_engine *record, uint32_t *current, uint32_t list)
{
    __atomic_store_n(current, list, __ATOMIC_RELEASE);
    __atomic_fetch_add(&record->shared->version, 1, __ATOMIC_RELEASE);
}

int record_publish_modules(struct record_engine *record)
{
    int error = record_compile_rows(record);
    if (error)
        return error;
    const uint32_t next = (record->shared->module_list + 1) % LW_AGENT_LISTS;
    struct lw_agent_module_list *list = &record->shared->modules[next];
    size_t count = 0;
    for (uint32_t id = 1; id <= record->rows.count && count < LW_AGENT_MODULES_MAX; id++) {
        const struct lw_module *module = lw_module_table_get(record->engine.modules, id);
        struct record_rows *rows = &record->rows.items[id - 1];
        if (!module->loaded)
            continue;
        publish_rows(record, rows);
        list->list[count] = (struct lw_agent_module){.start = module->start,
                                                     .end = module->end,
                                                     .base = module->bias + rows->table.base,
                                                     .first = rows->first,
                                                     .count = (uint32_t)rows->table.count};
        count++;
    }
    qsort(list->list, count, sizeof(list->list[0]), compare_modules);
    list->count = count;
    publish(record, &record->shared->module_list, next);
    /* The agent may have looked up an address in the old list after it was told to forget it. */
    memset(record->shared->row_cache, 0, sizeof(record->shared->row_cache));
    return record_view_note_modules(&record->view);
}

/* A main stack grows: as far as its limit, everything below is its own. */
static uint64_t stack_start(const struct record_engine *record, const struct lw_mapping *mapping)
{
    struct rlimit limit;
    uint64_t size = 8ull << 20;
    if (prlimit(record->engine.attachment.pid, RLIMIT_STACK, NULL, &limit) == 0 &&
        limit.rlim_cur < (1ull << 30))
        size = limit.rlim_cur;
    return mapping->end > size && mapping->end - size < mapping->start ? mapping->end - size
                                                                       : mapping->start;
}

int record_publish_regions(struct record_engine *record)
{
    struct lw_maps maps = {0};
    int error = lw_maps_read(&maps, record->engine.attachment.pid);
    const uint32_t next = (record->shared->region_list + 1) % LW_AGENT_LISTS;
    struct lw_agent_region_list *list = &record->shared->regions[next];
    size_t count = 0;
    lw_vector_for_each (mapping, &maps.list) {
        if (error || !mapping->readable || !mapping->writable || mapping->shared)
            continue;
        if (count == LW_AGENT_REGIONS_MAX)
            break;
        bool is_stack = strcmp(mapping->path, "[stack]") == 0;
        list->list[count] = (struct lw_agent_region){
            .start = is_stack ? stack_start(record, mapping) : mapping->start, .end = mapping->end};
        count++;
    }
    list->count = count;
    if (!error)
        publish(record, &record->shared->region_list, next);
    lw_maps_deinit(&maps);
    return error;
}
