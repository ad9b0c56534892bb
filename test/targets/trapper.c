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
 *   begin     begins two more threads, of which one blocks all signals, and one now and then
 *   raise N   raises SIGTRAP N times; answers with what the handler has seen in all
 *   int3 N    runs N breakpoints of its own; the same answer
 *   send N    sends SIGTRAP to the thread that blocks it, which takes it by sigtimedwait, N times
 *   count     answers with the calls of both threads, and whether the one still blocks SIGTRAP
 */
static struct worker {
    struct workload load;
    pthread_t thread;
    bool blocks, all, changes;
    unsigned long wrong_mask;    /* times that SIGTRAP was not blocked where it should have been */
    unsigned long taken, wanted; /* signals */
} workers[4];
static int worker_count;

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
    if (worker->all)
        sigfillset(&set);
    for (bool first = true;; first = false) {
        if (worker->changes)
            worker->blocks = !worker->blocks;
        if (worker->changes || (worker->blocks && first))
            pthread_sigmask(worker->blocks ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
        workload_run(&worker->load, 16, 0);
        check_mask(worker);
        if (!worker->all)
            take_signals(worker);
        sleep_ms(1);
    }
    return NULL;
}

static void begin(bool blocks, bool all, bool changes)
{
    struct worker *worker = &workers[worker_count++];
    workload_init(&worker->load, (uint64_t)worker_count);
    worker->blocks = blocks;
    worker->all = all;
    worker->changes = changes;
    if (pthread_create(&worker->thread, NULL, work, worker) != 0)
        _exit(97);
}

static void say_count(void)
{
    unsigned long progress = 0, corrupt = 0, wrong_mask = 0;
    for (const struct worker *worker = workers; worker < workers + worker_count; worker++) {
        progress += worker->load.operations;
        corrupt += worker->load.corrupt;
        wrong_mask += worker->wrong_mask;
    }
    say("{\"progress\":%lu,\"corrupt\":%lu,\"wrong_mask\":%lu}", progress, corrupt, wrong_mask);
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
        say_count();
    } else if (is_command(line, "begin", 0, &count) && worker_count == 2) {
        begin(true, true, false);
        begin(false, true, true);
        say_count();
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
    begin(false, false, false);
    begin(true, false, false);
    say("{\"ready\":%d}", getpid());
    char line[128];
    while (hear(line, sizeof line))
        obey(line);
    return 0;
}
