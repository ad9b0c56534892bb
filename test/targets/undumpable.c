/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A process that nobody but root may trace. */
#include "target.h"

#include <sys/prctl.h>

int main(void)
{
    if (prctl(PR_SET_DUMPABLE, 0) != 0)
        return 1;
    say("{\"ready\":%d}", getpid());
    char line[8];
    while (hear(line, sizeof line))
        ;
    return 0;
}
