/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Threads blocked in system calls that an attach may disturb, each counting the errors it sees. */
#include "target.h"
#include "workload.h"

#include <errno.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>

/*
 * sleeper
 *   count    answers with the calls of the thread that allocates, and with the errors of each
 *            blocked thread by name (only those that are not zero)
 */
static struct workload background;

static int block_epoll_wait(void)
{
    int fd = epoll_create1(0);
    struct epoll_event event;
    int result = epoll_wait(fd, &event, 1, 600000);
    close(fd);
    return result;
}

static int block_poll(void)
{
    return poll(NULL, 0, 600000);
}

static int block_select(void)
{
    struct timeval time = {600, 0};
    return select(0, NULL, NULL, NULL, &time);
}

static int block_nanosleep(void)
{
    struct timespec time = {600, 0};
    return nanosleep(&time, NULL);
}

static int block_clock_nanosleep(void)
{
    struct timespec time = {600, 0};
    errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
    return errno ? -1 : 0;
}

static int block_sigtimedwait(void)
{
    struct timespec time = {600, 0};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    return sigtimedwait(&set, NULL, &time);
}

static int block_semop(void)
{
    int id = semget(IPC_PRIVATE, 1, 0600);
    struct sembuf operation = {0, -1, 0};
    semctl(id, 0, SETVAL, 0);
    int result = semop(id, &operation, 1);
    int error = errno;
    semctl(id, 0, IPC_RMID);
    errno = error;
    return result;
}

static int block_msgrcv(void)
{
    int id = msgget(IPC_PRIVATE, 0600);
    struct {
        long type;
        char text[8];
    } message;
    ssize_t result = msgrcv(id, &message, sizeof message.text, 0, 0);
    int error = errno;
    msgctl(id, IPC_RMID, NULL);
    errno = error;
    return (int)result;
}

static int block_recv_timed(void)
{
    int ends[2];
    struct timeval time = {600, 0};
    char byte;
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0 ||
        setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) != 0)
        return -1;
    return (int)recv(ends[0], &byte, 1, 0);
}

static int block_accept(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 1) != 0)
        return -1;
    return accept(fd, NULL, NULL);
}

static int block_futex(void)
{
    int word = 0;
    struct timespec time = {600, 0};
    return (int)syscall(SYS_futex, &word, FUTEX_WAIT, 0, &time, NULL, 0);
}

static int block_read(void)
{
    int ends[2];
    char byte;
    if (pipe(ends) != 0)
        return -1;
    return (int)read(ends[0], &byte, 1);
}

static struct call {
    const char *name;
    int (*block)(void);
    unsigned long errors;
    int last_errno;
} calls[] = {
    {"epoll_wait", block_epoll_wait, 0, 0},
    {"poll", block_poll, 0, 0},
    {"select", block_select, 0, 0},
    {"nanosleep", block_nanosleep, 0, 0},
    {"clock_nanosleep", block_clock_nanosleep, 0, 0},
    {"sigtimedwait", block_sigtimedwait, 0, 0},
    {"semop", block_semop, 0, 0},
    {"msgrcv", block_msgrcv, 0, 0},
    {"recv", block_recv_timed, 0, 0},
    {"accept", block_accept, 0, 0},
    {"futex", block_futex, 0, 0},
    {"read", block_read, 0, 0},
};
enum { CALLS = sizeof calls / sizeof calls[0] };

static void *call_main(void *argument)
{
    struct call *call = argument;
    for (;;) {
        if (call->block() < 0)
            call->last_errno = errno;
        __atomic_add_fetch(&call->errors, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void *background_main(void *unused)
{
    for (;;) {
        workload_run(&background, 16, 0);
        sleep_ms(1);
    }
    return unused;
}

static void say_errors(void)
{
    char text[2048] = "";
    size_t used = 0;
    for (int i = 0; i < CALLS; i++)
        if (calls[i].errors)
            used += (size_t)snprintf(text + used, sizeof text - used,
                                     "%s\"%s\":{\"errors\":%lu,\"errno\":%d}", used ? "," : "",
                                     calls[i].name, calls[i].errors, calls[i].last_errno);
    say("{\"progress\":%lu,\"disturbed\":{%s},\"corrupt\":%lu}", background.operations, text,
        background.corrupt);
}

int main(void)
{
    pthread_t thread;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    workload_init(&background, 1);
    for (int i = 0; i < CALLS; i++)
        if (pthread_create(&thread, NULL, call_main, &calls[i]) != 0)
            return 1;
    if (pthread_create(&thread, NULL, background_main, NULL) != 0)
        return 1;
    say("{\"ready\":%d}", getpid());
    char line[128];
    while (hear(line, sizeof line)) {
        long number;
        if (is_command(line, "count", 0, &number))
            say_errors();
    }
    return 0;
}
