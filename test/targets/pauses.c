/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A thread that only allocates and frees, and measures for how long it was kept from it at most.
 * Commands: count ("longest_ms" since the last one). */
#include "target.h"

#include <pthread.h>
#include <stdatomic.h>

static _Atomic double longest;
static atomic_long progress;

static void *work(void *unused)
{
    for (double last = now_s();; atomic_fetch_add(&progress, 1)) {
        void *block = malloc(100);
        KEEP(block);
        free(block);
        const double now = now_s();
        if (now - last > atomic_load(&longest))
            atomic_store(&longest, now - last);
        last = now;
    }
    return unused;
}

int main(void)
{
    char line[64];
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, NULL) != 0)
        return 1;
    say("{\"pid\":%d}", (int)getpid());
    while (hear(line, sizeof line))
        say("{\"progress\":%ld,\"longest_ms\":%.3f}", atomic_load(&progress),
            1e3 * atomic_exchange(&longest, 0));
    return 0;
}
