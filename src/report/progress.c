/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What takes long at the moment, told to a person who waits for it. */
#include "leakwatch/report/progress.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "leakwatch/base/clock.h"

#define PATIENCE_NS (1 * LW_NS_PER_SECOND)
#define REDRAW_NS   (200 * LW_NS_PER_MS)

void lw_progress_init(struct lw_progress *progress, struct lw_status_line *line)
{
    *progress = (struct lw_progress){.line = line};
}

/* With the mutex held: until that time or the end. */
static bool wait_for_end(struct lw_progress *progress, uint64_t until)
{
    const struct timespec time = {.tv_sec = (time_t)(until / LW_NS_PER_SECOND),
                                  .tv_nsec = (long)(until % LW_NS_PER_SECOND)};

    while (!progress->ended)
        if (pthread_cond_clockwait(&progress->ended_condition, &progress->mutex, CLOCK_MONOTONIC,
                                   &time) != 0)
            break;
    return progress->ended;
}

static void *draw(void *argument)
{
    struct lw_progress *progress = argument;
    uint64_t due = lw_clock_now() + PATIENCE_NS;

    pthread_mutex_lock(&progress->mutex);
    while (!wait_for_end(progress, due)) {
        lw_status_line_show(progress->line, progress->text);
        due = lw_clock_now() + REDRAW_NS;
    }
    pthread_mutex_unlock(&progress->mutex);
    return NULL;
}

void lw_progress_begin(struct lw_progress *progress)
{
    if (progress->begun || !progress->line->enabled)
        return;
    progress->ended = false;
    progress->text[0] = '\0';
    pthread_mutex_init(&progress->mutex, NULL);
    pthread_cond_init(&progress->ended_condition, NULL);
    /* a thread that cannot be had only leaves the person in the dark */
    progress->begun = pthread_create(&progress->thread, NULL, draw, progress) == 0;
}

void lw_progress_tell(struct lw_progress *progress, const char *format, ...)
{
    va_list arguments;

    if (!progress || !progress->begun)
        return;
    va_start(arguments, format);
    pthread_mutex_lock(&progress->mutex);
    vsnprintf(progress->text, sizeof(progress->text), format, arguments);
    pthread_mutex_unlock(&progress->mutex);
    va_end(arguments);
}

void lw_progress_end(struct lw_progress *progress)
{
    if (!progress->begun)
        return;
    pthread_mutex_lock(&progress->mutex);
    progress->ended = true;
    pthread_cond_signal(&progress->ended_condition);
    pthread_mutex_unlock(&progress->mutex);
    pthread_join(progress->thread, NULL);
    pthread_cond_destroy(&progress->ended_condition);
    pthread_mutex_destroy(&progress->mutex);
    progress->begun = false;
    lw_status_line_clear(progress->line);
}
