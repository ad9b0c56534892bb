/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The watch's thread, and how the reporter talks to it. */
#include "leakwatch/app/watch.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"
#include "leakwatch/target/process.h"

struct lw_watch {
    lw_engine_create *const *engines; /* to be tried, NULL at the end */
    struct lw_engine_options options;
    struct lw_engine *engine; /* the one that watches; NULL before any is made */
    pid_t pid;
    char *const *argv;
    sigset_t mask;
    pthread_t thread;
    int descriptor;

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t answered;
    enum lw_watch_phase phase;
    bool started; /* the engine can be woken */
    bool stop, want_snapshot, want_totals;
    struct lw_snapshot_request request; /* for the snapshot that is wanted */
    struct lw_snapshot_request last;    /* for that at the end */
    struct lw_engine_attachment attachment;
    struct lw_snapshot *snapshot;
    struct lw_ledger_totals totals;
    struct lw_event_counts events;
    struct lw_watch_result result;
};

/* The reporter reads this while the engine may find more allocators. */
static void copy_attachment(struct lw_watch *watch)
{
    const struct lw_engine_attachment *from = &watch->engine->attachment;
    watch->attachment = *from;
    memset(&watch->attachment.sets, 0, sizeof(watch->attachment.sets));
    lw_vector_for_each (set, &from->sets)
        (void)lw_vector_push(&watch->attachment.sets, *set);
}

static void set_phase(struct lw_watch *watch, enum lw_watch_phase phase)
{
    pthread_mutex_lock(&watch->lock);
    if (phase == LW_WATCH_ARMED)
        copy_attachment(watch);
    watch->phase = phase;
    watch->started |= phase == LW_WATCH_LOADING || phase == LW_WATCH_ARMED;
    pthread_cond_broadcast(&watch->answered);
    pthread_mutex_unlock(&watch->lock);
    eventfd_write(watch->descriptor, 1);
}

/* Answers what the reporter has asked; true when the watch is to end. */
static bool answer(struct lw_watch *watch)
{
    const struct lw_engine_ops *ops = watch->engine->ops;
    pthread_mutex_lock(&watch->lock);
    if (watch->want_snapshot)
        watch->snapshot = ops->snapshot(watch->engine, &watch->request);
    if (watch->want_totals)
        ops->totals(watch->engine, &watch->totals, &watch->events);
    watch->want_snapshot = watch->want_totals = false;
    bool stop = watch->stop;
    pthread_cond_broadcast(&watch->answered);
    pthread_mutex_unlock(&watch->lock);
    return stop;
}

static struct lw_engine_outcome run(struct lw_watch *watch)
{
    struct lw_engine *engine = watch->engine;
    bool armed = engine->armed;
    set_phase(watch, armed ? LW_WATCH_ARMED : LW_WATCH_LOADING);
    struct lw_engine_outcome outcome = {.end = LW_ENGINE_RUNS};
    while (!answer(watch) && outcome.end == LW_ENGINE_RUNS) {
        /* Until a command has loaded its allocator we look again and again; then only the reporter
         * wakes us. */
        uint64_t deadline = armed ? LW_NEVER : lw_clock_now() + LW_NS_PER_MS;
        outcome = engine->ops->run(engine, deadline);
        if (!armed && engine->armed)
            set_phase(watch, LW_WATCH_ARMED);
        armed = engine->armed;
    }
    return outcome;
}

/* What kept the engine before from watching, if there was one, is told with this one. */
static lw_error *try_engine(struct lw_watch *watch, lw_engine_create *create, const char *reason)
{
    struct lw_engine *engine = watch->engine = create(&watch->options);
    if (!engine)
        return lw_error_create(ENOMEM, "out of memory");
    snprintf(engine->attachment.reason, sizeof(engine->attachment.reason), "%s", reason);
    return watch->argv ? engine->ops->launch(engine, watch->argv, &watch->mask)
                       : engine->ops->attach(engine, watch->pid);
}

/* The first engine that is possible here. After an error the last one tried is left to be stopped,
 * if it could be made. */
static lw_error *choose_engine(struct lw_watch *watch)
{
    lw_error *error = try_engine(watch, watch->engines[0], "");
    for (size_t i = 1; error && watch->engines[i] && lw_error_code(error) == ENOTSUP; i++) {
        struct lw_engine_detachment untouched;
        watch->engine->ops->stop(watch->engine, &untouched);
        watch->engine->ops->destroy(watch->engine);
        lw_error *refusal = error;
        error = try_engine(watch, watch->engines[i], lw_error_message(refusal));
        lw_error_destroy(refusal);
    }
    return error;
}

static void *watch_thread(void *argument)
{
    struct lw_watch *watch = argument;
    struct lw_watch_result *result = &watch->result;
    result->error = choose_engine(watch);
    struct lw_engine *engine = watch->engine;
    if (!result->error) {
        int error = lw_privilege_keep(LW_ENGINE_PRIVILEGES);
        if (error)
            lw_warn("cannot give up privileges: %s", strerror(-error));
        watch->pid = engine->attachment.pid;
        result->outcome = run(watch);
        if (result->outcome.end == LW_ENGINE_EXEC)
            result->exe = lw_process_exe(watch->pid);
    }
    pthread_mutex_lock(&watch->lock);
    watch->started = false;
    const struct lw_snapshot_request last = watch->last;
    pthread_mutex_unlock(&watch->lock);
    if (engine)
        engine->ops->stop(engine, &result->detachment);
    if (!result->error)
        result->snapshot = engine->ops->snapshot(engine, &last);
    set_phase(watch, LW_WATCH_ENDED);
    return NULL;
}

struct lw_watch *lw_watch_start(lw_engine_create *const engines[],
                                const struct lw_engine_options *options, pid_t pid,
                                char *const argv[], const sigset_t *mask)
{
    struct lw_watch *watch = calloc(1, sizeof(*watch));
    int descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (watch && descriptor >= 0) {
        watch->engines = engines;
        watch->options = *options;
        watch->pid = pid;
        watch->argv = argv;
        watch->mask = *mask;
        watch->descriptor = descriptor;
        pthread_mutex_init(&watch->lock, NULL);
        pthread_cond_init(&watch->answered, NULL);
        if (pthread_create(&watch->thread, NULL, watch_thread, watch) == 0)
            return watch;
    }
    if (descriptor >= 0)
        close(descriptor);
    free(watch);
    return NULL;
}

int lw_watch_descriptor(const struct lw_watch *watch)
{
    return watch->descriptor;
}

enum lw_watch_phase lw_watch_phase(struct lw_watch *watch)
{
    eventfd_t count;
    eventfd_read(watch->descriptor, &count);
    pthread_mutex_lock(&watch->lock);
    enum lw_watch_phase phase = watch->phase;
    pthread_mutex_unlock(&watch->lock);
    return phase;
}

bool lw_watch_was_armed(struct lw_watch *watch)
{
    pthread_mutex_lock(&watch->lock);
    bool armed = watch->attachment.pid != 0;
    pthread_mutex_unlock(&watch->lock);
    return armed;
}

pid_t lw_watch_pid(const struct lw_watch *watch)
{
    return watch->pid;
}

const struct lw_engine_attachment *lw_watch_attachment(const struct lw_watch *watch)
{
    return &watch->attachment;
}

const char *lw_watch_engine(const struct lw_watch *watch)
{
    return watch->engine->ops->name;
}

struct lw_module_table *lw_watch_modules(const struct lw_watch *watch)
{
    return watch->engine->modules;
}

/* With the lock held: waits until *wanted has been answered, or the thread has no more answers to
 * give. */
static void await_answer(struct lw_watch *watch, const bool *wanted)
{
    if (watch->started)
        watch->engine->ops->wake(watch->engine);
    while (*wanted && watch->phase != LW_WATCH_ENDED)
        pthread_cond_wait(&watch->answered, &watch->lock);
}

struct lw_snapshot *lw_watch_snapshot(struct lw_watch *watch,
                                      const struct lw_snapshot_request *request)
{
    pthread_mutex_lock(&watch->lock);
    watch->want_snapshot = true;
    watch->request = *request;
    await_answer(watch, &watch->want_snapshot);
    struct lw_snapshot *snapshot = lw_take_pointer(watch->snapshot);
    watch->want_snapshot = false;
    pthread_mutex_unlock(&watch->lock);
    return snapshot;
}

void lw_watch_totals(struct lw_watch *watch, struct lw_ledger_totals *totals,
                     struct lw_event_counts *events)
{
    pthread_mutex_lock(&watch->lock);
    watch->want_totals = true;
    await_answer(watch, &watch->want_totals);
    *totals = watch->totals;
    *events = watch->events;
    pthread_mutex_unlock(&watch->lock);
}

/* Is any thread of the process still ours? */
static bool is_traced(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    lw_auto_closedir DIR *directory = opendir(path);
    const struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        struct lw_task_status status;
        if (isdigit((unsigned char)entry->d_name[0]) &&
            lw_task_status_read(pid, (pid_t)atoi(entry->d_name), &status) == 0 && status.tracer)
            return true;
    }
    return false;
}

static bool is_stopped(pid_t pid)
{
    struct lw_task_status status;
    return lw_task_status_read(pid, pid, &status) != 0 || status.state == 'T';
}

/* A thread's tracees are let go a moment after it can be joined; one in a group-stop wakes up to
 * enter it again. */
static bool await_release(pid_t pid, bool stopped)
{
    for (int i = 0; i < 2000; i++) {
        if (!is_traced(pid) && (!stopped || is_stopped(pid)))
            return true;
        nanosleep(&(struct timespec){.tv_nsec = (long)LW_NS_PER_MS}, NULL);
    }
    return false;
}

void lw_watch_expect(struct lw_watch *watch, const struct lw_snapshot_request *request)
{
    pthread_mutex_lock(&watch->lock);
    watch->last = *request;
    pthread_mutex_unlock(&watch->lock);
}

void lw_watch_stop(struct lw_watch *watch, struct lw_watch_result *result)
{
    pthread_mutex_lock(&watch->lock);
    watch->stop = true;
    if (watch->started)
        watch->engine->ops->wake(watch->engine);
    pthread_mutex_unlock(&watch->lock);
    pthread_join(watch->thread, NULL);
    *result = watch->result;
    if (result->error)
        return;
    result->detached =
        result->outcome.end == LW_ENGINE_RUNS || result->outcome.end == LW_ENGINE_LAPSED;
    if (result->detached) {
        result->released = await_release(watch->pid, result->detachment.stopped);
        result->code_verified =
            watch->engine->ops->verify(watch->engine, &result->verified_bytes) &&
            result->detachment.restored;
    }
}

void lw_watch_destroy(struct lw_watch *watch)
{
    if (!watch)
        return;
    lw_vector_deinit(&watch->attachment.sets);
    if (watch->engine)
        watch->engine->ops->destroy(watch->engine);
    pthread_mutex_destroy(&watch->lock);
    pthread_cond_destroy(&watch->answered);
    close(watch->descriptor);
    free(watch);
}
