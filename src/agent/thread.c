/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The places that threads have in the shared memory. */
#include "agent.h"

static uint32_t thread_id(uint64_t pointer)
{
    return *(const uint32_t *)(pointer + control->tid_offset);
}

static void reset(struct lw_agent_thread *thread, uint64_t pointer)
{
    thread->pointer = pointer;
    thread->busy = thread->level = thread->last_depth = 0;
    thread->released = thread->low = thread->high = 0;
    thread->heartbeat_ns = 0;
    if (thread->random == 0)
        thread->random = mix(pointer) | 1;
    if (control->mode == LW_AGENT_SAMPLED)
        agent_draw(thread);
}

static struct lw_agent_thread *take_place(uint64_t pointer)
{
    for (uint32_t i = 0; i < LW_AGENT_THREADS; i++) {
        struct lw_agent_thread *thread = &shared->threads[i];
        uint32_t unused = 0;
        if (__atomic_load_n(&thread->used, __ATOMIC_RELAXED) == 0 &&
            __atomic_compare_exchange_n(&thread->used, &unused, 1, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
            __atomic_store_n(&thread->tid, thread_id(pointer), __ATOMIC_RELEASE);
            reset(thread, pointer);
            uint32_t count = __atomic_load_n(&shared->thread_count, __ATOMIC_RELAXED);
            while (count <= i &&
                   !__atomic_compare_exchange_n(&shared->thread_count, &count, i + 1, false,
                                                __ATOMIC_RELAXED, __ATOMIC_RELAXED))
                continue;
            return thread;
        }
    }
    add_shared(&shared->no_thread, 1);
    return NULL;
}

/* The thread's entry of the index, or a free one; nobody else looks for this thread. */
static struct lw_agent_index *find_entry(uint64_t pointer)
{
    struct lw_agent_index *start = index_of(pointer), *gone = NULL;
    for (uint32_t i = 0; i < LW_AGENT_THREAD_INDEX; i++) {
        struct lw_agent_index *entry =
            &shared->thread_index[(uint32_t)(start - shared->thread_index + i) %
                                  LW_AGENT_THREAD_INDEX];
        uint64_t value = __atomic_load_n(&entry->pointer, __ATOMIC_ACQUIRE);
        if (value == pointer)
            return entry;
        if (value == LW_AGENT_INDEX_GONE && !gone)
            gone = entry;
        if (value == LW_AGENT_INDEX_FREE)
            return gone ? gone : entry;
    }
    return gone;
}

static bool claim_entry(struct lw_agent_index *entry, uint64_t pointer)
{
    uint64_t expected = __atomic_load_n(&entry->pointer, __ATOMIC_RELAXED);
    return expected == pointer ||
           (expected <= LW_AGENT_INDEX_GONE &&
            __atomic_compare_exchange_n(&entry->pointer, &expected, pointer, false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
}

/* The place of this thread, or of one that has ended and left this one its thread pointer; unless
 * leakwatch has just taken that away. */
static bool inherit(struct lw_agent_thread *thread, uint64_t pointer)
{
    uint32_t tid = thread_id(pointer);
    uint32_t before = __atomic_load_n(&thread->tid, __ATOMIC_ACQUIRE);
    if (before == tid)
        return true;
    if (before == LW_AGENT_TID_GONE ||
        !__atomic_compare_exchange_n(&thread->tid, &before, tid, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED))
        return false;
    reset(thread, pointer);
    return true;
}

OUTLINE struct lw_agent_thread *agent_register(uint64_t pointer)
{
    struct lw_agent_index *entry = find_entry(pointer);
    /* Where another thread takes the entry first, this call goes unrecorded. */
    if (!entry || !claim_entry(entry, pointer)) {
        add_shared(&shared->no_thread, 1);
        return NULL;
    }
    struct lw_agent_thread *thread;
    if (entry->place) {
        thread = (struct lw_agent_thread *)((char *)shared + entry->place);
        if (inherit(thread, pointer))
            return thread;
        add_shared(&shared->no_thread, 1);
        return NULL;
    }
    thread = take_place(pointer);
    if (thread)
        __atomic_store_n(&entry->place, (uint64_t)((char *)thread - (char *)shared),
                         __ATOMIC_RELEASE);
    return thread;
}

typedef int (*clock_function)(int clock, int64_t time[2]);

/* The kernel's own clock, in steps of some milliseconds, which the vdso reads from memory: the
 * processor's counter may be forbidden (prctl PR_SET_TSC, seccomp's strict mode). 0: none. */
static uint64_t now_ns(void)
{
    int64_t time[2];
    clock_function read_clock = (clock_function)control->clock;
    if (!read_clock || read_clock(6 /* CLOCK_MONOTONIC_COARSE */, time) != 0)
        return 0;
    return (uint64_t)time[0] * 1000000000u + (uint64_t)time[1];
}

/*
 * leakwatch moves the clock on as long as it lives. Where it stands still while time goes on, there
 * is nobody to read what is recorded.
 */
OUTLINE void agent_heartbeat(struct lw_agent_thread *thread)
{
    uint64_t now = now_ns();
    uint32_t tick = __atomic_load_n(&shared->tick, __ATOMIC_RELAXED);
    if (tick != thread->heartbeat_tick || thread->heartbeat_ns == 0) {
        thread->heartbeat_tick = tick;
        thread->heartbeat_ns = now;
    } else if (now > thread->heartbeat_ns && now - thread->heartbeat_ns > control->lapse_ns) {
        shared->lapsed = 1;
        __atomic_store_n(&control->mode, LW_AGENT_OFF, __ATOMIC_RELEASE);
    }
}
