/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A shared object with an allocator of its own, which has the functions that glibc lacks. */
#include "target.h"

#include <errno.h>

/* Linked with -Bsymbolic: its own calls reach its own functions. A block's header holds its size.
 */
static _Alignas(64) unsigned char arena[1 << 20];
static size_t arena_used;

int own_leak(int count, char *text, size_t size);
void cfree(void *block);
void free_sized(void *block, size_t size);
void free_aligned_sized(void *block, size_t alignment, size_t size);

WATCHED static void *carve(size_t alignment, size_t size)
{
    if (alignment < 16)
        alignment = 16;
    size_t start = (arena_used + 16 + alignment - 1) & ~(alignment - 1);
    if (size > sizeof arena || start + size > sizeof arena) {
        errno = ENOMEM;
        return NULL;
    }
    arena_used = start + size;
    memcpy(arena + start - 16, &size, sizeof size);
    return arena + start;
}

void *malloc(size_t size)
{
    void *block = carve(16, size);
    KEEP(block);
    return block;
}

void free(void *block)
{
    KEEP(block);
}

void cfree(void *block)
{
    KEEP(&block); /* not folded with free */
}

void free_sized(void *block, size_t size)
{
    KEEP(block);
    KEEP(size);
}

void free_aligned_sized(void *block, size_t alignment, size_t size)
{
    KEEP(block);
    KEEP(alignment);
    KEEP(size);
}

void *calloc(size_t count, size_t size)
{
    void *block = carve(16, count * size);
    KEEP(block);
    return block;
}

void *realloc(void *block, size_t size)
{
    void *moved = carve(16, size);
    size_t old = 0;
    if (block)
        memcpy(&old, (unsigned char *)block - 16, sizeof old);
    if (moved && block)
        memcpy(moved, block, old < size ? old : size);
    KEEP(moved);
    return moved;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    void *block = carve(alignment, size);
    KEEP(block);
    return block;
}

WATCHED static void *leak_own_malloc(void)
{
    void *block = malloc(100);
    KEEP(block);
    return block;
}

WATCHED static void *leak_own_calloc(void)
{
    void *block = calloc(10, 10);
    KEEP(block);
    return block;
}

WATCHED static void *leak_own_realloc(void)
{
    void *block = realloc(malloc(1), 100);
    KEEP(block);
    return block;
}

WATCHED static void *leak_own_aligned(void)
{
    void *block = aligned_alloc(64, 100);
    KEEP(block);
    return block;
}

static void *(*const leaks[])(void) = {leak_own_malloc, leak_own_calloc, leak_own_realloc,
                                       leak_own_aligned};

/* Whatever way a block is freed, none of these leaks. */
static void free_every_way(void)
{
    free(malloc(50));
    cfree(malloc(50));
    free_sized(malloc(50), 50);
    free_aligned_sized(aligned_alloc(64, 50), 64, 50);
}

int own_leak(int count, char *text, size_t size)
{
    for (int i = 0; i < count; i++) {
        for (size_t way = 0; way < sizeof leaks / sizeof leaks[0]; way++)
            if (leaks[way]() == NULL)
                return -1;
        free_every_way();
    }
    static const char *const names[] = {"leak_own_malloc", "leak_own_calloc", "leak_own_realloc",
                                        "leak_own_aligned"};
    size_t used = 0;
    for (size_t way = 0; way < sizeof leaks / sizeof leaks[0]; way++)
        used += (size_t)snprintf(text + used, size - used, "%s\"%s\":{\"bytes\":%d,\"blocks\":%d}",
                                 way ? "," : "", names[way], 100 * count, count);
    return 0;
}
