/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Diagnostics for the person at the terminal, on stderr, one line each, never on stdout. */
#ifndef LEAKWATCH_BASE_LOG_H
#define LEAKWATCH_BASE_LOG_H

enum lw_log_level { LW_LOG_ERROR, LW_LOG_WARNING, LW_LOG_INFO, LW_LOG_DEBUG };

/* -q keeps errors only, the default shows warnings too, -v adds info, -vv debug. Set once, before
 * any thread starts. */
void lw_log_set_level(enum lw_log_level level);
enum lw_log_level lw_log_get_level(void);

/* Where stderr is systemd's journal ($JOURNAL_STREAM), each line begins with its priority, which
 * the journal takes off. Found out once, before any thread starts. */
void lw_log_find_journal(void);

/* Prints "leakwatch: MESSAGE\n" in one write; control characters are escaped (names come from the
 * process under watch). It is dropped when stderr cannot take it at once. */
void lw_log(enum lw_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define lw_warn(...)  lw_log(LW_LOG_WARNING, __VA_ARGS__)
#define lw_info(...)  lw_log(LW_LOG_INFO, __VA_ARGS__)
#define lw_debug(...) lw_log(LW_LOG_DEBUG, __VA_ARGS__)

#endif
