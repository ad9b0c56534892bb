/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a tracee's stop means: a wait status decoded to a value, before anything is done about it.
 */
#ifndef LEAKWATCH_TRACE_STOP_H
#define LEAKWATCH_TRACE_STOP_H

#include <signal.h>
#include <sys/types.h>

enum lw_stop_kind {
    LW_STOP_NONE,   /* nothing happened before the deadline, or the waiter was woken */
    LW_STOP_NOBODY, /* there is no tracee left */
    LW_STOP_EXITED, /* the thread is gone: `status` is its exit status; it must be reaped */
    LW_STOP_KILLED, /* the thread is gone: `signal` killed it; it must be reaped */
    LW_STOP_SIGNAL, /* signal-delivery-stop: `signal` is about to be delivered */
    LW_STOP_GROUP,  /* group-stop (SIGSTOP, SIGTSTP ...): the thread is to stay stopped */
    LW_STOP_TRAP,   /* PTRACE_EVENT_STOP: a new tracee's first stop, our interrupt, or SIGCONT's end
                       of a group-stop */
    LW_STOP_CLONE,  /* PTRACE_EVENT_CLONE, in the thread that called clone */
    LW_STOP_FORK,   /* likewise fork, vfork */
    LW_STOP_EXEC,   /* PTRACE_EVENT_EXEC: the old image and all other threads are gone */
    LW_STOP_SYSCALL, /* syscall-enter-stop or syscall-exit-stop, which look the same */
    LW_STOP_OTHER,   /* an event that asks nothing of the tracer */
};

struct lw_stop {
    enum lw_stop_kind kind;
    pid_t tid;
    int signal;
    int status;
};

/* From what waitid filled in for a ptraced thread (si_code, si_status, si_pid). Pure. */
struct lw_stop lw_stop_decode(const siginfo_t *info);

#endif
