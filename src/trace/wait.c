/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Waiting for tracees: fair to all of them, quick when stops are frequent, asleep when they are
 * not. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

#include "leakwatch/base/clock.h"
#include "threads.h"

/* Spinning pays as long as the next stop comes sooner than a blocking wait's wake-up: measured at
 * 30 us on two processors. */
#define SPIN_NS (30 * LW_NS_PER_US)

/* The kernel looks through tracees in a fixed order, so a busy one near the head would starve the
 * rest: after so many stops each thread is asked once in turn. */
#define STOPS_PER_SWEEP 64

static struct lw_stop poll_id(idtype_t type, id_t id)
{
    siginfo_t info = {0};
    /* __WNOTHREAD: tracees and children of this thread, not children that the process was born
     * with. */
    const int options = WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL | __WNOTHREAD;
    if (waitid(type, id, &info, options) != 0)
        return (struct lw_stop){.kind = type == P_ALL ? LW_STOP_NOBODY : LW_STOP_NONE};
    if (info.si_pid == 0)
        return (struct lw_stop){.kind = LW_STOP_NONE};
    return lw_stop_decode(&info);
}

static struct lw_stop sweep(struct lw_tracer *tracer)
{
    while (tracer->sweep > 0) {
        tracer->sweep--;
        if (tracer->sweep >= tracer->threads.count)
            continue;
        pid_t tid = tracer->threads.items[tracer->sweep]->tid;
        struct lw_stop stop = poll_id(P_PID, (id_t)tid);
        if (stop.kind != LW_STOP_NONE)
            return stop;
    }
    return (struct lw_stop){.kind = LW_STOP_NONE};
}

struct lw_stop lw_wait_poll(struct lw_tracer *tracer)
{
    if (tracer->threads.count > 1) {
        if (tracer->since_sweep >= STOPS_PER_SWEEP) {
            tracer->since_sweep = 0;
            tracer->sweep = tracer->threads.count;
        }
        struct lw_stop stop = sweep(tracer);
        if (stop.kind != LW_STOP_NONE)
            return stop;
    }
    struct lw_stop stop = poll_id(P_ALL, 0);
    tracer->since_sweep++;
    return stop;
}

/* Keeps a moving average of how long stops were waited for, less what a blocking wait itself costs,
 * and capped so that one long sleep is soon forgotten. */
static void note_gap(struct lw_tracer *tracer, uint64_t now, bool slept)
{
    const uint64_t cap = 8 * SPIN_NS;
    uint64_t gap = now - tracer->resumed_ns;
    if (slept)
        gap = gap > SPIN_NS ? gap - SPIN_NS : 0;
    if (gap > cap)
        gap = cap;
    tracer->gap_ns = (tracer->gap_ns * 7 + gap) / 8;
}

static void sleep_until(uint64_t now, uint64_t deadline)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    uint64_t ns = deadline - now;
    if (deadline == LW_NEVER || ns > 3600 * LW_NS_PER_SECOND)
        ns = 3600 * LW_NS_PER_SECOND;
    const struct timespec timeout = {.tv_sec = (time_t)(ns / LW_NS_PER_SECOND),
                                     .tv_nsec = (long)(ns % LW_NS_PER_SECOND)};
    sigtimedwait(&set, NULL, &timeout);
}

struct lw_stop lw_tracer_next(struct lw_tracer *tracer, uint64_t deadline)
{
    const struct lw_stop none = {.kind = LW_STOP_NONE};
    uint64_t spin_until = 0;
    bool slept = false;
    if (tracer->gap_ns < SPIN_NS)
        spin_until = lw_clock_now() + SPIN_NS;
    for (;;) {
        if (atomic_exchange_explicit(&tracer->woken, false, memory_order_acquire))
            return none;
        struct lw_stop stop = lw_wait_poll(tracer);
        uint64_t now = lw_clock_now();
        if (stop.kind != LW_STOP_NONE) {
            note_gap(tracer, now, slept);
            return stop;
        }
        if (now >= deadline)
            return none;
        if (now < spin_until)
            continue;
        sleep_until(now, deadline);
        slept = true;
    }
}

void lw_tracer_wake(struct lw_tracer *tracer)
{
    atomic_store_explicit(&tracer->woken, true, memory_order_release);
    pthread_kill(tracer->self, SIGCHLD);
}
