/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guard of a breakpoint table. */
#include "leakwatch/trace/guard.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "breakpoint_table.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"
#include "leakwatch/trace/trap_handler.h"
#include "leakwatch/trace/visit.h"
#include "threads.h"

/* Pairs that a list has room for, at most and at least. */
#define PAIRS_MAX 160
#define PAIRS_MIN 24
/* One that stands for no breakpoint: no thread is ever at this address. */
#define NOWHERE 1

#define PATIENCE_NS LW_NS_PER_SECOND

uint64_t lw_guard_place_in(const struct lw_padding *padding)
{
    return (padding->start + 15) & ~15ull;
}

/* ---- Its place ---- */

/* How many pairs the padding has room for; a part of it is left to copies. */
static size_t capacity_of(const struct lw_padding *padding)
{
    const uint64_t room = (padding->end - lw_guard_place_in(padding)) / 4 * 3;
    const size_t least = lw_trap_handler_size(0);
    if (!padding->lends || padding->used > 0 || lw_guard_place_in(padding) >= padding->end ||
        room <= least)
        return 0;
    const size_t capacity = (room - least) / sizeof(struct lw_trap_handler_pair);
    return capacity < PAIRS_MAX ? capacity : PAIRS_MAX;
}

static struct lw_padding *find_largest(struct lw_breakpoint_table *table)
{
    struct lw_padding *best = NULL;
    size_t most = PAIRS_MIN - 1;
    lw_vector_for_each (padding, &table->paddings.list) {
        size_t capacity = capacity_of(padding);
        if (capacity > most) {
            most = capacity;
            best = padding;
        }
    }
    return best;
}

static struct lw_padding *find_padding(struct lw_breakpoint_table *table)
{
    lw_vector_for_each (padding, &table->paddings.list)
        if (padding->start <= table->guard.place && table->guard.place < padding->end)
            return padding;
    return NULL;
}

/* Writes into the handler's place, and remembers what is there then. */
static int write_place(struct lw_breakpoint_table *table, uint64_t address, const void *bytes,
                       size_t size)
{
    struct lw_padding *padding = find_padding(table);
    int error = padding ? lw_memory_write(table->memory, address, bytes, size) : -ENOENT;
    if (!error && padding->ours)
        memcpy(padding->ours + (address - padding->start), bytes, size);
    return error;
}

static int place_handler(struct lw_breakpoint_table *table)
{
    struct lw_guard *guard = &table->guard;
    int error = lw_padding_discover(&table->paddings, table->modules);
    struct lw_padding *padding = error ? NULL : find_largest(table);
    if (!padding)
        return error ? error : -ENOSPC;
    error = lw_padding_open(padding, table->modules, table->memory);
    if (error)
        return error;
    const size_t gap = lw_guard_place_in(padding) - padding->start;
    const size_t size = gap + lw_trap_handler_size(capacity_of(padding));
    guard->capacity = capacity_of(padding);
    guard->pairs = calloc(guard->capacity, sizeof(*guard->pairs));
    uint8_t *image = calloc(1, size);
    if (guard->pairs && image) {
        memcpy(image, padding->original, gap);
        memcpy(image + gap, lw_trap_handler_code, sizeof(lw_trap_handler_code));
        guard->place = lw_guard_place_in(padding);
        padding->varying = gap + LW_TRAP_HANDLER_DATA;
        padding->varying_end = size;
        error = lw_padding_write(padding, table->memory, image, size);
    } else {
        error = -ENOMEM;
    }
    free(image);
    return error;
}

int lw_guard_install(struct lw_breakpoint_table *table, struct lw_remote_call *call)
{
    struct lw_signal_action previous;
    struct lw_guard *guard = &table->guard;
    guard->code = *lw_remote_call_code(call);
    int error = place_handler(table);
    if (!error)
        error = lw_trap_handler_read_action(call, table->memory, &previous);
    if (error)
        return error;
    /* From here on it may be there, whatever is heard of the call that puts it in: taking it out is
     * our duty also where this fails, and does nothing if it is not there. */
    guard->installed = true;
    error = lw_trap_handler_install(call, table->memory, guard->place, &previous);
    if (error)
        return error;
    const uint64_t address = guard->place + LW_TRAP_HANDLER_DATA;
    error = lw_memory_read_all(table->memory, address, &previous, sizeof(previous));
    return error ? error : write_place(table, address, &previous, sizeof(previous));
}

/* ---- Its list ---- */

static size_t find_free_pair(const struct lw_guard *guard)
{
    for (size_t i = 0; i < guard->count; i++)
        if (guard->pairs[i].behind == NOWHERE)
            return i;
    return guard->count;
}

/* The second word first: the first one makes the pair valid. */
static int write_pair(struct lw_breakpoint_table *table, size_t index,
                      const struct lw_trap_handler_pair *pair)
{
    const uint64_t address = table->guard.place + LW_TRAP_HANDLER_DATA +
                             sizeof(struct lw_trap_handler_data) + index * sizeof(*pair);
    int error = write_place(table, address + offsetof(struct lw_trap_handler_pair, go_on),
                            &pair->go_on, sizeof(pair->go_on));
    if (!error)
        error = write_place(table, address, &pair->behind, sizeof(pair->behind));
    table->guard.pairs[index] = *pair;
    return error;
}

int lw_guard_note(struct lw_breakpoint_table *table, struct lw_breakpoint *breakpoint)
{
    struct lw_guard *guard = &table->guard;
    if (!guard->installed)
        return 0;
    const struct lw_trap_handler_pair pair = {.behind = breakpoint->address + LW_BREAKPOINT_SIZE,
                                              .go_on = breakpoint->copy};
    size_t index = breakpoint->displacement->pair;
    index = index ? index - 1 : find_free_pair(guard);
    if (index == guard->capacity) {
        lw_info("so many breakpoints are planted that the process will not survive a SIGKILL of "
                "leakwatch");
        return 0;
    }
    breakpoint->displacement->pair = index + 1;
    if (index == guard->count)
        guard->count++;
    return write_pair(table, index, &pair);
}

void lw_guard_drop(struct lw_breakpoint_table *table, const struct lw_breakpoint *breakpoint)
{
    const size_t index = breakpoint->displacement->pair;
    if (index && table->guard.installed)
        (void)write_pair(table, index - 1, &(struct lw_trap_handler_pair){.behind = NOWHERE});
}

/* ---- Children ---- */

static int remove_from_child(struct lw_tracer *tracer, const struct lw_stop *stop)
{
    const struct lw_breakpoint_table *table = tracer->breakpoints;
    struct lw_process_memory memory;
    struct lw_remote_call *call;
    lw_error *refusal = lw_process_memory_init(&memory, stop->tid);
    if (refusal) {
        int error = -lw_error_code(refusal);
        lw_error_destroy(refusal);
        return error;
    }
    int error = lw_remote_call_begin_alone(tracer, &table->guard.code, stop, &call);
    if (!error) {
        error = lw_trap_handler_remove(call, &memory.memory, table->guard.place);
        int ended = lw_remote_call_end(call, NULL);
        error = error ? error : ended;
    }
    lw_process_memory_deinit(&memory);
    return error;
}

void lw_guard_leave_child(struct lw_tracer *tracer, const struct lw_stop *stop)
{
    if (!tracer->breakpoints || tracer->breakpoints->guard.place == 0 ||
        (stop->kind != LW_STOP_TRAP && stop->kind != LW_STOP_GROUP))
        return;
    int error = remove_from_child(tracer, stop);
    if (error && error != -ESRCH)
        lw_info("forked process %d keeps our SIGTRAP handler: %s", (int)stop->tid,
                strerror(-error));
}

/* ---- The end ---- */

static enum lw_visit_result visit_handler(void *context, const struct lw_visit *visit)
{
    const struct lw_breakpoint_table *table = context;
    return visit->pc - table->guard.place < LW_TRAP_HANDLER_DATA ? LW_VISIT_AGAIN : LW_VISIT_DONE;
}

/* One try: 0, -ETIMEDOUT where a thread does not stop, or another negative errno. */
static int try_to_remove(struct lw_tracer *tracer, uint64_t *longest_ns)
{
    struct lw_breakpoint_table *table = tracer->breakpoints;
    const uint64_t deadline = lw_clock_now() + PATIENCE_NS;
    struct lw_remote_call *call;
    uint64_t pause_ns = 0;
    int error;
    do
        error = lw_tracer_visit(tracer, visit_handler, table, deadline, longest_ns);
    while (error > 0 && lw_clock_now() < deadline);
    if (!error)
        error = lw_remote_call_begin(tracer, &table->guard.code, &call);
    if (error)
        return error > 0 ? -ETIMEDOUT : error;
    error = lw_trap_handler_remove(call, table->memory, table->guard.place);
    int ended = lw_remote_call_end(call, &pause_ns);
    if (pause_ns > *longest_ns)
        *longest_ns = pause_ns;
    return error ? error : ended;
}

int lw_guard_remove(struct lw_tracer *tracer, unsigned *lifted, uint64_t *longest_ns)
{
    struct lw_breakpoint_table *table = tracer->breakpoints;
    *lifted = 0;
    if (!table->guard.installed)
        return 0;
    int count = lw_breakpoint_table_lift_all(table);
    if (count < 0)
        return count;
    *lifted = (unsigned)count;
    int error;
    for (unsigned tries = 0; (error = try_to_remove(tracer, longest_ns)) == -ETIMEDOUT; tries++)
        if (tries == 4)
            lw_threads_warn_of_stuck(tracer);
    table->guard.installed = error != 0;
    return error;
}
