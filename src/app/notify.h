/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the service manager that started leakwatch is told of it: sd_notify(3)'s protocol. */
#ifndef LEAKWATCH_SRC_APP_NOTIFY_H
#define LEAKWATCH_SRC_APP_NOTIFY_H

#include <stdint.h>

#include "leakwatch/app/watch.h"
#include "leakwatch/report/report.h"

struct lw_notify {
    int socket;           /* -1: nobody wants to know */
    uint64_t watchdog_ns; /* how often it is to be told that all is well; 0: not at all */
    uint64_t next_ns;     /* when that is due */
};

/* By the environment, from which it is then removed: a command that leakwatch starts does not speak
 * for it. No other thread may run yet. What fails is told on stderr. */
void lw_notify_open(struct lw_notify *notify);
void lw_notify_close(struct lw_notify *notify);

/* `state`, such as "READY=1", or "" for none, and the line that `systemctl status` shows, escaped.
 * Does nothing where nobody wants to know; waits a second at most. */
void lw_notify_tell(const struct lw_notify *notify, const char *state, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The latest figures, as such a line. */
void lw_notify_report(const struct lw_notify *notify, const struct lw_report *report);
/* Tells the watchdog, when that is due, that the reporter is alive and the engine answers, which is
 * waited for. Returns when that is due next, LW_NEVER where there is no watchdog. */
uint64_t lw_notify_feed(struct lw_notify *notify, struct lw_watch *watch, uint64_t now);

#endif
