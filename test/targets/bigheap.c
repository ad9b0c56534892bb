/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Holds as many live blocks as it is told. */
#include "target.h"

/*
 * bigheap [SIZE]
 *   begin N   allocates N blocks of SIZE, or of 16 to 79 bytes; answers with their bytes
 *   count     answers with how often it was asked
 */
WATCHED static void *leak_big(size_t size)
{
    void *block = malloc(size);
    KEEP(block);
    return block;
}

static unsigned long hold(long count, size_t each)
{
    unsigned long bytes = 0;
    for (long i = 0; i < count; i++) {
        size_t size = each ? each : 16 + (size_t)i % 64;
        if (leak_big(size) == NULL)
            _exit(98);
        bytes += size;
    }
    return bytes;
}

int main(int argc, char **argv)
{
    const size_t size = (size_t)argument_or(argc, argv, 1, 0);
    say("{\"ready\":%d}", getpid());
    char line[128];
    unsigned long questions = 0;
    while (hear(line, sizeof line)) {
        long number;
        if (is_command(line, "begin", 1000000, &number))
            say("{\"leaks\":{\"leak_big\":{\"bytes\":%lu,\"blocks\":%ld}}}", hold(number, size),
                number);
        else if (is_command(line, "count", 0, &number))
            say("{\"progress\":%lu}", ++questions);
    }
    return 0;
}
