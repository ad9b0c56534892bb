/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A thread for each blocking system call, counting what it returns and how long that took. */
#include "target.h"
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

/*
 * blocked [MS [LONG_MS]]
 *   Of a call with a time limit there are two threads: one's is so long that it never ends (or
 *   LONG_MS), the other's is MS (1000), again and again.
 *   interrupt N   sends each of these threads a caught signal: N is its number
 *   count         answers with the calls of the thread that allocates, with the caught signals, and
 *                 for each blocked thread by name with
 *                   returns   the calls that came back because their time was over
 *                   errors    those that came back with an error or for nothing; errno of the
 * latest early     those of `returns` that came back too soon late_ms   by how much the longest of
 * all calls exceeded its limit
 */
static struct workload background;
static unsigned long handled;

/* Resources; those that outlive the process are removed by the child that wait4 waits for. */
static struct {
    int semaphore, queue;
    pid_t child;
} shared;

static struct timespec to_timespec(long ms)
{
    return (struct timespec){ms / 1000, ms % 1000 * 1000000};
}

static struct timespec deadline_of(clockid_t clock, long ms)
{
    struct timespec now, time = to_timespec(ms);
    clock_gettime(clock, &now);
    time.tv_sec += now.tv_sec;
    time.tv_nsec += now.tv_nsec;
    if (time.tv_nsec >= 1000000000) {
        time.tv_sec++;
        time.tv_nsec -= 1000000000;
    }
    return time;
}

/* A call's result when it has failed, as the C library's wrappers give it. */
static int fail(int error)
{
    errno = error;
    return -1;
}

static void must(bool condition, const char *what)
{
    if (condition)
        return;
    perror(what);
    _exit(97);
}

/* ---- The calls: each sleeps for so many milliseconds, or for ever ---- */

static int block_epoll_wait(long ms)
{
    struct epoll_event event;
    int fd = epoll_create1(0);
    int result = epoll_wait(fd, &event, 1, (int)ms);
    int error = errno;
    close(fd);
    return result < 0 ? fail(error) : result;
}

static int block_epoll_pwait2(long ms)
{
    struct epoll_event event;
    struct timespec time = to_timespec(ms);
    int fd = epoll_create1(0);
    long result = syscall(SYS_epoll_pwait2, fd, &event, 1, &time, NULL, 0);
    int error = errno;
    close(fd);
    return result < 0 ? fail(error) : (int)result;
}

static int block_poll(long ms)
{
    return poll(NULL, 0, (int)ms);
}

static int block_ppoll(long ms)
{
    sigset_t set;
    struct timespec time = to_timespec(ms);
    sigemptyset(&set);
    return ppoll(NULL, 0, &time, &set);
}

static int block_select(long ms)
{
    struct timeval time = {ms / 1000, ms % 1000 * 1000};
    return select(0, NULL, NULL, NULL, &time);
}

static int block_nanosleep(long ms)
{
    struct timespec time = to_timespec(ms);
    return (int)syscall(SYS_nanosleep, &time, NULL);
}

static int block_clock_nanosleep(long ms)
{
    struct timespec time = to_timespec(ms);
    int error = clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
    return error ? fail(error) : 0;
}

static int block_clock_nanosleep_until(long ms)
{
    struct timespec time = deadline_of(CLOCK_MONOTONIC, ms);
    int error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
    return error ? fail(error) : 0;
}

static int block_sigtimedwait(long ms)
{
    struct timespec time = to_timespec(ms);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    return sigtimedwait(&set, NULL, &time);
}

static int block_semtimedop(long ms)
{
    struct timespec time = to_timespec(ms);
    struct sembuf operation = {0, -1, 0};
    return semtimedop(shared.semaphore, &operation, 1, &time);
}

static int block_semop(long ms)
{
    (void)ms;
    struct sembuf operation = {0, -1, 0};
    return semop(shared.semaphore, &operation, 1);
}

static int block_msgrcv(long ms)
{
    struct {
        long type;
        char text[8];
    } message;
    (void)ms;
    return (int)msgrcv(shared.queue, &message, sizeof message.text, 0, 0);
}

static int block_mq_timedreceive(long ms)
{
    static mqd_t queues[2] = {-1, -1};
    char text[8192], name[32];
    mqd_t *queue = &queues[ms > 60000];
    struct timespec time = deadline_of(CLOCK_REALTIME, ms);
    snprintf(name, sizeof name, "/blocked.%d.%ld", getpid(), ms);
    if (*queue == -1) {
        *queue = mq_open(name, O_RDONLY | O_CREAT, 0600, NULL);
        mq_unlink(name);
    }
    return (int)mq_timedreceive(*queue, text, sizeof text, NULL, &time);
}

static int block_recv(long ms)
{
    int ends[2];
    struct timeval time = {ms / 1000, ms % 1000 * 1000};
    char byte;
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 &&
             setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) == 0,
         "socketpair");
    ssize_t result = recv(ends[0], &byte, 1, 0);
    int error = errno;
    close(ends[0]);
    close(ends[1]);
    return result < 0 ? fail(error) : (int)result;
}

static int listening_socket(struct sockaddr_in *address)
{
    socklen_t size = sizeof *address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    *address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    must(bind(fd, (struct sockaddr *)address, size) == 0 && listen(fd, 0) == 0 &&
             getsockname(fd, (struct sockaddr *)address, &size) == 0,
         "listen");
    return fd;
}

static int block_accept(long ms)
{
    struct sockaddr_in address;
    static int fd = -1;
    (void)ms;
    if (fd < 0)
        fd = listening_socket(&address);
    return accept(fd, NULL, NULL);
}

/* Nobody accepts, and the queue is full: the connection is not even answered. */
static int block_connect(long ms)
{
    static struct sockaddr_in address;
    static int listener = -1;
    (void)ms;
    if (listener < 0) {
        listener = listening_socket(&address);
        for (int i = 0; i < 3; i++) {
            int filler = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
            (void)!connect(filler, (struct sockaddr *)&address, sizeof address);
        }
    }
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    int result = connect(fd, (struct sockaddr *)&address, sizeof address);
    int error = errno;
    close(fd);
    return result < 0 ? fail(error) : result;
}

static int block_connect_unix(long ms)
{
    static struct sockaddr_un address = {.sun_family = AF_UNIX};
    static socklen_t size;
    static int listener = -1;
    (void)ms;
    if (listener < 0) {
        /* An empty name: the kernel chooses one, of no file. */
        listener = socket(AF_UNIX, SOCK_STREAM, 0);
        size = sizeof address;
        must(bind(listener, (struct sockaddr *)&address, sizeof address.sun_family) == 0 &&
                 listen(listener, 0) == 0 &&
                 getsockname(listener, (struct sockaddr *)&address, &size) == 0,
             "bind");
        int filler = socket(AF_UNIX, SOCK_STREAM, 0);
        must(connect(filler, (struct sockaddr *)&address, size) == 0, "connect");
    }
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    int result = connect(fd, (struct sockaddr *)&address, size);
    int error = errno;
    close(fd);
    return result < 0 ? fail(error) : result;
}

static int block_futex(long ms)
{
    int word = 0;
    struct timespec time = to_timespec(ms);
    return (int)syscall(SYS_futex, &word, FUTEX_WAIT, 0, &time, NULL, 0);
}

static int block_futex_until(long ms)
{
    int word = 0;
    struct timespec time = deadline_of(CLOCK_MONOTONIC, ms);
    return (int)syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, 0, &time, NULL,
                        FUTEX_BITSET_MATCH_ANY);
}

static int block_futex_forever(long ms)
{
    static int word;
    (void)ms;
    return (int)syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static int block_io_getevents(long ms)
{
    static aio_context_t contexts[2];
    aio_context_t *context = &contexts[ms > 60000];
    struct io_event event;
    struct timespec time = to_timespec(ms);
    if (*context == 0)
        must(syscall(SYS_io_setup, 1, context) == 0, "io_setup");
    return (int)syscall(SYS_io_getevents, *context, 1, 1, &event, &time);
}

static int block_read_pipe(long ms)
{
    static int ends[2];
    char byte;
    (void)ms;
    if (ends[0] == 0)
        must(pipe(ends) == 0, "pipe");
    return (int)read(ends[0], &byte, 1);
}

static int block_read_terminal(long ms)
{
    static int terminal = -1;
    char byte;
    (void)ms;
    if (terminal < 0) {
        int master = posix_openpt(O_RDWR | O_NOCTTY);
        must(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0, "posix_openpt");
        terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
        must(terminal >= 0, "ptsname");
    }
    return (int)read(terminal, &byte, 1);
}

static int block_read_inotify(long ms)
{
    static int fd = -1;
    char event[4096];
    (void)ms;
    if (fd < 0)
        fd = inotify_init1(0);
    return (int)read(fd, event, sizeof event);
}

static int block_write_pipe(long ms)
{
    static int ends[2];
    static char bytes[1 << 16];
    (void)ms;
    if (ends[0] == 0) {
        must(pipe(ends) == 0 && fcntl(ends[1], F_SETPIPE_SZ, (int)sizeof bytes) > 0 &&
                 write(ends[1], bytes, sizeof bytes) == sizeof bytes,
             "pipe");
    }
    return (int)write(ends[1], bytes, 1);
}

static int block_flock(long ms)
{
    static int holder, fd;
    char path[64];
    (void)ms;
    if (fd == 0) {
        fd = memfd_create("lock", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        holder = open(path, O_RDWR);
        must(holder >= 0 && flock(holder, LOCK_EX) == 0, "flock");
    }
    return flock(fd, LOCK_EX);
}

static int block_wait4(long ms)
{
    int status;
    (void)ms;
    return wait4(shared.child, &status, 0, NULL);
}

static int block_pause(long ms)
{
    (void)ms;
    return pause();
}

static int block_sigsuspend(long ms)
{
    sigset_t set;
    (void)ms;
    sigemptyset(&set);
    return sigsuspend(&set);
}

/* ---- Their threads ---- */

static const struct kind {
    const char *name;
    int (*block)(long ms);
    bool timed;
    int over; /* the error that says that the time is over; 0: the result is 0 then */
} kinds[] = {
    {"epoll_wait", block_epoll_wait, true, 0},
    {"epoll_pwait2", block_epoll_pwait2, true, 0},
    {"poll", block_poll, true, 0},
    {"ppoll", block_ppoll, true, 0},
    {"select", block_select, true, 0},
    {"nanosleep", block_nanosleep, true, 0},
    {"clock_nanosleep", block_clock_nanosleep, true, 0},
    {"clock_nanosleep_until", block_clock_nanosleep_until, true, 0},
    {"sigtimedwait", block_sigtimedwait, true, EAGAIN},
    {"semtimedop", block_semtimedop, true, EAGAIN},
    {"mq_timedreceive", block_mq_timedreceive, true, ETIMEDOUT},
    {"recv", block_recv, true, EAGAIN},
    {"futex", block_futex, true, ETIMEDOUT},
    {"futex_until", block_futex_until, true, ETIMEDOUT},
    {"io_getevents", block_io_getevents, true, 0},
    {"semop", block_semop, false, 0},
    {"msgrcv", block_msgrcv, false, 0},
    {"accept", block_accept, false, 0},
    {"connect", block_connect, false, 0},
    {"connect_unix", block_connect_unix, false, 0},
    {"futex_forever", block_futex_forever, false, 0},
    {"read_pipe", block_read_pipe, false, 0},
    {"read_terminal", block_read_terminal, false, 0},
    {"read_inotify", block_read_inotify, false, 0},
    {"write_pipe", block_write_pipe, false, 0},
    {"flock", block_flock, false, 0},
    {"wait4", block_wait4, false, 0},
    {"pause", block_pause, false, 0},
    {"sigsuspend", block_sigsuspend, false, 0},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static struct call {
    const struct kind *kind;
    const char *suffix;
    long ms;
    pthread_t thread;
    unsigned long returns, errors, early;
    int last_errno;
    double late_ms;
} calls[2 * KINDS];
static unsigned call_count;

static void make_call(struct call *call)
{
    const double start = now_s();
    errno = 0;
    int result = call->kind->block(call->ms);
    const int error = result < 0 ? errno : 0;
    const double ms = (now_s() - start) * 1000;
    bool over = call->kind->timed && result <= 0 && error == call->kind->over;
    if (over) {
        call->early += ms < (double)call->ms;
        __atomic_add_fetch(&call->returns, 1, __ATOMIC_RELAXED);
    } else {
        call->last_errno = error;
        __atomic_add_fetch(&call->errors, 1, __ATOMIC_RELAXED);
    }
    if (call->kind->timed && ms - (double)call->ms > call->late_ms)
        call->late_ms = ms - (double)call->ms;
}

static void *call_main(void *argument)
{
    for (;;) {
        make_call(argument);
        void *block = malloc(100);
        KEEP(block);
        free(block);
    }
    return NULL;
}

static void add_call(const struct kind *kind, long ms, const char *suffix)
{
    struct call *call = &calls[call_count++];
    *call = (struct call){.kind = kind, .ms = ms, .suffix = suffix};
    must(pthread_create(&call->thread, NULL, call_main, call) == 0, "pthread_create");
}

static void *background_main(void *unused)
{
    for (;;) {
        workload_run(&background, 16, 0);
        sleep_ms(1);
    }
    return unused;
}

static void on_signal(int number)
{
    (void)number;
    __atomic_add_fetch(&handled, 1, __ATOMIC_RELAXED);
}

static void interrupt(int number)
{
    for (unsigned i = 0; i < call_count; i++)
        pthread_kill(calls[i].thread, number);
    say("{\"sent\":%u}", call_count);
}

/* Too long a line for say(). */
static void say_counts(void)
{
    static char text[1 << 14];
    int used = snprintf(text, sizeof text, "{\"progress\":%lu,\"corrupt\":%lu,\"handled\":%lu",
                        background.operations, background.corrupt, handled);
    used += snprintf(text + used, sizeof text - (size_t)used, ",\"calls\":{");
    for (const struct call *call = calls; call < calls + call_count; call++)
        used += snprintf(text + used, sizeof text - (size_t)used,
                         "%s\"%s%s\":{\"returns\":%lu,\"errors\":%lu,\"errno\":%d,\"early\":%lu,"
                         "\"late_ms\":%.0f}",
                         call == calls ? "" : ",", call->kind->name, call->suffix, call->returns,
                         call->errors, call->last_errno, call->early, call->late_ms);
    used += snprintf(text + used, sizeof text - (size_t)used, "}}\n");
    must(write(STDOUT_FILENO, text, (size_t)used) == used, "write");
}

/* The child holds the end of a pipe of which the other goes with us. */
static void set_up_shared(void)
{
    int ends[2];
    char byte;
    shared.semaphore = semget(IPC_PRIVATE, 1, 0600);
    shared.queue = msgget(IPC_PRIVATE, 0600);
    must(shared.semaphore >= 0 && shared.queue >= 0, "semget");
    must(pipe(ends) == 0 && (shared.child = fork()) >= 0, "fork");
    if (shared.child > 0) {
        close(ends[0]);
        return;
    }
    close(ends[1]);
    while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
        ;
    semctl(shared.semaphore, 0, IPC_RMID);
    msgctl(shared.queue, IPC_RMID, NULL);
    _exit(0);
}

/* SIGUSR1 restarts what can be restarted, SIGUSR2 nothing; the threads of which that is not asked
 * block both. SIGRTMIN is waited for, and never sent. */
static void set_up_signals(sigset_t *ours)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigset_t set;
    sigaction(SIGUSR1, &action, NULL);
    action.sa_flags = 0;
    sigaction(SIGUSR2, &action, NULL);
    signal(SIGHUP, SIG_IGN);
    signal(SIGIO, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    sigemptyset(ours);
    sigaddset(ours, SIGUSR1);
    sigaddset(ours, SIGUSR2);
}

int main(int argc, char **argv)
{
    pthread_t thread;
    sigset_t set;
    set_up_signals(&set);
    set_up_shared();
    const long ms = argument_or(argc, argv, 1, 1000);
    const long long_ms = argument_or(argc, argv, 2, 600000);
    workload_init(&background, 1);
    for (int i = 0; i < KINDS; i++) {
        add_call(&kinds[i], long_ms, "");
        if (kinds[i].timed)
            add_call(&kinds[i], ms, "/short");
    }
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    must(pthread_create(&thread, NULL, background_main, NULL) == 0, "pthread_create");
    say("{\"ready\":%d}", getpid());
    char line[128];
    while (hear(line, sizeof line)) {
        long number;
        if (is_command(line, "count", 0, &number))
            say_counts();
        else if (is_command(line, "interrupt", SIGUSR2, &number))
            interrupt((int)number);
    }
    return 0;
}
