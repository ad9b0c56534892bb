/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Traces a process until its input ends. */
#include "target.h"

#include <sys/ptrace.h>

/* tracer PID */
int main(int argc, char **argv)
{
    pid_t pid = (pid_t)argument_or(argc, argv, 1, 0);
    if (pid <= 0 || ptrace(PTRACE_SEIZE, pid, 0, 0) != 0)
        return 1;
    say("{\"ready\":%d}", getpid());
    char line[8];
    while (hear(line, sizeof line))
        ;
    return 0;
}
