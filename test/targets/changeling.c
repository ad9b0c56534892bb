/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Allocates, and changes what it is and may do when told to. */
#include "target.h"
#include "workload.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/*
 * changeling [strict]   (strict: see below, at once)
 *   user      gives up root, in all threads
 *   hide      is no longer dumpable
 *   strict    one thread may make no system call but read, write and exit (seccomp), and allocates
 * on clone     starts a process that shares the memory (CLONE_VM, not CLONE_THREAD), and allocates
 *   orphan    the same, but it is nobody's child soon
 *   unclone   ends that one; answers with its rounds, those that were wrong, and the wait status
 *   count     answers with the calls so far, and blocks found changed
 */
static struct workload background;
static atomic_bool be_strict, is_strict;

/* Small blocks, which come from the thread's own lists of free ones, so that no call is made. */
static void run_small(atomic_ulong *rounds, unsigned long *wrong)
{
    unsigned char *blocks[8];
    for (size_t i = 0; i < 8; i++) {
        blocks[i] = malloc(24);
        KEEP(blocks[i]);
        memset(blocks[i], (int)i, 24);
    }
    for (size_t i = 0; i < 8; i++) {
        *wrong += blocks[i][0] != i || blocks[i][23] != i;
        free(blocks[i]);
    }
    atomic_fetch_add(rounds, 1);
}

static atomic_ulong small_rounds;
static unsigned long small_wrong;

static void *small_main(void *unused)
{
    for (;;) {
        run_small(&small_rounds, &small_wrong);
        if (atomic_load(&is_strict))
            continue;
        if (atomic_load(&be_strict)) {
            if (prctl(PR_SET_SECCOMP, 1) != 0)
                _exit(98);
            atomic_store(&is_strict, true);
        } else {
            sleep_ms(1);
        }
    }
    return unused;
}

static void *background_main(void *unused)
{
    for (;;) {
        workload_run(&background, 16, 0);
        sleep_ms(1);
    }
    return unused;
}

static void become_strict(void)
{
    atomic_store(&be_strict, true);
    while (!atomic_load(&is_strict))
        sleep_ms(1);
}

/* ---- The process that shares the memory. It has the thread-local storage of the first thread,
 * which therefore does not allocate. ---- */

static struct {
    atomic_int pid;
    atomic_bool end;
    atomic_ulong rounds;
    unsigned long wrong;
} shared;

static pid_t owner;
static _Alignas(16) unsigned char stacks[2][1 << 16];

static int sharing_main(void *unused)
{
    (void)unused;
    atomic_store(&shared.pid, (int)syscall(SYS_getpid));
    while (!atomic_load(&shared.end) && kill(owner, 0) == 0) {
        run_small(&shared.rounds, &shared.wrong);
        sleep_ms(1);
    }
    /* seen when it is written: of an orphan there is no wait status */
    atomic_store(&shared.pid, 0);
    syscall(SYS_exit, 0);
    return 0;
}

static int between_main(void *unused)
{
    (void)unused;
    clone(sharing_main, stacks[1] + sizeof stacks[1], CLONE_VM | SIGCHLD, NULL);
    syscall(SYS_exit, 0);
    return 0;
}

static pid_t child;

static void share(bool orphan)
{
    int status;
    atomic_store(&shared.end, false);
    shared.wrong = 0;
    atomic_store(&shared.rounds, 0);
    child = clone(orphan ? between_main : sharing_main, stacks[0] + sizeof stacks[0],
                  CLONE_VM | SIGCHLD, NULL);
    if (child < 0 || (orphan && waitpid(child, &status, 0) != child))
        _exit(97);
    if (orphan)
        child = 0;
    while (atomic_load(&shared.rounds) == 0)
        sleep_ms(1);
    say("{\"pid\":%d}", atomic_load(&shared.pid));
}

static void unshare_memory(void)
{
    int status = 0;
    atomic_store(&shared.end, true);
    if (child > 0 && waitpid(child, &status, 0) != child)
        status = -1;
    for (int i = 0; child == 0 && atomic_load(&shared.pid) != 0; i++) {
        if (kill(atomic_load(&shared.pid), 0) != 0 || i == 5000) {
            status = -1;
            break;
        }
        sleep_ms(1);
    }
    say("{\"rounds\":%lu,\"wrong\":%lu,\"status\":%d}", atomic_load(&shared.rounds), shared.wrong,
        status);
}

static void obey(const char *line)
{
    long number;
    if (is_command(line, "user", 0, &number)) {
        say("{\"failed\":%d}", setresgid(65534, 65534, 65534) | setresuid(65534, 65534, 65534));
    } else if (is_command(line, "hide", 0, &number)) {
        say("{\"failed\":%d}", prctl(PR_SET_DUMPABLE, 0));
    } else if (is_command(line, "strict", 0, &number)) {
        become_strict();
        say("{\"failed\":0}");
    } else if (is_command(line, "clone", 0, &number)) {
        share(false);
    } else if (is_command(line, "orphan", 0, &number)) {
        share(true);
    } else if (is_command(line, "unclone", 0, &number)) {
        unshare_memory();
    } else if (is_command(line, "count", 0, &number)) {
        say("{\"progress\":%lu,\"small\":%lu,\"corrupt\":%lu}", background.operations,
            atomic_load(&small_rounds), background.corrupt + small_wrong);
    }
}

int main(int argc, char **argv)
{
    pthread_t thread;
    owner = getpid();
    workload_init(&background, 1);
    if (pthread_create(&thread, NULL, background_main, NULL) != 0 ||
        pthread_create(&thread, NULL, small_main, NULL) != 0)
        return 1;
    if (argc > 1 && strcmp(argv[1], "strict") == 0)
        become_strict();
    say("{\"ready\":%d}", getpid());
    char line[128];
    while (hear(line, sizeof line))
        obey(line);
    return 0;
}
