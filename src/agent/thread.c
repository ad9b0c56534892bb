/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The places that threads have in the shared memory. */
#include "agent.h"

static uint32_t thread_id(uint64_t pointer)
{
    return control->tid_offset ? *(const uint32_t *)(pointer + control->tid_offset) : 0;
}

static void reset(struct lw_agent_thread *thread, uint64_t pointer)
{
    thread->pointer = pointer;
    thread->tid = thread_id(pointer);
    thread->busy = thread->level = thread->last_depth = 0;
    thread->released = thread->low = thread->high = 0;
    thread->heartbeat_cycles = 0;
    if (thread->random == 0)
        thread->random = mix(pointer) | 1;
    if (control->mode == LW_AGENT_SAMPLED)
        agent_draw(thread);
}

static struct lw_agent_thread *take_place(uint64_t pointer, uint32_t *number)
{
    for (uint32_t i = 0; i < LW_AGENT_THREADS; i++) {
        struct lw_agent_thread *thread = &shared->threads[i];
        uint32_t unused = 0;
        if (__atomic_load_n(&thread->used, __ATOMIC_RELAXED) == 0 &&
            __atomic_compare_exchange_n(&thread->used, &unused, 1, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
            reset(thread, pointer);
            uint32_t count = __atomic_load_n(&shared->thread_count, __ATOMIC_RELAXED);
            while (count <= i &&
                   !__atomic_compare_exchange_n(&shared->thread_count, &count, i + 1, false,
                                                __ATOMIC_RELAXED, __ATOMIC_RELAXED))
                continue;
            *number = i;
            return thread;
        }
    }
    add_shared(&shared->no_thread, 1);
    return NULL;
}

/* Where in the index a thread is, or could be put; nobody else looks for this thread. */
OUTLINE struct lw_agent_thread *agent_register(uint64_t pointer)
{
    uint32_t start = (uint32_t)(pointer / 64 * GOLDEN >> 51);
    uint64_t *free_word = NULL;
    for (uint32_t i = 0; i < LW_AGENT_THREAD_INDEX; i++) {
        uint64_t *word = &shared->thread_index[(start + i) % LW_AGENT_THREAD_INDEX];
        uint64_t value = __atomic_load_n(word, __ATOMIC_ACQUIRE);
        if (value >> 16 == pointer >> 4) {
            struct lw_agent_thread *thread = &shared->threads[value & 0xffff];
            if (thread->tid != thread_id(pointer))
                reset(thread, pointer); /* a new thread on the memory of one that has ended */
            return thread;
        }
        if (value == LW_AGENT_INDEX_GONE && !free_word)
            free_word = word;
        if (value == LW_AGENT_INDEX_FREE) {
            if (!free_word)
                free_word = word;
            break;
        }
    }
    uint32_t number;
    struct lw_agent_thread *thread = free_word ? take_place(pointer, &number) : NULL;
    if (!thread)
        return NULL;
    uint64_t expected = __atomic_load_n(free_word, __ATOMIC_RELAXED);
    if (expected > LW_AGENT_INDEX_GONE ||
        !__atomic_compare_exchange_n(free_word, &expected, pointer >> 4 << 16 | number, false,
                                     __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
        /* Another thread has taken the word: this call goes unrecorded, the next one tries again.
         */
        __atomic_store_n(&thread->used, 0, __ATOMIC_RELEASE);
        add_shared(&shared->no_thread, 1);
        return NULL;
    }
    return thread;
}

/*
 * leakwatch moves the clock on as long as it lives. Where it stands still while the processor's
 * counter goes on, there is nobody to read what is recorded.
 */
OUTLINE void agent_heartbeat(struct lw_agent_thread *thread)
{
    uint64_t now = __builtin_ia32_rdtsc();
    uint32_t tick = __atomic_load_n(&shared->tick, __ATOMIC_RELAXED);
    if (tick != thread->heartbeat_tick || thread->heartbeat_cycles == 0) {
        thread->heartbeat_tick = tick;
        thread->heartbeat_cycles = now;
    } else if (now - thread->heartbeat_cycles > control->lapse_cycles &&
               now > thread->heartbeat_cycles) {
        shared->lapsed = 1;
        __atomic_store_n(&control->mode, LW_AGENT_OFF, __ATOMIC_RELEASE);
    }
}
