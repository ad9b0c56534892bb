/* SPDX-License-Identifier: GPL-2.0-or-later */
/* malloc and free in pairs through five frames; prints what a pair costs. For scripts/bench. */
#include "target.h"

/* pairs [SECONDS between the prints] */
WATCHED static void *pair_fifth(size_t size)
{
    void *block = malloc(size);
    KEEP(block);
    return block;
}

WATCHED static void *pair_fourth(size_t size)
{
    void *block = pair_fifth(size);
    KEEP(block);
    return block;
}

WATCHED static void *pair_third(size_t size)
{
    void *block = pair_fourth(size);
    KEEP(block);
    return block;
}

WATCHED static void *pair_second(size_t size)
{
    void *block = pair_third(size);
    KEEP(block);
    return block;
}

WATCHED static void *pair_first(size_t size)
{
    void *block = pair_second(size);
    KEEP(block);
    return block;
}

int main(int argc, char **argv)
{
    double every = argc > 1 ? strtod(argv[1], NULL) : 0.5;
    double last = now_s();
    unsigned long pairs = 0;
    for (;;) {
        for (int i = 0; i < 16; i++)
            free(pair_first(32 + (size_t)i * 8));
        pairs += 16;
        double now = now_s();
        if (now - last >= every) {
            say("%.4f us/pair", (now - last) * 1e6 / (double)pairs);
            last = now;
            pairs = 0;
        }
    }
}
