/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which stacks of two reports are the same: a frame is a place in a build, or a function. */
#include "diff_key.h"

#include <string.h>

#include "leakwatch/base/map.h"

/* What a frame is compared by. */
struct frame_key {
    enum { IN_NO_FILE, IN_BUILD, IN_FILE, FUNCTION } kind;
    const char *place;    /* build-id or name of the file; "" in none */
    const char *function; /* or "" */
    uint64_t offset;
};

static struct frame_key frame_key(const struct lw_diff_keyed *keyed,
                                  const struct lw_report_frame *frame)
{
    const char *module = frame->module ? frame->module : "";

    if (keyed->by == LW_DIFF_BY_FUNCTION && frame->function)
        return (struct frame_key){FUNCTION, module, frame->function, 0};
    if (frame->module_number != 0) {
        const char *build_id = keyed->report->modules[frame->module_number - 1].build_id;
        if (build_id[0])
            return (struct frame_key){IN_BUILD, build_id, "", frame->offset};
    }
    if (frame->module)
        return (struct frame_key){IN_FILE, module, "", frame->offset};
    return (struct frame_key){IN_NO_FILE, "", "", keyed->same_watch ? frame->address : 0};
}

/* The frame at or behind *index that is compared; NULL: no more. Inlined functions are at the place
 * of the function that they are in, and whether they are told depends on the debug information that
 * was at hand. */
static const struct lw_report_frame *next_frame(const struct lw_diff_keyed *keyed, size_t *index)
{
    while (*index < keyed->stack->frame_count) {
        const struct lw_report_frame *frame = &keyed->stack->frames[(*index)++];
        if (keyed->by == LW_DIFF_BY_FUNCTION || !frame->inlined)
            return frame;
    }
    return NULL;
}

static bool is_truncated(const struct lw_diff_keyed *keyed)
{
    return keyed->stack->facts.stack->truncated;
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
    for (const char *c = text; *c; c++) /* FNV-1a */
        hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    return hash;
}

uint64_t lw_diff_key_hash(const struct lw_diff_keyed *keyed)
{
    uint64_t hash = 14695981039346656037u + is_truncated(keyed);
    const struct lw_report_frame *frame;

    for (size_t i = 0; (frame = next_frame(keyed, &i)) != NULL;) {
        struct frame_key key = frame_key(keyed, frame);

        hash = lw_hash64(hash + key.kind) ^ key.offset;
        hash = hash_text(hash_text(hash, key.place), key.function);
    }
    return hash >> 1;
}

bool lw_diff_key_equal(const struct lw_diff_keyed *a, const struct lw_diff_keyed *b)
{
    size_t i = 0, j = 0;

    if (is_truncated(a) != is_truncated(b))
        return false;
    for (;;) {
        const struct lw_report_frame *left = next_frame(a, &i), *right = next_frame(b, &j);
        if (!left || !right)
            return left == right;
        struct frame_key x = frame_key(a, left), y = frame_key(b, right);
        if (x.kind != y.kind || x.offset != y.offset || strcmp(x.place, y.place) != 0 ||
            strcmp(x.function, y.function) != 0)
            return false;
    }
}
