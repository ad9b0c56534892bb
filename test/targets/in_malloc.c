/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Is interrupted inside its allocator, by a signal handler that takes long and allocates, too:
 * in_malloc [alternate|same]: its stack. Commands: begin (the next allocation is interrupted), end
 * (the handler returns), fork (the handler of the next one forks, and both return; answers with the
 * child's wait status), count. */
#include "target.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define STACK_SIZE (64 << 10)
#define LEAK_SIZE  200

static atomic_bool asked, within, ended, asked_to_fork;
static atomic_int fork_status;
static bool is_child;
static atomic_long progress, freed;

WATCHED static void leak_in_handler(void)
{
    void *block = malloc(LEAK_SIZE);
    KEEP(block);
}

static void fork_here(void)
{
    int status = -1;
    pid_t pid = fork();
    is_child = pid == 0;
    if (is_child)
        return;
    if (waitpid(pid, &status, 0) != pid)
        status = -1;
    atomic_store(&fork_status, status);
    atomic_store(&asked_to_fork, false);
}

static void handle(int number)
{
    (void)number;
    if (atomic_load(&asked_to_fork)) {
        fork_here();
        return;
    }
    leak_in_handler();
    atomic_store(&within, true);
    while (!atomic_load(&ended))
        sleep_ms(1);
    atomic_store(&within, false);
}

/* A signal whose frame has nothing left of what the callers had in registers. */
WATCHED static void interrupt(void)
{
    register long r8 __asm__("r8") = 0, r9 __asm__("r9") = 0, r10 __asm__("r10") = 0;
    register long rbx __asm__("rbx") = 0, r12 __asm__("r12") = 0, r13 __asm__("r13") = 0;
    register long r14 __asm__("r14") = 0, r15 __asm__("r15") = 0;
    long result = SYS_tkill;
    __asm__ volatile("syscall"
                     : "+a"(result), "+r"(r8), "+r"(r9), "+r"(r10), "+r"(rbx), "+r"(r12), "+r"(r13),
                       "+r"(r14), "+r"(r15)
                     : "D"(gettid()), "S"(SIGUSR1), "d"(0)
                     : "rcx", "r11", "memory");
}

/* An allocator that gets it; gives the same addresses away again and again, but for the leak. */
WATCHED void *malloc(size_t size)
{
    static _Alignas(16) unsigned char arena[16 << 10], leaked[LEAK_SIZE];
    static atomic_size_t used;
    if (atomic_exchange(&asked, false))
        interrupt();
    if (size == LEAK_SIZE)
        return leaked;
    size_t start = atomic_fetch_add(&used, (size + 15) & ~(size_t)15) % (sizeof arena / 2);
    return size <= sizeof arena / 2 ? arena + start : NULL;
}

WATCHED void free(void *block)
{
    atomic_fetch_add(&freed, block != NULL);
}

/* Between pages that are nobody's. */
static void prepare_handler(int flags)
{
    unsigned char *pages =
        mmap(NULL, 3 * STACK_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + STACK_SIZE, STACK_SIZE, PROT_READ | PROT_WRITE))
        _exit(98);
    const stack_t stack = {.ss_sp = pages + STACK_SIZE, .ss_size = STACK_SIZE};
    const struct sigaction action = {.sa_handler = handle, .sa_flags = flags | SA_RESTART};
    if (sigaltstack(&stack, NULL) != 0 || sigaction(SIGUSR1, &action, NULL) != 0)
        _exit(98);
}

static void *work(void *flags)
{
    int rounds = 0;
    prepare_handler(*(int *)flags);
    for (;; atomic_fetch_add(&progress, 1)) {
        void *block = malloc(100);
        KEEP(block);
        free(block);
        sleep_ms(1);
        if (is_child && ++rounds == 10)
            _exit(0);
    }
    return flags;
}

int main(int argc, char **argv)
{
    int flags = argc > 1 && strcmp(argv[1], "same") == 0 ? 0 : SA_ONSTACK;
    char line[64];
    long unused;
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, &flags) != 0)
        return 1;
    say("{\"pid\":%d}", (int)getpid());
    while (hear(line, sizeof line)) {
        if (is_command(line, "begin", 0, &unused)) {
            atomic_store(&asked, true);
            while (!atomic_load(&within))
                sleep_ms(1);
        } else if (is_command(line, "end", 0, &unused)) {
            atomic_store(&ended, true);
            while (atomic_load(&within))
                sleep_ms(1);
        }
        if (is_command(line, "fork", 0, &unused)) {
            atomic_store(&asked_to_fork, true);
            atomic_store(&asked, true);
            while (atomic_load(&asked_to_fork))
                sleep_ms(1);
        }
        say("{\"progress\":%ld,\"status\":%d}", atomic_load(&progress), atomic_load(&fork_status));
    }
    return 0;
}
