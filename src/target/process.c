/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads what /proc tells of a process, and refuses those that cannot be watched. */
#include "leakwatch/target/process.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/text.h"

#define PF_KTHREAD 0x00200000u /* include/linux/sched.h */

/* The text behind "KEY:" and its blanks at the start of a line, or NULL. */
static const char *find_field(const char *text, const char *key)
{
    size_t length = strlen(key);
    for (const char *line = text; *line != '\0';) {
        if (strncmp(line, key, length) == 0 && line[length] == ':') {
            line += length + 1;
            return line + strspn(line, " \t");
        }
        const char *end = strchrnul(line, '\n');
        line = *end == '\n' ? end + 1 : end;
    }
    return NULL;
}

static uint64_t number_field(const char *text, const char *key, int base)
{
    const char *field = find_field(text, key);
    return field != NULL ? strtoull(field, NULL, base) : 0;
}

/* The kernel escapes newline and backslash in the name here (and nowhere else). */
static void copy_name(const char *field, char name[static 16])
{
    size_t length = 0;
    for (const char *p = field; *p != '\0' && *p != '\n' && length < 15; p++) {
        if (p[0] == '\\' && (p[1] == 'n' || p[1] == '\\')) {
            p++;
            name[length++] = *p == 'n' ? '\n' : '\\';
        } else {
            name[length++] = *p;
        }
    }
    name[length] = '\0';
}

int lw_task_status_parse(struct lw_task_status *status, const char *text)
{
    *status = (struct lw_task_status){0};
    const char *name = find_field(text, "Name");
    const char *state = find_field(text, "State");
    const char *uid = find_field(text, "Uid");
    if (name == NULL || state == NULL || uid == NULL || !isalpha((unsigned char)*state) ||
        find_field(text, "Tgid") == NULL)
        return -EINVAL;
    copy_name(name, status->name);
    status->state = *state;
    char *effective;
    status->uid = (uid_t)strtoul(uid, &effective, 10);
    status->euid = (uid_t)strtoul(effective, NULL, 10);
    status->tgid = (pid_t)number_field(text, "Tgid", 10);
    status->ppid = (pid_t)number_field(text, "PPid", 10);
    status->tracer = (pid_t)number_field(text, "TracerPid", 10);
    status->threads = (unsigned)number_field(text, "Threads", 10);
    status->seccomp = (unsigned)number_field(text, "Seccomp", 10);
    status->rss_bytes = number_field(text, "VmRSS", 10) * 1024; /* printed in kB */
    status->signals_blocked = number_field(text, "SigBlk", 16);
    status->signals_ignored = number_field(text, "SigIgn", 16);
    status->signals_caught = number_field(text, "SigCgt", 16);
    status->signals_directed = number_field(text, "SigPnd", 16);
    status->signals_pending = status->signals_directed | number_field(text, "ShdPnd", 16);
    status->sleeps = number_field(text, "voluntary_ctxt_switches", 10);
    return 0;
}

/* Field `number` (from 1, as in proc(5); at least 3) of the text of a stat file, 0 when it is not
 * there. The name in field 2 may hold blanks, parentheses and newlines. */
static uint64_t stat_field(const char *text, int number)
{
    const char *p = strrchr(text, ')');
    if (p == NULL)
        return 0;
    p++;
    for (int field = 3; field < number && *p != '\0'; field++) {
        p += strspn(p, " ");
        p += strcspn(p, " ");
    }
    return strtoull(p, NULL, 10);
}

static char *read_proc_file(pid_t pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    return lw_text_read_file(path, NULL);
}

static bool is_kernel_thread(pid_t pid)
{
    lw_auto_free char *stat = read_proc_file(pid, "stat");
    return stat != NULL && (stat_field(stat, 9) & PF_KTHREAD) != 0;
}

int lw_task_status_read(pid_t pid, pid_t tid, struct lw_task_status *status)
{
    char path[64];
    if (pid <= 0 || tid <= 0)
        return -ESRCH;
    snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)pid, (int)tid);
    lw_auto_free char *text = lw_text_read_file(path, NULL);
    if (text == NULL)
        return errno == ENOENT ? -ESRCH : -errno;
    int result = lw_task_status_parse(status, text);
    if (result == 0 && find_field(text, "VmSize") == NULL)
        status->kernel_thread = is_kernel_thread(tid); /* a zombie has no VmSize either */
    return result;
}

uint64_t lw_process_rss(pid_t pid)
{
    lw_auto_free char *statm = read_proc_file(pid, "statm");
    if (statm == NULL)
        return 0;
    const char *resident = strchr(statm, ' ');
    return resident != NULL ? strtoull(resident, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

uint64_t lw_process_cpu_ns(pid_t pid)
{
    lw_auto_free char *stat = read_proc_file(pid, "stat");
    const uint64_t ticks = stat != NULL ? stat_field(stat, 14) + stat_field(stat, 15) : 0;
    return ticks * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
}

uint64_t lw_process_start_time(pid_t pid)
{
    lw_auto_free char *stat = read_proc_file(pid, "stat");
    return stat != NULL ? stat_field(stat, 22) : 0;
}

char *lw_process_exe(pid_t pid)
{
    static const char deleted[] = " (deleted)";
    char link[64], path[PATH_MAX + sizeof(deleted)];
    snprintf(link, sizeof(link), "/proc/%d/exe", (int)pid);
    ssize_t length = readlink(link, path, sizeof(path) - 1);
    if (length < 0)
        return NULL;
    size_t suffix = sizeof(deleted) - 1;
    if ((size_t)length > suffix && memcmp(path + length - suffix, deleted, suffix) == 0)
        length -= (ssize_t)suffix;
    return strndup(path, (size_t)length);
}

int lw_process_shares_memory(pid_t a, pid_t b)
{
    long order = syscall(SYS_kcmp, a, b, KCMP_VM, 0, 0);
    if (order < 0)
        return -errno;
    return order == 0;
}

const char *lw_process_state_name(pid_t pid)
{
    struct lw_task_status status;
    if (lw_task_status_read(pid, pid, &status) != 0)
        return "gone";
    switch (status.state) {
    case 'R':
        return "running";
    case 'S':
    case 'I':
        return "sleeping";
    case 'D':
        return "waiting for the disk";
    case 'T':
        return "stopped";
    case 't':
        return "traced";
    case 'Z':
    case 'X':
        return "exited";
    default:
        return "unknown";
    }
}
