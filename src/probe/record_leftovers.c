/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finding the agent of another leakwatch, however little of it is there. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"
#include "leakwatch/target/maps.h"
#include "leakwatch/target/process.h"
#include "leakwatch/trace/leftovers.h"
#include "record.h"

/* As the kernel shows a memory file of ours (record_map.c). */
#define FILE_NAME "/memfd:" RECORD_MEMORY_NAME

/* The entry's bytes: the jump, a breakpoint with whatever behind it, or the program's own. */
static void read_state(struct record_engine *record, struct record_site *site)
{
    uint8_t bytes[LW_JUMP_SIZE];
    if (lw_memory_read_all(&record->memory.memory, site->entry, bytes, sizeof(bytes)) != 0)
        return;
    site->patched = memcmp(bytes, site->jump, LW_JUMP_SIZE) == 0;
    if (memcmp(bytes, lw_breakpoint_instruction, LW_BREAKPOINT_SIZE) == 0)
        site->patched = site->is_trap = memcmp(bytes, site->original, LW_BREAKPOINT_SIZE) != 0;
}

static int add_site(struct record_engine *record, const struct record_landing *landing,
                    uint32_t index)
{
    const struct record_patch *patch = &landing->image.head.patches[index];
    const struct lw_module *module = lw_module_table_find(record->engine.modules, patch->entry);
    if (!module) /* closed since */
        return 0;
    struct record_site *site = calloc(1, sizeof(*site));
    if (!site)
        return -ENOMEM;
    site->module = module->id;
    site->entry = patch->entry;
    site->slot =
        landing->address + sizeof(struct record_landing_head) + index * sizeof(struct record_slot);
    memcpy(site->original, patch->original, LW_JUMP_SIZE);
    int error = lw_jump_encode(site->entry, site->slot, site->jump);
    if (!error)
        error = lw_vector_push(&record->sites, site);
    if (error) {
        free(site);
        return error == -ERANGE ? 0 : error; /* another library is there now */
    }
    read_state(record, site);
    return 0;
}

/* Its head and its sites, if they were written yet: nothing is patched before that. */
static int add_landing(struct record_engine *record, uint64_t address)
{
    struct record_landing *landing = calloc(1, sizeof(*landing));
    if (!landing)
        return -ENOMEM;
    const struct record_landing_head *head = &landing->image.head;
    landing->address = address;
    landing->mapped = true;
    int error = lw_vector_push(&record->landings, landing);
    if (error) {
        free(landing);
        return error;
    }
    landing->filled = lw_memory_read_all(&record->memory.memory, address, landing->image.bytes,
                                         RECORD_LANDING_SIZE) == 0 &&
                      head->magic == LW_AGENT_MAGIC && head->patch_count <= RECORD_LANDING_SITES;
    for (uint32_t i = 0; !error && landing->filled && i < head->patch_count; i++)
        error = add_site(record, landing, i);
    return error;
}

/* One mapping of a file of ours. */
static int look_at(struct record_engine *record, const struct lw_mapping *mapping)
{
    if (mapping->offset >= RECORD_LANDING_OFFSET)
        return add_landing(record, mapping->start - (mapping->offset - RECORD_LANDING_OFFSET));
    record->base = mapping->start - mapping->offset - (mapping->shared ? LW_AGENT_SHARED : 0);
    record->span = LW_AGENT_SHARED + sizeof(struct lw_agent_shared);
    return 0;
}

static int look_everywhere(struct record_engine *record)
{
    struct lw_maps maps = {0};
    int error = lw_maps_read(&maps, record->engine.attachment.pid);
    record_forget_sites(record);
    record->base = 0;
    lw_vector_for_each (mapping, &maps.list)
        if (!error && strcmp(mapping->path, FILE_NAME) == 0)
            error = look_at(record, mapping);
    lw_maps_deinit(&maps);
    return error;
}

/* Descriptors of such files, which are there only while they are being mapped; the first one, or
 * -1. */
static int find_descriptor(const struct record_engine *record)
{
    char path[300], target[64];
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)record->engine.attachment.pid);
    lw_auto_closedir DIR *directory = opendir(path);
    const struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)record->engine.attachment.pid,
                 entry->d_name);
        ssize_t length = readlink(path, target, sizeof(target) - 1);
        target[length > 0 ? length : 0] = '\0';
        if (strcmp(target, FILE_NAME " (deleted)") == 0)
            return atoi(entry->d_name);
    }
    return -1;
}

int record_close_leftovers(struct record_engine *record, struct lw_remote_call *call)
{
    int error = 0;
    for (int fd; !error && (fd = find_descriptor(record)) >= 0;) {
        int64_t result;
        error = lw_remote_call_make(call, SYS_close, (uint64_t[6]){(uint64_t)fd}, &result);
    }
    return error;
}

/* The clock of the one who owns it: 0 where there is none (a forked child has not inherited it). */
static uint32_t read_tick(struct record_engine *record)
{
    uint32_t tick = 0;
    uint64_t address = record->base + LW_AGENT_SHARED + offsetof(struct lw_agent_shared, tick);
    lw_memory_read_all(&record->memory.memory, address, &tick, sizeof(tick));
    return tick;
}

static const struct record_landing_head *find_head(const struct record_engine *record)
{
    lw_vector_for_each (landing, &record->landings)
        if ((*landing)->filled)
            return &(*landing)->image.head;
    return NULL;
}

/* One that was killed may be a zombie for long. */
static bool owner_lives(const struct record_landing_head *head)
{
    struct lw_task_status status;
    const pid_t pid = (pid_t)head->owner;
    return lw_process_start_time(pid) == head->owner_start &&
           lw_task_status_read(pid, pid, &status) == 0 && !lw_task_has_ended(&status);
}

static bool is_watched(struct record_engine *record)
{
    const struct record_landing_head *head = find_head(record);
    uint32_t tick = read_tick(record);
    if (!head || tick == 0)
        return false;
    nanosleep(&(struct timespec){.tv_nsec = 5 * (long)LW_AGENT_TICK_NS}, NULL);
    const uint32_t later = read_tick(record); /* 0: it was taken out meanwhile */
    return (later != 0 && later != tick) || owner_lives(head);
}

static bool is_clear(const struct record_engine *record)
{
    return record->landings.count == 0 && record->base == 0 && find_descriptor(record) < 0;
}

lw_error *record_find_leftovers(struct record_engine *record)
{
    if (look_everywhere(record) != 0)
        return lw_error_create(ENOMEM, "out of memory");
    if (is_watched(record))
        return lw_error_create(EBUSY, "process %d is being watched by another leakwatch (PID %u)",
                               (int)record->engine.attachment.pid, find_head(record)->owner);
    return NULL;
}

static lw_error *remove_all(struct record_engine *record)
{
    struct lw_engine_detachment detachment = {0};
    lw_info("removing what a leakwatch that was killed has left in process %d",
            (int)record->engine.attachment.pid);
    record->clearing = true;
    lw_error *error = record_leave(record, &detachment);
    record->clearing = false;
    if (!error && !detachment.restored)
        error = lw_error_create(EBUSY,
                                "cannot remove what an earlier leakwatch has left in process %d: "
                                "restart the process",
                                (int)record->engine.attachment.pid);
    /* Mappings that nothing leads to are in the way of nobody but us. */
    if (!error && (look_everywhere(record) != 0 || !is_clear(record)))
        error = lw_error_create(ENOTSUP, "the memory of an earlier leakwatch's recorder cannot be "
                                         "removed from the process");
    return error;
}

lw_error *record_clear_leftovers(struct record_engine *record)
{
    bool found;
    lw_error *error = lw_leftovers_clear(record->engine.attachment.pid, &record->memory.memory,
                                         record->engine.modules, &found);
    if (!error)
        error = record_find_leftovers(record);
    if (!error && !is_clear(record))
        error = remove_all(record);
    record->base = 0;
    record_forget_sites(record);
    record->longest_pause_ns = 0;
    return error;
}

lw_error *lw_engine_clear_leftovers(pid_t pid)
{
    const struct lw_engine_options options = {0};
    struct lw_engine *engine = lw_record_engine_create(&options);
    if (!engine)
        return lw_error_create(ENOMEM, "out of memory");
    struct record_engine *record = (struct record_engine *)engine;
    engine->attachment.pid = pid;
    lw_error *error = record_open_process(record);
    if (!error)
        error = record_clear_leftovers(record);
    engine->ops->destroy(engine);
    return error;
}
