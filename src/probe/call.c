/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Calls under way, and what their ends mean. */
#include "leakwatch/probe/call.h"

#include <string.h>

/* Two stack pointers further apart are taken to be on different stacks (an alternate signal stack,
 * a coroutine). */
#define SAME_STACK (1ull << 20)

/* Moves a call whose return was not seen (an exception, a longjmp) off the stack. */
static void drop(struct lw_calls *calls, struct lw_ledger *ledger, unsigned index, uint64_t now)
{
    struct lw_call *call = &calls->calls[index];
    if (call->took_old)
        lw_ledger_close(ledger, &call->old, now);
    lw_ledger_losses(ledger)->missed_returns++;
    calls->count--;
    memmove(call, call + 1, (calls->count - index) * sizeof(*call));
}

/* May the call have jumped to another watched function, which then returns in its stead? */
static bool may_jump_on(const struct lw_call *call)
{
    return call->site->ends_in_watched || call->return_site;
}

/* Calls whose frame this entry's frame has replaced, on the same stack, cannot return any more. */
static void drop_unwound(struct lw_calls *calls, struct lw_ledger *ledger,
                         const struct lw_call_entry *entry, uint64_t now)
{
    while (calls->count > 0) {
        const struct lw_call *top = &calls->calls[calls->count - 1];
        bool unwound = entry->slot > top->slot && entry->slot - top->slot < SAME_STACK;
        bool replaced = entry->slot == top->slot && !may_jump_on(top);
        if (!unwound && !replaced)
            break;
        drop(calls, ledger, calls->count - 1, now);
    }
}

/* Entered from within the call on top: by a jump from its end, or by its allocator. */
static bool is_nested(const struct lw_calls *calls, const struct lw_call_entry *entry)
{
    if (calls->count == 0)
        return false;
    const struct lw_call *top = &calls->calls[calls->count - 1];
    if (entry->slot == top->slot)
        return true;
    return entry->slot < top->slot && entry->from_allocator;
}

/* A release that another release makes of the same block (operator delete -> free) is not a second
 * one. */
static void release(struct lw_calls *calls, struct lw_ledger *ledger, uint64_t pointer,
                    uint64_t now)
{
    if (pointer == 0)
        return;
    if (calls->released == pointer && !lw_ledger_find(ledger, pointer, NULL))
        return;
    lw_ledger_free(ledger, pointer, now);
    calls->released = pointer;
}

static bool multiply(const struct lw_call_entry *entry, uint64_t *size)
{
    const struct lw_allocator_function *function = entry->site->function;
    *size = entry->arguments[function->size];
    return function->count != LW_NO_ARGUMENT &&
           __builtin_mul_overflow(*size, entry->arguments[function->count], size);
}

bool lw_calls_enter(struct lw_calls *calls, struct lw_ledger *ledger,
                    const struct lw_call_entry *entry, uint64_t now)
{
    drop_unwound(calls, ledger, entry, now);
    if (is_nested(calls, entry)) {
        struct lw_call *top = &calls->calls[calls->count - 1];
        /* realloc(p, 0) that ends in a jump to free: free's own return is not watched. */
        if (entry->slot == top->slot && entry->site->function->act == LW_ACT_RELEASE) {
            struct lw_call finished;
            lw_calls_finish(calls, ledger, top, 0, now, &finished);
        }
        return false;
    }
    enum lw_allocator_act act = entry->site->function->act;
    if (act == LW_ACT_RELEASE) {
        release(calls, ledger, entry->arguments[0], now);
        return false;
    }
    calls->released = 0;
    if (calls->count == LW_CALLS_MAX)
        drop(calls, ledger, 0, now);
    struct lw_call *call = &calls->calls[calls->count++];
    *call = (struct lw_call){
        .site = entry->site,
        .slot = entry->slot,
        .address = entry->address,
        .pointer = entry->arguments[0],
    };
    call->overflow = multiply(entry, &call->size);
    if (act == LW_ACT_REALLOCATE && call->pointer != 0)
        call->took_old = lw_ledger_take(ledger, call->pointer, now, &call->old);
    return true;
}

struct lw_call *lw_calls_match(struct lw_calls *calls, uint64_t slot)
{
    for (unsigned i = calls->count; i-- > 0;)
        if (calls->calls[i].slot == slot)
            return &calls->calls[i];
    return NULL;
}

/* realloc's outcome for the old block; true when it stays as it was. */
static bool settle_old(struct lw_ledger *ledger, const struct lw_call *call, uint64_t block,
                       uint64_t now)
{
    /* glibc, jemalloc and tcmalloc free the block and return NULL for a size of 0. */
    bool failed = block == 0 && call->size != 0;
    if (failed || call->overflow) {
        if (call->took_old)
            lw_ledger_put_back(ledger, &call->old, now);
        return true;
    }
    struct lw_event_counts *events = lw_ledger_events(ledger);
    if (call->took_old) {
        lw_ledger_close(ledger, &call->old, now);
        events->frees++;
    } else if (call->pointer != 0) {
        events->unknown_frees++;
    }
    return false;
}

bool lw_calls_finish(struct lw_calls *calls, struct lw_ledger *ledger, struct lw_call *call,
                     uint64_t block, uint64_t now, struct lw_call *finished)
{
    *finished = *call;
    unsigned index = (unsigned)(call - calls->calls);
    /* Calls above this one were left by a longjmp or an exception that it caught. */
    while (calls->count > index + 1)
        drop(calls, ledger, calls->count - 1, now);
    calls->count = index;

    struct lw_event_counts *events = lw_ledger_events(ledger);
    bool freed = false;
    if (finished->site->function->act == LW_ACT_REALLOCATE) {
        events->reallocs++;
        bool kept = settle_old(ledger, finished, block, now);
        freed = !kept && block == 0 && finished->pointer != 0;
    }
    if (block == 0 && !freed)
        events->failed_allocs++;
    return block != 0;
}

void lw_calls_abandon(struct lw_calls *calls, struct lw_ledger *ledger, uint64_t now)
{
    while (calls->count > 0) {
        struct lw_call *call = &calls->calls[--calls->count];
        if (call->took_old)
            lw_ledger_close(ledger, &call->old, now);
    }
}
