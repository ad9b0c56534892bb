/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Giving up capabilities. User and group stay: files and the process under watch may be theirs. */
#ifndef LEAKWATCH_BASE_PRIVILEGE_H
#define LEAKWATCH_BASE_PRIVILEGE_H

#include <stdbool.h>
#include <stdint.h>

/* Sets of capabilities have bit CAP_... (linux/capability.h) for each. */
#define LW_PRIVILEGE(capability) (1ull << (capability))

/*
 * The calling thread, and those that it makes from now on, keep no other capabilities than these of
 * those that they have; and none is gained by a program that they might execute. Threads that are
 * there already keep theirs. 0 or a negative errno.
 */
int lw_privilege_keep(uint64_t capabilities);

/* Makes these of the kept capabilities take effect, or not, for the calling thread. 0 or a negative
 * errno. At first those take effect that did before. */
int lw_privilege_use(uint64_t capabilities, bool use);

/* The capabilities that take effect for the calling thread. */
uint64_t lw_privilege_effective(void);

#endif
