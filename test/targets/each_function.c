/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Leaks exactly 30 000 bytes through each allocator function of C. */
#include "target.h"

#include <malloc.h>

/*
 * each_function [MS]    with MS: leaks at once, waits so many milliseconds, and exits with 7
 *   begin     leaks; answers with what
 *   free      frees it all; answers
 *   count     answers with how often it was asked
 */
enum { BLOCKS = 30, BLOCK_BYTES = 1000, FUNCTIONS = 9 };

WATCHED static void *leak_malloc(size_t size)
{
    void *block = malloc(size);
    KEEP(block);
    return block;
}

WATCHED static void *leak_calloc(size_t size)
{
    void *block = calloc(size / 10, 10);
    KEEP(block);
    return block;
}

/* Grows a block twice: only its last size counts. */
WATCHED static void *leak_realloc(size_t size)
{
    void *block = realloc(NULL, 10);
    KEEP(block);
    block = realloc(block, 3 * size);
    KEEP(block);
    block = realloc(block, size);
    KEEP(block);
    return block;
}

WATCHED static void *leak_reallocarray(size_t size)
{
    void *block = reallocarray(NULL, size / 10, 10);
    KEEP(block);
    return block;
}

WATCHED static void *leak_memalign(size_t size)
{
    void *block = memalign(128, size);
    KEEP(block);
    return block;
}

WATCHED static void *leak_aligned_alloc(size_t size)
{
    void *block = aligned_alloc(8, size);
    KEEP(block);
    return block;
}

WATCHED static void *leak_posix_memalign(size_t size)
{
    void *block = NULL;
    if (posix_memalign(&block, 4096, size) != 0)
        return NULL;
    KEEP(block);
    return block;
}

WATCHED static void *leak_valloc(size_t size)
{
    void *block = valloc(size);
    KEEP(block);
    return block;
}

WATCHED static void *leak_pvalloc(size_t size)
{
    void *block = pvalloc(size);
    KEEP(block);
    return block;
}

static const struct {
    const char *name;
    void *(*leak)(size_t size);
} functions[FUNCTIONS] = {
    {"leak_malloc", leak_malloc},
    {"leak_calloc", leak_calloc},
    {"leak_realloc", leak_realloc},
    {"leak_reallocarray", leak_reallocarray},
    {"leak_memalign", leak_memalign},
    {"leak_aligned_alloc", leak_aligned_alloc},
    {"leak_posix_memalign", leak_posix_memalign},
    {"leak_valloc", leak_valloc},
    {"leak_pvalloc", leak_pvalloc},
};

static void *blocks[FUNCTIONS][BLOCKS];

static void leak_all(void)
{
    for (int i = 0; i < FUNCTIONS; i++)
        for (int j = 0; j < BLOCKS; j++)
            if ((blocks[i][j] = functions[i].leak(BLOCK_BYTES)) == NULL)
                _exit(98);
}

static void say_all(void)
{
    char text[1024] = "";
    size_t used = 0;
    for (int i = 0; i < FUNCTIONS; i++)
        used += (size_t)snprintf(text + used, sizeof text - used,
                                 "%s\"%s\":{\"bytes\":%d,\"blocks\":%d}", i ? "," : "",
                                 functions[i].name, BLOCKS * BLOCK_BYTES, BLOCKS);
    say("{\"leaks\":{%s}}", text);
}

WATCHED static void free_all(void)
{
    for (int i = 0; i < FUNCTIONS; i++)
        for (int j = 0; j < BLOCKS; j++) {
            free(blocks[i][j]);
            blocks[i][j] = NULL;
        }
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        leak_all();
        sleep_ms(argument_or(argc, argv, 1, 0));
        return 7;
    }
    say("{\"ready\":%d}", getpid());
    char line[128];
    unsigned long questions = 0;
    while (hear(line, sizeof line)) {
        long number;
        if (is_command(line, "begin", 0, &number)) {
            leak_all();
            say_all();
        } else if (is_command(line, "free", 0, &number)) {
            free_all();
            say("{\"free\":true}");
        } else if (is_command(line, "count", 0, &number)) {
            say("{\"progress\":%lu}", ++questions);
        }
    }
    return 0;
}
