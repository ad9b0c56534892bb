/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of remote calls share. */
#ifndef LEAKWATCH_TRACE_BORROWED_H
#define LEAKWATCH_TRACE_BORROWED_H

#include <sys/ptrace.h>

#include "leakwatch/arch/signal_frame.h"
#include "leakwatch/trace/remote_call.h"

#define LW_STORE_MAX 256 /* bytes */

/* Where a store went, and what was there before. */
struct lw_remote_store {
    struct lw_memory *memory;
    uint64_t address;
    size_t size;
    uint8_t original[LW_STORE_MAX];
};

struct lw_remote_call {
    struct lw_tracer *tracer;
    pid_t tid;
    struct lw_remote_code code;
    uint64_t since_ns;
    enum lw_stop_kind stop; /* where it stands: LW_STOP_TRAP or LW_STOP_GROUP (a
                               PTRACE_EVENT_STOP), LW_STOP_SYSCALL at the end of a call, or
                               LW_STOP_SIGNAL at the end of the program */
    bool is_gone;
    bool stopped_by_us; /* and not by a stop signal: an -EINTR is our doing */
    bool was_disturbed; /* the process was stopped, or other stops came meanwhile */
    bool is_filtered;   /* it makes no calls but lw_asked_calls */
    bool is_alone;      /* all other stops are left to others, and it stays stopped */

    struct lw_registers registers;
    uint64_t mask;
    uint64_t rseq_slot, rseq_section; /* its rseq_cs field and what that held; 0: none */

    struct lw_signal_frame frame; /* the way back for a thread that we cannot give back any more */
    uint8_t *under_frame;         /* what was there before; NULL: there is no frame */

    struct lw_remote_store stores[8];
    unsigned store_count;
    uint64_t lowest;      /* address of what lies on the stack */
    uint64_t page;        /* mapped for stores that found no stack to go to; 0: none */
    uint64_t page_lowest; /* address of the stores on it */

    int end_signal;        /* what the program ends with; 0: none can be used */
    uint64_t last_request; /* of the program, that for the signal */
    bool in_program;       /* it is looked after, should the signal not come */
    bool signal_refused;   /* it did not */
    bool has_left;         /* the thread has taken its way back on its own */
};

/* One transfer between our memory and the thread's. */
bool lw_borrowed_transfer(const struct lw_remote_call *call, bool write, uint64_t address,
                          void *bytes, size_t size);
int lw_borrowed_write_mask(const struct lw_remote_call *call, uint64_t mask);
/* What every call begins from: the thread's registers, at the signal frame where there is one. */
void lw_borrowed_prepare(const struct lw_remote_call *call, struct lw_registers *registers);

/* Should the thread be let go now, it makes a system call that does nothing and takes its way back.
 */
int lw_borrowed_stand_by(const struct lw_remote_call *call);

/*
 * Resumes the thread and waits for its next stop that is wanted. On the way, SIGSTOP may come,
 * which nothing can block: it is delivered and stops the process, but the thread is ours still.
 * `request` is PTRACE_SYSCALL or PTRACE_CONT; `interrupt`: it is asked to stop at once. 0, or
 * -ESRCH.
 */
int lw_borrowed_run(struct lw_remote_call *call, enum __ptrace_request request, bool interrupt,
                    bool (*is_wanted)(struct lw_remote_call *, const struct lw_stop *));

#endif
