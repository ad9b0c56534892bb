/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The trap engine's parts: its state, its probes, and what a hit means. */
#ifndef LEAKWATCH_PROBE_TRAP_H
#define LEAKWATCH_PROBE_TRAP_H

#include "leakwatch/probe/call.h"
#include "leakwatch/probe/engine.h"
#include "leakwatch/trace/tracer.h"
#include "leakwatch/unwind/unwinder.h"

/* What a breakpoint is there for; one address may serve several purposes (a function that is one
 * jump). */
enum probe_role {
    PROBE_ENTRY = 1 << 0,       /* of an allocator function */
    PROBE_RETURN = 1 << 1,      /* its return instruction */
    PROBE_JUMP = 1 << 2,        /* its jump to code that is not followed */
    PROBE_RETURN_SITE = 1 << 3, /* the instruction after the call, planted at such a jump */
    PROBE_MODULES = 1 << 4,     /* where the dynamic linker says that modules have come or gone */
};

struct probe {
    unsigned roles;
    const struct lw_allocator_site *site; /* of an entry */
    uint64_t entry;                       /* its address in the target */
};

struct trap_engine {
    struct lw_engine engine;
    struct lw_process_memory memory;
    struct lw_masked_memory masked;
    struct lw_breakpoint_table *breakpoints;
    struct lw_unwinder *unwinder;
    struct lw_stack_table *stacks;
    struct lw_ledger *ledger;
    struct lw_tracer tracer;
    bool memory_open;
    bool attached; /* there are tracees to leave */
    LW_VECTOR(struct probe *) probes;
    uint32_t modules_searched; /* modules 1 .. this have been searched for allocators */
    bool linker_watched;
    uint64_t linker_state;            /* address of the dynamic linker's r_debug.r_state, or 0 */
    struct lw_unwound_frame *unwound; /* options.depth of each */
    struct lw_frame *frames;
};

/* Searches the modules that are new for allocator functions. */
lw_error *trap_find_allocators(struct trap_engine *trap);
/* Plants what is not planted yet in every loaded module. */
lw_error *trap_plant_probes(struct trap_engine *trap);
/* Plants the probe at which the dynamic linker tells of changes, unless it is there. */
lw_error *trap_watch_linker(struct trap_engine *trap);
/* Adds a role to the probe at an address; 0 or what lw_breakpoint_plant returns. */
int trap_plant(struct trap_engine *trap, uint64_t address, enum probe_role role,
               const struct lw_allocator_site *site, struct lw_breakpoint **breakpoint);
/* The module table may have changed: brings probes and the unwinder up to date. */
lw_error *trap_refresh_modules(struct trap_engine *trap);

/*
 * A hit is dealt with in two steps. What must be done while the thread is stopped is done first:
 * reading its memory, planting breakpoints. Accounting and unwinding follow while it runs on, since
 * a processor that waits for more than some microseconds goes to sleep, and takes longer than that
 * to wake.
 */
struct trap_hit {
    struct lw_thread *thread;
    struct lw_breakpoint *breakpoint;
    struct lw_registers registers; /* the pc is the breakpoint's */
    uint64_t now;
    bool from_allocator; /* of an entry */
    bool entered;        /* the entry was accounted for while the thread was stopped */
    uint64_t result;     /* of a return: the new block, 0 when there is none */
    bool unwound;        /* trap->unwound has its stack already */
    size_t depth;
    bool truncated;
};
void trap_examine_hit(struct trap_engine *trap, struct trap_hit *hit);
void trap_account_hit(struct trap_engine *trap, struct trap_hit *hit);
void trap_thread_gone(void *context, struct lw_thread *thread);

#endif
