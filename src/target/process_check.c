/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Decides whether a process can be watched, and says why not. */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/target/process.h"

/* The name of a process for a message, "?" when it is gone or hidden. */
static const char *name_of(pid_t pid, struct lw_task_status *status)
{
    return lw_task_status_read(pid, pid, status) == 0 ? status->name : "?";
}

#define GUARDIAN_TRIES 500 /* of 20 ms */

static lw_error *refuse_unreadable(pid_t pid, int code)
{
    /* With hidepid=2, /proc does not show the processes of others, but kill knows them. */
    bool hidden = code == ESRCH && pid > 0 && kill(pid, 0) != 0 && errno == EPERM;
    if (code == EACCES || code == EPERM || hidden)
        return lw_error_create(EPERM,
                               "permission denied reading /proc/%d: the process belongs to another "
                               "user: run as root: sudo leakwatch -p %d",
                               (int)pid, (int)pid);
    if (code == ESRCH)
        return lw_error_create(ESRCH,
                               "no process has the PID %d: it may have ended; look for the right "
                               "one with pgrep or ps",
                               (int)pid);
    return lw_error_create(code, "cannot read the status of process %d: %s", (int)pid,
                           strerror(code));
}

static lw_error *refuse_thread(pid_t tid, const struct lw_task_status *status)
{
    struct lw_task_status process;
    return lw_error_create(EINVAL,
                           "%d is a thread of process %d (%s), and whole processes are watched: "
                           "leakwatch -p %d",
                           (int)tid, (int)status->tgid, name_of(status->tgid, &process),
                           (int)status->tgid);
}

static lw_error *refuse_dead(pid_t pid, const struct lw_task_status *status)
{
    struct lw_task_status parent;
    if (status->state == 'Z' && status->threads > 1)
        return lw_error_create(ENOTSUP,
                               "the main thread of process %d (%s) has ended while others run on, "
                               "and leakwatch cannot watch such a process: restart it and watch it "
                               "before its main thread ends",
                               (int)pid, status->name);
    return lw_error_create(ESRCH,
                           "process %d (%s) has ended and is a zombie: nothing is left to watch; "
                           "its parent, process %d (%s), has yet to collect it",
                           (int)pid, status->name, (int)status->ppid,
                           name_of(status->ppid, &parent));
}

static lw_error *refuse_traced(pid_t pid, const struct lw_task_status *status, pid_t tracer)
{
    struct lw_task_status other;
    return lw_error_create(EBUSY,
                           "process %d (%s) is already traced by %s (PID %d), and a process can "
                           "have one tracer only: end that first (gdb: detach; strace, ltrace: "
                           "Ctrl-C) and try again",
                           (int)pid, status->name, name_of(tracer, &other), (int)tracer);
}

/* The process that traces any of the threads: strace without -f traces a single one. 0: none. */
static pid_t find_tracer(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    lw_auto_closedir DIR *tasks = opendir(path);
    const struct dirent *item;
    while (tasks != NULL && (item = readdir(tasks)) != NULL) {
        struct lw_task_status status;
        pid_t tid = (pid_t)strtol(item->d_name, NULL, 10);
        if (tid <= 0 || lw_task_status_read(pid, tid, &status) != 0 || status.tracer == 0)
            continue;
        /* TracerPid names a thread. */
        pid_t tracer = status.tracer;
        return lw_task_status_read(tracer, tracer, &status) == 0 ? status.tgid : tracer;
    }
    return 0;
}

static lw_error *check_executable(pid_t pid, const struct lw_task_status *status)
{
    char path[64];
    unsigned char ident[EI_NIDENT];
    snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
    lw_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && (errno == EACCES || errno == EPERM))
        return lw_process_explain_eperm(pid);
    if (fd < 0)
        return lw_error_create(errno, "cannot open the executable of process %d (%s): %s", (int)pid,
                               status->name, strerror(errno));
    ssize_t size = read(fd, ident, sizeof(ident));
    if (size == (ssize_t)sizeof(ident) && memcmp(ident, ELFMAG, SELFMAG) == 0 &&
        ident[EI_CLASS] == ELFCLASS32)
        return lw_error_create(ENOTSUP,
                               "process %d (%s) is a 32-bit program, and leakwatch watches 64-bit "
                               "programs only: try valgrind or heaptrack on it",
                               (int)pid, status->name);
    return NULL;
}

/* Is the tracer a guardian, and not we ourselves? Or one that has ended since it was looked at (a
 * guardian's threads do when they are done), and that lets its tracees go in a moment? */
static bool is_guardian(pid_t tracer)
{
    struct lw_task_status status;
    if (tracer == 0)
        return false;
    if (lw_task_status_read(tracer, tracer, &status) != 0)
        return true;
    return status.tgid != getpid() && strcmp(status.name, LW_GUARDIAN_NAME) == 0;
}

static void sleep_a_moment(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

void lw_process_await_guardian(pid_t pid, pid_t tid)
{
    struct lw_task_status status;
    for (int i = 0; i < GUARDIAN_TRIES && lw_task_status_read(pid, tid, &status) == 0 &&
                    is_guardian(status.tracer);
         i++)
        sleep_a_moment();
}

/* The same for all threads; who traces the process then, or 0. */
static pid_t await_guardian(pid_t pid)
{
    pid_t tracer = 0;
    for (int i = 0; i < GUARDIAN_TRIES && is_guardian(tracer = find_tracer(pid)); i++)
        sleep_a_moment();
    return tracer;
}

lw_error *lw_process_check(pid_t pid)
{
    struct lw_task_status status;
    int result = lw_task_status_read(pid, pid, &status);
    if (result != 0)
        return refuse_unreadable(pid, -result);
    if (status.tgid != pid)
        return refuse_thread(pid, &status);
    if (pid == getpid())
        return lw_error_create(EINVAL,
                               "%d is leakwatch itself, which cannot watch itself: give the PID of "
                               "another process",
                               (int)pid);
    if (status.kernel_thread)
        return lw_error_create(EINVAL,
                               "process %d (%s) is a kernel thread and has no memory of its own: "
                               "give the PID of a program",
                               (int)pid, status.name);
    if (lw_task_has_ended(&status))
        return refuse_dead(pid, &status);
    pid_t tracer = await_guardian(pid);
    if (tracer != 0)
        return refuse_traced(pid, &status, tracer);
    if (lw_process_is_frozen(pid))
        return lw_error_create(EAGAIN,
                               "process %d (%s) is frozen by its control group, and cannot be "
                               "attached to before it is thawed (docker unpause, systemctl thaw)",
                               (int)pid, status.name);
    if (lw_process_shares_memory(pid, status.ppid) == 1)
        return lw_error_create(
            EBUSY,
            "process %d (%s) still uses the memory of its parent, process %d (vfork), "
            "which breakpoints would harm: watch the parent, or try again once "
            "it has started its own program",
            (int)pid, status.name, (int)status.ppid);
    return check_executable(pid, &status);
}
