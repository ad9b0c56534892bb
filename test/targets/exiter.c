/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ends in one of many ways while its threads allocate. */
#include "target.h"
#include "workload.h"

#include <pthread.h>
#include <signal.h>

/*
 * exiter WAY THREADS
 *   go MS    ends MS milliseconds later by the WAY: exit (code 5), _exit (code 6), abort, segv,
 *            kill (SIGKILL), thread (exit code 5 from another thread), leader (the first thread
 *            ends at once, the others later: code 5)
 */
static const char *way;

static void end(void)
{
    if (strcmp(way, "_exit") == 0)
        _exit(6);
    if (strcmp(way, "abort") == 0)
        abort();
    if (strcmp(way, "segv") == 0)
        raise(SIGSEGV);
    if (strcmp(way, "kill") == 0)
        kill(getpid(), SIGKILL);
    exit(5);
}

static void *work_main(void *argument)
{
    static struct workload workloads[16];
    struct workload *workload = &workloads[*(const long *)argument];
    workload_init(workload, (uint64_t) * (const long *)argument + 1);
    for (;;)
        workload_run(workload, 64, 0);
    return NULL;
}

static void *end_main(void *argument)
{
    sleep_ms(*(const long *)argument);
    end();
    return NULL;
}

int main(int argc, char **argv)
{
    static long delay, numbers[16];
    pthread_t thread;
    way = argc > 1 ? argv[1] : "exit";
    long threads = argument_or(argc, argv, 2, 2);
    if (threads < 1 || threads > 16)
        return 2;
    for (long i = 0; i < threads; i++) {
        numbers[i] = i;
        if (pthread_create(&thread, NULL, work_main, &numbers[i]) != 0)
            return 1;
    }
    say("{\"ready\":%d}", getpid());
    char line[128];
    while (hear(line, sizeof line)) {
        if (!is_command(line, "go", 0, &delay))
            continue;
        bool other = strcmp(way, "thread") == 0 || strcmp(way, "leader") == 0;
        if (other && pthread_create(&thread, NULL, end_main, &delay) != 0)
            return 1;
        if (strcmp(way, "leader") == 0)
            pthread_exit(NULL);
        if (!other) {
            sleep_ms(delay);
            end();
        }
    }
    return 0;
}
