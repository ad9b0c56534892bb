/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a thread's filters (seccomp) would do to the system calls that it is asked to make for us.
 */
#ifndef LEAKWATCH_TRACE_CALL_FILTER_H
#define LEAKWATCH_TRACE_CALL_FILTER_H

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A system call, as far as it is known. */
struct lw_call_shape {
    long number;
    unsigned known; /* bit n: arguments[n] is always this */
    uint64_t arguments[6];
};

/* All that leakwatch, or its recorder, ever has a thread of the target call. */
extern const struct lw_call_shape lw_asked_calls[];
extern const size_t lw_asked_call_count;

/* Is the call one of those? */
bool lw_call_is_asked(long number, const uint64_t arguments[6]);

/* Would this program (seccomp(2)) allow the call, whatever is not known of it? Without a log entry,
 * a signal, or anybody else who is asked. */
bool lw_call_filter_allows(const struct sock_filter *program, size_t length,
                           const struct lw_call_shape *call);

/* Can the calling thread see filters? That takes CAP_SYS_ADMIN, and that it has none itself. */
bool lw_call_filter_is_visible(void);

/* Do all of the thread's filters allow all that it is asked? It stands in a stop of the calling
 * thread's. 0; -EPERM: they do not, and *refused (may be NULL) is a call that they do not allow; or
 * another negative errno: it cannot be told. */
int lw_call_filter_check(pid_t tid, long *refused);

/* Do they allow restart_syscall, which the kernel has a thread make that a stop has broken off in a
 * call with a time limit? False also where it cannot be told. */
bool lw_call_filter_lets_restart(pid_t tid);

#endif
