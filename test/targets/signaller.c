/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Receives queued signals while it allocates, and checks that each came once, in order, with what
 * was sent. */
#include "target.h"
#include "workload.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/prctl.h>

/*
 * signaller
 *   queue N     another process sends N real-time signals with a payload; answers when it has
 *               sent them all
 *   received    answers with the signals received so far, and those that were wrong
 *   handler N   N signals whose handler leaks 10 bytes each, on another stack; answers with the
 * leaks jump N      N times a signal handler jumps out with siglongjmp; then 1 000 bytes are
 * leaked; answers with the leaks own-trap N  N SIGTRAPs raised for a handler of the target's own;
 * answers with those handled count       answers with the calls of the thread that allocates
 */
static struct {
    struct workload background;
    long received, wrong;
    pid_t sender;
    int to_sender, from_sender;
    long traps;
} state;

static void on_queued(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    if (info->si_code != SI_QUEUE || info->si_pid != state.sender ||
        info->si_value.sival_int != (int)state.received)
        __atomic_add_fetch(&state.wrong, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&state.received, 1, __ATOMIC_RELAXED);
}

/* The only thread that the queued signals may go to, so that their order is defined. */
static void *background_main(void *unused)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    for (;;)
        workload_run(&state.background, 64, 0);
    return unused;
}

static void send_all(pid_t to, long count, int *next)
{
    for (long i = 0; i < count; i++) {
        union sigval value = {.sival_int = (*next)++};
        while (sigqueue(to, SIGRTMIN, value) != 0) {
            if (errno != EAGAIN) /* EAGAIN: the queue is full */
                _exit(1);
            sleep_ms(1);
        }
    }
}

/* Forked before anybody watches: reads counts, sends so many signals, answers with a byte. */
static void sender_main(int input, int output)
{
    long count;
    int next = 0;
    while (read(input, &count, sizeof count) == sizeof count) {
        send_all(getppid(), count, &next);
        if (write(output, "", 1) != 1)
            break;
    }
    _exit(0);
}

static void start_sender(void)
{
    int there[2], back[2];
    if (pipe(there) != 0 || pipe(back) != 0 || (state.sender = fork()) < 0)
        _exit(97);
    if (state.sender == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sender_main(there[0], back[1]);
    }
    state.to_sender = there[1];
    state.from_sender = back[0];
}

static void queue(long count)
{
    char answer;
    if (write(state.to_sender, &count, sizeof count) != sizeof count ||
        read(state.from_sender, &answer, 1) != 1)
        _exit(97);
    say("{\"queued\":%ld}", count);
}

WATCHED static void *leak_in_handler(size_t size)
{
    void *block = malloc(size);
    KEEP(block);
    return block;
}

/* Never interrupts the allocator: its thread raises the signal itself. */
static void on_leak(int number)
{
    (void)number;
    KEEP(leak_in_handler(10));
}

static void leak_from_handlers(long count)
{
    for (long i = 0; i < count; i++)
        raise(SIGUSR2);
    say("{\"leaks\":{\"leak_in_handler\":{\"bytes\":%ld,\"blocks\":%ld}}}", count * 10, count);
}

static sigjmp_buf landing;

static void on_jump(int number)
{
    (void)number;
    void *block = malloc(64);
    KEEP(block);
    free(block);
    siglongjmp(landing, 1);
}

WATCHED static void *leak_after_jump(size_t size)
{
    void *block = malloc(size);
    KEEP(block);
    return block;
}

static void jump(long count)
{
    for (volatile long i = 0; i < count; i++)
        if (sigsetjmp(landing, 1) == 0)
            raise(SIGWINCH);
    for (int i = 0; i < 10; i++)
        KEEP(leak_after_jump(100));
    say("{\"leaks\":{\"leak_after_jump\":{\"bytes\":1000,\"blocks\":10}}}");
}

static void on_trap(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    state.traps += info->si_code == SI_TKILL;
}

static void raise_traps(long count)
{
    state.traps = 0;
    for (long i = 0; i < count; i++)
        raise(SIGTRAP);
    say("{\"traps\":%ld}", state.traps);
}

static void install(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    if (sigaction(number, &action, NULL) != 0)
        _exit(97);
}

static void set_up(void)
{
    static unsigned char alternate[1 << 16];
    stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    if (sigaltstack(&stack, NULL) != 0 || pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
        _exit(97);
    install(SIGRTMIN, on_queued, SA_RESTART);
    install(SIGTRAP, on_trap, SA_RESTART);
    struct sigaction action = {.sa_handler = on_leak, .sa_flags = SA_ONSTACK | SA_RESTART};
    struct sigaction jumping = {.sa_handler = on_jump, .sa_flags = SA_RESTART};
    if (sigaction(SIGUSR2, &action, NULL) != 0 || sigaction(SIGWINCH, &jumping, NULL) != 0)
        _exit(97);
}

static void obey(const char *line)
{
    long number;
    if (is_command(line, "queue", 10000, &number))
        queue(number);
    else if (is_command(line, "received", 0, &number))
        say("{\"received\":%ld,\"wrong\":%ld}", __atomic_load_n(&state.received, __ATOMIC_RELAXED),
            __atomic_load_n(&state.wrong, __ATOMIC_RELAXED));
    else if (is_command(line, "handler", 100, &number))
        leak_from_handlers(number);
    else if (is_command(line, "jump", 100, &number))
        jump(number);
    else if (is_command(line, "own-trap", 100, &number))
        raise_traps(number);
    else if (is_command(line, "count", 0, &number))
        say("{\"progress\":%lu,\"corrupt\":%lu}", state.background.operations,
            state.background.corrupt);
}

int main(void)
{
    start_sender();
    set_up();
    workload_init(&state.background, 1);
    pthread_t thread;
    if (pthread_create(&thread, NULL, background_main, NULL) != 0)
        return 1;
    say("{\"ready\":%d}", getpid());
    char line[128];
    while (hear(line, sizeof line))
        obey(line);
    return 0;
}
