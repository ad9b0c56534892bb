/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Becomes another program when told, from its first thread or from another one. */
#include "target.h"
#include "workload.h"

#include <pthread.h>

/*
 * execer
 *   exec      execs itself anew from the first thread
 *   thread    ... from another thread
 *   count     answers with the calls so far, in this image
 */
static struct workload background;
static const char *self;

static void *background_main(void *unused)
{
    for (;;) {
        workload_run(&background, 16, 0);
        sleep_ms(1);
    }
    return unused;
}

static void become_anew(void)
{
    char *argv[] = {(char *)"execer", (char *)"anew", NULL};
    execv(self, argv);
    _exit(97);
}

static void *exec_main(void *unused)
{
    become_anew();
    return unused;
}

int main(int argc, char **argv)
{
    static char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length < 0)
        return 1;
    path[length] = '\0';
    self = path;
    pthread_t thread;
    workload_init(&background, 1);
    if (pthread_create(&thread, NULL, background_main, NULL) != 0)
        return 1;
    say("{\"ready\":%d,\"image\":\"%s\"}", getpid(), argc > 1 ? argv[1] : "first");
    char line[128];
    while (hear(line, sizeof line)) {
        long number;
        if (is_command(line, "exec", 0, &number))
            become_anew();
        else if (is_command(line, "thread", 0, &number))
            pthread_create(&thread, NULL, exec_main, NULL);
        else if (is_command(line, "count", 0, &number))
            say("{\"progress\":%lu,\"corrupt\":%lu}", background.operations, background.corrupt);
    }
    return 0;
}
