/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Entries and returns of allocator functions on one thread -> the ledger's facts. */
#ifndef LEAKWATCH_PROBE_CALL_H
#define LEAKWATCH_PROBE_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "leakwatch/model/ledger.h"
#include "leakwatch/probe/allocator.h"

/*
 * Calls under way are kept per thread as a stack, since allocator functions call each other
 * (operator new calls malloc, realloc calls malloc and free): such nested calls count once, as the
 * outermost. Two stops are the two ends of one call when the slots of their return addresses are
 * equal. A block leaves the ledger when its release is entered, because another thread may be given
 * its address the moment the allocator lets go of it; a new one enters it at the return. Pure but
 * for the ledger it is given: no ptrace, no memory, no clock.
 */
struct lw_call {
    const struct lw_allocator_site *site;
    uint64_t slot;    /* address of the return address */
    uint64_t address; /* of the function's entry, in the target */
    uint64_t size;    /* bytes asked for */
    uint64_t pointer; /* argument 0: the old block, or where the new one is stored */
    bool overflow;    /* count * size does not fit: the call can only fail */
    bool took_old;    /* realloc: `old` was live */
    struct lw_block old;
    const void *return_site; /* the breakpoint planted for this call's return, or NULL */
};

/* Deeper nesting than signal handlers in allocators make is a sign of lost returns. */
#define LW_CALLS_MAX 8

struct lw_calls {
    struct lw_call calls[LW_CALLS_MAX]; /* innermost last */
    unsigned count;
    uint64_t released; /* the block that this thread's latest release was of, 0: none */
};

/* What an entry is told of the stopped thread. */
struct lw_call_entry {
    const struct lw_allocator_site *site;
    uint64_t slot;
    uint64_t address;
    bool from_allocator; /* the caller is in a module that has an allocator set; asked only when
                            calls are under way */
    uint64_t arguments[3];
};

static inline bool lw_calls_pending(const struct lw_calls *calls)
{
    return calls->count > 0;
}

/*
 * An allocator function was entered. True when its return is awaited; false when there is nothing
 * more to see (a release, which is in the ledger now; a nested call). Calls whose return was missed
 * are dropped here.
 */
bool lw_calls_enter(struct lw_calls *calls, struct lw_ledger *ledger,
                    const struct lw_call_entry *entry, uint64_t now);

/* The call whose return this is, or NULL: of none (a nested one's, or one entered before the
 * watch). It stays until lw_calls_finish. */
struct lw_call *lw_calls_match(struct lw_calls *calls, uint64_t slot);

/* Settles the call: `block` is the address of the new block, 0 when the call failed. What was taken
 * at entry is closed or put back, events are counted. True when there is a new block to insert: of
 * call->size bytes, by the caller, who knows its stack. The call is off the stack then; *finished
 * is a copy. */
bool lw_calls_finish(struct lw_calls *calls, struct lw_ledger *ledger, struct lw_call *call,
                     uint64_t block, uint64_t now, struct lw_call *finished);

/* The thread is gone, or the watch ends. */
void lw_calls_abandon(struct lw_calls *calls, struct lw_ledger *ledger, uint64_t now);

#endif
