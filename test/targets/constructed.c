/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A shared object that leaks in its constructor: directly, and through functions of the C library
 * that allocate for the program. */
#include "target.h"

WATCHED static void leak_constructor(void)
{
    KEEP(malloc(300));
    KEEP(strdup("three"));
}

WATCHED static void leak_stream(void)
{
    FILE *stream = fopen("/dev/null", "w");
    if (stream != NULL)
        putc('x', stream);
    KEEP(stream);
}

__attribute__((constructor)) static void construct(void)
{
    leak_constructor();
    leak_stream();
    STAY();
}
