/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Allocates, with little memory to have: limited [address-space GIB | lock]. Commands: big MIB
 * (whether so much can be had), count. */
#include "target.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>

static atomic_long progress;

static void *work(void *unused)
{
    for (;; atomic_fetch_add(&progress, 1)) {
        void *block = malloc(100);
        KEEP(block);
        free(block);
        sleep_ms(1);
    }
    return unused;
}

static bool limit(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "lock") == 0)
        return mlockall(MCL_CURRENT | MCL_FUTURE) == 0;
    const rlim_t bytes = (rlim_t)argument_or(argc, argv, 2, 1) << 30;
    return setrlimit(RLIMIT_AS, &(struct rlimit){bytes, bytes}) == 0;
}

int main(int argc, char **argv)
{
    char line[64];
    long size;
    pthread_t thread;
    bool limited = limit(argc, argv);
    if (pthread_create(&thread, NULL, work, NULL) != 0)
        return 1;
    say("{\"pid\":%d,\"limited\":%s}", (int)getpid(), limited ? "true" : "false");
    while (hear(line, sizeof line)) {
        bool had = true;
        if (is_command(line, "big", 1, &size)) {
            void *block = malloc((size_t)size << 20);
            KEEP(block);
            had = block != NULL;
            free(block);
        }
        say("{\"progress\":%ld,\"had\":%s}", atomic_load(&progress), had ? "true" : "false");
    }
    return 0;
}
