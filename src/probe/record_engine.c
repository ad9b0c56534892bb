/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The record engine: the agent records in the target, and this reads. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"
#include "leakwatch/target/process.h"
#include "record.h"

/* How often what the agent asks for is looked into, and places of threads that ended are freed. */
#define REFRESH_NS (200 * LW_NS_PER_MS)
#define RECLAIM_NS LW_NS_PER_SECOND

static struct record_engine *record_of(struct lw_engine *engine)
{
    return (struct record_engine *)engine; /* its first member */
}

struct tracer_work {
    struct record_engine *record;
    lw_error *(*function)(struct record_engine *, void *);
    void *argument;
    lw_error *error;
};

static void *run_work(void *argument)
{
    struct tracer_work *work = argument;
    /* A thread of the target that is stopped waits for this one, however busy the machine is. Where
     * that is not permitted, it waits as long as it must. */
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), -20);
    work->error = work->function(work->record, work->argument);
    return NULL;
}

lw_error *record_on_tracer_thread(struct record_engine *record,
                                  lw_error *(*function)(struct record_engine *, void *),
                                  void *argument)
{
    struct tracer_work work = {.record = record, .function = function, .argument = argument};
    int error = lw_tracer_run(run_work, &work);
    if (error)
        return lw_error_create(-error, "cannot start a thread: %s", strerror(-error));
    return work.error;
}

/* ---- while it runs ---- */

static lw_error *record_attach_op(struct lw_engine *engine, pid_t pid)
{
    struct record_engine *record = record_of(engine);
    record->pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return record_attach(record, pid);
}

static lw_error *record_launch_op(struct lw_engine *engine, char *const argv[],
                                  const sigset_t *mask)
{
    struct record_engine *record = record_of(engine);
    lw_error *error = record_launch(record, argv, mask);
    if (!error)
        record->pid_fd = (int)syscall(SYS_pidfd_open, record->child, 0);
    return error;
}

/* Libraries have come or gone: the agent learns where, and allocators among them are patched. */
static void refresh(struct record_engine *record)
{
    bool changed = false;
    record->refreshed_ns = lw_clock_now();
    record->row_requests = __atomic_load_n(&record->shared->row_requests, __ATOMIC_RELAXED);
    if (lw_module_table_refresh(record->engine.modules, &changed) != 0 || !changed)
        return;
    const size_t sites = record->sites.count;
    if (record_publish_modules(record) != 0) {
        lw_warn("out of memory: stacks through libraries that were just loaded will be cut");
        return;
    }
    lw_error *error = record_find_allocators(record);
    if (!error)
        error = record_plan(record);
    if (!error && record->sites.count > sites)
        error = record_attach_new(record);
    if (error && lw_error_code(error) != ESRCH)
        lw_warn("an allocator that was just loaded is not watched: %s", lw_error_message(error));
    lw_error_destroy(error);
}

static bool has_ended(const struct record_engine *record, uint32_t tid)
{
    struct lw_task_status status;
    return lw_task_status_read(record->engine.attachment.pid, (pid_t)tid, &status) == -ESRCH;
}

/*
 * Places of threads that have ended are given to others. A new thread that has the thread pointer
 * of one that ended writes its own id into the place, and then is found to live.
 */
static void reclaim_threads(struct record_engine *record)
{
    struct lw_agent_shared *shared = record->shared;
    record->reclaimed_ns = lw_clock_now();
    if (record->control.tid_offset == 0 || record_is_sampled(record))
        return; /* it could not be told, or the agent keeps pointers to places */
    for (unsigned i = 0; i < LW_AGENT_THREAD_INDEX; i++) {
        struct lw_agent_index *entry = &shared->thread_index[i];
        uint64_t pointer = __atomic_load_n(&entry->pointer, __ATOMIC_ACQUIRE);
        uint64_t place = __atomic_load_n(&entry->place, __ATOMIC_ACQUIRE);
        if (pointer <= LW_AGENT_INDEX_GONE || place < offsetof(struct lw_agent_shared, threads) ||
            place > sizeof(*shared) - sizeof(struct lw_agent_thread))
            continue;
        struct lw_agent_thread *thread = (struct lw_agent_thread *)((char *)shared + place);
        uint32_t tid = __atomic_load_n(&thread->tid, __ATOMIC_ACQUIRE);
        if (has_ended(record, tid) &&
            __atomic_compare_exchange_n(&thread->tid, &tid, LW_AGENT_TID_GONE, false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
            __atomic_store_n(&entry->place, 0, __ATOMIC_RELEASE);
            __atomic_store_n(&entry->pointer, LW_AGENT_INDEX_GONE, __ATOMIC_RELEASE);
            __atomic_store_n(&thread->used, 0, __ATOMIC_RELEASE);
        }
    }
}

/* What the target has asked for since the last look. */
static void serve(struct record_engine *record)
{
    const struct lw_agent_shared *shared = record->shared;
    const uint64_t now = lw_clock_now();
    uint32_t events = __atomic_load_n(&shared->module_events, __ATOMIC_ACQUIRE);
    bool is_due = now - record->refreshed_ns >= REFRESH_NS;
    if (events != record->module_events ||
        (is_due && shared->row_requests != record->row_requests)) {
        record->module_events = events;
        refresh(record);
        /* The thread in the dynamic linker waits for this. */
        __atomic_store_n(&record->shared->modules_seen, events, __ATOMIC_RELEASE);
        syscall(SYS_futex, &record->shared->modules_seen, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    }
    uint32_t requests = __atomic_load_n(&shared->region_requests, __ATOMIC_RELAXED);
    if (requests != record->region_requests && is_due) {
        record->region_requests = requests;
        record->refreshed_ns = now;
        (void)record_publish_regions(record);
    }
    if (now - record->reclaimed_ns >= RECLAIM_NS)
        reclaim_threads(record);
    const uint32_t last = LW_AGENT_GENERATIONS - 1 - record->control.barred_generations;
    if (record_fold_when_full(&record->view, record->shared, last) != 0)
        lw_warn("out of memory: blocks that find no room any more are counted only");
}

/* The image that the agent was put into is no more: its memory cannot be read, whatever has become
 * of the process. */
static bool is_gone(const struct record_engine *record)
{
    uint32_t mode;
    return pread(record->memory.fd, &mode, sizeof(mode),
                 (off_t)(record->base + LW_AGENT_CONTROL)) != sizeof(mode);
}

static struct lw_engine_outcome outcome_of(int status)
{
    if (WIFSIGNALED(status))
        return (struct lw_engine_outcome){.end = LW_ENGINE_KILLED, .signal = WTERMSIG(status)};
    return (struct lw_engine_outcome){.end = LW_ENGINE_EXITED, .status = WEXITSTATUS(status)};
}

/* How the process has ended, as far as that can be known. */
static struct lw_engine_outcome find_end(struct record_engine *record)
{
    int status;
    record->base = 0;
    if (record->child && waitpid(record->child, &status, 0) == record->child) {
        record->child = 0;
        return outcome_of(status);
    }
    if (lw_process_exit_status(record->pid_fd, record->engine.attachment.pid, &status) == 0)
        return outcome_of(status);
    return (struct lw_engine_outcome){.end = LW_ENGINE_EXITED, .status = -1, .signal = -1};
}

static struct lw_engine_outcome look(struct record_engine *record)
{
    struct pollfd ended = {.fd = record->pid_fd, .events = POLLIN};
    bool has_ended = record->pid_fd >= 0 && poll(&ended, 1, 0) > 0;
    if (!has_ended && is_gone(record)) {
        /* exec, or an end of which the descriptor tells in a moment */
        has_ended = record->pid_fd >= 0 && poll(&ended, 1, 200) > 0;
        if (!has_ended) {
            record->base = 0;
            return (struct lw_engine_outcome){.end = LW_ENGINE_EXEC};
        }
    }
    if (has_ended)
        return find_end(record);
    return (struct lw_engine_outcome){
        .end = __atomic_load_n(&record->shared->lapsed, __ATOMIC_ACQUIRE) ? LW_ENGINE_LAPSED
                                                                          : LW_ENGINE_RUNS};
}

/* Until the next tick, or something to be done at once. */
static void sleep_a_tick(const struct record_engine *record, uint64_t deadline)
{
    const uint64_t now = lw_clock_now();
    uint64_t ns = LW_AGENT_TICK_NS - (now - record->start_ns) % LW_AGENT_TICK_NS;
    if (deadline > now && deadline - now < ns)
        ns = deadline - now;
    const struct timespec timeout = {.tv_nsec = (long)ns};
    syscall(SYS_futex, &record->shared->module_events, FUTEX_WAIT, record->module_events, &timeout,
            NULL, 0);
}

static struct lw_engine_outcome record_run(struct lw_engine *engine, uint64_t deadline)
{
    struct record_engine *record = record_of(engine);
    struct lw_engine_outcome outcome = {.end = LW_ENGINE_RUNS};
    while (outcome.end == LW_ENGINE_RUNS) {
        record_clock_advance(record);
        outcome = look(record);
        if (outcome.end == LW_ENGINE_RUNS) {
            serve(record);
            record_sampling_adjust(record);
        }
        if (atomic_exchange(&record->woken, false) || lw_clock_now() >= deadline)
            break;
        if (outcome.end == LW_ENGINE_RUNS)
            sleep_a_tick(record, deadline);
    }
    return outcome;
}

static void record_wake(struct lw_engine *engine)
{
    struct record_engine *record = record_of(engine);
    atomic_store(&record->woken, true);
    syscall(SYS_futex, &record->shared->module_events, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* How the agent has found stacks; the checking build of it (LW_AGENT_CHECK) finds mismatches. */
static void tell_statistics(const struct record_engine *record)
{
    uint64_t calls = 0, misses = 0, merges = 0, frames = 0, truncated = 0, mismatches = 0;
    for (uint32_t i = 0; i < record->shared->thread_count && i < LW_AGENT_THREADS; i++) {
        const struct lw_agent_thread *thread = &record->shared->threads[i];
        calls += thread->calls;
        misses += thread->memo_misses;
        merges += thread->merges;
        frames += thread->frames;
        truncated += thread->truncated_stacks;
        mismatches += thread->mismatches;
    }
    lw_log(mismatches ? LW_LOG_ERROR : LW_LOG_DEBUG,
           "recorder: %lu calls, %lu stacks unwound, %lu of them merged, %lu frames, "
           "%lu truncated, %lu mismatches",
           calls, misses, merges, frames, truncated, mismatches);
}

static void record_stop(struct lw_engine *engine, struct lw_engine_detachment *detachment)
{
    struct record_engine *record = record_of(engine);
    *detachment = (struct lw_engine_detachment){.restored = true};
    if (record->shared)
        tell_statistics(record);
    if (record->base == 0)
        return; /* it was never there, or has ended with its image */
    lw_error *error = record_leave(record, detachment);
    if (error && lw_error_code(error) != ESRCH)
        lw_warn("cannot take the recorder out of process %d: %s", (int)engine->attachment.pid,
                lw_error_message(error));
    lw_error_destroy(error);
}

static bool record_verify(struct lw_engine *engine, uint64_t *bytes)
{
    struct record_engine *record = record_of(engine);
    size_t compared = 0;
    bool equal = !record->breakpoints || lw_breakpoint_table_verify(record->breakpoints, &compared);
    *bytes = compared;
    return equal;
}

static struct lw_snapshot *record_snapshot(struct lw_engine *engine,
                                           const struct lw_snapshot_request *request)
{
    struct record_engine *record = record_of(engine);
    if (!record->view_ready)
        return NULL;
    if (request->cut) /* between two ticks */
        record_clock_await(record);
    return record_view_snapshot(&record->view, lw_clock_now(), request);
}

static void record_totals(struct lw_engine *engine, struct lw_ledger_totals *totals,
                          struct lw_event_counts *events)
{
    record_view_totals(&record_of(engine)->view, lw_clock_now(), totals, events);
}

void record_forget_sites(struct record_engine *record)
{
    lw_vector_for_each (landing, &record->landings)
        free(*landing);
    lw_vector_deinit(&record->landings);
    lw_vector_for_each (site, &record->sites)
        free(*site);
    lw_vector_deinit(&record->sites);
}

static void record_destroy(struct lw_engine *engine)
{
    struct record_engine *record = record_of(engine);
    if (record->view_ready)
        record_view_deinit(&record->view);
    lw_vector_for_each (set, &engine->attachment.sets)
        lw_allocator_set_deinit(set);
    lw_vector_deinit(&engine->attachment.sets);
    record_forget_sites(record);
    lw_vector_for_each (rows, &record->rows)
        lw_row_table_deinit(&rows->table);
    lw_vector_deinit(&record->rows);
    lw_breakpoint_table_destroy(record->breakpoints);
    lw_module_table_destroy(engine->modules);
    if (record->memory_open)
        lw_process_memory_deinit(&record->memory);
    if (record->shared)
        munmap(record->shared, sizeof(*record->shared));
    if (record->shared_fd >= 0)
        close(record->shared_fd);
    if (record->pid_fd >= 0)
        close(record->pid_fd);
    free(record);
}

static const struct lw_engine_ops record_ops = {
    .name = "record",
    .attach = record_attach_op,
    .launch = record_launch_op,
    .run = record_run,
    .stop = record_stop,
    .verify = record_verify,
    .wake = record_wake,
    .snapshot = record_snapshot,
    .totals = record_totals,
    .destroy = record_destroy,
};

/* A quarter is for stacks. What counts calls is not limited: it takes little for each stack. */
static void limit_memory(struct lw_agent_control *control, uint64_t bytes)
{
    const uint64_t stacks = bytes / 4, first = lw_agent_first_bucket(1) * LW_AGENT_BUCKET_BYTES;
    const uint64_t words = LW_AGENT_STACK_WORDS - LW_AGENT_SPARE_WORDS;
    uint32_t generations = 1;
    if (bytes == 0)
        return;
    while (generations < LW_AGENT_GENERATIONS &&
           ((2ull << generations) - 1) * first <= bytes - stacks)
        generations++;
    control->barred_generations = LW_AGENT_GENERATIONS - generations;
    if (stacks / sizeof(uint64_t) < words)
        control->barred_words = words - stacks / sizeof(uint64_t);
}

struct lw_engine *lw_record_engine_create(const struct lw_engine_options *options)
{
    struct record_engine *record = calloc(1, sizeof(*record));
    if (!record)
        return NULL;
    record->engine.ops = &record_ops;
    record->engine.options = *options;
    record->shared_fd = record->pid_fd = -1;
    limit_memory(&record->control, options->max_memory);
    return &record->engine;
}
