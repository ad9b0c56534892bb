/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A program that uses SIGTRAP itself, with threads that allocate, one of which blocks it. */
#include "target.h"
#include "workload.h"

#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

/*
 * trapper handler|ignored|default
 *   The action for SIGTRAP. Both allocating threads run all the time; one blocks SIGTRAP.
 *   raise N   raises SIGTRAP N times; answers with what the handler has seen in all
 *   int3 N    runs N breakpoints of its own; the same answer
 *   send N    sends SIGTRAP to the thread that blocks it, which takes it by sigtimedwait, N times
 *   count     answers with the calls of both threads, and whether the one still blocks SIGTRAP
 */
static struct worker {
    struct workload load;
    pthread_t thread;
    bool blocks;
    unsigned long wrong_mask;    /* times that SIGTRAP was not blocked where it should have been */
    unsigned long taken, wanted; /* signals */
} workers[2];

static struct {
    unsigned long raised, trapped, other;
} seen;

extern char after_int3[];

WATCHED static void run_int3(void)
{
    __asm__ volatile("int3\n"
                     ".globl after_int3\n"
                     "after_int3:\n" ::
                         : "memory");
}

static void on_trap(int number, siginfo_t *info, void *context)
{
    const ucontext_t *at = context;
    (void)number;
    if (info->si_code == SI_TKILL && info->si_pid == getpid())
        seen.raised++;
    else if (info->si_code == SI_KERNEL && at->uc_mcontext.gregs[REG_RIP] == (long)after_int3)
        seen.trapped++;
    else
        seen.other++;
}

static void check_mask(struct worker *worker)
{
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    worker->wrong_mask += worker->blocks != (sigismember(&mask, SIGTRAP) == 1);
}

static void take_signals(struct worker *worker)
{
    const struct timespec now = {0, 0};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTRAP);
    while (worker->blocks && sigtimedwait(&set, NULL, &now) == SIGTRAP)
        __atomic_add_fetch(&worker->taken, 1, __ATOMIC_RELEASE);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTRAP);
    if (worker->blocks)
        pthread_sigmask(SIG_BLOCK, &set, NULL);
    for (;;) {
        workload_run(&worker->load, 16, 0);
        check_mask(worker);
        take_signals(worker);
        sleep_ms(1);
    }
    return NULL;
}

static void send_traps(long count)
{
    struct worker *worker = &workers[1];
    for (long i = 0; i < count; i++) {
        worker->wanted++;
        pthread_kill(worker->thread, SIGTRAP);
        while (__atomic_load_n(&worker->taken, __ATOMIC_ACQUIRE) < worker->wanted)
            sleep_ms(1);
    }
    say("{\"taken\":%lu}", worker->taken);
}

static void say_seen(void)
{
    say("{\"raised\":%lu,\"trapped\":%lu,\"other\":%lu}", seen.raised, seen.trapped, seen.other);
}

static void obey(const char *line)
{
    long count;
    if (is_command(line, "raise", 1, &count)) {
        while (count-- > 0)
            raise(SIGTRAP);
        say_seen();
    } else if (is_command(line, "int3", 1, &count)) {
        while (count-- > 0)
            run_int3();
        say_seen();
    } else if (is_command(line, "send", 1, &count)) {
        send_traps(count);
    } else if (is_command(line, "count", 0, &count)) {
        say("{\"progress\":%lu,\"corrupt\":%lu,\"wrong_mask\":%lu}",
            workers[0].load.operations + workers[1].load.operations,
            workers[0].load.corrupt + workers[1].load.corrupt,
            workers[0].wrong_mask + workers[1].wrong_mask);
    }
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "handler";
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_RESTART};
    if (strcmp(mode, "handler") == 0)
        sigaction(SIGTRAP, &action, NULL);
    else
        signal(SIGTRAP, strcmp(mode, "ignored") == 0 ? SIG_IGN : SIG_DFL);
    for (int i = 0; i < 2; i++) {
        workload_init(&workers[i].load, (uint64_t)i + 1);
        workers[i].blocks = i == 1;
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            return 1;
    }
    say("{\"ready\":%d}", getpid());
    char line[128];
    while (hear(line, sizeof line))
        obey(line);
    return 0;
}
