/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guardian process. */
#include "leakwatch/probe/guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"
#include "leakwatch/probe/engine.h"
#include "leakwatch/target/process.h"

#define DEATH_TRIES 10000 /* of a millisecond */
#define TRIES       50
#define RETRY_NS    (100 * LW_NS_PER_MS)

/* What both processes see. */
struct ward {
    _Atomic pid_t pid; /* 0: none yet */
    _Atomic uint64_t start_time;
};

struct lw_guardian {
    pid_t pid;
    int pipe; /* a byte says goodbye */
    struct ward *ward;
};

/* ---- The guardian's side ---- */

static void ignore_signals(void)
{
    sigset_t set;
    for (int number = 1; number < NSIG; number++)
        if (number != SIGCHLD) /* which a tracer waits for */
            signal(number, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_SETMASK, &set, NULL);
}

/* Leaves nothing open but the pipe: a reader of leakwatch's output waits for its end. */
static void close_files(int pipe)
{
    if (pipe > 3)
        close_range(3, (unsigned)pipe - 1, 0);
    close_range((unsigned)pipe + 1, ~0u, 0);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd <= 2 && null >= 0; fd++)
        dup2(null, fd);
    if (null > 2)
        close(null);
}

static bool is_there(const struct ward *ward)
{
    return ward->pid != 0 && lw_process_start_time(ward->pid) == ward->start_time;
}

/* A leakwatch that dies lets its tracees go after it has closed its files, and before its children
 * get another parent. */
static void await_death(pid_t parent)
{
    for (int i = 0; i < DEATH_TRIES && getppid() == parent; i++)
        nanosleep(&(struct timespec){.tv_nsec = (long)LW_NS_PER_MS}, NULL);
}

static void clear_up(const struct ward *ward, lw_error *(*clear)(pid_t pid))
{
    int code = EAGAIN;
    /* EBUSY: another leakwatch, or a debugger, is there already; the former clears up itself. */
    for (int i = 0; i < TRIES && code != 0 && code != EBUSY && is_there(ward); i++) {
        if (i > 0)
            nanosleep(&(struct timespec){.tv_nsec = (long)RETRY_NS}, NULL);
        lw_error *error = clear(ward->pid);
        code = !error ? 0 : lw_error_code(error) ? lw_error_code(error) : EIO;
        lw_error_destroy(error);
    }
}

static _Noreturn void run(int pipe, pid_t parent, const struct ward *ward,
                          lw_error *(*clear)(pid_t pid))
{
    char byte;
    ssize_t n;
    setsid();
    prctl(PR_SET_NAME, LW_GUARDIAN_NAME);
    ignore_signals();
    close_files(pipe);
    (void)lw_privilege_keep(LW_ENGINE_PRIVILEGES);
    if (chdir("/") != 0)
        _exit(1);
    while ((n = read(pipe, &byte, 1)) < 0 && errno == EINTR)
        ;
    if (n == 0) {
        await_death(parent);
        clear_up(ward, clear);
    }
    _exit(0);
}

/* ---- Leakwatch's side ---- */

static int start(struct lw_guardian *guardian, lw_error *(*clear)(pid_t pid))
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -errno;
    const pid_t parent = getpid();
    guardian->pid = fork();
    if (guardian->pid == 0) {
        close(ends[1]);
        int pipe = fcntl(ends[0], F_DUPFD_CLOEXEC, 3); /* not one of the first three */
        run(pipe, parent, guardian->ward, clear);
    }
    int error = guardian->pid < 0 ? -errno : 0;
    close(ends[0]);
    guardian->pipe = ends[1];
    if (error)
        close(ends[1]);
    return error;
}

struct lw_guardian *lw_guardian_start(lw_error *(*clear)(pid_t pid))
{
    struct lw_guardian *guardian = calloc(1, sizeof(*guardian));
    if (!guardian)
        return NULL;
    guardian->ward = mmap(NULL, sizeof(*guardian->ward), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (guardian->ward != MAP_FAILED && start(guardian, clear) == 0)
        return guardian;
    lw_info("nobody would take leakwatch's traces away, were it killed: %m");
    if (guardian->ward != MAP_FAILED)
        munmap(guardian->ward, sizeof(*guardian->ward));
    free(guardian);
    return NULL;
}

void lw_guardian_watch(struct lw_guardian *guardian, pid_t pid)
{
    if (!guardian)
        return;
    atomic_store(&guardian->ward->start_time, lw_process_start_time(pid));
    atomic_store(&guardian->ward->pid, pid);
}

void lw_guardian_end(struct lw_guardian *guardian)
{
    if (!guardian)
        return;
    if (write(guardian->pipe, "", 1) != 1) /* killed: it has nothing to say to us */
        lw_debug("the guardian was gone before");
    close(guardian->pipe);
    waitpid(guardian->pid, NULL, 0);
    munmap(guardian->ward, sizeof(*guardian->ward));
    free(guardian);
}
