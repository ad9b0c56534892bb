/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Capabilities, by the system calls themselves: glibc has no functions for them. */
#include "leakwatch/base/privilege.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

struct sets {
    struct __user_cap_header_struct header;
    struct __user_cap_data_struct halves[_LINUX_CAPABILITY_U32S_3];
};

static int read_sets(struct sets *sets)
{
    *sets = (struct sets){.header.version = _LINUX_CAPABILITY_VERSION_3}; /* pid 0: this thread */
    return syscall(SYS_capget, &sets->header, sets->halves) == 0 ? 0 : -errno;
}

static int write_sets(struct sets *sets)
{
    return syscall(SYS_capset, &sets->header, sets->halves) == 0 ? 0 : -errno;
}

int lw_privilege_keep(uint64_t capabilities)
{
    struct sets sets;
    int result = read_sets(&sets);
    if (result != 0)
        return result;
    for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        struct __user_cap_data_struct *half = &sets.halves[i];
        half->permitted &= (uint32_t)(capabilities >> (32 * i));
        half->effective &= half->permitted;
        half->inheritable = 0; /* and with it the ambient ones */
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -errno;
    return write_sets(&sets);
}

int lw_privilege_use(uint64_t capabilities, bool use)
{
    struct sets sets;
    int result = read_sets(&sets);
    if (result != 0)
        return result;
    for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
        struct __user_cap_data_struct *half = &sets.halves[i];
        const uint32_t wanted = (uint32_t)(capabilities >> (32 * i));
        half->effective =
            use ? half->effective | (wanted & half->permitted) : half->effective & ~wanted;
    }
    return write_sets(&sets);
}

uint64_t lw_privilege_effective(void)
{
    struct sets sets;
    if (read_sets(&sets) != 0)
        return 0;
    return sets.halves[0].effective | (uint64_t)sets.halves[1].effective << 32;
}
