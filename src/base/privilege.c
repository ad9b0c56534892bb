/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Capabilities, by the system calls themselves: glibc has no functions for them. */
#include "leakwatch/base/privilege.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

struct sets {
    uint64_t effective, permitted, inheritable;
};

static struct __user_cap_header_struct this_thread(void)
{
    return (struct __user_cap_header_struct){.version = _LINUX_CAPABILITY_VERSION_3};
}

static int read_sets(struct sets *sets)
{
    struct __user_cap_header_struct header = this_thread();
    struct __user_cap_data_struct low_high[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, low_high) != 0)
        return -errno;
    *sets = (struct sets){
        .effective = low_high[0].effective | (uint64_t)low_high[1].effective << 32,
        .permitted = low_high[0].permitted | (uint64_t)low_high[1].permitted << 32,
        .inheritable = low_high[0].inheritable | (uint64_t)low_high[1].inheritable << 32,
    };
    return 0;
}

static int write_sets(const struct sets *sets)
{
    struct __user_cap_header_struct header = this_thread();
    struct __user_cap_data_struct low_high[_LINUX_CAPABILITY_U32S_3];
    for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        low_high[i] = (struct __user_cap_data_struct){
            .effective = (uint32_t)(sets->effective >> (32 * i)),
            .permitted = (uint32_t)(sets->permitted >> (32 * i)),
            .inheritable = (uint32_t)(sets->inheritable >> (32 * i)),
        };
    return syscall(SYS_capset, &header, low_high) == 0 ? 0 : -errno;
}

int lw_privilege_keep(uint64_t capabilities)
{
    struct sets sets;
    int result = read_sets(&sets);
    if (result != 0)
        return result;
    sets.permitted &= capabilities;
    sets.effective &= sets.permitted;
    sets.inheritable = 0; /* and with it the ambient ones */
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
    if (use)
        sets.effective |= capabilities & sets.permitted;
    else
        sets.effective &= ~capabilities;
    return write_sets(&sets);
}

uint64_t lw_privilege_effective(void)
{
    struct sets sets;
    return read_sets(&sets) == 0 ? sets.effective : 0;
}
