/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Looking at every thread of the target once, with as few stops as that takes. */
#ifndef LEAKWATCH_TRACE_VISIT_H
#define LEAKWATCH_TRACE_VISIT_H

#include "leakwatch/trace/tracer.h"

/* A thread as a visitor sees it. One that sleeps in a system call is not stopped; it may wake up
 * meanwhile, so what matters is only what cannot come back once it is gone. */
struct lw_visit {
    pid_t tid;
    uint64_t pc, sp;
    uint64_t sleeps;                /* (asleep) how often it had gone to sleep */
    struct lw_registers *registers; /* NULL while it sleeps; a stopped one's may be changed */
};

enum lw_visit_result {
    LW_VISIT_DONE,
    LW_VISIT_CHANGED, /* the same, and the registers are to be written back */
    LW_VISIT_STOP,    /* (asleep) to be visited again, stopped */
    LW_VISIT_AGAIN,   /* the thread is not where it should be: another round is needed */
};

typedef enum lw_visit_result (*lw_visitor)(void *context, const struct lw_visit *visit);

/* The thread was asleep when it was visited, and has not woken since: what was read of its stack
 * meanwhile belongs together. */
bool lw_visit_slept_on(const struct lw_visit *visit);

/*
 * One round: every thread that is attached, and those that come meanwhile. Threads run on as soon
 * as they were visited; hits of breakpoints and all other stops are dealt with. Returns the number
 * of threads that need another round, once they had a millisecond to run; -ESRCH: the target has
 * ended or become another program; -ETIMEDOUT: at the deadline some thread had not stopped.
 * *longest_ns is raised to the longest for which one was stopped.
 */
int lw_tracer_visit(struct lw_tracer *tracer, lw_visitor visitor, void *context, uint64_t deadline,
                    uint64_t *longest_ns);

#endif
