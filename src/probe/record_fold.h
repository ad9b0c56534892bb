/* SPDX-License-Identifier: GPL-2.0-or-later */
/* At the limit of memory, the oldest blocks leave the ledger for the totals of their stacks. */
#ifndef LEAKWATCH_PROBE_RECORD_FOLD_H
#define LEAKWATCH_PROBE_RECORD_FOLD_H

#include "leakwatch/agent/agent.h"
#include "leakwatch/base/vector.h"
#include "record_sums.h"

struct record_view;

/* The time until blocks expire, in so many spans. */
#define RECORD_FOLD_SPANS 4

/* Blocks of one stack that count, but are not known one by one any more: live for the rest of the
 * watch, since their frees are those of unknown blocks. Young ones are kept apart by the span that
 * they were made in: a leak that is folded again and again before it expires would else always have
 * a youngest block that has not. */
struct record_folded {
    struct record_sums young[RECORD_FOLD_SPANS + 1], expired;
};

struct record_fold {
    LW_VECTOR(struct record_folded) stacks; /* by lw_stack.id */
    uint32_t tick;                          /* at which they have their ages */
    uint64_t blocks;                        /* how many were folded */
    uint64_t tried_ns;                      /* lw_clock_now at the end of the latest time */
};

void record_fold_deinit(struct record_fold *fold);

/* Lets all grow older; those that were young are expired once the youngest of their span is. */
void record_fold_age(struct record_fold *fold, uint32_t tick, uint32_t expire_ticks);

/*
 * Where the ledger's last generation, `last`, has become three quarters full: takes the oldest
 * blocks out, until it is half full. The target goes on meanwhile: of a block that it frees just
 * now, either that free or we get the record. Blocks of half a second and less stay, since the
 * target frees what is young without asking who else might take it. 0 or -ENOMEM (nothing has
 * changed).
 */
int record_fold_when_full(struct record_view *view, struct lw_agent_shared *shared, uint32_t last);

#endif
