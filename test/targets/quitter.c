/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Threads that end while they are inside malloc or free. */
#include "target.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

/*
 * quitter
 *   exit N, signal N, cancel N   N threads end, by turns inside malloc and free: by pthread_exit
 *             there, in a signal handler, or by asynchronous cancellation; answers with how many
 *             were not joined as they should
 *   leak N    a thread of its own leaks N blocks of 10 bytes; answers with it
 *   exec, end   four threads are inside, and another one executes the program anew, or ends the
 *             process with code 6
 *   count     answers with how often it was asked
 */
enum { ENDED_ITSELF = 5, ARENA_SIZE = 32 << 20 };
enum way { EXIT, SIGNAL, CANCEL, STAY_FOR_EVER };

struct job {
    pthread_t thread;
    enum way way;
    bool in_free;      /* where it ends */
    atomic_uint calls; /* that it is in, or has left */
};

static _Thread_local struct job *own_job;

/* The thread is where it is to end, and does not leave. (Not in glibc's own functions: ends there
 * leave its locks.) */
static void linger(bool in_free)
{
    struct job *job = own_job;
    if (job == NULL || job->in_free != in_free)
        return;
    if (++job->calls < 10)
        return;
    own_job = NULL; /* its end uses the allocator, too */
    if (job->way == EXIT)
        pthread_exit((void *)ENDED_ITSELF);
    for (volatile unsigned spin = 0;; spin++)
        ;
}

WATCHED void *malloc(size_t size)
{
    static _Alignas(16) unsigned char arena[ARENA_SIZE];
    static atomic_size_t used;
    linger(false);
    size_t start = atomic_fetch_add(&used, (size + 15) & ~(size_t)15);
    if (start + size > ARENA_SIZE)
        _exit(98);
    return arena + start;
}

WATCHED void free(void *block)
{
    if (block != NULL)
        linger(true);
}

static void end_thread(int number)
{
    (void)number;
    pthread_exit((void *)ENDED_ITSELF);
}

static void *work(void *argument)
{
    struct job *job = argument;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    own_job = job;
    for (;;) {
        unsigned char *block = malloc(48);
        memset(block, 0x5a, 48);
        KEEP(block);
        free(block);
    }
    return argument;
}

static void start(struct job *job, enum way way, bool in_free)
{
    *job = (struct job){.way = way, .in_free = in_free};
    if (pthread_create(&job->thread, NULL, work, job) != 0)
        _exit(97);
}

static void await_inside(const struct job *job)
{
    while (job->calls < 10)
        sleep_ms(1);
}

static int end_threads(enum way way, long count)
{
    static struct job job;
    int wrong = 0;
    for (long i = 0; i < count; i++) {
        void *result = NULL, *const expected =
                                 way == CANCEL ? PTHREAD_CANCELED : (void *)ENDED_ITSELF;
        start(&job, way, i % 2);
        if (way != EXIT)
            await_inside(&job);
        if (way == SIGNAL)
            pthread_kill(job.thread, SIGUSR1);
        if (way == CANCEL)
            pthread_cancel(job.thread);
        pthread_join(job.thread, &result);
        wrong += result != expected;
    }
    return wrong;
}

WATCHED static void *leak_later(void *argument)
{
    for (long i = 0; i < *(long *)argument; i++) {
        void *block = malloc(10);
        KEEP(block);
    }
    return NULL;
}

static void leak(long count)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, leak_later, &count) != 0)
        _exit(97);
    pthread_join(thread, NULL);
    say("{\"leaks\":{\"leak_later\":{\"bytes\":%ld,\"blocks\":%ld}}}", count * 10, count);
}

static void *end_process(void *exec)
{
    if (!*(bool *)exec)
        _exit(6);
    execl("/proc/self/exe", "quitter", "anew", (char *)NULL);
    _exit(96);
}

static void end_all(bool exec)
{
    static struct job jobs[4];
    pthread_t thread;
    for (int i = 0; i < 4; i++)
        start(&jobs[i], STAY_FOR_EVER, i % 2);
    for (int i = 0; i < 4; i++)
        await_inside(&jobs[i]);
    if (pthread_create(&thread, NULL, end_process, &exec) != 0)
        _exit(97);
    pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
    char line[64];
    long number;
    unsigned long questions = 0;
    static const char *const ways[] = {"exit", "signal", "cancel"};
    const struct sigaction action = {.sa_handler = end_thread};
    if (sigaction(SIGUSR1, &action, NULL) != 0)
        return 1;
    end_threads(CANCEL, 1); /* now the C library has its handler, too */
    say("{\"ready\":%d,\"image\":\"%s\"}", getpid(), argc > 1 ? argv[1] : "first");
    while (hear(line, sizeof line)) {
        for (enum way way = EXIT; way <= CANCEL; way++)
            if (is_command(line, ways[way], 1, &number))
                say("{\"wrong\":%d}", end_threads(way, number));
        if (is_command(line, "leak", 100, &number))
            leak(number);
        else if (is_command(line, "exec", 0, &number) || is_command(line, "end", 0, &number))
            end_all(line[1] == 'x');
        else if (is_command(line, "count", 0, &number))
            say("{\"progress\":%lu}", ++questions);
    }
    return 0;
}
