/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The seam between a watch and the mechanism that sees the target's allocator calls. */
#ifndef LEAKWATCH_PROBE_ENGINE_H
#define LEAKWATCH_PROBE_ENGINE_H

#include <linux/capability.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "leakwatch/base/error.h"
#include "leakwatch/base/privilege.h"
#include "leakwatch/model/snapshot.h"
#include "leakwatch/probe/allocator.h"
#include "leakwatch/probe/guardian.h"
#include "leakwatch/target/module.h"

/*
 * An engine turns the calls of the target's allocator functions into the model's facts. Nothing
 * above it knows which one runs. All functions but `wake` are called on one thread, the watch's
 * own, which ends after `stop`.
 */
struct lw_engine_options {
    uint64_t expire_ns;
    size_t depth;                /* frames kept of a stack */
    uint64_t min_size, max_size; /* bytes; other blocks are known but not reported */
    /* An engine that sees every event anyway leaves these alone: its figures are exact. */
    uint64_t sample_bytes; /* mean between samples, bytes; 0: every allocation, or sample_auto */
    bool sample_auto;      /* sample as few as max_overhead demands, all where that costs less */
    double max_overhead;   /* percent of the target's time */
    uint64_t max_memory;   /* bytes that blocks and stacks may take; 0: no limit */
    struct lw_guardian *guardian; /* is told of a launched command's PID; not owned; may be NULL */
};

/* What was armed, for the first report. */
struct lw_engine_attachment {
    pid_t pid;
    unsigned threads;
    uint64_t pause_ns;
    bool from_start;
    bool stopped;          /* was in a group-stop (SIGSTOP), and stays so */
    uint64_t sample_bytes; /* as in the options; 0 where every allocation is seen */
    bool sample_auto;
    /* Why this engine and not the one before it in the list; "" when it is the first. Written by
     * whoever made that choice, before the attach; cut where it is longer. */
    char reason[200];
    LW_VECTOR(struct lw_allocator_set) sets; /* owned by the engine */
};

enum lw_engine_end {
    LW_ENGINE_RUNS,
    LW_ENGINE_EXITED, /* or killed, where the engine cannot know which: status and signal are -1 */
    LW_ENGINE_KILLED,
    LW_ENGINE_EXEC,
    /* The target lives, but is watched no more: leakwatch was held up (stopped, starved) for so
     * long that what records in the target has switched itself off. `stop` detaches from it as
     * ever. */
    LW_ENGINE_LAPSED,
};

/* How the watch ended; what remains is valid for LW_ENGINE_EXITED (status) and LW_ENGINE_KILLED
 * (signal). An engine that is not the target's parent may be unable to learn them (kernels before
 * 6.15): both are then -1, with LW_ENGINE_EXITED. */
struct lw_engine_outcome {
    enum lw_engine_end end;
    int status;
    int signal;
};

struct lw_engine_detachment {
    unsigned threads;
    unsigned probes_removed;
    uint64_t pause_ns; /* longest for which a thread was held up */
    bool stopped;      /* the target is in a group-stop, and stays so */
    bool restored;     /* all code could be written back */
};

struct lw_engine;

struct lw_engine_ops {
    const char *name;
    /* Attaches to a running process and arms it; or starts a command, which is armed as soon as its
     * allocator is there. ENOTSUP means that this engine is not possible with this target, which is
     * as it was (and no command has been left running): another may be tried. After any error,
     * `stop` is called all the same. */
    lw_error *(*attach)(struct lw_engine *engine, pid_t pid);
    lw_error *(*launch)(struct lw_engine *engine, char *const argv[], const sigset_t *mask);
    /* Watches until the deadline, until woken, or until the target ends. */
    struct lw_engine_outcome (*run)(struct lw_engine *engine, uint64_t deadline);
    /* Detaches. The calling thread must end before the target counts as released. */
    void (*stop)(struct lw_engine *engine, struct lw_engine_detachment *detachment);
    /* After that thread has ended: compares the code with its files. */
    bool (*verify)(struct lw_engine *engine, uint64_t *bytes);
    void (*wake)(struct lw_engine *engine); /* from any thread */
    struct lw_snapshot *(*snapshot)(struct lw_engine *engine,
                                    const struct lw_snapshot_request *request);
    void (*totals)(struct lw_engine *engine, struct lw_ledger_totals *totals,
                   struct lw_event_counts *events);
    void (*destroy)(struct lw_engine *engine);
};

/* The common head of every engine. */
struct lw_engine {
    const struct lw_engine_ops *ops;
    struct lw_engine_options options;
    struct lw_engine_attachment attachment; /* valid once armed */
    bool armed; /* false while a launched command has not loaded its allocator yet */
    struct lw_module_table *modules; /* created by attach or launch, kept until destroy */
};

/* What an engine needs once it has attached: to read and leave the process; to open its memory, and
 * that of its children (/proc/PID/mem), and its libraries; to find those that were deleted
 * (map_files); to see what filters a thread has for its system calls by then (CAP_SYS_ADMIN, which
 * is no more than the first of these); to be quick while a thread waits for it. */
#define LW_ENGINE_PRIVILEGES                                                                       \
    (LW_PRIVILEGE(CAP_SYS_PTRACE) | LW_PRIVILEGE(CAP_DAC_OVERRIDE) |                               \
     LW_PRIVILEGE(CAP_CHECKPOINT_RESTORE) | LW_PRIVILEGE(CAP_SYS_ADMIN) |                          \
     LW_PRIVILEGE(CAP_SYS_NICE))

/* Makes an engine that has touched nothing yet; NULL: out of memory. */
typedef struct lw_engine *lw_engine_create(const struct lw_engine_options *options);

/* int3 at entry and return, every event delivered through ptrace: works everywhere. */
lw_engine_create lw_trap_engine_create;
/* Code patched into the target records into memory that it shares with us; no stops, no ptrace
 * while watching. Not possible everywhere. */
lw_engine_create lw_record_engine_create;

/* Takes out of the process what a leakwatch that was killed, by whichever engine, has left in it; a
 * target that runs on, at full speed, after that. NULL also when there is nothing. EBUSY: another
 * leakwatch is watching, or it cannot be done. */
lw_error *lw_engine_clear_leftovers(pid_t pid);

#endif
