/* SPDX-License-Identifier: GPL-2.0-or-later */
/* malloc and free in pairs, through many frames; tells what a pair costs. For scripts/bench. */
#include "target.h"

#include <pthread.h>

/*
 * pairs [SECONDS [FRAMES [THREADS]]]   prints the cost of a pair again and again
 * pairs ask [BLOCKS]                   holds that many blocks, and answers:
 *   pair FRAMES THREADS MS    allocates and frees at once
 *   replace MS                frees a block of those held at random, allocates another instead
 *                             each answered with the ns a pair took, by the clock and of processor
 *
 * FRAMES is 6, 12, 18, 24 or 30, without those of the thread itself.
 */
enum { BATCH = 16, GROUP = 6, GROUPS = 5, MOST_THREADS = 64 };

#define FRAME(name, called)                                                                        \
    WATCHED static void *name(size_t size)                                                         \
    {                                                                                              \
        void *block = called(size);                                                                \
        KEEP(block);                                                                               \
        return block;                                                                              \
    }
#define SIX_FRAMES(name, called)                                                                   \
    FRAME(name##_6, called)                                                                        \
    FRAME(name##_5, name##_6)                                                                      \
    FRAME(name##_4, name##_5)                                                                      \
    FRAME(name##_3, name##_4)                                                                      \
    FRAME(name##_2, name##_3)                                                                      \
    FRAME(name##_1, name##_2)

SIX_FRAMES(pair_a, malloc)
SIX_FRAMES(pair_b, pair_a_1)
SIX_FRAMES(pair_c, pair_b_1)
SIX_FRAMES(pair_d, pair_c_1)
SIX_FRAMES(pair_e, pair_d_1)

typedef void *allocate_fn(size_t size);

struct cost {
    double ns; /* a pair */
    double cpu_ns;
};

struct worker {
    pthread_t thread;
    allocate_fn *allocate;
    double seconds;
    struct cost cost; /* when it has ended */
};

static void **held;
static unsigned long held_count;

static allocate_fn *through(long frames)
{
    static allocate_fn *const chains[GROUPS] = {pair_a_1, pair_b_1, pair_c_1, pair_d_1, pair_e_1};
    if (frames % GROUP != 0 || frames < GROUP || frames > (long)GROUP * GROUPS)
        _exit(97);
    return chains[frames / GROUP - 1];
}

static double cpu_s(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static struct cost cost_of(double start, double cpu_start, unsigned long pairs)
{
    double each = 1e9 / (double)pairs;
    return (struct cost){(now_s() - start) * each, (cpu_s() - cpu_start) * each};
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    unsigned long pairs = 0;
    double start = now_s(), cpu_start = cpu_s();
    do {
        for (size_t i = 0; i < BATCH; i++)
            free(worker->allocate(32 + i * 8));
        pairs += BATCH;
    } while (now_s() - start < worker->seconds);
    worker->cost = cost_of(start, cpu_start, pairs);
    return NULL;
}

/* The mean cost of a pair in as many threads as are wanted, one of which is this one. */
static struct cost pair_cost(long frames, long threads, double seconds)
{
    struct worker workers[MOST_THREADS];
    if (threads < 1 || threads > MOST_THREADS)
        _exit(97);
    for (long i = 0; i < threads; i++)
        workers[i] = (struct worker){.allocate = through(frames), .seconds = seconds};
    for (long i = 1; i < threads; i++)
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            _exit(98);
    work(&workers[0]);
    struct cost mean = {0};
    for (long i = 0; i < threads; i++) {
        if (i > 0)
            pthread_join(workers[i].thread, NULL);
        mean.ns += workers[i].cost.ns / (double)threads;
        mean.cpu_ns += workers[i].cost.cpu_ns / (double)threads;
    }
    return mean;
}

/* The next of a fixed sequence of random numbers (xorshift64). */
static uint64_t next_random(void)
{
    static uint64_t state = 0x9e3779b97f4a7c15;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void hold(long count)
{
    held = calloc((size_t)count + 1, sizeof *held);
    for (held_count = 0; held_count < (unsigned long)count; held_count++)
        held[held_count] = pair_a_1(16 + next_random() % 256);
}

static struct cost replace_cost(double seconds)
{
    unsigned long pairs = 0;
    double start = now_s(), cpu_start = cpu_s();
    do {
        for (int i = 0; i < BATCH; i++) {
            void **block = &held[next_random() % held_count];
            free(*block);
            *block = pair_a_1(16 + next_random() % 256);
        }
        pairs += BATCH;
    } while (now_s() - start < seconds);
    return cost_of(start, cpu_start, pairs);
}

static void tell(struct cost cost)
{
    say("{\"ns\":%.2f,\"cpu_ns\":%.2f}", cost.ns, cost.cpu_ns);
}

static int answer(long blocks)
{
    hold(blocks);
    say("{\"ready\":%d}", getpid());
    char line[128];
    long frames, threads, ms;
    while (hear(line, sizeof line)) {
        if (sscanf(line, "pair %ld %ld %ld", &frames, &threads, &ms) == 3)
            tell(pair_cost(frames, threads, (double)ms / 1000));
        else if (sscanf(line, "replace %ld", &ms) == 1 && held_count > 0)
            tell(replace_cost((double)ms / 1000));
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "ask") == 0)
        return answer(argument_or(argc, argv, 2, 0));
    double every = argc > 1 ? strtod(argv[1], NULL) : 0.5;
    long frames = argument_or(argc, argv, 2, GROUP);
    long threads = argument_or(argc, argv, 3, 1);
    for (;;)
        say("%.4f us/pair", pair_cost(frames, threads, every).ns / 1000);
}
