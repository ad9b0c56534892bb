/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starts children in every way there is, while another thread allocates, and counts those that
 * fail. */
#include "target.h"
#include "workload.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/*
 * forker [CHILDREN [THREADS]]   so many children a second are started by each of the threads
 *   count    answers with the children that were waited for, with the failures, and with how many
 *            found a breakpoint in their malloc and nothing else
 *   linger   forks a child that allocates until its input ends; answers with its PID
 *   leak     the parent leaks 100 blocks of 10 bytes; answers with it
 */
extern char **environ;

/* Exit codes of children, to tell failures apart. */
enum {
    CORRUPT = 11,
    NO_GRANDCHILD = 12,
    NO_MEMORY = 13,
    TRACED = 14,
    PATCHED = 15,
    GRANDCHILD_KILLED = 100
};

static struct {
    unsigned long done, failures, patched;
    int last_failure; /* wait status */
    unsigned last_way;
    struct workload background;
    int alive; /* write end of a pipe that a lingering child reads */
} forker;

static char *const true_argv[] = {(char *)"true", NULL};

/* Of a child that has memory of its own: 0, or the exit code that says what is wrong. */
static int check_child(void)
{
    char status[4096] = "";
    const int fd = open("/proc/self/status", O_RDONLY);
    const ssize_t size = read(fd, status, sizeof status - 1);
    close(fd);
    if (size <= 0 || strstr(status, "TracerPid:\t0\n") == NULL)
        return TRACED;
    return *(const unsigned char *)(uintptr_t)malloc == 0xcc ? PATCHED : 0; /* int3 */
}

/* A child that uses the allocator, and checks what it got, before it leaves. */
static pid_t fork_allocating(void)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    static struct workload workload;
    workload_init(&workload, (uint64_t)getpid());
    workload_run(&workload, 300, 0);
    workload_drain(&workload);
    _exit(workload.corrupt != 0 ? CORRUPT : check_child());
}

/* A child with children of its own. */
static pid_t fork_nested(void)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    pid_t grandchild = fork_allocating();
    int status = -1;
    if (grandchild < 0 || waitpid(grandchild, &status, 0) != grandchild)
        _exit(NO_GRANDCHILD);
    _exit(WIFSIGNALED(status) ? GRANDCHILD_KILLED + WTERMSIG(status) : WEXITSTATUS(status));
}

static pid_t fork_and_exec(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        free(malloc(100));
        execv("/bin/true", true_argv);
        _exit(127);
    }
    return pid;
}

static pid_t vfork_and_exec(void)
{
    pid_t pid = vfork();
    if (pid == 0) {
        execv("/bin/true", true_argv);
        _exit(127);
    }
    return pid;
}

/* The child allocates in memory that is its parent's too. */
static pid_t vfork_allocating(void)
{
    pid_t pid = vfork();
    if (pid == 0) {
        void *block = malloc(100);
        KEEP(block);
        free(block);
        _exit(block == NULL ? NO_MEMORY : 0);
    }
    return pid;
}

static int share_memory(void *unused)
{
    (void)unused;
    unsigned char *blocks[8];
    for (unsigned i = 0; i < 8; i++) {
        blocks[i] = malloc(100);
        if (blocks[i] == NULL)
            syscall(SYS_exit, NO_MEMORY);
        memset(blocks[i], (int)i, 100);
    }
    for (unsigned i = 0; i < 8; i++) {
        if (blocks[i][0] != i || blocks[i][99] != i)
            syscall(SYS_exit, CORRUPT);
        free(blocks[i]);
    }
    syscall(SYS_exit, 0); /* without the parent's exit handlers */
    return 0;
}

/* The thread waits for the child, which has its thread pointer: no two use that at a time. */
static pid_t clone_sharing(void)
{
    static _Thread_local _Alignas(16) unsigned char stack[64 << 10];
    return clone(share_memory, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
}

static pid_t spawn(void)
{
    pid_t pid = -1;
    return posix_spawn(&pid, "/bin/true", NULL, NULL, true_argv, environ) == 0 ? pid : -1;
}

static pid_t (*const ways[])(void) = {fork_allocating,  fork_nested, fork_and_exec, vfork_and_exec,
                                      vfork_allocating, spawn,       clone_sharing};

static void *fork_main(void *argument)
{
    static atomic_uint first;
    long period_us = *(const long *)argument;
    for (unsigned i = first++;; i++) {
        int status = -1;
        pid_t pid = ways[i % (sizeof ways / sizeof ways[0])]();
        if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
            WEXITSTATUS(status) == PATCHED) {
            __atomic_add_fetch(&forker.patched, 1, __ATOMIC_RELAXED);
        } else if (status != 0) {
            forker.last_failure = status;
            forker.last_way = i % (sizeof ways / sizeof ways[0]);
            __atomic_add_fetch(&forker.failures, 1, __ATOMIC_RELAXED);
        }
        __atomic_add_fetch(&forker.done, 1, __ATOMIC_RELAXED);
        if (period_us)
            usleep((useconds_t)period_us);
    }
    return NULL;
}

static void *background_main(void *unused)
{
    for (;;) {
        workload_run(&forker.background, 16, 0);
        sleep_ms(1);
    }
    return unused;
}

static pid_t fork_lingering(void)
{
    int ends[2];
    if (pipe(ends) != 0)
        _exit(97);
    pid_t pid = fork();
    if (pid != 0) {
        close(ends[0]);
        forker.alive = ends[1]; /* closed when we end, and then the child ends too */
        return pid;
    }
    close(ends[1]);
    for (;;) {
        static struct workload workload;
        workload_init(&workload, 1);
        workload_run(&workload, 100, 0);
        workload_drain(&workload);
        fd_set set;
        FD_ZERO(&set);
        FD_SET(ends[0], &set);
        struct timeval time = {0, 1000};
        if (workload.corrupt != 0 || select(ends[0] + 1, &set, NULL, NULL, &time) != 0)
            _exit(0);
    }
}

WATCHED static void *leak_parent(size_t size)
{
    void *block = malloc(size);
    KEEP(block);
    return block;
}

static void obey(const char *line)
{
    long number;
    if (is_command(line, "count", 0, &number)) {
        say("{\"progress\":%lu,\"failures\":%lu,\"last_failure\":%d,\"last_way\":%u,"
            "\"patched\":%lu,\"corrupt\":%lu}",
            __atomic_load_n(&forker.done, __ATOMIC_RELAXED),
            __atomic_load_n(&forker.failures, __ATOMIC_RELAXED), forker.last_failure,
            forker.last_way, __atomic_load_n(&forker.patched, __ATOMIC_RELAXED),
            forker.background.corrupt);
    } else if (is_command(line, "linger", 0, &number)) {
        say("{\"pid\":%d}", fork_lingering());
    } else if (is_command(line, "leak", 0, &number)) {
        for (int i = 0; i < 100; i++)
            leak_parent(10);
        say("{\"leaks\":{\"leak_parent\":{\"bytes\":1000,\"blocks\":100}}}");
    }
}

int main(int argc, char **argv)
{
    static long period_us;
    long rate = argument_or(argc, argv, 1, 50);
    period_us = rate > 0 ? 1000000 / rate : 0;
    pthread_t thread;
    workload_init(&forker.background, 1);
    if (pthread_create(&thread, NULL, background_main, NULL) != 0)
        return 1;
    for (long i = argument_or(argc, argv, 2, 1); i > 0; i--)
        if (pthread_create(&thread, NULL, fork_main, &period_us) != 0)
            return 1;
    say("{\"ready\":%d}", getpid());
    char line[128];
    while (hear(line, sizeof line))
        obey(line);
    return 0;
}
