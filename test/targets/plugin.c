/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A shared object that leaks through the allocator of the program. */
#include "target.h"

int plugin_leak(int count, char *text, size_t size);

WATCHED static void *leak_plugin(size_t size)
{
    void *block = malloc(size);
    KEEP(block);
    return block;
}

int plugin_leak(int count, char *text, size_t size)
{
    (void)text;
    (void)size;
    for (int i = 0; i < count; i++)
        if (leak_plugin(100) == NULL)
            return -1;
    return 0;
}
