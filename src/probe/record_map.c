/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's mappings in the target: making, filling and removing them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "leakwatch/agent/blob.h"
#include "leakwatch/target/process.h"
#include "record.h"

/* One system call in the target; its result, or a negative errno of either side. */
static int64_t make(struct lw_remote_call *call, long number, const uint64_t arguments[6])
{
    int64_t result;
    int error = lw_remote_call_make(call, number, arguments, &result);
    return error ? error : result;
}

static int64_t map(struct lw_remote_call *call, uint64_t address, uint64_t size, int protection,
                   int flags, int fd)
{
    return make(call, SYS_mmap,
                (uint64_t[6]){address, size, (uint64_t)protection, (uint64_t)flags, (uint64_t)fd});
}

/* A mapping at exactly this address. */
static int map_at(struct lw_remote_call *call, uint64_t address, uint64_t size, int protection,
                  int flags, int fd)
{
    int64_t result = map(call, address, size, protection, flags, fd);
    if (result == (int64_t)address)
        return 0;
    if (result < 0)
        return (int)result;
    /* Kernels before 4.17 take MAP_FIXED_NOREPLACE for a hint. */
    make(call, SYS_munmap, (uint64_t[6]){(uint64_t)result, size});
    return -EEXIST;
}

/*
 * The shared memory is a file of the target's, which we open through its descriptor: that works in
 * other namespaces, and needs no permission of the target's.
 */
static int create_shared(struct record_engine *record, struct lw_remote_call *call)
{
    static const char name[] = "leakwatch";
    uint64_t address;
    int error = lw_remote_call_store(call, &record->memory.memory, name, sizeof(name), &address);
    if (error)
        return error;
    int64_t fd = make(call, SYS_memfd_create, (uint64_t[6]){address, MFD_CLOEXEC});
    if (fd < 0)
        return (int)fd;
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)record->engine.attachment.pid, (int)fd);
    record->shared_fd = open(path, O_RDWR | O_CLOEXEC);
    error = record->shared_fd < 0 ? -errno : 0;
    if (!error && ftruncate(record->shared_fd, sizeof(struct lw_agent_shared)) != 0)
        error = -errno;
    if (!error)
        error = map_at(call, record->base + LW_AGENT_SHARED, sizeof(struct lw_agent_shared),
                       PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, (int)fd);
    make(call, SYS_close, (uint64_t[6]){(uint64_t)fd});
    return error;
}

static int advise(struct lw_remote_call *call, uint64_t address, uint64_t size, int advice)
{
    return (int)make(call, SYS_madvise, (uint64_t[6]){address, size, (uint64_t)advice});
}

/* Maps it in leakwatch too. */
static int map_here(struct record_engine *record)
{
    void *shared = mmap(NULL, sizeof(struct lw_agent_shared), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_NORESERVE, record->shared_fd, 0);
    if (shared == MAP_FAILED)
        return -errno;
    record->shared = shared;
    return 0;
}

static int map_agent(struct record_engine *record, struct lw_remote_call *call)
{
    record->span = LW_AGENT_SHARED + sizeof(struct lw_agent_shared);
    int64_t base =
        map(call, 0, record->span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
    if (base < 0)
        return (int)base;
    record->base = (uint64_t)base;
    const uint64_t control = record->base + LW_AGENT_CONTROL;
    int error = map_at(call, record->base, LW_AGENT_CODE_MAX, PROT_READ | PROT_EXEC,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1);
    if (!error)
        error = map_at(call, control, LW_PAGE_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1);
    if (!error)
        error = advise(call, control, LW_PAGE_SIZE, MADV_WIPEONFORK);
    if (!error)
        error = create_shared(record, call);
    if (!error)
        error = advise(call, record->base + LW_AGENT_SHARED, sizeof(struct lw_agent_shared),
                       MADV_DONTFORK);
    if (!error) /* a core dump has no use for it; not every kernel needs to know this one */
        advise(call, record->base + LW_AGENT_SHARED, sizeof(struct lw_agent_shared), MADV_DONTDUMP);
    if (!error)
        error = map_here(record);
    return error;
}

/* What leads from a slot to its wrapper, and who we are. */
static void complete(const struct record_engine *record, struct record_landing *landing)
{
    const struct lw_agent_head *head = (const struct lw_agent_head *)lw_agent_blob;
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
        slot->site.wrapper = record->base + head->wrapper[site->wrapper];
    }
}

/* Before anything else is mapped, since the kernel might choose just these places for that. */
static int map_landings(struct record_engine *record, struct lw_remote_call *call)
{
    lw_vector_for_each (item, &record->landings) {
        struct record_landing *landing = *item;
        if (landing->mapped)
            continue;
        int error = map_at(call, landing->address, RECORD_LANDING_SIZE, PROT_READ | PROT_EXEC,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1);
        if (error)
            return error;
        landing->mapped = true;
    }
    return 0;
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

int record_map(struct record_engine *record, struct lw_remote_call *call)
{
    int error = map_landings(record, call);
    if (!error && record->base == 0)
        error = map_agent(record, call);
    return error ? error : fill_landings(record);
}

int record_unmap(struct record_engine *record, struct lw_remote_call *call)
{
    int64_t error = 0;
    lw_vector_for_each (item, &record->landings) {
        if (!error && (*item)->mapped) {
            error = make(call, SYS_munmap, (uint64_t[6]){(*item)->address, RECORD_LANDING_SIZE});
            (*item)->mapped = error != 0;
        }
    }
    if (!error && record->base) {
        error = make(call, SYS_munmap, (uint64_t[6]){record->base, record->span});
        if (!error)
            record->base = 0;
    }
    return (int)error;
}
