/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the agent has recorded, read from the memory it shares with us. */
#ifndef LEAKWATCH_PROBE_RECORD_VIEW_H
#define LEAKWATCH_PROBE_RECORD_VIEW_H

#include "leakwatch/agent/agent.h"
#include "leakwatch/base/vector.h"
#include "leakwatch/model/snapshot.h"
#include "leakwatch/probe/engine.h"
#include "leakwatch/target/module.h"
#include "record_fold.h"

/* A loaded module. Spans may overlap: of those that hold an address, the last is meant. */
struct record_span {
    uint64_t start, end, bias;
    uint64_t reach; /* the farthest end of this span and all before it */
    uint32_t module;
};

/* Which modules were where, at some moment of an epoch of the address space. */
struct record_epoch {
    uint32_t epoch;
    LW_VECTOR(struct record_span) spans; /* by start */
};

/*
 * Reads while the target writes, and never waits for it: a record that is being written is not
 * counted yet, and blocks that move while they are read are counted as they were found. What the
 * target has never touched is not touched here either (that would make the memory real), but for
 * the rest of a block of counts that it has begun. Nothing that is read is trusted: the target may
 * have scribbled over it, and figures are then wrong, but nothing else is.
 *
 * Stacks are given their modules when they are first seen, from the modules as they were in the
 * stack's epoch. All of this is for one thread, the one that updates the module table.
 */
struct record_view {
    int fd; /* of the shared memory; not owned; its file offset is moved */
    const struct lw_agent_shared *shared;
    const struct lw_engine_options *options;
    struct lw_module_table *modules;
    uint64_t start_ns; /* lw_clock_now at tick 0 */
    /* The agent samples: set by the owner after init, and for good. */
    bool sampled;

    struct lw_stack_table *stacks;
    LW_VECTOR(const struct lw_stack *) by_number; /* of the agent's numbers; NULL: not yet known */
    /* of by_number: those with final names, and those that were there at the latest note */
    size_t settled, noted;
    LW_VECTOR(struct record_epoch) epochs; /* oldest first; one or two of an epoch */

    struct record_fold fold;
};

/* 0 or -ENOMEM. All that is passed outlives the view. */
int record_view_init(struct record_view *view, int fd, const struct lw_agent_shared *shared,
                     const struct lw_engine_options *options, struct lw_module_table *modules,
                     uint64_t start_ns);
void record_view_deinit(struct record_view *view);

/* The module table has just been brought up to date: notes where modules are, for stacks of the
 * present epoch, and names the stacks that are new. Where nothing is loaded or closed any more, it
 * need not be called. 0 or -ENOMEM. */
int record_view_note_modules(struct record_view *view);

/* NULL: out of memory. */
struct lw_snapshot *record_view_snapshot(struct record_view *view, uint64_t now,
                                         const struct lw_snapshot_request *request);
/* All zero where memory has run out. Takes as long as a snapshot. */
void record_view_totals(struct record_view *view, uint64_t now, struct lw_ledger_totals *totals,
                        struct lw_event_counts *events);

struct record_block;

/* For record_fold.c. That such a block is sampled: that its bytes hold an event of a Poisson
 * process.
 */
double record_view_chance(const struct record_view *view, const struct record_block *block);
/* By the agent's number. NULL for no stack, and for one that has come since they were named. */
const struct lw_stack *record_view_stack(const struct record_view *view, size_t number);

/* The age from which a block is expired, in ticks (lw_agent_control.expire_ticks). */
uint32_t record_expire_ticks(uint64_t expire_ns);

/* ---- record_stacks.c ---- */

/* Names the stacks that are new. 0 or -ENOMEM. */
int record_view_name_stacks(struct record_view *view);

#endif
