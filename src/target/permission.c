/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Explains a refused attach: which check of the kernel's it was, and what to do about it. */
#include "permission.h"

#include <errno.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/privilege.h"
#include "leakwatch/base/text.h"
#include "leakwatch/target/process.h"

static lw_error *explain_incapable(const struct lw_permission_facts *facts)
{
    int pid = (int)facts->pid;
    if (facts->our_euid == 0)
        return lw_error_create(EPERM,
                               "leakwatch runs as root but without CAP_SYS_PTRACE (containers drop "
                               "it), so it may not attach to process %d (%s): start the container "
                               "with --cap-add=SYS_PTRACE, or run leakwatch on the host",
                               pid, facts->name);
    if (facts->uid != facts->our_euid || facts->euid != facts->our_euid)
        return lw_error_create(EPERM,
                               "process %d (%s) belongs to user %s: run as root or as that user: "
                               "sudo leakwatch -p %d",
                               pid, facts->name, facts->user, pid);
    if (!facts->dumpable)
        return lw_error_create(EPERM,
                               "process %d (%s) forbids its user to trace it (it changed its "
                               "privileges or is not dumpable): run as root: sudo leakwatch -p %d",
                               pid, facts->name, pid);
    if (facts->yama_scope == 2)
        return lw_error_create(EPERM,
                               "only root may attach to processes here (kernel.yama.ptrace_scope "
                               "is 2, CAP_SYS_PTRACE is needed): sudo leakwatch -p %d",
                               pid);
    if (facts->yama_scope == 1)
        return lw_error_create(EPERM,
                               "a user may attach to child processes only "
                               "(kernel.yama.ptrace_scope is 1): sudo leakwatch -p %d, or allow it "
                               "with sudo sysctl kernel.yama.ptrace_scope=0",
                               pid);
    return lw_error_create(EPERM,
                           "the kernel does not let us attach to process %d (%s): it may hold more "
                           "privileges than we do or be in another user namespace: run as root: "
                           "sudo leakwatch -p %d",
                           pid, facts->name, pid);
}

lw_error *lw_permission_explain(const struct lw_permission_facts *facts)
{
    /* Scope 3 holds for root too, and cannot be lowered. */
    if (facts->yama_scope == 3)
        return lw_error_create(EPERM,
                               "no process may be traced on this machine until it is rebooted "
                               "(kernel.yama.ptrace_scope is 3): set it to a lower value in "
                               "/etc/sysctl.d and reboot");
    if (!facts->we_can_ptrace)
        return explain_incapable(facts);
    bool is_ours = facts->uid == facts->our_euid && facts->euid == facts->our_euid;
    if (!facts->we_can_override && (!is_ours || !facts->dumpable))
        return lw_error_create(EPERM,
                               "process %d (%s) %s, whose memory cannot be opened with "
                               "CAP_SYS_PTRACE alone: run as root: sudo leakwatch -p %d, or give "
                               "leakwatch CAP_DAC_OVERRIDE too",
                               (int)facts->pid, facts->name,
                               is_ours ? "is not dumpable" : "belongs to another user",
                               (int)facts->pid);
    return lw_error_create(EPERM,
                           "the kernel does not let us attach to process %d (%s) although we have "
                           "CAP_SYS_PTRACE: another user namespace or a security module (SELinux, "
                           "AppArmor, seccomp) forbids it: run leakwatch outside the container and "
                           "see the audit log (dmesg, journalctl)",
                           (int)facts->pid, facts->name);
}

static int yama_scope(void)
{
    lw_auto_free char *scope = lw_text_read_file("/proc/sys/kernel/yama/ptrace_scope", NULL);
    return scope != NULL ? atoi(scope) : 0;
}

/* The kernel gives /proc/PID to root when the process is not dumpable. */
static bool is_dumpable(pid_t pid, const struct lw_task_status *status)
{
    char path[64];
    struct stat owner;
    snprintf(path, sizeof(path), "/proc/%d", (int)pid);
    return stat(path, &owner) != 0 || owner.st_uid == status->euid;
}

lw_error *lw_process_explain_eperm(pid_t pid)
{
    struct lw_task_status status;
    int result = lw_task_status_read(pid, pid, &status);
    if (result == -ESRCH)
        return lw_error_create(ESRCH, "process %d has ended: nothing is left to watch", (int)pid);
    if (result != 0)
        return lw_error_create(EPERM,
                               "permission denied reading /proc/%d: run as root: sudo leakwatch "
                               "-p %d",
                               (int)pid, (int)pid);
    if (status.tracer != 0) /* since lw_process_check */
        return lw_error_create(EBUSY,
                               "process %d (%s) is traced by process %d, and a process can have "
                               "one tracer only: end that first and try again",
                               (int)pid, status.name, (int)status.tracer);
    char number[16];
    snprintf(number, sizeof(number), "%u", (unsigned)status.uid);
    const struct passwd *user = getpwuid(status.uid);
    struct lw_permission_facts facts = {
        .pid = pid,
        .name = status.name,
        .user = user != NULL ? user->pw_name : number,
        .uid = status.uid,
        .euid = status.euid,
        .our_euid = geteuid(),
        .we_can_ptrace = (lw_privilege_effective() & LW_PRIVILEGE(CAP_SYS_PTRACE)) != 0,
        .we_can_override = (lw_privilege_effective() & LW_PRIVILEGE(CAP_DAC_OVERRIDE)) != 0,
        .dumpable = is_dumpable(pid, &status),
        .yama_scope = yama_scope(),
    };
    return lw_permission_explain(&facts);
}
