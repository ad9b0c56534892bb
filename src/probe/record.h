/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The record engine's parts: its state, and the steps of putting the agent in and taking it out. */
#ifndef LEAKWATCH_PROBE_RECORD_H
#define LEAKWATCH_PROBE_RECORD_H

#include "leakwatch/agent/agent.h"
#include "leakwatch/arch/gate.h"
#include "leakwatch/arch/page.h"
#include "leakwatch/arch/stub.h"
#include "leakwatch/probe/engine.h"
#include "leakwatch/trace/remote_call.h"
#include "leakwatch/trace/tracer.h"
#include "leakwatch/unwind/row_table.h"
#include "record_view.h"

/*
 * ptrace is used twice, each time for some milliseconds: to put the agent in, and to take it out.
 * Each time a thread of ours is the tracer, and its end releases the target (trace/tracer.h).
 */

/*
 * A landing, as it lies in the target: a head that names everything that has to be taken out again,
 * so that a later leakwatch can do so when this one was killed, and in a forked child too, which
 * has a copy of this but not of the shared memory; then the sites.
 */
#define RECORD_LANDING_SIZE (4 * LW_PAGE_SIZE)
/* Behind a landing, a page that nobody can touch, of the same memory file as the shared memory: its
 * name in /proc/PID/maps tells a later leakwatch where the landing is, however little of it there
 * is. Its offset in the file says that it is one. */
#define RECORD_LANDING_SPAN   (RECORD_LANDING_SIZE + LW_PAGE_SIZE)
#define RECORD_LANDING_OFFSET (1ull << 40)
#define RECORD_MEMORY_NAME    "leakwatch"
#define RECORD_LANDING_SITES  64

/* The SIGTRAP handler (trace/trap_handler.h) lies at the end of the agent's code. */
#define RECORD_HANDLER_SIZE 0x3000u
#define RECORD_HANDLER      (LW_AGENT_CODE_MAX - RECORD_HANDLER_SIZE)

struct record_patch {
    uint64_t entry;
    uint8_t original[LW_JUMP_SIZE];
    uint8_t reserved[8 - LW_JUMP_SIZE];
};

struct record_landing_head {
    uint64_t magic; /* LW_AGENT_MAGIC */
    uint64_t base;  /* of the agent, and how much is mapped there */
    uint64_t span;
    uint32_t owner; /* process id of the leakwatch */
    uint32_t patch_count;
    uint64_t owner_start; /* lw_process_start_time */
    struct record_patch patches[RECORD_LANDING_SITES];
};

/* One site in its landing. */
struct record_slot {
    uint8_t stub[16]; /* the patched entry jumps here */
    struct lw_agent_site site;
    uint8_t gate[LW_GATE_MAX];
};

#define RECORD_SLOTS                                                                               \
    ((RECORD_LANDING_SIZE - sizeof(struct record_landing_head)) / sizeof(struct record_slot))

struct record_landing {
    uint64_t address; /* in the target */
    bool mapped, filled;
    uint32_t module;
    union {
        struct record_landing_head head;
        uint8_t bytes[RECORD_LANDING_SIZE];
    } image;
    unsigned slots;
};

/* One patched entry. */
struct record_site {
    enum lw_agent_wrapper wrapper;
    const struct lw_allocator_function *function; /* NULL: the dynamic linker's */
    uint32_t module;
    uint64_t entry; /* in the target */
    uint64_t slot;  /* of its slot, in the target */
    uint8_t original[LW_JUMP_SIZE], jump[LW_JUMP_SIZE];
    struct lw_gate gate;
    bool patched;
    bool is_trap; /* (left by a leakwatch that was killed) a breakpoint is planted */
    struct lw_breakpoint *breakpoint; /* while it is put in */
};

/* A module's rows: compiled before the target is touched, then copied to the shared memory. */
struct record_rows {
    struct lw_row_table table;
    uint32_t first; /* in the shared memory */
    bool compiled, published;
};

/* What watching has cost, for --sample=auto. */
struct record_effort {
    uint64_t samples, cpu_ns;
};

struct record_engine {
    struct lw_engine engine;
    struct lw_process_memory memory;
    bool memory_open;
    int shared_fd, pid_fd;
    struct lw_agent_shared *shared;
    uint64_t near;       /* where the agent had best be; 0: anywhere */
    uint64_t base, span; /* of the agent in the target; 0: not there */
    bool mapped;         /* all of it is there */
    bool clearing;       /* what is there is another leakwatch's */
    struct lw_agent_control control;

    LW_VECTOR(struct record_landing *) landings;
    LW_VECTOR(struct record_site *) sites;
    uint32_t modules_searched;
    uint64_t linker_entry, linker_state; /* 0: none */
    uint64_t new_handler;                /* where the C++ library has it; 0: nowhere */
    uint32_t new_handler_module;

    struct record_view view;
    bool view_ready;
    LW_VECTOR(struct record_rows) rows; /* by module id - 1 */
    uint32_t next_row;
    uint64_t start_ns;
    uint32_t module_events, row_requests, region_requests; /* as last dealt with */
    uint64_t refreshed_ns, reclaimed_ns;
    uint64_t judged_ns;
    struct record_effort effort; /* up to then */
    _Atomic bool woken;
    pid_t child; /* a command that we started */

    struct lw_tracer *tracer; /* during attach and stop */
    struct lw_breakpoint_table *breakpoints;
    uint64_t longest_pause_ns;
};

static inline bool record_is_sampled(const struct record_engine *record)
{
    return record->engine.options.sample_bytes != 0 || record->engine.options.sample_auto;
}

/* ---- record_sites.c: what is patched, and how ---- */

/* Searches the modules that are new for allocator functions and for the dynamic linker. */
lw_error *record_find_allocators(struct record_engine *record);
/* Plans a patch for each function that has none, in landings that are not mapped yet. ENOTSUP when
 * one cannot be patched. */
lw_error *record_plan(struct record_engine *record);

/* ---- record_limits.c ---- */

/* What forbids the recorder, seen from outside: ENOTSUP and why, or NULL. */
lw_error *record_check_limits(const struct record_engine *record);
/* Once the span is reserved: -ENOLCK when the target locks what it maps (mlockall with MCL_FUTURE):
 * then all of the tables would be made at once. */
int record_check_locked(const struct record_engine *record);

/* ---- record_attach.c ---- */

/* Opens what is read of the process; nothing of it is touched yet. */
lw_error *record_open_process(struct record_engine *record);
/* Everything that can be done before anybody is stopped. ENOTSUP: it is not possible here. */
lw_error *record_prepare(struct record_engine *record);
lw_error *record_create_breakpoints(struct record_engine *record);

/* How record_arm becomes the tracer. */
struct record_arming {
    lw_error *(*begin)(struct record_engine *record, const struct record_arming *arming);
    char *const *argv;
    const sigset_t *mask;
    bool alone; /* the one thread there is stays where it is until all is patched */
};
/* Maps and writes the agent, patches what is planned and not patched yet, switches on, and lets go.
 * For record_on_tracer_thread; the argument is a struct record_arming. */
lw_error *record_arm(struct record_engine *record, void *arming);
void record_finish_arming(struct record_engine *record);

lw_error *record_attach(struct record_engine *record, pid_t pid);
/* Patches what has come with new modules. */
lw_error *record_attach_new(struct record_engine *record);

/* ---- record_launch.c ---- */

lw_error *record_launch(struct record_engine *record, char *const argv[], const sigset_t *mask);

/* ---- record_clock.c: the time, and what leakwatch writes about it ---- */

/* Also tells the agent (in record->control) how to find out that we are gone. */
void record_clock_start(struct record_engine *record);
void record_clock_advance(struct record_engine *record);
/* Sleeps until the next tick, and advances to it. */
void record_clock_await(struct record_engine *record);

/* ---- record_sampling.c ---- */

void record_sampling_start(struct record_engine *record);
/* --sample=auto: brings the rate closer to what the overhead that was asked for permits. */
void record_sampling_adjust(struct record_engine *record);

/* ---- record_map.c: the mappings in the target ---- */

/* Maps what is not there yet, and fills the landings. */
int record_map(struct record_engine *record, struct lw_remote_call *call);
/* Unmaps it all. */
int record_unmap(struct record_engine *record, struct lw_remote_call *call);

/* ---- record_handler.c: SIGTRAP while breakpoints are planted ---- */

/* Before the first is planted: puts the handler in, for all sites. */
int record_handler_install(struct record_engine *record, struct lw_remote_call *call);
/* After the last was taken out, and when every thread has been seen since. */
int record_handler_remove(struct record_engine *record, struct lw_remote_call *call);
/* Does such work by a thread that is borrowed for it. */
int record_borrow(struct record_engine *record,
                  int (*work)(struct record_engine *, struct lw_remote_call *));
/* One visit of every thread: who has run into a breakpoint that is no more has gone on. */
int record_pass_by(struct record_engine *record);

/* ---- record_modules.c: what the agent is told of the address space ---- */

/* Compiles the rows of modules that are new. */
int record_compile_rows(struct record_engine *record);
/* Publishes where modules are, with their rows, and where stacks are. */
int record_publish_modules(struct record_engine *record);
int record_publish_regions(struct record_engine *record);

/* ---- record_leave.c ---- */

/* Takes the patches and the agent out. */
lw_error *record_leave(struct record_engine *record, struct lw_engine_detachment *detachment);

/* ---- record_leftovers.c ---- */

/* What is there of another leakwatch, as landings, sites and the agent's span; for record_leave,
 * which asks again once nobody else can be the tracer. EBUSY: that one is watching. */
lw_error *record_find_leftovers(struct record_engine *record);
/* Descriptors of its that are open in the target. */
int record_close_leftovers(struct record_engine *record, struct lw_remote_call *call);

/* Takes out what a leakwatch that was killed has left in the target, or what a forked target has
 * inherited. EBUSY: another leakwatch is watching. */
lw_error *record_clear_leftovers(struct record_engine *record);

/* ---- record_engine.c ---- */

/* Forgets landings and sites. */
void record_forget_sites(struct record_engine *record);

/* Runs `work` on a thread of its own, whose end releases its tracees. */
lw_error *record_on_tracer_thread(struct record_engine *record,
                                  lw_error *(*work)(struct record_engine *, void *),
                                  void *argument);

#endif
