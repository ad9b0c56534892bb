/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How a process that is not our child has ended. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/text.h"
#include "leakwatch/target/process.h"

/* <linux/pidfd.h> of Linux 6.15, which is newer than the headers may be. */
struct pidfd_information {
    uint64_t mask;
    uint64_t cgroup;
    uint32_t ids[11];
    int32_t exit_code;
    uint8_t later[64]; /* what later kernels may add */
};
#define PIDFD_INFORMATION_SIZE 64 /* of the first version */
#define PIDFD_GET_INFORMATION  _IOC(_IOC_READ | _IOC_WRITE, 0xff, 11, PIDFD_INFORMATION_SIZE)
#define PIDFD_HAS_EXIT         (1ull << 3)

static bool ask_descriptor(int pid_fd, int *status)
{
    struct pidfd_information information = {.mask = PIDFD_HAS_EXIT};
    if (pid_fd < 0 || ioctl(pid_fd, PIDFD_GET_INFORMATION, &information) != 0 ||
        !(information.mask & PIDFD_HAS_EXIT))
        return false;
    *status = information.exit_code;
    return true;
}

/* Of a zombie: the last field of /proc/PID/stat (proc(5), exit_code). */
static bool ask_proc(pid_t pid, int *status)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    lw_auto_free char *text = lw_text_read_file(path, NULL);
    const char *state = text ? strrchr(text, ')') : NULL;
    const char *last = text ? strrchr(text, ' ') : NULL;
    if (!state || state[1] != ' ' || state[2] != 'Z' || !last)
        return false;
    *status = atoi(last + 1);
    return true;
}

int lw_process_exit_status(int pid_fd, pid_t pid, int *status)
{
    return ask_descriptor(pid_fd, status) || ask_proc(pid, status) ||
                   ask_descriptor(pid_fd, status) /* its parent has taken it off meanwhile */
               ? 0
               : -ENODATA;
}
