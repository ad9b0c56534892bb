/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Giving up capabilities: in a child, since there is no way back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "leakwatch/base/privilege.h"

#define KEPT  (LW_PRIVILEGE(CAP_CHOWN) | LW_PRIVILEGE(CAP_CHECKPOINT_RESTORE)) /* of either half */
#define OTHER LW_PRIVILEGE(CAP_KILL)

/* 0, or the number of what is wrong. */
static int keep(uint64_t had)
{
    const uint64_t kept = had & KEPT;
    if (lw_privilege_keep(KEPT) != 0 || lw_privilege_effective() != kept)
        return 1;
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        return 2;
    if (lw_privilege_use(KEPT, false) != 0 || lw_privilege_effective() != 0)
        return 3;
    if (lw_privilege_use(OTHER | LW_PRIVILEGE(CAP_CHOWN), true) != 0 ||
        lw_privilege_effective() != (kept & LW_PRIVILEGE(CAP_CHOWN)))
        return 4; /* what was given up does not come back */
    if (lw_privilege_keep(OTHER) != 0 || lw_privilege_effective() != 0 ||
        lw_privilege_use(UINT64_MAX, true) != 0 || lw_privilege_effective() != 0)
        return 5;
    return 0;
}

static void test_keep(void **state)
{
    (void)state;
    const uint64_t had = lw_privilege_effective();
    if (geteuid() == 0)
        assert_int_not_equal(had, 0);
    pid_t child = fork();
    if (child == 0)
        _exit(keep(had));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(lw_privilege_effective(), had);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
