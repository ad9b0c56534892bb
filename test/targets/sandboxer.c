/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Allocates, with filters for its system calls: sandboxer [worker|filtered|hardened|asleep]
 *   worker    a second thread would be killed for any mapping
 *   filtered  all threads would, from the start
 *   hardened  all would be for what a service of systemd's is forbidden (SystemCallFilter=,
 *             MemoryDenyWriteExecute=), by several filters
 *   asleep    all would be for restart_syscall, which a stop has the kernel make for those that
 *             sleep for a while, as one here does all the time
 * Commands: filter (as with filtered), harden (as with hardened), count. */
#include "target.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static atomic_long progress;

static void install(struct sock_filter *code, unsigned short length, unsigned flags)
{
    const struct sock_fprog program = {length, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) != 0)
        _exit(98);
}

static void filter(unsigned flags)
{
    static struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_munmap, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_create, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigaction, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    install(code, sizeof code / sizeof code[0], flags);
}

static void harden(void)
{
    static struct sock_filter architecture[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    static struct sock_filter calls[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ptrace, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mount, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bpf, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, SYS_clone3 + 20, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    static struct sock_filter writable_code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, PROT_WRITE | PROT_EXEC),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PROT_WRITE | PROT_EXEC, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    install(architecture, sizeof architecture / sizeof architecture[0], SECCOMP_FILTER_FLAG_TSYNC);
    install(calls, sizeof calls / sizeof calls[0], SECCOMP_FILTER_FLAG_TSYNC);
    install(writable_code, sizeof writable_code / sizeof writable_code[0],
            SECCOMP_FILTER_FLAG_TSYNC);
}

static void forbid_restarts(void)
{
    static struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_restart_syscall, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    install(code, sizeof code / sizeof code[0], SECCOMP_FILTER_FLAG_TSYNC);
}

static void *fall_asleep(void *begun)
{
    atomic_store((atomic_bool *)begun, true);
    for (;;)
        sleep_ms(100);
    return NULL;
}

static void *wait_filtered(void *begun)
{
    filter(0);
    atomic_store((atomic_bool *)begun, true);
    for (;;)
        sleep_ms(100);
    return NULL;
}

/* In a system call that a thread had better not be interrupted in. */
static void wait_elsewhere(int fd, int ms)
{
    struct epoll_event event = {.events = EPOLLIN};
    int set = epoll_create1(EPOLL_CLOEXEC);
    if (fd >= 0)
        epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    while (epoll_wait(set, &event, 1, ms) < 0)
        _exit(97);
    close(set);
}

static void *work(void *unused)
{
    for (;; atomic_fetch_add(&progress, 1)) {
        void *block = malloc(100);
        KEEP(block);
        free(block);
        wait_elsewhere(-1, 10);
    }
    return unused;
}

int main(int argc, char **argv)
{
    char line[64];
    long unused;
    pthread_t thread;
    const char *kind = argc > 1 ? argv[1] : "";
    const bool sleeps = strcmp(kind, "asleep") == 0;
    atomic_bool begun = strcmp(kind, "worker") != 0 && !sleeps;
    if (pthread_create(&thread, NULL, work, NULL) != 0 ||
        (!begun &&
         pthread_create(&thread, NULL, sleeps ? fall_asleep : wait_filtered, &begun) != 0))
        return 1;
    while (!atomic_load(&begun) || atomic_load(&progress) == 0) /* its own mappings are made */
        sleep_ms(1);
    if (strcmp(kind, "filtered") == 0)
        filter(SECCOMP_FILTER_FLAG_TSYNC);
    if (strcmp(kind, "hardened") == 0)
        harden();
    if (sleeps)
        forbid_restarts();
    say("{\"pid\":%d}", (int)getpid());
    for (;;) {
        wait_elsewhere(STDIN_FILENO, -1);
        if (!hear(line, sizeof line))
            break;
        if (is_command(line, "filter", 0, &unused))
            filter(SECCOMP_FILTER_FLAG_TSYNC);
        if (is_command(line, "harden", 0, &unused))
            harden();
        say("{\"progress\":%ld}", atomic_load(&progress));
    }
    return 0;
}
