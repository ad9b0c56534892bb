/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The target's SIGTRAP handler, which stands in for us where we are killed while breakpoints are
 * planted. */
#include <errno.h>
#include <stdlib.h>

#include "leakwatch/base/clock.h"
#include "leakwatch/trace/trap_handler.h"
#include "leakwatch/trace/visit.h"
#include "record.h"

#define SETTLE_NS LW_NS_PER_SECOND

static int write_handler(struct record_engine *record)
{
    const size_t count = record->sites.count;
    if (lw_trap_handler_size(count) > RECORD_HANDLER_SIZE)
        return -E2BIG;
    struct lw_trap_handler_pair *pairs = calloc(count + 1, sizeof(*pairs));
    if (!pairs)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        const struct record_site *site = record->sites.items[i];
        pairs[i] = (struct lw_trap_handler_pair){
            .behind = site->entry + LW_BREAKPOINT_SIZE,
            .go_on = site->slot + offsetof(struct record_slot, gate),
        };
    }
    int error =
        lw_trap_handler_write(&record->memory.memory, record->base + RECORD_HANDLER, pairs, count);
    free(pairs);
    return error;
}

int record_handler_install(struct record_engine *record, struct lw_remote_call *call)
{
    const uint64_t place = record->base + RECORD_HANDLER;
    struct lw_signal_action action;
    int error = lw_trap_handler_read_action(call, &record->memory.memory, &action);
    /* A leakwatch that was killed may have left it: then it knows all that was planted. */
    if (error || action.handler == place)
        return error;
    error = write_handler(record);
    return error ? error : lw_trap_handler_install(call, &record->memory.memory, place, &action);
}

int record_handler_remove(struct record_engine *record, struct lw_remote_call *call)
{
    if (record->base == 0)
        return 0;
    return lw_trap_handler_remove(call, &record->memory.memory, record->base + RECORD_HANDLER);
}

int record_borrow(struct record_engine *record,
                  int (*work)(struct record_engine *, struct lw_remote_call *))
{
    struct lw_remote_code code;
    struct lw_remote_call *call;
    uint64_t pause = 0;
    int error = lw_remote_code_find(&code, record->engine.modules);
    if (!error)
        error = lw_remote_call_begin(record->tracer, &code, &call);
    if (error)
        return error;
    error = work(record, call);
    int ended = lw_remote_call_end(call, &pause);
    if (pause > record->longest_pause_ns)
        record->longest_pause_ns = pause;
    return error ? error : ended;
}

static enum lw_visit_result visit_in_passing(void *context, const struct lw_visit *visit)
{
    (void)context, (void)visit;
    return LW_VISIT_DONE;
}

int record_pass_by(struct record_engine *record)
{
    int error = lw_tracer_visit(record->tracer, visit_in_passing, NULL, lw_clock_now() + SETTLE_NS,
                                &record->longest_pause_ns);
    return error < 0 ? error : 0;
}
