/* SPDX-License-Identifier: GPL-2.0-or-later */
/* More threads than usual: crowd THREADS. Commands: begin (each allocates a few blocks, which
 * another one frees), count. */
#include "target.h"

#include <pthread.h>

enum { MOST = 10000, ROUNDS = 10 };

static void *blocks[MOST];
static long threads;
static pthread_barrier_t barrier;

WATCHED static void *leak_passed_on(size_t size)
{
    void *block = malloc(size);
    KEEP(block);
    return block;
}

static void *work(void *number)
{
    const long own = (long)number;
    pthread_barrier_wait(&barrier);
    for (int round = 0; round < ROUNDS; round++) {
        blocks[own] = leak_passed_on(1000);
        pthread_barrier_wait(&barrier);
        free(blocks[(own + 1) % threads]);
        pthread_barrier_wait(&barrier);
    }
    pthread_barrier_wait(&barrier);
    return NULL;
}

static bool start(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 64 << 10);
    pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
    for (long i = 0; i < threads; i++)
        if (pthread_create(&thread, &attributes, work, (void *)i) != 0)
            return false;
    return true;
}

int main(int argc, char **argv)
{
    char line[64];
    long unused, progress = 0;
    threads = argument_or(argc, argv, 1, 1);
    if (threads > MOST || !start())
        return 1;
    say("{\"pid\":%d}", (int)getpid());
    while (hear(line, sizeof line)) {
        if (is_command(line, "begin", 0, &unused))
            for (int i = 0; i <= 2 * ROUNDS; i++)
                pthread_barrier_wait(&barrier);
        say("{\"progress\":%ld}", ++progress);
    }
    return 0;
}
