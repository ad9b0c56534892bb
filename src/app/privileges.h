/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the thread that writes reports may still do, once the watch has begun. */
#ifndef LEAKWATCH_SRC_APP_PRIVILEGES_H
#define LEAKWATCH_SRC_APP_PRIVILEGES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * That thread reads what the process brings along, symbols and debug information, and needs no
 * privilege for it. Kept is, out of use, what opening files may take (`reopens`), and in
 * use, what looking at /proc/PID takes where a process is shown only to those who may trace it
 * (hidepid). What fails is told.
 */
void lw_privileges_drop(pid_t pid, bool reopens);

/* Puts what was kept for opening to use, for that long: what was, for lw_privileges_lay_down. */
uint64_t lw_privileges_take_up(void);
void lw_privileges_lay_down(uint64_t taken);

#endif
