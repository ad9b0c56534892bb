/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Looking for what a thread may return to: on its stack, and in the agent's notes. */
#ifndef LEAKWATCH_PROBE_RECORD_RETURN_H
#define LEAKWATCH_PROBE_RECORD_RETURN_H

#include "leakwatch/target/maps.h"
#include "record.h"

/* All zero but for the first two fields before its use. */
struct record_return_search {
    struct record_engine *record;
    bool (*is_ours)(const struct record_engine *record, uint64_t word);
    struct lw_maps maps;
};

/*
 * Whether any word of the stack, from the red zone below `sp` to the end of the mapping, is ours.
 * Such a word may be left over from a call that has returned; but where there is none, nothing on
 * this stack will return to such an address. True also when the stack cannot be read. No more than
 * a megabyte is searched, since the mapping may be a heap of many gigabytes, of which a coroutine
 * has made its stack: between here and there can only be what an allocator function needs, and
 * signal handlers.
 */
bool record_may_return(struct record_return_search *search, uint64_t sp);

/*
 * Whether the agent has noted that this thread is in a function that it stands in for. That may be
 * on another stack than the thread is on now, which is that of a signal handler. The note stays
 * where such a handler has jumped out, so it is a reason to unwind, and no more.
 */
bool record_is_noted(struct record_engine *record, pid_t tid);

void record_return_search_deinit(struct record_return_search *search);

#endif
