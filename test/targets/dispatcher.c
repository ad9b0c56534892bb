/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One thread that allocates, and has its system calls turned into SIGSYS meanwhile (syscall user
 * dispatch), as Wine does while Windows code runs. Each line is answered with the rounds so far,
 * and with the calls that it has not made itself. */
#include "target.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
enum { OFF = 0, ON = 1, ALLOW = 0, BLOCK = 1 }; /* linux/prctl.h */

static volatile char selector = ALLOW;
static volatile unsigned long foreign;

static void handle(int number)
{
    (void)number;
    selector = ALLOW; /* for the return from here */
    foreign++;
}

/* Small blocks, for which the allocator makes no call. */
static void work(void)
{
    selector = BLOCK;
    for (int i = 0; i < 500 && selector == BLOCK; i++) {
        void *block = malloc(24);
        KEEP(block);
        free(block);
    }
    selector = ALLOW;
}

int main(void)
{
    const struct sigaction action = {.sa_handler = handle};
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    unsigned long rounds = 0;
    char line[64];
    void *first = malloc(24); /* makes the allocator get its memory */
    KEEP(first);
    free(first);
    bool can = sigaction(SIGSYS, &action, NULL) == 0 &&
               prctl(PR_SET_SYSCALL_USER_DISPATCH, ON, 0, 0, &selector) == 0;
    say("{\"can\":%s}", can ? "true" : "false");
    for (;; rounds++) {
        work();
        if (poll(&input, 1, 0) == 0)
            continue;
        if (!hear(line, sizeof line))
            return 0;
        say("{\"progress\":%lu,\"foreign\":%lu}", rounds, foreign);
    }
}
