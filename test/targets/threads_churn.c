/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Threads created and joined all the time, each of which allocates, and leaks when told to. */
#include "target.h"
#include "workload.h"

#include <pthread.h>

/*
 * threads_churn [threads a second, 0: as fast as it goes]
 *   begin N   the next N threads leak by the plan; answers at once
 *   wait      answers with the leaks of those threads when the last is joined
 *   count     answers with the number of threads joined so far
 */
enum { WIDTH = 4 };

static struct {
    long period_us;
    unsigned long to_start;  /* threads that are to leak and are not created yet */
    unsigned long to_finish; /* ... and are not joined yet */
    unsigned long created, joined;
    struct tally leaks[LEAK_KINDS];
    uint64_t corrupt;
} churn;

struct job {
    pthread_t thread;
    struct workload workload;
    uint64_t leak_every;
};

static void *thread_main(void *argument)
{
    struct job *job = argument;
    workload_run(&job->workload, 200, job->leak_every);
    workload_drain(&job->workload);
    return NULL;
}

static void start(struct job *job)
{
    job->leak_every = 0;
    if (__atomic_load_n(&churn.to_start, __ATOMIC_ACQUIRE) != 0) {
        __atomic_sub_fetch(&churn.to_start, 1, __ATOMIC_RELAXED);
        job->leak_every = 20;
    }
    workload_init(&job->workload, ++churn.created);
    if (pthread_create(&job->thread, NULL, thread_main, job) != 0)
        _exit(97);
}

static void finish(struct job *job)
{
    pthread_join(job->thread, NULL);
    churn.corrupt += job->workload.corrupt;
    if (job->leak_every) {
        workload_add(churn.leaks, &job->workload);
        __atomic_sub_fetch(&churn.to_finish, 1, __ATOMIC_RELEASE);
    }
    __atomic_add_fetch(&churn.joined, 1, __ATOMIC_RELAXED);
}

static void *churn_main(void *unused)
{
    static struct job jobs[WIDTH];
    for (;;) {
        for (int i = 0; i < WIDTH; i++)
            start(&jobs[i]);
        for (int i = 0; i < WIDTH; i++)
            finish(&jobs[i]);
        if (churn.period_us)
            usleep((useconds_t)(churn.period_us * WIDTH));
    }
    return unused;
}

static void obey(const char *line)
{
    long number;
    if (is_command(line, "begin", 200, &number)) {
        memset(churn.leaks, 0, sizeof churn.leaks);
        __atomic_store_n(&churn.to_finish, (unsigned long)number, __ATOMIC_RELEASE);
        __atomic_store_n(&churn.to_start, (unsigned long)number, __ATOMIC_RELEASE);
        say("{\"begin\":%ld}", number);
    } else if (is_command(line, "wait", 0, &number)) {
        while (__atomic_load_n(&churn.to_finish, __ATOMIC_ACQUIRE) != 0)
            sleep_ms(1);
        workload_say(churn.leaks, churn.corrupt);
    } else if (is_command(line, "count", 0, &number)) {
        say("{\"progress\":%lu}", __atomic_load_n(&churn.joined, __ATOMIC_RELAXED));
    }
}

int main(int argc, char **argv)
{
    long rate = argument_or(argc, argv, 1, 100);
    churn.period_us = rate > 0 ? 1000000 / rate : 0;
    pthread_t thread;
    if (pthread_create(&thread, NULL, churn_main, NULL) != 0)
        return 1;
    say("{\"ready\":%d}", getpid());
    char line[128];
    while (hear(line, sizeof line))
        obey(line);
    return 0;
}
