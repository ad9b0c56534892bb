/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Limits of the target's memory that leave no room for the recorder. Its tables are sparse: what
 * counts address space or promises, rather than memory in use, counts all of them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/text.h"
#include "leakwatch/target/process.h"
#include "leakwatch/trace/call_filter.h"
#include "record.h"

#define NEVER_OVERCOMMIT 2 /* vm.overcommit_memory */

static bool never_overcommits(void)
{
    lw_auto_free char *text = lw_text_read_file("/proc/sys/vm/overcommit_memory", NULL);
    return text && atoi(text) == NEVER_OVERCOMMIT;
}

lw_error *record_check_limits(const struct record_engine *record)
{
    const pid_t pid = record->engine.attachment.pid;
    struct lw_task_status status;
    struct rlimit limit;
    if (lw_task_status_read(pid, pid, &status) == 0 && status.seccomp &&
        !lw_call_filter_is_visible())
        return lw_error_create(ENOTSUP, "the target filters its system calls (seccomp), and seeing "
                                        "what it allows takes CAP_SYS_ADMIN, and no such filter of "
                                        "leakwatch's own");
    /* What the recorder takes would be missing to the target. */
    if (prlimit(pid, RLIMIT_AS, NULL, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        return lw_error_create(ENOTSUP, "the target's address space is limited (RLIMIT_AS)");
    /* Where no more memory is promised than there is, a page of a shared table may be refused when
     * it is first touched, and the thread that touches it gets SIGBUS. */
    if (never_overcommits())
        return lw_error_create(ENOTSUP, "memory is never overcommitted (vm.overcommit_memory=2)");
    return NULL;
}

/* VmLck, bytes; 0 where it cannot be read. */
static uint64_t locked_bytes(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    lw_auto_free char *text = lw_text_read_file(path, NULL);
    const char *field = text ? strstr(text, "\nVmLck:") : NULL;
    return field ? strtoull(field + strlen("\nVmLck:"), NULL, 10) << 10 : 0;
}

int record_check_locked(const struct record_engine *record)
{
    return locked_bytes(record->engine.attachment.pid) >= record->span ? -ENOLCK : 0;
}
