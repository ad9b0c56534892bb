/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Searching stacks, word by word. */
#include "record_return.h"

#define RED_ZONE 128       /* bytes below the stack pointer that belong to the function */
#define CHUNK    (1 << 15) /* bytes read at once */

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
