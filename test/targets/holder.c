/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Threads that hold many blocks, and give each away again after a while, at random. */
#include "target.h"

#include <pthread.h>

/*
 * holder [THREADS [BLOCKS]]   so many blocks are held by each thread
 *   begin N   each thread replaces N of its blocks, some thousands a second; answers, when they
 *             rest, with what was allocated, freed, and is held
 *   count     answers with how often it was asked
 */
enum { BLOCKS_MAX = 10000, AT_ONCE = 4 };

struct holder {
    uint64_t random, allocs, frees;
    void *blocks[BLOCKS_MAX];
};

static long block_count, steps;
static pthread_barrier_t begin, end;

static uint64_t next_random(struct holder *holder)
{
    holder->random ^= holder->random << 13;
    holder->random ^= holder->random >> 7;
    return holder->random ^= holder->random << 17;
}

WATCHED static void replace(struct holder *holder, void **block)
{
    if (*block) {
        free(*block);
        holder->frees++;
    }
    *block = malloc(16 + next_random(holder) % 200);
    if (*block == NULL)
        _exit(98);
    holder->allocs++;
}

/* A realloc that fails leaves the block alone. */
WATCHED static void keep(void *block)
{
    static volatile size_t too_much = PTRDIFF_MAX;
    if (block != NULL && realloc(block, too_much) != NULL)
        _exit(98);
}

static void *hold(void *argument)
{
    struct holder *holder = argument;
    for (;;) {
        pthread_barrier_wait(&begin);
        for (long i = 0; i < steps; i++) {
            replace(holder, &holder->blocks[next_random(holder) % (uint64_t)block_count]);
            keep(holder->blocks[next_random(holder) % (uint64_t)block_count]);
            if (i % AT_ONCE == 0)
                sleep_ms(1);
        }
        pthread_barrier_wait(&end);
    }
    return NULL;
}

static void start(struct holder *holders, long count)
{
    pthread_t thread;
    pthread_barrier_init(&begin, NULL, (unsigned)count + 1);
    pthread_barrier_init(&end, NULL, (unsigned)count + 1);
    for (long i = 0; i < count; i++) {
        holders[i].random = 88172645463325252u * (uint64_t)(i + 1);
        if (pthread_create(&thread, NULL, hold, &holders[i]) != 0)
            _exit(97);
    }
}

static void say_sums(const struct holder *holders, long count)
{
    uint64_t allocs = 0, frees = 0;
    for (long i = 0; i < count; i++) {
        allocs += holders[i].allocs;
        frees += holders[i].frees;
    }
    say("{\"allocs\":%lu,\"frees\":%lu,\"held\":%lu}", allocs, frees, allocs - frees);
}

int main(int argc, char **argv)
{
    static struct holder holders[64];
    const long count = argument_or(argc, argv, 1, 8);
    block_count = argument_or(argc, argv, 2, 1000);
    if (count < 1 || count > 64 || block_count < 1 || block_count > BLOCKS_MAX)
        return 2;
    start(holders, count);
    say("{\"ready\":%d}", getpid());
    char line[128];
    unsigned long questions = 0;
    while (hear(line, sizeof line)) {
        long number;
        if (is_command(line, "begin", 1000, &number)) {
            steps = number;
            pthread_barrier_wait(&begin);
            pthread_barrier_wait(&end);
            say_sums(holders, count);
        } else if (is_command(line, "count", 0, &number)) {
            say("{\"progress\":%lu}", ++questions);
        }
    }
    return 0;
}
