/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Child processes whose threads are borrowed for system calls, and what they notice of it. */
#ifndef LEAKWATCH_TEST_REMOTE_CHILD_H
#define LEAKWATCH_TEST_REMOTE_CHILD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/rseq.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "leakwatch/base/clock.h"
#include "leakwatch/target/process.h"
#include "leakwatch/trace/remote_call.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define REPETITIONS   (one_by_one ? 40 : 160)
#define NAP_NS        (3 * (long)LW_NS_PER_MS)

/* Makes calls one by one, as where no signal can end the program that makes them at one go. */
static bool one_by_one;

/* What the test and its child share. */
static struct board {
    _Atomic unsigned rounds, errors, line, code; /* code: errno of the latest error */
    _Atomic unsigned handled, queued;            /* signals */
    _Atomic unsigned word;                       /* a futex that nobody wakes */
    _Atomic int order;                           /* from the test to the child */
    _Atomic unsigned borrowed;                   /* how often, so far */
} * board;

static int wake_fd, pipe_fds[2], semaphores = -1;

/* ---- The child ---- */

static inline void note_error(unsigned line)
{
    board->code = (unsigned)errno;
    board->line = line;
    board->errors++;
}
#define EXPECT(condition) ((condition) ? (void)0 : note_error(__LINE__))

/* The result of a call that may only fail with EINTR when a handler has run meanwhile. */
#define EXPECT_OR_SIGNAL(before, condition)                                                        \
    EXPECT((condition) || (errno == EINTR && board->handled != (before)))

static inline void nap_in_epoll(void)
{
    static _Thread_local int epoll = -1;
    if (epoll < 0)
        epoll = epoll_create1(0);
    struct epoll_event event;
    unsigned before = board->handled;
    EXPECT_OR_SIGNAL(before, epoll_wait(epoll, &event, 1, 3) == 0);
}

/* Forever, until the test writes to the event. */
static inline void wait_in_epoll(void)
{
    static _Thread_local int epoll = -1;
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll < 0) {
        epoll = epoll_create1(0);
        epoll_ctl(epoll, EPOLL_CTL_ADD, wake_fd, &event);
    }
    uint64_t value;
    unsigned before = board->handled;
    int result = epoll_wait(epoll, &event, 1, -1);
    EXPECT_OR_SIGNAL(before, result == 1);
    if (result == 1)
        EXPECT(read(wake_fd, &value, sizeof(value)) == sizeof(value));
}

static inline void nap_in_nanosleep(void)
{
    const struct timespec nap = {.tv_nsec = NAP_NS};
    uint64_t start = lw_clock_now();
    unsigned before = board->handled;
    int result = nanosleep(&nap, NULL);
    EXPECT_OR_SIGNAL(before, result == 0);
    EXPECT(result != 0 || lw_clock_now() - start >= NAP_NS);
}

static inline void nap_in_poll(void)
{
    struct pollfd fd = {.fd = pipe_fds[0], .events = POLLPRI};
    unsigned before = board->handled;
    EXPECT_OR_SIGNAL(before, poll(&fd, 1, 3) == 0);
}

static inline void nap_in_ppoll(void)
{
    struct timespec nap = {.tv_nsec = NAP_NS};
    sigset_t none;
    sigemptyset(&none);
    unsigned before = board->handled;
    EXPECT_OR_SIGNAL(before, ppoll(NULL, 0, &nap, &none) == 0);
}

static inline void nap_in_futex(void)
{
    const struct timespec nap = {.tv_nsec = NAP_NS};
    unsigned before = board->handled;
    long result = syscall(SYS_futex, &board->word, FUTEX_WAIT, 0, &nap, NULL, 0);
    EXPECT_OR_SIGNAL(before, result == -1 && errno == ETIMEDOUT);
}

/* What the test writes is numbered. */
static inline void read_from_pipe(void)
{
    static unsigned expected;
    unsigned value;
    unsigned before = board->handled;
    ssize_t n = read(pipe_fds[0], &value, sizeof(value));
    EXPECT_OR_SIGNAL(before, n == sizeof(value));
    if (n == sizeof(value))
        EXPECT(value == expected++);
}

static inline void nap_in_semop(void)
{
    struct sembuf take = {.sem_num = 0, .sem_op = -1};
    const struct timespec nap = {.tv_nsec = NAP_NS};
    unsigned before = board->handled;
    EXPECT_OR_SIGNAL(before, semtimedop(semaphores, &take, 1, &nap) == -1 && errno == EAGAIN);
}

static inline void nap_in_sigtimedwait(void)
{
    const struct timespec nap = {.tv_nsec = NAP_NS};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    unsigned before = board->handled;
    EXPECT_OR_SIGNAL(before, sigtimedwait(&set, NULL, &nap) == -1 && errno == EAGAIN);
}

/* The signals are blocked but here. */
static inline void wait_in_sigsuspend(void)
{
    sigset_t set;
    sigemptyset(&set);
    unsigned before = board->handled;
    EXPECT_OR_SIGNAL(before, sigsuspend(&set) == 0);
}

/* A function without calls keeps its variables in the red zone. */
__attribute__((noipa)) static uint64_t checksum(uint64_t n)
{
    volatile uint64_t a = 1, b = 2, c = 3;
    for (uint64_t i = 0; i < n; i++) {
        a = a * 6364136223846793005u + b;
        b = b ^ (a >> 13) ^ c;
        c = c + (b << 7) + i;
    }
    return a ^ b ^ c;
}

static inline void compute(void)
{
    static _Atomic uint64_t first;
    uint64_t sum = checksum(20000);
    if (first == 0)
        first = sum;
    EXPECT(sum == first);
}

/*
 * A restartable sequence that takes long: it reads board->borrowed at its start and at its end, and
 * is aborted by the kernel when anything comes between. So it never ends with two different values.
 */
static inline void run_restartable_sequence(void)
{
    if (__rseq_size == 0)
        return;
    struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
    unsigned first, last;
    __asm__ volatile(".pushsection rseq_sections, \"aw\"\n"
                     ".balign 32\n"
                     "3: .long 0, 0\n"
                     ".quad 1f, 2f - 1f, 4f\n"
                     ".popsection\n"
                     ".pushsection rseq_aborts, \"ax\"\n"
                     ".long %c[signature]\n"
                     "4: xor %[first], %[first]\n"
                     "xor %[last], %[last]\n"
                     "jmp 6f\n"
                     ".popsection\n"
                     "lea 3b(%%rip), %%rax\n"
                     "mov %%rax, %[section]\n"
                     "1: mov %[borrowed], %[first]\n"
                     "mov $200000, %%ecx\n"
                     "5: dec %%ecx\n"
                     "jnz 5b\n"
                     "mov %[borrowed], %[last]\n"
                     "2:\n"
                     "6:\n"
                     : [first] "=&r"(first), [last] "=&r"(last), [section] "=m"(area->rseq_cs)
                     : [borrowed] "m"(board->borrowed), [signature] "i"(RSEQ_SIG)
                     : "rax", "rcx", "memory", "cc");
    EXPECT(first == last);
}

static void on_user_signal(int signal)
{
    (void)signal;
    board->handled++;
}

/* Queued signals come in their order, all of them. */
static void on_queued_signal(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    EXPECT((unsigned)info->si_value.sival_int == board->queued);
    board->queued++;
    board->handled++;
}

static inline void handle_signals(void)
{
    if (one_by_one) {
        signal(SIGURG, on_user_signal); /* SIGWINCH is blocked */
        signal(SIGCHLD, on_user_signal);
    }
    struct sigaction user = {.sa_handler = on_user_signal};
    struct sigaction queued = {.sa_sigaction = on_queued_signal, .sa_flags = SA_SIGINFO};
    sigaddset(&queued.sa_mask, SIGUSR1);
    sigaction(SIGUSR1, &user, NULL);
    sigaction(SIGRTMIN, &queued, NULL);
}

static inline uint64_t current_mask(void)
{
    uint64_t mask = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &mask, sizeof(mask));
    return mask;
}

static inline _Noreturn void repeat(void (*body)(void))
{
    const uint64_t mask = current_mask();
    for (;;) {
        body();
        EXPECT(current_mask() == mask);
        board->rounds++;
    }
}

static inline void *repeat_in_thread(void *argument)
{
    void (*body)(void) = *(void (**)(void))argument;
    repeat(body);
}

/* ---- The test's side ---- */

struct fixture {
    pid_t child;
    struct lw_process_memory memory;
    struct lw_module_table *modules;
    struct lw_breakpoint_table *breakpoints;
    struct lw_tracer tracer;
    struct lw_remote_code code;
    unsigned queued, written;
    unsigned random;
};

/* Runs the bodies in a child, the first in its main thread. */
static inline void fixture_fork(struct fixture *fixture, void (*const bodies[])(void),
                                unsigned count)
{
    memset(board, 0, sizeof(*board));
    fixture->child = fork();
    assert_true(fixture->child >= 0);
    if (fixture->child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(55);
        sigset_t set;
        sigemptyset(&set);
        if (bodies[0] == wait_in_sigsuspend) {
            sigaddset(&set, SIGUSR1);
            sigaddset(&set, SIGRTMIN);
        }
        sigaddset(&set, SIGWINCH);
        sigprocmask(SIG_SETMASK, &set, NULL);
        handle_signals();
        pthread_t thread;
        for (unsigned i = 1; i < count; i++)
            pthread_create(&thread, NULL, repeat_in_thread, (void *)&bodies[i]);
        board->rounds++;
        repeat(bodies[0]);
    }
    while (board->rounds == 0)
        usleep(100);
}

static inline void fixture_attach(struct fixture *fixture)
{
    assert_null(lw_process_memory_init(&fixture->memory, fixture->child));
    fixture->modules = lw_module_table_create(fixture->child, &fixture->memory.memory);
    assert_non_null(fixture->modules);
    assert_int_equal(lw_module_table_refresh(fixture->modules, NULL), 0);
    fixture->breakpoints = lw_breakpoint_table_create(&fixture->memory.memory, fixture->modules);
    assert_non_null(fixture->breakpoints);
    lw_tracer_init(&fixture->tracer, fixture->child, fixture->breakpoints);
    assert_null(lw_tracer_seize(&fixture->tracer));
    assert_int_equal(lw_remote_code_find(&fixture->code, fixture->modules), 0);
    assert_true(fixture->code.call != 0 && fixture->code.sigreturn != 0);
}

static inline void fixture_detach(struct fixture *fixture)
{
    lw_tracer_deinit(&fixture->tracer);
    lw_breakpoint_table_destroy(fixture->breakpoints);
    lw_module_table_destroy(fixture->modules);
    lw_process_memory_deinit(&fixture->memory);
}

/* A tracer that has ended lets go of a tracee a little later than others can see it end, and the
 * tracee needs a processor to go back to what it was doing or to its stop. */
static inline void await_untraced(const struct fixture *fixture)
{
    struct lw_task_status status = {.tracer = 1};
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(lw_task_status_read(fixture->child, fixture->child, &status), 0);
        if (status.tracer == 0 && status.state != 't')
            return;
        usleep(1000);
    }
    fail_msg("traced by %d, in state %c", (int)status.tracer, status.state);
}

/* Runs a tracer's life on a thread of its own: its end is that of a tracer that was killed. A body
 * returns NULL, or what has failed. */
static inline void run_in_thread(struct fixture *fixture, void *(*body)(void *))
{
    pthread_t thread;
    void *fault;
    assert_int_equal(pthread_create(&thread, NULL, body, fixture), 0);
    pthread_join(thread, &fault);
    if (fault)
        fail_msg("%s", (const char *)fault);
    await_untraced(fixture);
}

/* Handles stops for so long, or until *counter (may be NULL) has reached the goal. */
static inline bool pump(struct fixture *fixture, unsigned ms, _Atomic unsigned *counter,
                        unsigned goal)
{
    uint64_t deadline = lw_clock_now() + ms * LW_NS_PER_MS;
    while (lw_clock_now() < deadline) {
        if (counter && (int)(*counter - goal) >= 0)
            return true;
        struct lw_stop stop = lw_tracer_next(&fixture->tracer, lw_clock_now() + LW_NS_PER_MS / 5);
        lw_tracer_dispatch(&fixture->tracer, &stop);
    }
    return !counter;
}

static inline void fixture_kill(struct fixture *fixture)
{
    kill(fixture->child, SIGKILL);
    uint64_t deadline = lw_clock_now() + 5 * LW_NS_PER_SECOND;
    while (lw_clock_now() < deadline) {
        struct lw_stop stop = lw_tracer_next(&fixture->tracer, lw_clock_now() + 10 * LW_NS_PER_MS);
        if (lw_tracer_dispatch(&fixture->tracer, &stop) != LW_TRACE_GOES_ON)
            break;
    }
    fixture_detach(fixture);
}

static inline char task_state(pid_t pid)
{
    struct lw_task_status status;
    return lw_task_status_read(pid, pid, &status) == 0 ? status.state : '?';
}

static inline void expect_no_harm(const char *name)
{
    if (board->errors != 0)
        fail_msg("%s: %u errors, the latest on line %u with errno %u", name, board->errors,
                 board->line, board->code);
}

static inline struct lw_remote_call *begin(struct fixture *fixture)
{
    struct lw_remote_call *call = NULL;
    assert_int_equal(lw_remote_call_begin(&fixture->tracer, &fixture->code, &call), 0);
    return call;
}

static inline int64_t make(struct lw_remote_call *call, long number, uint64_t a, uint64_t b,
                           uint64_t c, uint64_t d)
{
    const uint64_t arguments[6] = {a, b, c, d, UINT64_MAX, 0};
    int64_t result = 0;
    assert_int_equal(lw_remote_call_make(call, number, arguments, &result), 0);
    return result;
}

static inline void end(struct lw_remote_call *call)
{
    uint64_t pause_ns = 0;
    assert_int_equal(lw_remote_call_end(call, &pause_ns), 0);
    assert_in_range(pause_ns, 1, 20 * LW_NS_PER_SECOND);
}

/* Lets the child's main thread go to sleep, mostly. */
static inline void await_sleep(struct fixture *fixture)
{
    for (int i = 0; i < 20 && task_state(fixture->child) != 'S'; i++)
        usleep(50);
}

static inline void expect_calls(struct fixture *fixture, struct lw_remote_call *call)
{
    int64_t pid = make(call, SYS_getpid, 0, 0, 0, 0);
    assert_int_equal(pid, fixture->child);
    int64_t page =
        make(call, SYS_mmap, 0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    uint64_t word = 1;
    assert_true(page > 0);
    struct lw_memory *memory = &fixture->memory.memory;
    assert_int_equal(lw_memory_read_all(memory, (uint64_t)page + 8184, &word, sizeof(word)), 0);
    assert_int_equal(word, 0);
    assert_int_equal(make(call, SYS_munmap, (uint64_t)page, 8192, 0, 0), 0);
    assert_int_equal(lw_memory_read_all(memory, (uint64_t)page, &word, sizeof(word)), -EFAULT);
    assert_int_equal(make(call, SYS_munmap, 1, 8192, 0, 0), -EINVAL);
}

/* What a thread that waits for the test waits for. */
static inline void feed(struct fixture *fixture, void (*body)(void))
{
    uint64_t one = 1;
    if (body == wait_in_epoll)
        assert_int_equal(write(wake_fd, &one, sizeof(one)), sizeof(one));
    else if (body == read_from_pipe)
        assert_int_equal(write(pipe_fds[1], &fixture->written, sizeof(fixture->written)),
                         sizeof(fixture->written));
    else
        return;
    fixture->written++;
}

static const struct kind {
    const char *name;
    void (*body)(void);
} kinds[] = {
    {"running", compute},
    {"epoll_wait", wait_in_epoll},
    {"epoll_wait with a limit", nap_in_epoll},
    {"nanosleep", nap_in_nanosleep},
    {"poll", nap_in_poll},
    {"ppoll", nap_in_ppoll},
    {"futex", nap_in_futex},
    {"read", read_from_pipe},
    {"semtimedop", nap_in_semop},
    {"sigtimedwait", nap_in_sigtimedwait},
};

static inline void start(struct fixture *fixture, const struct kind *kind)
{
    *fixture = (struct fixture){.random = 1};
    fixture_fork(fixture, &kind->body, 1);
    fixture_attach(fixture);
}

static inline int setup_board(void **state)
{
    static struct fixture fixture;
    (void)state;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    board = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    wake_fd = eventfd(0, EFD_CLOEXEC);
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    *state = &fixture;
    return board == MAP_FAILED || wake_fd < 0 || pipe2(pipe_fds, O_CLOEXEC) != 0;
}

static inline int teardown_board(void **state)
{
    (void)state;
    if (semaphores >= 0)
        semctl(semaphores, 0, IPC_RMID);
    return munmap(board, 4096);
}

#endif
