/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Searching stacks, word by word, and the agent's notes. */
#include "record_return.h"

#include <stddef.h>
#include <string.h>

#define RED_ZONE 128       /* bytes below the stack pointer that belong to the function */
#define CHUNK    (1 << 15) /* bytes read at once */
#define FAR      (1 << 20) /* bytes that are searched at most */

/* The end of the mapping that holds the address; 0 when there is none. */
static uint64_t find_end(struct record_return_search *search, uint64_t address)
{
    for (int fresh = 0; fresh <= 1; fresh++) {
        if (fresh && lw_maps_read(&search->maps, search->record->engine.attachment.pid) != 0)
            return 0;
        const struct lw_mapping *mapping = lw_maps_find(&search->maps, address);
        if (mapping)
            return mapping->end;
    }
    return 0;
}

bool record_may_return(struct record_return_search *search, uint64_t sp)
{
    uint64_t words[CHUNK / sizeof(uint64_t)];
    uint64_t end = find_end(search, sp);
    struct lw_memory *memory = &search->record->memory.memory;
    if (end == 0)
        return true;
    if (end - sp > FAR)
        end = (sp & ~7ull) + FAR;
    for (uint64_t at = (sp - RED_ZONE) & ~7ull; at < end;) {
        size_t size = end - at < CHUNK ? end - at : CHUNK;
        ssize_t n = memory->read(memory, at, words, size);
        if (n < (ssize_t)sizeof(uint64_t))
            return true;
        for (size_t i = 0; i < (size_t)n / sizeof(uint64_t); i++)
            if (search->is_ours(search->record, words[i]))
                return true;
        at += (uint64_t)n & ~7ull;
    }
    return false;
}

void record_return_search_deinit(struct record_return_search *search)
{
    lw_maps_deinit(&search->maps);
}

/* The beginning of a struct lw_agent_thread. */
struct note {
    uint32_t used, tid;
    uint64_t pointer, calls, busy;
};

_Static_assert(offsetof(struct lw_agent_thread, tid) == offsetof(struct note, tid) &&
                   offsetof(struct lw_agent_thread, busy) == offsetof(struct note, busy),
               "they begin alike");

/* From our mapping of the shared memory, or, where the agent is another leakwatch's, from the
 * target's. */
static bool read_shared(struct record_engine *record, size_t offset, void *to, size_t size)
{
    if (record->shared) {
        memcpy(to, (const char *)record->shared + offset, size);
        return true;
    }
    const uint64_t address = record->base + LW_AGENT_SHARED + offset;
    return lw_memory_read_all(&record->memory.memory, address, to, size) == 0;
}

bool record_is_noted(struct record_engine *record, pid_t tid)
{
    uint32_t count, tid_offset = 0;
    struct note note;
    const uint64_t control = record->base + LW_AGENT_CONTROL;
    (void)lw_memory_read_all(&record->memory.memory,
                             control + offsetof(struct lw_agent_control, tid_offset), &tid_offset,
                             sizeof(tid_offset));
    if (!read_shared(record, offsetof(struct lw_agent_shared, thread_count), &count, sizeof(count)))
        return false; /* a forked child's, which has not inherited it */
    for (uint32_t i = 0; i < count && i < LW_AGENT_THREADS; i++) {
        const size_t offset =
            offsetof(struct lw_agent_shared, threads) + i * sizeof(struct lw_agent_thread);
        /* Where the agent does not know the threads' ids, it may be this one. */
        if (read_shared(record, offset, &note, sizeof(note)) && note.used && note.busy &&
            (note.tid == (uint32_t)tid || tid_offset == 0))
            return true;
    }
    return false;
}
