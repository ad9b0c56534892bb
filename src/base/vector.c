/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The growth of vectors. */
#include "leakwatch/base/vector.h"

#include <stdint.h>

enum { FIRST_GROWTH = 8 };

int lw_vector_grow(void **items, size_t *capacity, size_t item_size)
{
    if (*capacity > SIZE_MAX / 2 / item_size)
        return -ENOMEM;
    size_t grown = *capacity ? *capacity * 2 : FIRST_GROWTH;
    void *moved = realloc(*items, grown * item_size);
    if (!moved)
        return -ENOMEM;
    *items = moved;
    *capacity = grown;
    return 0;
}
