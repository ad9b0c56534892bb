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

/* Spinning longer than this burns a processor for nothing. */
#define SPIN_NS (60 * LW_NS_PER_US)

/*
 * Whether to spin for the next stop or to sleep is decided by what each has cost of late: with a
 * free processor for each side a wake-up costs three times what spinning does (measured: 45 us a
 * stop against 17), and with both on one processor, or others busy, spinning is what is in the way
 * (23 against 11). Of so many stops, a few are waited for in the other way, to know.
 */
#define TRIAL_PERIOD 1024
#define TRIAL_LENGTH 16

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

static bool choose_to_spin(struct lw_tracer *tracer)
{
    uint64_t spinning = tracer->gap_ns[LW_WAIT_SPIN], sleeping = tracer->gap_ns[LW_WAIT_SLEEP];
    bool spin = spinning < SPIN_NS && spinning <= sleeping;
    bool trial = tracer->stops++ % TRIAL_PERIOD < TRIAL_LENGTH;
    return spin != trial;
}

/* Keeps a moving average of the time from stop to stop (the whole of it: where both sides share a
 * processor, the thread runs before its resumption returns), capped so that one long pause is soon
 * forgotten. */
static void note_gap(struct lw_tracer *tracer, enum lw_wait_way way, uint64_t now)
{
    const uint64_t cap = 8 * SPIN_NS;
    uint64_t gap = now - tracer->last_stop_ns;
    tracer->last_stop_ns = now;
    if (gap > cap)
        gap = cap;
    tracer->gap_ns[way] = (tracer->gap_ns[way] * 7 + gap) / 8;
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
    const bool spin = choose_to_spin(tracer);
    const uint64_t spin_until = spin ? lw_clock_now() + SPIN_NS : 0;
    for (;;) {
        if (atomic_exchange_explicit(&tracer->woken, false, memory_order_acquire))
            return none;
        struct lw_stop stop = lw_wait_poll(tracer);
        uint64_t now = lw_clock_now();
        if (stop.kind != LW_STOP_NONE) {
            note_gap(tracer, spin ? LW_WAIT_SPIN : LW_WAIT_SLEEP, now);
            return stop;
        }
        if (now >= deadline)
            return none;
        tracer->idle_ns = now;
        if (now >= spin_until) {
            sleep_until(now, deadline);
            tracer->idle_ns = lw_clock_now();
        }
    }
}

void lw_tracer_wake(struct lw_tracer *tracer)
{
    atomic_store_explicit(&tracer->woken, true, memory_order_release);
    pthread_kill(tracer->self, SIGCHLD);
}

struct lw_stop lw_wait_for(pid_t tid, uint64_t deadline)
{
    for (uint64_t start = lw_clock_now(), now = start;; now = lw_clock_now()) {
        struct lw_stop stop = poll_id(P_PID, (id_t)tid);
        if (stop.kind != LW_STOP_NONE || now >= deadline)
            return stop;
        if (now - start > SPIN_NS)
            nanosleep(&(struct timespec){.tv_nsec = 50 * (long)LW_NS_PER_US}, NULL);
    }
}
