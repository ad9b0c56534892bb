/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A hash map from 64-bit keys to 64-bit values, open addressing, for addresses and thread ids. */
#ifndef LEAKWATCH_BASE_MAP_H
#define LEAKWATCH_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero is a valid, empty map. Any key but UINT64_MAX. Values may be pointers cast to uintptr_t;
 * the map owns none of them. */
struct lw_map {
    struct lw_map_entry *entries;
    size_t count;
    size_t capacity; /* a power of two, or 0 */
};

struct lw_map_entry {
    uint64_t key; /* UINT64_MAX: free */
    uint64_t value;
};

void lw_map_deinit(struct lw_map *map);

/* Sets key to value, whether or not it was there; 0, -ENOMEM or -EINVAL for UINT64_MAX. */
int lw_map_set(struct lw_map *map, uint64_t key, uint64_t value);

/* True and *value (which may be NULL) when the key is there. */
bool lw_map_get(const struct lw_map *map, uint64_t key, uint64_t *value);

/* As lw_map_get, and takes the key out (backward-shift deletion: no tombstones). */
bool lw_map_remove(struct lw_map *map, uint64_t key, uint64_t *value);

/* Mixes all bits of a key into all bits of the result (the finalizer of MurmurHash3). */
static inline uint64_t lw_hash64(uint64_t x)
{
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdull;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ull;
    x ^= x >> 33;
    return x;
}

#endif
