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

static int64_t map(struct lw_remote_call *call, uint64_t address, uint64_t size, int protection,
                   int flags, int fd)
{
    return make(call, SYS_mmap,
                (uint64_t[6]){address, size, (uint64_t)protection, (uint64_t)flags, (uint64_t)fd});
}

/* In place of what is mapped there. */
static int map_at(struct lw_remote_call *call, uint64_t address, uint64_t size, int protection,
                  int flags, int fd)
{
    int64_t result = map(call, address, size, protection, flags, fd);
    return result < 0 ? (int)result : 0;
}

/*
 * The shared memory is a file of the target's, which we open through its descriptor: that works in
 * other namespaces, and needs no permission of the target's. Everything that is mapped is mapped
 * from it first, and so has its name from the first moment on: should we be killed, the next
 * leakwatch finds it by that (record_leftovers.c).
 */
static int64_t create_file(struct record_engine *record, struct lw_remote_call *call)
{
    static const char name[] = RECORD_MEMORY_NAME;
    uint64_t address;
    int error = lw_remote_call_store(call, &record->memory.memory, name, sizeof(name), &address);
    return error ? error : make(call, SYS_memfd_create, (uint64_t[6]){address, MFD_CLOEXEC});
}

static int open_file(struct record_engine *record, int fd)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)record->engine.attachment.pid, fd);
    if (record->shared_fd >= 0) /* of a try that failed */
        close(record->shared_fd);
    record->shared_fd = open(path, O_RDWR | O_CLOEXEC);
    if (record->shared_fd < 0 || ftruncate(record->shared_fd, sizeof(struct lw_agent_shared)) != 0)
        return -errno;
    return 0;
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
    (void)madvise(shared, sizeof(struct lw_agent_shared), MADV_NOHUGEPAGE);
    record->shared = shared;
    return 0;
}

/* Takes an address range, which must be free, for the file; nobody can touch it yet. */
static int reserve_at(struct lw_remote_call *call, uint64_t address, uint64_t size, int fd,
                      uint64_t offset)
{
    int64_t result = make(call, SYS_mmap,
                          (uint64_t[6]){address, size, PROT_NONE,
                                        MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
                                        (uint64_t)fd, offset});
    if (result == (int64_t)address)
        return 0;
    if (result < 0)
        return (int)result;
    /* Kernels before 4.17 take MAP_FIXED_NOREPLACE for a hint. */
    make(call, SYS_munmap, (uint64_t[6]){(uint64_t)result, size});
    return -EEXIST;
}

/* The span, with nothing in it yet. */
static int reserve_span(struct record_engine *record, struct lw_remote_call *call, int fd)
{
    record->span = LW_AGENT_SPAN;
    int64_t base = -ENOMEM;
    if (record->near && reserve_at(call, record->near, record->span, fd, 0) == 0)
        base = (int64_t)record->near;
    if (base < 0)
        base = map(call, 0, record->span, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE, fd);
    if (base < 0)
        return (int)base;
    record->base = (uint64_t)base;
    return record_check_locked(record);
}

static int map_agent(struct record_engine *record, struct lw_remote_call *call, int fd)
{
    int error = open_file(record, fd);
    if (!error)
        error = reserve_span(record, call, fd);
    const uint64_t control = record->base + LW_AGENT_CONTROL;
    const uint64_t shared = record->base + LW_AGENT_SHARED;
    if (!error)
        error = map_at(call, record->base, LW_AGENT_CODE_MAX, PROT_READ | PROT_EXEC,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1);
    if (!error)
        error = map_at(call, control, LW_AGENT_END - LW_AGENT_CONTROL, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1);
    if (!error)
        error = advise(call, control, LW_AGENT_END - LW_AGENT_CONTROL, MADV_WIPEONFORK);
    if (!error)
        error = map_at(call, shared, sizeof(struct lw_agent_shared), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd);
    if (!error)
        error = advise(call, shared, sizeof(struct lw_agent_shared), MADV_DONTFORK);
    if (!error) /* where shared memory comes in huge pages, each that is touched would cost one */
        advise(call, shared, sizeof(struct lw_agent_shared), MADV_NOHUGEPAGE);
    if (!error) /* a core dump has no use for it; not every kernel needs to know this one */
        advise(call, shared, sizeof(struct lw_agent_shared), MADV_DONTDUMP);
    if (!error)
        error = map_here(record);
    return error;
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

static int map_landing(struct record_landing *landing, struct lw_remote_call *call, int fd)
{
    int error = reserve_at(call, landing->address, RECORD_LANDING_SPAN, fd, RECORD_LANDING_OFFSET);
    landing->mapped = error == 0;
    return error ? error
                 : map_at(call, landing->address, RECORD_LANDING_SIZE, PROT_READ | PROT_EXEC,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1);
}

/* Before anything else is mapped, since the kernel might choose just these places for that. */
static int map_landings(struct record_engine *record, struct lw_remote_call *call, int fd)
{
    int error = 0;
    lw_vector_for_each (item, &record->landings)
        if (!error && !(*item)->mapped)
            error = map_landing(*item, call, fd);
    return error;
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
    const int64_t fd = create_file(record, call);
    if (fd < 0)
        return (int)fd;
    int error = map_landings(record, call, (int)fd);
    if (!error && record->base == 0)
        error = map_agent(record, call, (int)fd);
    make(call, SYS_close, (uint64_t[6]){(uint64_t)fd});
    return error ? error : fill_landings(record);
}

int record_unmap(struct record_engine *record, struct lw_remote_call *call)
{
    int64_t error = 0;
    lw_vector_for_each (item, &record->landings) {
        if (!error && (*item)->mapped) {
            error = make(call, SYS_munmap, (uint64_t[6]){(*item)->address, RECORD_LANDING_SPAN});
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
