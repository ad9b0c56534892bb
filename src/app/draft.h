/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A report on its way out: formatted in memory, then written without ever being stuck. */
#ifndef LEAKWATCH_APP_DRAFT_H
#define LEAKWATCH_APP_DRAFT_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/*
 * A reader that has stalled (a stopped pager, Ctrl-S) must not make leakwatch deaf: while a draft
 * is sent, the signals that end the watch are delivered, and break it off when there is no room for
 * the rest.
 */
struct lw_draft {
    FILE *stream; /* to write to */
    char *text;
    size_t size;
};

int lw_draft_begin(struct lw_draft *draft); /* 0 or -ENOMEM */
void lw_draft_deinit(struct lw_draft *draft);

/* Writes it all to fd, with the signals of `ending` unblocked meanwhile. 0 or a negative errno,
 * -EINTR when it was broken off. */
int lw_draft_send(struct lw_draft *draft, int fd, const sigset_t *ending);

/* Whether one of those signals came while the latest draft was sent. */
bool lw_draft_was_interrupted(void);

/* The handler of those signals. */
void lw_draft_interrupt(int signal);

#endif
