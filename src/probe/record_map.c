/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's mappings in the target: making, filling and removing them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "leakwatch/agent/blob.h"
#include "leakwatch/target/maps.h"
#include "leakwatch/target/process.h"
#include "record.h"

/* One system call in the target; its result, or a negative errno of either side. */
static int64_t make(struct lw_remote_call *call, long number, const uint64_t arguments[6])
{
    int64_t result;
    int error = lw_remote_call_make(call, number, arguments, &result);
    return error ? error : result;
}

/* ---- Lists of system calls, each made at one go ---- */

#define FIXED_REQUESTS 16

struct list {
    struct lw_remote_request *items;
    size_t count;
};

/* Never fails: there is room for all that is ever added. */
static struct lw_remote_request *add(struct list *list, long number, const uint64_t arguments[6])
{
    struct lw_remote_request *request = &list->items[list->count++];
    *request = (struct lw_remote_request){.number = number};
    memcpy(request->arguments, arguments, sizeof(request->arguments));
    return request;
}

/* In place of what is mapped there; `fd`: -1 for none. */
static void add_map(struct list *list, uint64_t address, uint64_t size, int protection, int flags,
                    int fd)
{
    add(list, SYS_mmap,
        (uint64_t[6]){address, size, (uint64_t)protection, (uint64_t)flags | MAP_FIXED,
                      (uint64_t)fd});
}

static struct lw_remote_request *add_advice(struct list *list, uint64_t address, uint64_t size,
                                            int advice)
{
    return add(list, SYS_madvise, (uint64_t[6]){address, size, (uint64_t)advice});
}

/* 0; -EEXIST: there is something at the address; or another negative errno. */
static int outcome(const struct lw_remote_request *request)
{
    if (lw_remote_result_is_error(request->result))
        return request->may_fail ? 0 : (int)request->result;
    bool is_elsewhere = request->is_fixed && request->result != (int64_t)request->arguments[0];
    return is_elsewhere ? -EEXIST : 0;
}

/* Makes them all; the first error. */
static int run(struct lw_remote_call *call, struct list *list)
{
    int error = lw_remote_call_make_all(call, list->items, list->count);
    for (size_t i = 0; !error && i < list->count; i++)
        error = outcome(&list->items[i]);
    return error;
}

/* ---- The file, and address ranges taken for it ---- */

/*
 * The shared memory is a file of the target's, which we open through its descriptor: that works in
 * other namespaces, and needs no permission of the target's. Everything that is mapped is mapped
 * from it first, and so has its name from the first moment on: should we be killed, the next
 * leakwatch finds it by that (record_leftovers.c).
 */
static int add_file(struct record_engine *record, struct lw_remote_call *call, struct list *list)
{
    static const char name[] = RECORD_MEMORY_NAME;
    uint64_t address;
    int error = lw_remote_call_store(call, &record->memory.memory, name, sizeof(name), &address);
    if (!error)
        add(list, SYS_memfd_create, (uint64_t[6]){address, MFD_CLOEXEC | MFD_ALLOW_SEALING});
    return error;
}

/* Takes an address range for the file (the first request's), if it is free: nobody can touch it
 * yet. 0: wherever there is room. */
static struct lw_remote_request *add_range(struct list *list, uint64_t address, uint64_t size,
                                           uint64_t offset)
{
    const int flags = MAP_PRIVATE | MAP_NORESERVE | (address ? MAP_FIXED_NOREPLACE : 0);
    struct lw_remote_request *request =
        add(list, SYS_mmap, (uint64_t[6]){address, size, PROT_NONE, (uint64_t)flags, 0, offset});
    request->fifth_plus = 1;
    request->is_fixed = address != 0;
    return request;
}

/* Before anything else is mapped, since the kernel might choose just these places for that. */
static void add_landings(struct record_engine *record, struct list *list)
{
    lw_vector_for_each (item, &record->landings) {
        struct record_landing *landing = *item;
        if (landing->mapped)
            continue;
        add_range(list, landing->address, RECORD_LANDING_SPAN, RECORD_LANDING_OFFSET);
        add_map(list, landing->address, RECORD_LANDING_SIZE, PROT_READ | PROT_EXEC,
                MAP_PRIVATE | MAP_ANONYMOUS, -1);
    }
}

/* Kernels before 4.17 take MAP_FIXED_NOREPLACE for a hint: what they have mapped elsewhere. */
static void unmap_elsewhere(struct lw_remote_call *call, const struct lw_remote_request *request)
{
    if (outcome(request) == -EEXIST && !lw_remote_result_is_error(request->result))
        make(call, SYS_munmap, (uint64_t[6]){(uint64_t)request->result, request->arguments[1]});
}

/* Which landings are there now; they are in the list in their order. */
static void note_landings(struct record_engine *record, struct lw_remote_call *call,
                          const struct list *list)
{
    size_t index = 1;
    lw_vector_for_each (item, &record->landings) {
        if ((*item)->mapped)
            continue;
        (*item)->mapped = outcome(&list->items[index]) == 0;
        unmap_elsewhere(call, &list->items[index]);
        if ((*item)->mapped && outcome(&list->items[index + 1]) != 0)
            (*item)->mapped =
                make(call, SYS_munmap, (uint64_t[6]){(*item)->address, RECORD_LANDING_SPAN}) != 0;
        index += 2;
    }
}

/* The last request was to take the span near the libraries; elsewhere will do too. */
static int note_span(struct record_engine *record, struct lw_remote_call *call, struct list *list)
{
    struct lw_remote_request *request = &list->items[list->count - 1];
    unmap_elsewhere(call, request);
    if (request->is_fixed && outcome(request) != 0 && request->result != -ECANCELED) {
        list->count--;
        (void)add_range(list, 0, record->span, 0);
        request->arguments[4] = (uint64_t)list->items[0].result;
        int64_t result = make(call, request->number, request->arguments);
        request->result = result;
    }
    int error = outcome(request);
    if (error)
        return error;
    record->base = (uint64_t)request->result;
    return record_check_locked(record);
}

/* Takes the ranges; *fd, or -1. */
static int take_ranges(struct record_engine *record, struct lw_remote_call *call, struct list *list,
                       int *fd)
{
    const bool first = record->base == 0;
    int error = add_file(record, call, list);
    if (error)
        return error;
    add_landings(record, list);
    if (first) {
        record->span = LW_AGENT_SPAN;
        add_range(list, record->near, record->span, 0);
    }
    error = run(call, list);
    if (list->items[0].result >= 0)
        *fd = (int)list->items[0].result;
    note_landings(record, call, list);
    if (first && list->items[list->count - 1].result != -ECANCELED)
        error = note_span(record, call, list);
    return error;
}

/* ---- The agent ---- */

static int open_file(struct record_engine *record, int fd)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)record->engine.attachment.pid, fd);
    if (record->shared_fd >= 0) /* of a try that failed */
        close(record->shared_fd);
    record->shared_fd = open(path, O_RDWR | O_CLOEXEC);
    if (record->shared_fd >= 0 && fcntl(record->shared_fd, F_GET_SEALS) != 0)
        return -EBADF; /* the target has closed it meanwhile: another file has its number */
    if (record->shared_fd < 0 || ftruncate(record->shared_fd, sizeof(struct lw_agent_shared)) != 0)
        return -errno;
    /* Nobody must shorten what we are going to read. */
    return fcntl(record->shared_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) == 0 ? 0 : -errno;
}

/* Maps it in leakwatch too. */
static int map_here(struct record_engine *record)
{
    void *shared = mmap(NULL, sizeof(struct lw_agent_shared), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_NORESERVE, record->shared_fd, 0);
    if (shared == MAP_FAILED)
        return -errno;
    (void)madvise(shared, sizeof(struct lw_agent_shared), MADV_NOHUGEPAGE);
    record->shared = shared;
    return 0;
}

static void add_agent(const struct record_engine *record, struct list *list, int fd)
{
    const uint64_t control = record->base + LW_AGENT_CONTROL;
    const uint64_t shared = record->base + LW_AGENT_SHARED;
    const uint64_t control_size = LW_AGENT_END - LW_AGENT_CONTROL;
    const uint64_t shared_size = sizeof(struct lw_agent_shared);
    add_map(list, record->base, LW_AGENT_CODE_MAX, PROT_READ | PROT_EXEC,
            MAP_PRIVATE | MAP_ANONYMOUS, -1);
    add_map(list, control, control_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    add_advice(list, control, control_size, MADV_WIPEONFORK);
    add_map(list, shared, shared_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd);
    add_advice(list, shared, shared_size, MADV_DONTFORK);
    /* Where shared memory comes in huge pages, each that is touched would cost one; and a core dump
     * has no use for it. Not every kernel needs to know these. */
    add_advice(list, shared, shared_size, MADV_NOHUGEPAGE)->may_fail = true;
    add_advice(list, shared, shared_size, MADV_DONTDUMP)->may_fail = true;
}

/* What leads from a slot to its wrapper, and who we are. */
static void complete(const struct record_engine *record, struct record_landing *landing)
{
    const struct lw_agent_head *head = (const struct lw_agent_head *)lw_agent_blob;
    const uint32_t *wrappers = record_is_sampled(record) ? head->sampled : head->recorded;
    struct record_landing_head *to = &landing->image.head;
    to->magic = LW_AGENT_MAGIC;
    to->base = record->base;
    to->span = record->span;
    to->owner = (uint32_t)getpid();
    to->owner_start = lw_process_start_time(getpid());
    lw_vector_for_each (item, &record->sites) {
        const struct record_site *site = *item;
        if (site->slot < landing->address || site->slot >= landing->address + RECORD_LANDING_SIZE)
            continue;
        struct record_slot *slot =
            (struct record_slot *)(landing->image.bytes + (site->slot - landing->address));
        slot->site.wrapper = record->base + wrappers[site->wrapper];
        const uint64_t descriptor = site->slot + offsetof(struct record_slot, site);
        lw_stub_encode(site->slot, descriptor, slot->site.wrapper,
                       descriptor + offsetof(struct lw_agent_site, wrapper), slot->stub);
    }
}

static int fill_landings(struct record_engine *record)
{
    int error = 0;
    lw_vector_for_each (item, &record->landings) {
        struct record_landing *landing = *item;
        if (error || landing->filled)
            continue;
        complete(record, landing);
        error = lw_memory_write(&record->memory.memory, landing->address, landing->image.bytes,
                                RECORD_LANDING_SIZE);
        landing->filled = error == 0;
    }
    return error;
}

static int map_all(struct record_engine *record, struct lw_remote_call *call, struct list *list)
{
    const bool first = record->base == 0;
    int fd = -1;
    int error = take_ranges(record, call, list, &fd);
    if (!error && first)
        error = open_file(record, fd);
    list->count = 0;
    if (!error && first)
        add_agent(record, list, fd);
    if (fd >= 0)
        add(list, SYS_close, (uint64_t[6]){(uint64_t)fd});
    if (error == -ESRCH)
        return error;
    int made = run(call, list);
    if (fd >= 0 && list->items[list->count - 1].result == -ECANCELED) /* behind an error */
        make(call, SYS_close, (uint64_t[6]){(uint64_t)fd});
    error = error ? error : made;
    return error || !first ? error : map_here(record);
}

int record_map(struct record_engine *record, struct lw_remote_call *call)
{
    struct list list = {.items = calloc(FIXED_REQUESTS + 2 * record->landings.count,
                                        sizeof(struct lw_remote_request))};
    int error = list.items ? map_all(record, call, &list) : -ENOMEM;
    free(list.items);
    return error ? error : fill_landings(record);
}

int record_unmap(struct record_engine *record, struct lw_remote_call *call)
{
    struct list list = {.items = calloc(1 + record->landings.count, sizeof(*list.items))};
    if (!list.items)
        return -ENOMEM;
    lw_vector_for_each (item, &record->landings)
        if ((*item)->mapped)
            add(&list, SYS_munmap, (uint64_t[6]){(*item)->address, RECORD_LANDING_SPAN})->may_fail =
                true;
    if (record->base)
        add(&list, SYS_munmap, (uint64_t[6]){record->base, record->span})->may_fail = true;
    int error = run(call, &list);
    for (size_t i = 0; !error && i < list.count; i++)
        error = (int)list.items[i].result;
    size_t index = 0;
    lw_vector_for_each (item, &record->landings)
        if ((*item)->mapped)
            (*item)->mapped = list.items[index++].result != 0;
    if (record->base && list.items[index].result == 0)
        record->base = 0;
    free(list.items);
    return error;
}
