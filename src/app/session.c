/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Deadlines, signals, reports in their order, exit codes. */
#include "leakwatch/app/session.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <unistd.h>

#include "attach_report.h"
#include "draft.h"
#include "end_report.h"
#include "engine_choice.h"
#include "leakwatch/app/watch.h"
#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"
#include "leakwatch/report/progress.h"
#include "leakwatch/report/status_line.h"
#include "leakwatch/target/process.h"
#include "mark.h"
#include "notify.h"
#include "outputs.h"
#include "privileges.h"
#include "suppressions.h"

struct session {
    const struct lw_options *options;
    struct lw_guardian *guardian;
    struct lw_watch *watch;
    struct lw_symbolizer *symbolizer;
    struct lw_suppressions *suppressions;
    struct lw_report_builder *builder;
    struct lw_outputs outputs;
    struct lw_mark mark;
    struct lw_status_line status;
    struct lw_progress progress; /* on that line, while a report is made and written */
    struct lw_notify notify;
    int signals; /* signalfd */
    sigset_t original_mask;
    char *exe;                  /* NULL: not known */
    struct lw_task_status task; /* at the attach; no name: not known */
    sigset_t ending;            /* the signals that end the watch at once */
    bool output_open, armed, done, has_leaks;
    uint64_t armed_ns, next_report_ns, end_ns, next_status_ns;
    uint64_t last_events, last_status_ns;
    unsigned reports;
    int exit_code;
};

static void fail(struct session *session, lw_error *error)
{
    lw_status_line_clear(&session->status);
    lw_log(LW_LOG_ERROR, "%s", lw_error_message(error));
    lw_notify_tell(&session->notify, "", "%s", lw_error_message(error));
    lw_error_destroy(error);
    session->exit_code = LW_EXIT_FAILED;
    session->done = true;
}

static void fail_if(struct session *session, lw_error *error)
{
    if (error)
        fail(session, error);
}

/* What became of writing. A reader that has gone away (a closed pipe) ends the watch as well as a
 * full disk does. */
static void tell_unwritten(struct session *session, lw_error *error)
{
    if (error && session->exit_code != LW_EXIT_FAILED)
        fail(session, error);
    else
        lw_error_destroy(error);
}

static void write_message(struct session *session, const struct lw_message *message)
{
    lw_status_line_clear(&session->status);
    tell_unwritten(session,
                   lw_outputs_write(&session->outputs, message, &session->ending, &session->done));
}

/*
 * Every signal is blocked, so that none can end or stop leakwatch while threads of the target wait
 * for it (not even Ctrl-Z or a background write to a terminal), but those that a fault of ours
 * raises. The ones that mean something are read from a descriptor; SIGCHLD wakes the tracer.
 */
static lw_error *take_signals(struct session *session)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    static const int ending[] = {SIGINT, SIGTERM, SIGQUIT};
    sigset_t blocked, handled;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        sigdelset(&blocked, faults[i]);
    /* Ignored, as a supervisor may hand it down, SIGCHLD would not be sent for the tracer's stops.
     */
    const struct sigaction by_default = {.sa_handler = SIG_DFL};
    sigaction(SIGCHLD, &by_default, NULL);
    sigemptyset(&session->ending);
    for (size_t i = 0; i < sizeof(ending) / sizeof(ending[0]); i++) {
        const struct sigaction action = {.sa_handler = lw_draft_interrupt}; /* no SA_RESTART */
        sigaction(ending[i], &action, NULL);
        sigaddset(&session->ending, ending[i]);
    }
    handled = session->ending;
    sigaddset(&handled, SIGHUP);
    sigaddset(&handled, SIGUSR1);
    if (lw_mark_is_wanted(&session->mark))
        sigaddset(&handled, SIGUSR2);
    if (sigprocmask(SIG_BLOCK, &blocked, &session->original_mask) != 0)
        return lw_error_create(errno, "cannot block signals: %m");
    session->signals = signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
    if (session->signals < 0)
        return lw_error_create(errno, "cannot read signals: %m");
    return NULL;
}

static lw_error *open_outputs(struct session *session, pid_t pid)
{
    lw_error *error = lw_outputs_open(&session->outputs, session->options, pid);
    if (error)
        return error;
    session->output_open = true;
    bool shown = !session->options->quiet && lw_outputs_leave_terminal(&session->outputs) &&
                 isatty(STDERR_FILENO);
    lw_status_line_init(&session->status, stderr, shown);
    lw_progress_init(&session->progress, &session->status);
    return NULL;
}

static void report_attachment(struct session *session)
{
    lw_status_line_clear(&session->status);
    tell_unwritten(session,
                   lw_attach_report_write(session->options, session->watch, &session->outputs,
                                          &session->ending, &session->done));
}

/* SIGALRM, which is blocked like all signals and stays pending, breaks off a download of debug
 * information that a report waits for (symbol/debug_file.h). */
static void set_end(struct session *session, uint64_t duration_ns)
{
    const uint64_t us = duration_ns / LW_NS_PER_US + 1; /* 0 would be never */
    const struct itimerval timer = {.it_value.tv_sec = (time_t)(us / 1000000),
                                    .it_value.tv_usec = (suseconds_t)(us % 1000000)};
    session->end_ns = session->armed_ns + duration_ns;
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* The allocator is there: the watch begins. */
static void begin(struct session *session)
{
    session->armed = true;
    session->armed_ns = lw_clock_now();
    pid_t pid = lw_watch_pid(session->watch);
    session->exe = lw_process_exe(pid);
    (void)lw_task_status_read(pid, pid, &session->task);
    session->next_report_ns = session->armed_ns + session->options->interval_ns;
    session->next_status_ns = session->armed_ns;
    lw_mark_begin(&session->mark, session->armed_ns);
    session->last_status_ns = session->armed_ns;
    if (session->options->duration_ns != LW_NEVER)
        set_end(session, session->options->duration_ns);
    if (!session->output_open) {
        lw_error *error = open_outputs(session, lw_watch_pid(session->watch));
        if (error) {
            fail(session, error);
            return;
        }
    }
    struct lw_module_table *modules = lw_watch_modules(session->watch);
    session->symbolizer = lw_symbolizer_create(modules);
    struct lw_report_options report_options = session->options->report;
    report_options.suppressions = session->suppressions;
    session->builder = lw_report_builder_create(&report_options, session->symbolizer, modules);
    if (session->builder)
        lw_report_builder_tell(session->builder, &session->progress);
    session->outputs.progress = &session->progress;
    if (!session->symbolizer || !session->builder)
        fail(session, lw_error_create(ENOMEM, "out of memory"));
    else
        report_attachment(session);
    lw_privileges_drop(lw_watch_pid(session->watch), lw_outputs_have_file(&session->outputs));
    if (!session->done)
        lw_notify_tell(&session->notify, "READY=1", "Watching PID %d (%s), engine %s", (int)pid,
                       session->task.name, lw_watch_engine(session->watch));
}

static void write_report(struct session *session, const struct lw_snapshot *snapshot, bool summary)
{
    pid_t pid = lw_watch_pid(session->watch);
    struct lw_report_context context = {
        .pid = pid,
        .exe = session->exe ? session->exe : "",
        .name = session->task.name,
        .engine = lw_watch_engine(session->watch),
        .time_ns = lw_clock_realtime(),
        .elapsed_ns = snapshot->taken_ns - session->armed_ns,
        .rss_bytes = lw_process_rss(pid),
        .number = summary ? session->reports : ++session->reports,
        .summary = summary,
        .cohort = &session->mark.cohort,
    };
    lw_progress_begin(&session->progress);
    struct lw_report *report = lw_report_build(session->builder, snapshot, &context);
    lw_progress_end(&session->progress);
    if (!report) {
        fail(session, lw_error_create(ENOMEM, "out of memory"));
        return;
    }
    session->has_leaks = lw_report_has_leaks(report);
    write_message(session, &(struct lw_message){.report = report});
    if (!summary && !session->done)
        lw_notify_report(&session->notify, report);
    lw_report_destroy(report);
}

static void report_now(struct session *session)
{
    struct lw_snapshot *snapshot = lw_watch_snapshot(session->watch, &session->mark.request);
    if (snapshot) /* NULL when the target has ended meanwhile: the summary comes next */
        write_report(session, snapshot, false);
    lw_snapshot_destroy(snapshot);
    if (session->options->count > 0 && session->reports >= session->options->count)
        session->done = true;
}

static void draw_status(struct session *session, uint64_t now)
{
    struct lw_ledger_totals totals;
    struct lw_event_counts events;
    lw_watch_totals(session->watch, &totals, &events);
    uint64_t count = events.allocs + events.frees + events.unknown_frees + events.failed_allocs;
    double seconds = (double)(now - session->last_status_ns) / (double)LW_NS_PER_SECOND;
    struct lw_status status = {
        .elapsed_ns = now - session->armed_ns,
        .next_report_ns = session->next_report_ns - now,
        .events_per_second = seconds > 0 ? (double)(count - session->last_events) / seconds : 0,
        .live_blocks = totals.live_blocks,
        .live_bytes = totals.live_bytes,
        .oldest_age_ns = totals.oldest_born_ns ? now - totals.oldest_born_ns : 0,
        .rss_bytes = lw_process_rss(lw_watch_pid(session->watch)),
    };
    session->last_events = count;
    session->last_status_ns = now;
    lw_status_line_draw(&session->status, &status);
}

static void handle_signal(struct session *session, int signal)
{
    switch (signal) {
    case SIGUSR1:
        if (session->armed)
            report_now(session);
        break;
    case SIGUSR2:
        if (session->armed)
            fail_if(session, lw_mark_renew(&session->mark, session->watch, session->armed_ns));
        break;
    case SIGHUP:
        if (session->output_open && lw_outputs_have_file(&session->outputs)) {
            lw_error *error = lw_outputs_reopen(&session->outputs);
            if (error)
                lw_warn("%s", lw_error_message(error));
            lw_error_destroy(error);
            break;
        }
        session->done = true;
        break;
    default:
        session->done = true;
        break;
    }
}

static void handle_signals(struct session *session)
{
    struct signalfd_siginfo info;
    while (read(session->signals, &info, sizeof(info)) == sizeof(info))
        handle_signal(session, (int)info.ssi_signo);
}

static void handle_phase(struct session *session)
{
    enum lw_watch_phase phase = lw_watch_phase(session->watch);
    bool was_armed = lw_watch_was_armed(session->watch);
    if (was_armed && !session->armed && !session->done)
        begin(session);
    if (phase == LW_WATCH_ENDED)
        session->done = true;
}

/* Does what is due, and returns what is due next. */
static uint64_t handle_deadlines(struct session *session)
{
    uint64_t now = lw_clock_now();
    if (now >= session->end_ns) {
        session->done = true;
        return now;
    }
    if (now >= session->mark.due_ns)
        fail_if(session, lw_mark_end(&session->mark, session->watch, session->armed_ns));
    if (now >= session->next_report_ns) {
        report_now(session);
        now = lw_clock_now();
        /* From the schedule, not from now, so that intervals do not drift; none is caught up with.
         */
        while (session->next_report_ns <= now)
            session->next_report_ns += session->options->interval_ns;
    }
    uint64_t next =
        session->next_report_ns < session->end_ns ? session->next_report_ns : session->end_ns;
    if (session->mark.due_ns < next)
        next = session->mark.due_ns;
    if (session->status.enabled && session->armed) {
        if (now >= session->next_status_ns) {
            draw_status(session, now);
            session->next_status_ns = now + LW_NS_PER_SECOND;
        }
        if (session->next_status_ns < next)
            next = session->next_status_ns;
    }
    uint64_t feeding =
        session->armed ? lw_notify_feed(&session->notify, session->watch, now) : LW_NEVER;
    return feeding < next ? feeding : next;
}

static void wait_for_something(struct session *session, uint64_t deadline)
{
    struct pollfd descriptors[] = {
        {.fd = session->signals, .events = POLLIN},
        {.fd = lw_watch_descriptor(session->watch), .events = POLLIN},
    };
    uint64_t now = lw_clock_now();
    int timeout = -1;
    if (deadline != LW_NEVER) {
        uint64_t ms = deadline > now ? (deadline - now) / LW_NS_PER_MS + 1 : 0;
        timeout = ms > 60000 ? 60000 : (int)ms;
    }
    poll(descriptors, 2, timeout);
}

static void loop(struct session *session)
{
    session->next_report_ns = session->end_ns = LW_NEVER;
    while (!session->done) {
        handle_phase(session);
        if (session->done)
            break;
        uint64_t next = handle_deadlines(session);
        if (session->done)
            break;
        wait_for_something(session, next);
        handle_signals(session);
    }
}

static void write_end(struct session *session, const struct lw_watch_result *result)
{
    struct lw_report_end end;
    if (lw_end_report_make(lw_watch_pid(session->watch), result, &end))
        write_message(session, &(struct lw_message){.end = &end});
}

static void write_detachment(struct session *session, const struct lw_watch_result *result)
{
    const struct lw_report_detach detach =
        lw_detach_report_make(lw_watch_pid(session->watch), result);
    if (!result->released)
        lw_log(LW_LOG_ERROR, "process %d has threads that the kernel still shows as traced",
               (int)detach.pid);
    if (!result->released || !lw_detach_report_is_good(&detach))
        session->exit_code = LW_EXIT_FAILED;
    write_message(session, &(struct lw_message){.detach = &detach});
}

/* Reports follow, since what was recorded until then is right. */
static void tell_lapse(struct session *session)
{
    fail(session,
         lw_error_create(0,
                         "the watch of process %d is over: leakwatch was held up for so long "
                         "(stopped, or without a processor to run on) that the recorder in the "
                         "process switched itself off",
                         (int)lw_watch_pid(session->watch)));
}

/* The target is let go first; everything that may be slow comes after. */
static void finish(struct session *session)
{
    struct lw_watch_result result;
    if (session->armed)
        lw_notify_tell(&session->notify, "STOPPING=1", "Ending the watch");
    lw_watch_stop(session->watch, &result);
    lw_status_line_clear(&session->status);
    if (result.error) {
        fail(session, result.error);
        return;
    }
    if (result.outcome.end == LW_ENGINE_LAPSED)
        tell_lapse(session);
    if (!session->armed) {
        if (!result.detached)
            fail(session, lw_error_create(0, "%s ended before it had loaded an allocator",
                                          session->options->command ? session->options->command[0]
                                                                    : "the process"));
        lw_snapshot_destroy(result.snapshot);
        return;
    }
    if (result.snapshot && session->builder) {
        write_report(session, result.snapshot, true);
        if (session->exit_code == LW_EXIT_DONE && session->has_leaks)
            session->exit_code = session->options->error_exitcode;
    }
    if (result.detached)
        write_detachment(session, &result);
    else
        write_end(session, &result);
    free(result.exe);
    lw_snapshot_destroy(result.snapshot);
}

static lw_error *start(struct session *session)
{
    const struct lw_options *options = session->options;
    lw_error *error = NULL;
    if (!options->command) {
        error = lw_process_check(options->pid);
        if (!error)
            error = open_outputs(session, options->pid);
    }
    if (!error)
        error = take_signals(session);
    if (error)
        return error;
    session->guardian = lw_guardian_start(lw_engine_choice_clear);
    if (!options->command)
        lw_guardian_watch(session->guardian, options->pid);
    const struct lw_engine_options engine_options = {
        .expire_ns = options->expire_ns,
        .depth = options->depth,
        .min_size = options->min_size,
        .max_size = options->max_size,
        .sample_bytes = options->sample_bytes,
        .sample_auto = options->sample_auto,
        .max_overhead = options->max_overhead,
        .max_memory = options->max_memory,
        .guardian = session->guardian,
    };
    session->watch = lw_watch_start(lw_engine_choice_list(options->engine), &engine_options,
                                    options->pid, options->command, &session->original_mask);
    if (!session->watch)
        return lw_error_create(ENOMEM, "cannot start the watch: %m");
    lw_watch_expect(session->watch, &session->mark.request);
    return NULL;
}

int lw_session_run(const struct lw_options *options)
{
    struct session session = {.options = options, .signals = -1};
    lw_notify_open(&session.notify);
    lw_mark_init(&session.mark, options->mark_ns, options->report.show_blocks);
    lw_error *error = lw_suppressions_load(options, &session.suppressions);
    const int refusal = error ? LW_EXIT_USAGE : LW_EXIT_FAILED;
    if (!error)
        error = start(&session);
    if (error) {
        fail(&session, error);
        session.exit_code = refusal;
    } else {
        loop(&session);
        finish(&session);
    }
    if (session.output_open)
        tell_unwritten(&session, lw_outputs_close(&session.outputs));
    lw_report_builder_destroy(session.builder);
    lw_suppressions_destroy(session.suppressions);
    lw_symbolizer_destroy(session.symbolizer);
    lw_watch_destroy(session.watch);
    lw_guardian_end(session.guardian);
    lw_notify_close(&session.notify);
    lw_mark_deinit(&session.mark);
    free(session.exe);
    if (session.signals >= 0)
        close(session.signals);
    return session.exit_code;
}
