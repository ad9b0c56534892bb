/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Leaks at the bottom of a deep recursion. */
#include "target.h"

/*
 * recursion
 *   begin DEPTH   leaks ten blocks of 100 bytes below DEPTH frames; answers with it
 *   count         answers with how often it was asked
 */
WATCHED static void *leak_deep(size_t size)
{
    void *block = malloc(size);
    KEEP(block);
    return block;
}

WATCHED static void descend(long depth)
{
    if (depth > 0)
        descend(depth - 1);
    else
        for (int i = 0; i < 10; i++)
            KEEP(leak_deep(100));
    STAY();
}

int main(void)
{
    say("{\"ready\":%d}", getpid());
    char line[128];
    unsigned long questions = 0;
    while (hear(line, sizeof line)) {
        long number;
        if (is_command(line, "begin", 1000, &number)) {
            descend(number);
            say("{\"leaks\":{\"leak_deep\":{\"bytes\":1000,\"blocks\":10}}}");
        } else if (is_command(line, "count", 0, &number)) {
            say("{\"progress\":%lu}", ++questions);
        }
    }
    return 0;
}
