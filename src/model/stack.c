/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Interned call stacks: an arena of immutable stacks and a hash index over it. */
#include "leakwatch/model/stack.h"

#include <stdlib.h>

#include "leakwatch/base/map.h"
#include "leakwatch/base/vector.h"

enum { CHUNK_SIZE = 64 * 1024, FIRST_SLOTS = 1024 };

_Static_assert(sizeof(struct lw_stack) + LW_STACK_MAX_DEPTH * sizeof(struct lw_frame) <= CHUNK_SIZE,
               "the deepest stack fits a chunk");
_Static_assert(sizeof(struct lw_frame) % _Alignof(struct lw_stack) == 0,
               "stacks may follow each other in a chunk");

/* The hash is kept beside the id so that growing the index and passing over other stacks touch no
 * stack. */
struct slot {
    uint32_t hash;
    uint32_t id; /* 0: free */
};

struct chunk {
    struct chunk *older;
    _Alignas(struct lw_stack) char bytes[CHUNK_SIZE];
};

struct lw_stack_table {
    struct chunk *chunk;                      /* the newest */
    size_t chunk_used;                        /* bytes of it */
    LW_VECTOR(const struct lw_stack *) by_id; /* of id - 1 */
    struct slot *slots;
    size_t slot_count; /* a power of two */
    size_t chunk_bytes;
    size_t limit, extra; /* bytes; 0: no limit */
};

struct lw_stack_table *lw_stack_table_create(void)
{
    struct lw_stack_table *table = calloc(1, sizeof(*table));
    struct slot *slots = calloc(FIRST_SLOTS, sizeof(*slots));
    if (!table || !slots) {
        free(table);
        free(slots);
        return NULL;
    }
    table->slots = slots;
    table->slot_count = FIRST_SLOTS;
    return table;
}

void lw_stack_table_destroy(struct lw_stack_table *table)
{
    if (!table)
        return;
    while (table->chunk) {
        struct chunk *older = table->chunk->older;
        free(table->chunk);
        table->chunk = older;
    }
    lw_vector_deinit(&table->by_id);
    free(table->slots);
    free(table);
}

/* Field by field, here and below: the padding of the caller's frames has no defined value. */
static uint32_t hash_frames(const struct lw_frame *frames, size_t depth, bool truncated)
{
    uint64_t hash = depth * 2 + truncated;
    for (size_t i = 0; i < depth; i++) {
        hash ^= frames[i].offset + ((uint64_t)frames[i].module << 40) + frames[i].is_return;
        hash *= 0x9e3779b97f4a7c15ull;
        hash ^= hash >> 29;
    }
    return (uint32_t)lw_hash64(hash);
}

static bool is_same(const struct lw_stack *stack, const struct lw_frame *frames, size_t depth,
                    bool truncated)
{
    if (stack->depth != depth || stack->truncated != truncated)
        return false;
    for (size_t i = 0; i < depth; i++) {
        const struct lw_frame *frame = &stack->frames[i];
        if (frame->offset != frames[i].offset || frame->module != frames[i].module ||
            frame->is_return != frames[i].is_return)
            return false;
    }
    return true;
}

static int grow_slots(struct lw_stack_table *table)
{
    size_t grown_count = table->slot_count * 2;
    struct slot *grown = calloc(grown_count, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    for (size_t i = 0; i < table->slot_count; i++) {
        if (table->slots[i].id == 0)
            continue;
        size_t at = table->slots[i].hash & (grown_count - 1);
        while (grown[at].id != 0)
            at = (at + 1) & (grown_count - 1);
        grown[at] = table->slots[i];
    }
    free(table->slots);
    table->slots = grown;
    table->slot_count = grown_count;
    return 0;
}

/* Room in the arena, or NULL. What is left of the last chunk when a stack does not fit is lost. */
static struct lw_stack *allocate(struct lw_stack_table *table, size_t size)
{
    if (!table->chunk || CHUNK_SIZE - table->chunk_used < size) {
        struct chunk *chunk = malloc(sizeof(*chunk));
        if (!chunk)
            return NULL;
        chunk->older = table->chunk;
        table->chunk_bytes += sizeof(*chunk);
        table->chunk = chunk;
        table->chunk_used = 0;
    }
    char *room = table->chunk->bytes + table->chunk_used;
    table->chunk_used += size;
    return (struct lw_stack *)room;
}

static const struct lw_stack *add(struct lw_stack_table *table, const struct lw_frame *frames,
                                  size_t depth, bool truncated)
{
    if (table->by_id.count >= UINT32_MAX)
        return NULL;
    size_t size = sizeof(struct lw_stack) + depth * sizeof(*frames);
    struct lw_stack *stack = allocate(table, size);
    if (!stack)
        return NULL;
    if (lw_vector_push(&table->by_id, stack) < 0) {
        table->chunk_used -= size;
        return NULL;
    }
    *stack = (struct lw_stack){
        .id = (uint32_t)table->by_id.count, .depth = (uint32_t)depth, .truncated = truncated};
    for (size_t i = 0; i < depth; i++)
        stack->frames[i] = (struct lw_frame){.offset = frames[i].offset,
                                             .module = frames[i].module,
                                             .is_return = frames[i].is_return};
    return stack;
}

void lw_stack_table_limit(struct lw_stack_table *table, size_t bytes, size_t extra)
{
    table->limit = bytes;
    table->extra = extra;
}

static bool is_full(const struct lw_stack_table *table)
{
    size_t used = table->chunk_bytes + table->slot_count * sizeof(*table->slots) +
                  table->by_id.capacity * sizeof(*table->by_id.items) +
                  table->by_id.count * table->extra;
    return table->limit != 0 && used >= table->limit;
}

const struct lw_stack *lw_stack_table_intern(struct lw_stack_table *table,
                                             const struct lw_frame *frames, size_t depth,
                                             bool truncated)
{
    if (depth > LW_STACK_MAX_DEPTH) {
        depth = LW_STACK_MAX_DEPTH;
        truncated = true;
    }
    /* At most half full: most lookups end at the first slot. */
    if (table->by_id.count >= table->slot_count / 2 && grow_slots(table) < 0)
        return NULL;
    uint32_t hash = hash_frames(frames, depth, truncated);
    size_t at = hash & (table->slot_count - 1);
    for (; table->slots[at].id != 0; at = (at + 1) & (table->slot_count - 1)) {
        if (table->slots[at].hash != hash)
            continue;
        const struct lw_stack *stack = table->by_id.items[table->slots[at].id - 1];
        if (is_same(stack, frames, depth, truncated))
            return stack;
    }
    if (depth > 1 && is_full(table))
        return lw_stack_table_intern(table, frames, 1, true);
    const struct lw_stack *stack = add(table, frames, depth, truncated);
    if (stack)
        table->slots[at] = (struct slot){.hash = hash, .id = stack->id};
    return stack;
}

const struct lw_stack *lw_stack_table_get(const struct lw_stack_table *table, uint32_t id)
{
    return id >= 1 && id <= table->by_id.count ? table->by_id.items[id - 1] : NULL;
}

size_t lw_stack_table_count(const struct lw_stack_table *table)
{
    return table->by_id.count;
}
