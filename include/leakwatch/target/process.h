/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What /proc tells of a process and its threads, and whether it may be watched at all. */
#ifndef LEAKWATCH_TARGET_PROCESS_H
#define LEAKWATCH_TARGET_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "leakwatch/base/error.h"

/* From /proc/PID/task/TID/status. Signal sets have bit n-1 for signal n. */
struct lw_task_status {
    char name[16];
    char state; /* R S D T t Z X I, as the kernel prints it */
    pid_t tgid;
    pid_t ppid;
    pid_t tracer; /* 0: none */
    uid_t uid, euid;
    unsigned threads;
    unsigned seccomp;   /* 0 none, 1 strict, 2 filter */
    bool kernel_thread; /* no address space */
    uint64_t rss_bytes; /* VmRSS; 0 where the kernel prints none */
    uint64_t signals_blocked, signals_ignored, signals_caught,
        signals_pending;       /* pending: thread's and shared */
    uint64_t signals_directed; /* pending, the thread's alone */
    uint64_t sleeps;           /* how often it has gone to sleep (voluntary_ctxt_switches) */
};

/* 0, -ESRCH when there is no such thread, or another negative errno. tid may equal pid. */
int lw_task_status_read(pid_t pid, pid_t tid, struct lw_task_status *status);
/* The state of the main thread in a word or two: "running", "sleeping", "gone". */
const char *lw_process_state_name(pid_t pid);
/* The same from the text of such a file, for tests; leaves kernel_thread false. -EINVAL when it is
 * none. */
int lw_task_status_parse(struct lw_task_status *status, const char *text);

/* A zombie, or on its way out: it runs no more, though it still has an entry in /proc. */
static inline bool lw_task_has_ended(const struct lw_task_status *status)
{
    return status->state == 'Z' || status->state == 'X';
}

/* RSS alone, from /proc/PID/statm: cheap enough to read once a second. 0 when the process is gone.
 */
uint64_t lw_process_rss(pid_t pid);

/* The processor time that all its threads have used, ns; 0 when the process is gone. */
uint64_t lw_process_cpu_ns(pid_t pid);

/* Start time in clock ticks since boot (/proc/PID/stat field 22), which with the PID names a
 * process uniquely; 0 when it is gone. */
uint64_t lw_process_start_time(pid_t pid);

/* The executable's path as the kernel knows it, without " (deleted)"; the caller frees it; NULL
 * with errno on failure. */
char *lw_process_exe(pid_t pid);

/* Another process's memory is that of this process too (CLONE_VM without CLONE_THREAD, vfork):
 * kcmp(KCMP_VM), or -errno where the kernel has no kcmp. 1 yes, 0 no. */
int lw_process_shares_memory(pid_t a, pid_t b);

/* Kept from running by its control group (docker pause, systemctl freeze): a thread that is
 * attached to does not stop then. False also where that cannot be known. */
bool lw_process_is_frozen(pid_t pid);

/*
 * The wait status (wait(2)) of a process that has ended and is not our child: from its pidfd (-1:
 * none; tells since Linux 6.15), or while it is a zombie. 0, or -ENODATA when it cannot be known.
 */
int lw_process_exit_status(int pid_fd, pid_t pid, int *status);

/* The name of the process that clears up after a leakwatch that was killed
 * (leakwatch/probe/guardian.h). */
#define LW_GUARDIAN_NAME "leakwatch-guard"
/* Waits, for some seconds at most, while such a one traces the thread. */
void lw_process_await_guardian(pid_t pid, pid_t tid);

/*
 * Refuses, before anything is touched, what cannot be watched: no such process, a thread id that is
 * not a process (names the process it belongs to and says to watch that), ourselves, a kernel
 * thread, a zombie, one that is already traced (names the tracer, by PID and name), a 32-bit
 * program, one that is frozen. Each message says what is wrong and what to do.
 */
lw_error *lw_process_check(pid_t pid);

/* Explains a refused PTRACE_SEIZE (EPERM): which of uid, Yama's ptrace_scope, a missing capability
 * or a non-dumpable process it is, and what to do. Never NULL. */
lw_error *lw_process_explain_eperm(pid_t pid);

#endif
