/* SPDX-License-Identifier: GPL-2.0-or-later */
/* N threads that allocate at random all the time, and leak by a known plan when told to. */
#include "target.h"
#include "workload.h"

#include <pthread.h>

/*
 * storm [threads [idle|run]]
 *   run        every thread allocates and frees without end, leaking nothing, and checks its work
 * by a running hash begin M    every thread does M calls, every 50th a leak, frees the rest and
 * rests; answers at once, so that the test may go on meanwhile wait       answers with the leaks
 * since the last wait, when all threads rest rest       every thread frees its blocks and rests;
 * answers then count      answers with the number of calls so far, and of blocks or hashes found
 *              wrong
 */
enum order { REST, RUN, LEAK };

struct worker {
    pthread_t thread;
    struct workload workload;
    uint64_t obeyed; /* the last order carried out */
    uint64_t rounds;
};

/* The order in force, in one word so that no thread reads half of it: number, operations, order. */
static uint64_t current_order;

static uint64_t pack_order(uint64_t number, uint64_t operations, enum order order)
{
    return number << 34 | operations << 2 | (uint64_t)order;
}

/* The work of a running thread comes in rounds, of which there are a few different ones. */
enum { ROUNDS = 16, ROUND_OPERATIONS = 256 };

/* What each round has computed before any thread began. */
static uint64_t expected[ROUNDS];

static void learn_rounds(void)
{
    static struct workload workload;
    for (int round = 0; round < ROUNDS; round++) {
        workload_run_round(&workload, (uint64_t)round, ROUND_OPERATIONS);
        expected[round] = workload.hash;
    }
}

static void run_round(struct worker *worker)
{
    int round = (int)(worker->rounds++ % ROUNDS);
    workload_run_round(&worker->workload, (uint64_t)round, ROUND_OPERATIONS);
    if (worker->workload.hash != expected[round])
        worker->workload.corrupt++;
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    for (;;) {
        uint64_t order = __atomic_load_n(&current_order, __ATOMIC_ACQUIRE);
        if ((order & 3) == RUN) {
            run_round(worker);
        } else if (order == worker->obeyed) {
            sleep_ms(1);
        } else {
            if ((order & 3) == LEAK)
                workload_run(&worker->workload, order >> 2 & 0xffffffff, 50);
            workload_drain(&worker->workload);
            __atomic_store_n(&worker->obeyed, order, __ATOMIC_RELEASE);
        }
    }
    return NULL;
}

static void give_order(enum order order, uint64_t operations)
{
    uint64_t number = (current_order >> 34) + 1;
    __atomic_store_n(&current_order, pack_order(number, operations, order), __ATOMIC_RELEASE);
}

static void wait_for_rest(const struct worker *workers, long count)
{
    for (long i = 0; i < count; i++)
        while (__atomic_load_n(&workers[i].obeyed, __ATOMIC_ACQUIRE) != current_order)
            sleep_ms(1);
}

static void say_leaks(struct worker *workers, long count)
{
    struct tally sum[LEAK_KINDS] = {0};
    uint64_t corrupt = 0;
    for (long i = 0; i < count; i++) {
        workload_add(sum, &workers[i].workload);
        memset(workers[i].workload.leaks, 0, sizeof workers[i].workload.leaks);
        corrupt += workers[i].workload.corrupt;
    }
    workload_say(sum, corrupt);
}

static uint64_t count_operations(struct worker *workers, long count)
{
    uint64_t sum = 0;
    for (long i = 0; i < count; i++)
        sum += __atomic_load_n(&workers[i].workload.operations, __ATOMIC_RELAXED);
    return sum;
}

static uint64_t count_corrupt(struct worker *workers, long count)
{
    uint64_t sum = 0;
    for (long i = 0; i < count; i++)
        sum += __atomic_load_n(&workers[i].workload.corrupt, __ATOMIC_RELAXED);
    return sum;
}

static void obey(const char *line, struct worker *workers, long count)
{
    long number;
    if (is_command(line, "run", 0, &number)) {
        give_order(RUN, 0);
        say("{\"run\":true}");
    } else if (is_command(line, "begin", 20000, &number)) {
        give_order(LEAK, (uint64_t)number);
        say("{\"begin\":%ld}", number);
    } else if (is_command(line, "wait", 0, &number)) {
        wait_for_rest(workers, count);
        say_leaks(workers, count);
    } else if (is_command(line, "rest", 0, &number)) {
        give_order(REST, 0);
        wait_for_rest(workers, count);
        say("{\"rest\":true}");
    } else if (is_command(line, "count", 0, &number)) {
        say("{\"progress\":%lu,\"corrupt\":%lu}", count_operations(workers, count),
            count_corrupt(workers, count));
    }
}

int main(int argc, char **argv)
{
    static struct worker workers[64];
    long count = argument_or(argc, argv, 1, 8);
    if (count < 1 || count > 64)
        return 2;
    learn_rounds();
    if (argc > 2 && strcmp(argv[2], "run") == 0)
        give_order(RUN, 0);
    for (long i = 0; i < count; i++) {
        workload_init(&workers[i].workload, (uint64_t)i + 1);
        workers[i].rounds = (uint64_t)i; /* no two do the same at a time */
        if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0)
            return 1;
    }
    say("{\"ready\":%d}", getpid());
    char line[128];
    while (hear(line, sizeof line))
        obey(line, workers, count);
    return 0;
}
