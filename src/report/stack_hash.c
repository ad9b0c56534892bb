/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names for stacks that outlive the watch: FNV-1a over what their frames are. */
#include "stack_hash.h"

#include <endian.h>
#include <string.h>

#define FNV_BASIS 0xcbf29ce484222325ull
#define FNV_PRIME 0x100000001b3ull

static uint64_t add_bytes(uint64_t hash, const void *bytes, size_t size)
{
    const unsigned char *each = bytes;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ each[i]) * FNV_PRIME;
    return hash;
}

static uint64_t add_frame(uint64_t hash, const struct lw_report *report,
                          const struct lw_report_frame *frame)
{
    const char *module = frame->module ? frame->module : "";
    uint64_t offset = htole64(frame->module ? frame->offset : 0);

    if (frame->module_number != 0 && report->modules[frame->module_number - 1].build_id[0] != '\0')
        module = report->modules[frame->module_number - 1].build_id;
    hash = add_bytes(hash, module, strlen(module) + 1);
    return add_bytes(hash, &offset, sizeof(offset));
}

uint64_t lw_stack_hash(const struct lw_report *report, const struct lw_report_stack *stack)
{
    uint64_t hash = FNV_BASIS;

    /* what is inlined is at the same place as the frame behind it, and known only with debug
     * information, which another machine may not have */
    for (size_t i = 0; i < stack->frame_count; i++)
        if (!stack->frames[i].inlined)
            hash = add_frame(hash, report, &stack->frames[i]);
    return hash;
}
