/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A hash map from 64-bit keys to 64-bit values: linear probing, at most three quarters full. */
#include "leakwatch/base/map.h"

#include <errno.h>
#include <stdlib.h>

#define FREE_KEY UINT64_MAX

enum { FIRST_CAPACITY = 16 };

void lw_map_deinit(struct lw_map *map)
{
    free(map->entries);
    *map = (struct lw_map){0};
}

static size_t home_of(const struct lw_map *map, uint64_t key)
{
    return lw_hash64(key) & (map->capacity - 1);
}

/* The key's entry, or the free one where it would go. The map has at least one free entry. */
static size_t probe(const struct lw_map *map, uint64_t key)
{
    size_t at = home_of(map, key);
    while (map->entries[at].key != key && map->entries[at].key != FREE_KEY)
        at = (at + 1) & (map->capacity - 1);
    return at;
}

static bool find(const struct lw_map *map, uint64_t key, size_t *at)
{
    if (map->count == 0 || key == FREE_KEY)
        return false;
    *at = probe(map, key);
    return map->entries[*at].key == key;
}

static int grow(struct lw_map *map)
{
    if (map->capacity > SIZE_MAX / 2)
        return -ENOMEM;
    struct lw_map grown = {.count = map->count,
                           .capacity = map->capacity ? map->capacity * 2 : FIRST_CAPACITY};
    grown.entries = reallocarray(NULL, grown.capacity, sizeof(*grown.entries));
    if (!grown.entries)
        return -ENOMEM;
    for (size_t i = 0; i < grown.capacity; i++)
        grown.entries[i].key = FREE_KEY;
    for (size_t i = 0; i < map->capacity; i++) {
        if (map->entries[i].key != FREE_KEY)
            grown.entries[probe(&grown, map->entries[i].key)] = map->entries[i];
    }
    free(map->entries);
    *map = grown;
    return 0;
}

int lw_map_set(struct lw_map *map, uint64_t key, uint64_t value)
{
    if (key == FREE_KEY)
        return -EINVAL;
    size_t at;
    if (find(map, key, &at)) {
        map->entries[at].value = value;
        return 0;
    }
    if (map->count + 1 > map->capacity / 4 * 3) {
        int result = grow(map);
        if (result < 0)
            return result;
    }
    map->entries[probe(map, key)] = (struct lw_map_entry){key, value};
    map->count++;
    return 0;
}

bool lw_map_get(const struct lw_map *map, uint64_t key, uint64_t *value)
{
    size_t at;
    if (!find(map, key, &at))
        return false;
    if (value)
        *value = map->entries[at].value;
    return true;
}

/* Closes the gap: an entry further on moves back into it unless that would put the entry before
 * its home. */
static void shift_back(struct lw_map *map, size_t gap)
{
    size_t mask = map->capacity - 1;
    for (size_t at = (gap + 1) & mask; map->entries[at].key != FREE_KEY; at = (at + 1) & mask) {
        size_t from_home = (at - home_of(map, map->entries[at].key)) & mask;
        size_t from_gap = (at - gap) & mask;
        if (from_home >= from_gap) {
            map->entries[gap] = map->entries[at];
            gap = at;
        }
    }
    map->entries[gap].key = FREE_KEY;
}

bool lw_map_remove(struct lw_map *map, uint64_t key, uint64_t *value)
{
    size_t at;
    if (!find(map, key, &at))
        return false;
    if (value)
        *value = map->entries[at].value;
    shift_back(map, at);
    map->count--;
    return true;
}
