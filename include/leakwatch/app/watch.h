/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A watch: an engine on a thread of its own, so that nothing that a report does can hold up the
 * target. */
#ifndef LEAKWATCH_APP_WATCH_H
#define LEAKWATCH_APP_WATCH_H

#include <signal.h>
#include <stdbool.h>

#include "leakwatch/base/error.h"
#include "leakwatch/probe/engine.h"

/*
 * The caller's thread reports: it symbolizes, formats and writes to files and terminals that may
 * block. The watch's thread is the tracer: it only counts, and copies a snapshot when asked.
 * Detaching is complete when that thread has ended (trace/tracer.h says why).
 */
struct lw_watch;

enum lw_watch_phase {
    LW_WATCH_STARTING,
    LW_WATCH_LOADING, /* a launched command has not loaded its allocator yet */
    LW_WATCH_ARMED,
    LW_WATCH_ENDED, /* the target has ended, or the watch could not begin */
};

/* Tries the engines in turn, on the watch's thread: the next one where the last is not possible
 * with this target (ENOTSUP), with the reason in its attachment. The list ends with NULL and
 * outlives the watch. Exactly one of pid and argv is given; `mask` is the signal mask that a
 * launched command starts with. All signals but the synchronous ones are blocked in the caller.
 * NULL: the thread could not be started. */
struct lw_watch *lw_watch_start(lw_engine_create *const engines[],
                                const struct lw_engine_options *options, pid_t pid,
                                char *const argv[], const sigset_t *mask);

/* A descriptor that is readable when the phase has changed. */
int lw_watch_descriptor(const struct lw_watch *watch);
/* Clears the descriptor, and tells the phase. */
enum lw_watch_phase lw_watch_phase(struct lw_watch *watch);

/* Whether the watch has begun, if only to end at once. */
bool lw_watch_was_armed(struct lw_watch *watch);

/* The target's process id once it is known (not while LW_WATCH_STARTING a command). */
pid_t lw_watch_pid(const struct lw_watch *watch);

/* Copies of the present state, or of the last before the end. Each waits for the watch's thread,
 * which answers between two stops. The snapshot is the caller's; NULL: out of memory. */
struct lw_snapshot *lw_watch_snapshot(struct lw_watch *watch,
                                      const struct lw_snapshot_request *request);
void lw_watch_totals(struct lw_watch *watch, struct lw_ledger_totals *totals,
                     struct lw_event_counts *events);

struct lw_watch_result {
    lw_error *error; /* why the watch could not begin, else NULL; the caller's */
    struct lw_engine_outcome outcome;
    char *exe;                    /* after an exec: what runs now; the caller's; or NULL */
    struct lw_snapshot *snapshot; /* the last state; the caller's; NULL on error */
    struct lw_engine_detachment detachment; /* valid when the target lives on as it is */
    bool detached;                          /* that is so; then: */
    bool released;                          /* the kernel has let go of every thread */
    bool code_verified;
    uint64_t verified_bytes;
};

/* What the last snapshot is to tell: the target may end at any time. At first, nothing more than
 * every snapshot does. */
void lw_watch_expect(struct lw_watch *watch, const struct lw_snapshot_request *request);

/* Ends the watch, from whatever phase, and waits until the target is released. The engine's modules
 * stay for the symbolizer until lw_watch_destroy. */
void lw_watch_stop(struct lw_watch *watch, struct lw_watch_result *result);
void lw_watch_destroy(struct lw_watch *watch);

/* The engine's name, what was armed, and the modules for the symbolizer; valid once LW_WATCH_ARMED
 * was seen. */
const char *lw_watch_engine(const struct lw_watch *watch);
const struct lw_engine_attachment *lw_watch_attachment(const struct lw_watch *watch);
struct lw_module_table *lw_watch_modules(const struct lw_watch *watch);

#endif
