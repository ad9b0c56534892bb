/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Dropping privileges, but for those that reports take. */
#include "privileges.h"

#include <linux/capability.h>
#include <string.h>

#include "leakwatch/base/log.h"
#include "leakwatch/base/privilege.h"
#include "leakwatch/target/process.h"

#define REOPENING LW_PRIVILEGE(CAP_DAC_OVERRIDE) /* the directory may be anyone's */
#define LOOKING   LW_PRIVILEGE(CAP_SYS_PTRACE)

void lw_privileges_drop(pid_t pid, bool reopens)
{
    struct lw_task_status status;
    int error = lw_privilege_use(UINT64_MAX, false);
    bool hidden = lw_task_status_read(pid, pid, &status) != 0;
    if (!error)
        error = lw_privilege_keep((reopens ? REOPENING : 0) | (hidden ? LOOKING : 0));
    if (!error && hidden)
        error = lw_privilege_use(LOOKING, true);
    if (error)
        lw_warn("cannot give up privileges: %s", strerror(-error));
}

uint64_t lw_privileges_take_up(void)
{
    const uint64_t taken = REOPENING & ~lw_privilege_effective();
    return lw_privilege_use(taken, true) == 0 ? taken : 0;
}

void lw_privileges_lay_down(uint64_t taken)
{
    (void)lw_privilege_use(taken, false);
}
