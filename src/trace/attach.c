/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Becoming the tracer: of every thread of a running process, or of a command that is started. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/target/process.h"
#include "threads.h"

/* How long to wait for a thread that is stuck in the kernel. */
#define SETTLE_NS (10 * LW_NS_PER_SECOND)
/* glibc blocks every signal, its own among them, for moments only; programs cannot block that one.
 */
#define SIGCANCEL_BIT (1ull << (32 - 1))

void lw_tracer_init(struct lw_tracer *tracer, pid_t pid, struct lw_breakpoint_table *breakpoints)
{
    *tracer = (struct lw_tracer){
        .pid = pid,
        .self = pthread_self(),
        .breakpoints = breakpoints,
    };
}

void lw_tracer_deinit(struct lw_tracer *tracer)
{
    while (tracer->threads.count > 0)
        lw_threads_remove(tracer, tracer->threads.items[tracer->threads.count - 1]);
    lw_vector_deinit(&tracer->threads);
    lw_map_deinit(&tracer->by_tid);
}

struct life {
    void *(*body)(void *);
    void *argument;
    pid_t tid;
};

/*
 * On a busy machine, threads that stand in a stop would wait for our turn too. Where it is
 * permitted (CAP_SYS_NICE), this thread, which sleeps for most of its short life, has the processor
 * at once.
 */
static void be_prompt(void)
{
    const struct sched_param lowest = {.sched_priority = sched_get_priority_min(SCHED_RR)};
    (void)sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &lowest);
}

static void *live(void *argument)
{
    struct life *life = argument;
    be_prompt();
    life->tid = gettid();
    return life->body(life->argument);
}

/* A thread can be joined a moment before the kernel lets its tracees go. */
static void await_end(pid_t tid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/task/%d", (int)tid);
    for (int i = 0; i < 2000 && access(path, F_OK) == 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = (long)LW_NS_PER_MS}, NULL);
}

int lw_tracer_run(void *(*body)(void *), void *argument)
{
    struct life life = {.body = body, .argument = argument};
    pthread_t thread;
    int error = pthread_create(&thread, NULL, live, &life);
    if (error)
        return -error;
    pthread_join(thread, NULL);
    await_end(life.tid);
    return 0;
}

struct lw_thread *lw_tracer_thread(const struct lw_tracer *tracer, pid_t tid)
{
    uint64_t value;
    if (!lw_map_get(&tracer->by_tid, (uint64_t)tid, &value))
        return NULL;
    return (struct lw_thread *)(uintptr_t)value;
}

/* 1: attached now; 0: gone, or attached before. */
static int seize_thread(struct lw_tracer *tracer, pid_t tid, lw_error **error)
{
    if (lw_tracer_thread(tracer, tid))
        return 0;
    struct lw_task_status status;
    if (lw_task_status_read(tracer->pid, tid, &status) != 0 || lw_task_has_ended(&status))
        return 0; /* a main thread that has ended stays in the list, and cannot be attached */
    struct lw_thread *thread = lw_threads_add(tracer, tid);
    if (!thread) {
        *error = lw_error_create(ENOMEM, "out of memory while attaching to process %d",
                                 (int)tracer->pid);
        return 0;
    }
    thread->mask = status.signals_blocked;
    thread->blocks_sigtrap =
        (status.signals_blocked & LW_SIGTRAP_BIT) && !(status.signals_blocked & SIGCANCEL_BIT);
    int result = lw_ptrace_seize(tid);
    if (result == -EPERM) {
        lw_process_await_guardian(tracer->pid, tid);
        result = lw_ptrace_seize(tid);
    }
    if (result == 0)
        return 1;
    lw_threads_remove(tracer, thread);
    /* A thread that one already attached has created meanwhile is attached by the kernel. */
    if (lw_task_status_read(tracer->pid, tid, &status) != 0 || lw_task_has_ended(&status) ||
        status.tracer == gettid())
        return 0;
    if (result == -EPERM)
        *error = lw_process_explain_eperm(tracer->pid);
    else if (result != -ESRCH)
        *error = lw_error_create(-result, "cannot attach to thread %d of process %d: %s", (int)tid,
                                 (int)tracer->pid, strerror(-result));
    return 0;
}

static lw_error *target_has_ended(const struct lw_tracer *tracer)
{
    return lw_error_create(ESRCH, "process %d has ended", (int)tracer->pid);
}

/* Attaches what the task directory lists; the number of threads that were new. */
static lw_error *seize_listed(struct lw_tracer *tracer, unsigned *added)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task", (int)tracer->pid);
    lw_auto_closedir DIR *directory = opendir(path);
    if (!directory)
        return target_has_ended(tracer);
    lw_error *error = NULL;
    const struct dirent *entry;
    while (!error && (entry = readdir(directory)))
        if (isdigit((unsigned char)entry->d_name[0]))
            *added += (unsigned)seize_thread(tracer, (pid_t)atoi(entry->d_name), &error);
    return error;
}

static lw_error *seize_all(struct lw_tracer *tracer)
{
    /* A thread may be created while the directory is read. Once two readings in a row have found
     * nothing new, every thread is attached, and the kernel attaches those that they create. */
    for (int stable = 0; stable < 2;) {
        unsigned added = 0;
        lw_error *error = seize_listed(tracer, &added);
        if (error)
            return error;
        stable = added == 0 ? stable + 1 : 0;
    }
    return tracer->threads.count > 0 ? NULL : target_has_ended(tracer);
}

/* One stop while forks are waited for. */
static lw_error *settle(struct lw_tracer *tracer, const struct lw_stop *stop)
{
    switch (lw_tracer_dispatch(tracer, stop)) {
    case LW_TRACE_EXITED:
        return target_has_ended(tracer);
    case LW_TRACE_EXEC:
        lw_tracer_abandon(tracer);
        return lw_error_create(
            ESRCH, "process %d has just started another program: try again, to watch that",
            (int)tracer->pid);
    default:
        return NULL;
    }
}

/*
 * A fork that had begun when its thread was attached makes a child that is not ours, and that would
 * take breakpoints planted now along with it. Threads asleep in other system calls are not in one;
 * those that run are stopped for a moment, to know.
 */
static lw_error *await_forks(struct lw_tracer *tracer)
{
    const uint64_t start = tracer->idle_ns = lw_clock_now();
    if (lw_threads_interrupt_running(tracer) == 0)
        return NULL;
    lw_error *error = NULL;
    while (!error && lw_threads_count_awaited(tracer) > 0 && lw_clock_now() - start < SETTLE_NS) {
        struct lw_stop stop = lw_tracer_next(tracer, lw_clock_now() + LW_NS_PER_MS);
        if (stop.kind == LW_STOP_NONE)
            continue;
        error = settle(tracer, &stop);
        lw_threads_note_pause(tracer, &tracer->attach_pause_ns);
    }
    return error;
}

/* A process that uses the target's memory would run into the breakpoints. */
static void seize_sharing(struct lw_tracer *tracer, pid_t pid)
{
    if (pid == tracer->pid || lw_tracer_thread(tracer, pid) ||
        lw_process_shares_memory(tracer->pid, pid) != 1)
        return;
    struct lw_thread *thread = lw_threads_add(tracer, pid);
    if (!thread)
        return;
    thread->foreign = true;
    if (lw_ptrace_seize(pid) != 0)
        lw_threads_remove(tracer, thread);
}

/* Mostly a child (of vfork or posix_spawn, until it execs), but CLONE_VM also makes some whose
 * parent has ended. */
static void seize_all_sharing(struct lw_tracer *tracer)
{
    lw_auto_closedir DIR *processes = opendir("/proc");
    const struct dirent *entry;
    while (processes && (entry = readdir(processes)))
        if (isdigit((unsigned char)entry->d_name[0]))
            seize_sharing(tracer, (pid_t)atoi(entry->d_name));
}

lw_error *lw_tracer_seize(struct lw_tracer *tracer)
{
    lw_error *error = seize_all(tracer);
    if (!error)
        error = await_forks(tracer);
    if (!error)
        seize_all_sharing(tracer);
    return error;
}

/* The child's side of lw_tracer_spawn. */
static void run_child(char *const argv[], const sigset_t *mask, int go, int report)
{
    char byte;
    if (read(go, &byte, 1) != 1)
        _exit(127);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execvp(argv[0], argv);
    int error = errno;
    if (write(report, &error, sizeof(error)) != sizeof(error))
        _exit(126);
    _exit(127);
}

/* Why the child could not run the command, if it has told. */
static lw_error *read_exec_error(const char *name, int report)
{
    int code;
    if (read(report, &code, sizeof(code)) != sizeof(code))
        return lw_error_create(0, "%s ended before it started", name);
    return lw_error_create(code, "cannot run %s: %s", name, strerror(code));
}

/* Waits until the child stands at its new program's first instruction. */
static lw_error *await_exec(struct lw_tracer *tracer, const char *name, int report)
{
    const uint64_t deadline = lw_clock_now() + 30 * LW_NS_PER_SECOND;
    while (lw_clock_now() < deadline) {
        struct lw_stop stop = lw_tracer_next(tracer, deadline);
        if (stop.kind == LW_STOP_NONE)
            continue;
        enum lw_trace_outcome outcome = lw_tracer_dispatch(tracer, &stop);
        if (outcome == LW_TRACE_EXEC)
            return NULL;
        if (outcome == LW_TRACE_EXITED)
            return read_exec_error(name, report);
    }
    return lw_error_create(ETIMEDOUT, "%s did not start", name);
}

lw_error *lw_tracer_spawn(struct lw_tracer *tracer, char *const argv[], const sigset_t *mask)
{
    int go[2], report[2];
    if (pipe2(go, O_CLOEXEC) != 0)
        return lw_error_create(errno, "cannot make a pipe: %m");
    lw_auto_close int go_read = go[0], go_write = go[1];
    if (pipe2(report, O_CLOEXEC | O_NONBLOCK) != 0)
        return lw_error_create(errno, "cannot make a pipe: %m");
    lw_auto_close int report_read = report[0], report_write = report[1];

    pid_t pid = fork();
    if (pid < 0)
        return lw_error_create(errno, "cannot start %s: %m", argv[0]);
    if (pid == 0) {
        close(go_write); /* so that it ends by itself when we do */
        run_child(argv, mask, go_read, report_write);
    }
    tracer->pid = pid;
    lw_error *error = lw_tracer_seize(tracer);
    if (!error && write(go_write, "x", 1) != 1)
        error = lw_error_create(errno, "cannot start %s: %m", argv[0]);
    tracer->attach_pause_ns = 0; /* it had not begun to run */
    return error ? error : await_exec(tracer, argv[0], report_read);
}
