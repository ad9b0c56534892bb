/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Why the kernel does not let us trace a process: the facts, and the sentence they make. */
#ifndef LEAKWATCH_TARGET_PERMISSION_H
#define LEAKWATCH_TARGET_PERMISSION_H

#include <stdbool.h>
#include <sys/types.h>

#include "leakwatch/base/error.h"

struct lw_permission_facts {
    pid_t pid;
    const char *name; /* of the process */
    const char *user; /* who owns it: a name, or the uid in decimal */
    uid_t uid, euid;  /* its */
    uid_t our_euid;
    bool we_can_ptrace;   /* CAP_SYS_PTRACE is in our effective set */
    bool we_can_override; /* CAP_DAC_OVERRIDE is */
    bool dumpable;        /* /proc/PID belongs to its user */
    int yama_scope;       /* kernel.yama.ptrace_scope, 0 where there is no Yama */
};

/* Pure. Never NULL. */
lw_error *lw_permission_explain(const struct lw_permission_facts *facts);

#endif
