/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A growing array of one element type, as a macro-typed struct. */
#ifndef LEAKWATCH_BASE_VECTOR_H
#define LEAKWATCH_BASE_VECTOR_H

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Declares a vector: `LW_VECTOR(struct lw_mapping) mappings = {0};`. All zero is a valid, empty
 * vector. Elements move when it grows: hold indices, not pointers. */
#define LW_VECTOR(type)                                                                            \
    struct {                                                                                       \
        type *items;                                                                               \
        size_t count;                                                                              \
        size_t capacity;                                                                           \
    }

/* Makes room for one more element; 0 or -ENOMEM. Used through lw_vector_push. */
int lw_vector_grow(void **items, size_t *capacity, size_t item_size);

/* Appends a copy of `item`; 0 or -ENOMEM (then nothing has changed). */
#define lw_vector_push(vector, item)                                                               \
    ({                                                                                             \
        int push_result_ = 0;                                                                      \
        if ((vector)->count == (vector)->capacity)                                                 \
            push_result_ = lw_vector_grow((void **)&(vector)->items, &(vector)->capacity,          \
                                          sizeof(*(vector)->items));                               \
        if (push_result_ == 0)                                                                     \
            (vector)->items[(vector)->count++] = (item);                                           \
        push_result_;                                                                              \
    })

/* Removes the element at `index` by moving the last one into its place: order is not kept. */
#define lw_vector_swap_remove(vector, index)                                                       \
    ((void)((vector)->items[index] = (vector)->items[--(vector)->count]))

#define lw_vector_clear(vector) ((void)((vector)->count = 0))

#define lw_vector_deinit(vector)                                                                   \
    do {                                                                                           \
        free((vector)->items);                                                                     \
        memset((vector), 0, sizeof(*(vector)));                                                    \
    } while (0)

#define lw_vector_for_each(item, vector)                                                           \
    for (__auto_type item = (vector)->items; item < (vector)->items + (vector)->count; item++)

#endif
