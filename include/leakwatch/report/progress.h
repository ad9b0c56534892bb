/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What takes long at the moment, told to a person who waits for it. */
#ifndef LEAKWATCH_REPORT_PROGRESS_H
#define LEAKWATCH_REPORT_PROGRESS_H

#include <pthread.h>
#include <stdbool.h>

#include "leakwatch/report/status_line.h"

/*
 * On the status line, once it has taken longer than a second. What takes long may be one call of a
 * library, so a thread of its own draws it. That runs from begin to end only, and not at all where
 * the line is not enabled: then all of this does nothing. Between begin and end nobody else may use
 * the line.
 */
struct lw_progress {
    struct lw_status_line *line;
    bool begun;
    pthread_t thread;
    pthread_mutex_t mutex; /* over what follows */
    pthread_cond_t ended_condition;
    bool ended;
    char text[256];
};

void lw_progress_init(struct lw_progress *progress, struct lw_status_line *line);

/* Nothing when it has begun already. */
void lw_progress_begin(struct lw_progress *progress);
/* What is done now: "naming stacks 1,200 of 5,000". Control characters in it are escaped. Nothing
 * when it has not begun; `progress` may be NULL. */
void lw_progress_tell(struct lw_progress *progress, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Erases it, before anything else is printed. Nothing when it has not begun. */
void lw_progress_end(struct lw_progress *progress);

#endif
