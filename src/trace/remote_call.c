/* SPDX-License-Identifier: GPL-2.0-or-later */
/* System calls made by a borrowed thread. */
#include "leakwatch/trace/remote_call.h"

#include <errno.h>
#include <linux/rseq.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "borrowed.h"
#include "breakpoint_table.h"
#include "leakwatch/arch/page.h"
#include "leakwatch/arch/signal_frame.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"
#include "leakwatch/target/process.h"
#include "leakwatch/trace/call_filter.h"
#include "threads.h"

#define WARN_NS  (5 * LW_NS_PER_SECOND)
#define LOOK_NS  (200 * LW_NS_PER_MS)
#define RED_ZONE 128 /* bytes below the stack pointer that belong to the function */

/* ---- Its state ---- */

/*
 * A thread inside a restartable sequence has told the kernel so in its rseq area. When the kernel
 * sees it outside, as during our calls, it takes the note away, and the sequence would later go on
 * as if nothing had come between. So the note is put back with the registers, and the kernel then
 * aborts the sequence as it would have after any other interruption.
 */
static void read_rseq(struct lw_remote_call *call)
{
    struct __ptrace_rseq_configuration configuration;
    call->rseq_slot = call->rseq_section = 0;
    long size =
        ptrace(PTRACE_GET_RSEQ_CONFIGURATION, call->tid, sizeof(configuration), &configuration);
    if (size != sizeof(configuration) || configuration.rseq_abi_pointer == 0)
        return;
    call->rseq_slot = configuration.rseq_abi_pointer + offsetof(struct rseq, rseq_cs);
    errno = 0;
    long section = ptrace(PTRACE_PEEKDATA, call->tid, call->rseq_slot, NULL);
    if (errno == 0)
        call->rseq_section = (uint64_t)section;
}

static int check_instruction(const struct lw_remote_call *call)
{
    errno = 0;
    long word = ptrace(PTRACE_PEEKTEXT, call->tid, call->code.call, NULL);
    if (errno != 0)
        return errno == ESRCH ? -ESRCH : -EFAULT;
    return memcmp(&word, lw_syscall_instruction, LW_SYSCALL_SIZE) == 0 ? 0 : -EFAULT;
}

int lw_borrowed_write_mask(const struct lw_remote_call *call, uint64_t mask)
{
    return ptrace(PTRACE_SETSIGMASK, call->tid, sizeof(mask), &mask) == 0 ? 0 : -errno;
}

static int read_state(struct lw_remote_call *call)
{
    int error = lw_registers_read(call->tid, &call->registers);
    if (error)
        return error;
    /* The mask that the program has set: a temporary one (sigsuspend, ppoll) is gone by now for
     * good, and is set again when the call is restarted. */
    if (ptrace(PTRACE_GETSIGMASK, call->tid, sizeof(call->mask), &call->mask) != 0)
        return -errno;
    read_rseq(call);
    call->lowest = lw_registers_sp(&call->registers) - RED_ZONE;
    return 0;
}

/* ---- The way back ---- */

bool lw_borrowed_transfer(const struct lw_remote_call *call, bool write, uint64_t address,
                          void *bytes, size_t size)
{
    struct iovec here = {.iov_base = bytes, .iov_len = size};
    struct iovec there = {.iov_base = (void *)(uintptr_t)address, .iov_len = size};
    ssize_t n = write ? process_vm_writev(call->tid, &here, 1, &there, 1, 0)
                      : process_vm_readv(call->tid, &here, 1, &there, 1, 0);
    return n == (ssize_t)size;
}

/* The registers with which the thread would go on untraced. */
static void resumed_registers(const struct lw_remote_call *call, struct lw_registers *registers)
{
    struct rseq_cs section;
    *registers = call->registers;
    lw_registers_repeat_call(registers, call->stopped_by_us);
    if (call->rseq_section != 0 &&
        lw_borrowed_transfer(call, false, call->rseq_section, &section, sizeof(section)) &&
        lw_registers_pc(registers) - section.start_ip < section.post_commit_offset)
        lw_registers_set_pc(registers, section.abort_ip);
}

void lw_borrowed_prepare(const struct lw_remote_call *call, struct lw_registers *registers)
{
    *registers = call->registers;
    if (call->under_frame)
        lw_registers_set_sp(registers, call->frame.address);
}

int lw_borrowed_stand_by(const struct lw_remote_call *call)
{
    struct lw_registers registers;
    lw_borrowed_prepare(call, &registers);
    lw_registers_set_call(&registers, SYS_getpid, (const uint64_t[6]){0}, call->code.call);
    return lw_registers_write(call->tid, &registers);
}

/*
 * From here until it is given back, the thread goes on at a system call that does nothing, and then
 * returns to where it was, should we be killed. Without a frame (the stack has no room, the program
 * no such code) that would be the end of it.
 */
static int lay_way_back(struct lw_remote_call *call)
{
    struct lw_registers registers;
    if (call->code.sigreturn == 0)
        return 0;
    resumed_registers(call, &registers);
    int error = lw_signal_frame_build(&call->frame, call->tid, &registers, call->mask, call->lowest,
                                      call->code.sigreturn);
    if (error)
        return error == -ENOTSUP ? 0 : error;
    uint8_t *original = malloc(call->frame.size);
    if (!original ||
        !lw_borrowed_transfer(call, false, call->frame.address, original, call->frame.size) ||
        !lw_borrowed_transfer(call, true, call->frame.address, call->frame.bytes,
                              call->frame.size)) {
        free(original);
        lw_signal_frame_deinit(&call->frame);
        return original ? 0 : -ENOMEM;
    }
    call->under_frame = original;
    call->lowest = call->frame.address;
    return lw_borrowed_stand_by(call);
}

/* The thread has its own registers again. */
static void remove_way_back(struct lw_remote_call *call)
{
    if (call->under_frame && !call->is_gone) /* else it may be another program's stack */
        lw_borrowed_transfer(call, true, call->frame.address, call->under_frame, call->frame.size);
    free(call->under_frame);
    call->under_frame = NULL;
    lw_signal_frame_deinit(&call->frame);
}

/* Lets go of a thread in a PTRACE_EVENT_STOP, which the kernel takes before it decides about the
 * restart of a system call: with its registers, that is given back too. */
static int give_back(struct lw_remote_call *call)
{
    int error = lw_borrowed_write_mask(call, call->mask);
    if (!error && call->rseq_section != 0)
        ptrace(PTRACE_POKEDATA, call->tid, call->rseq_slot, call->rseq_section);
    /* The registers last: until then, the way back is the frame's. */
    if (!error)
        error = lw_registers_write(call->tid, &call->registers);
    remove_way_back(call);
    if (call->is_alone)
        return error;
    struct lw_thread *thread = lw_tracer_thread(call->tracer, call->tid);
    if (error || !thread)
        return -ESRCH;
    lw_threads_let_others_take_signals(call->tracer, call->tid);
    /* With a signal that came meanwhile, and has a handler, the call is left to fail. */
    if (call->stopped_by_us)
        lw_threads_restart_call(thread);
    if (call->stop == LW_STOP_GROUP)
        thread->stopped = ptrace(PTRACE_LISTEN, call->tid, NULL, NULL) == 0;
    else
        lw_ptrace_continue(call->tid, 0);
    return 0;
}

/* The thread stands in a PTRACE_EVENT_STOP; 0, or an error and it is given back. */
static int begin_at_stop(struct lw_remote_call *call, const struct lw_stop *stop)
{
    call->tid = stop->tid;
    call->stop = stop->kind;
    call->stopped_by_us = stop->kind == LW_STOP_TRAP;
    call->was_disturbed = stop->kind == LW_STOP_GROUP;
    int error = read_state(call);
    if (error)
        return error;
    struct lw_task_status status;
    call->is_filtered = lw_task_status_read(call->tid, call->tid, &status) != 0 ||
                        status.seccomp != SECCOMP_MODE_DISABLED;
    if (call->is_filtered && call->is_alone)
        error = lw_call_filter_check(call->tid, NULL);
    if (!error)
        error = check_instruction(call);
    if (!error)
        error = lay_way_back(call);
    if (!error)
        error = lw_borrowed_write_mask(call, UINT64_MAX);
    if (error)
        give_back(call);
    return error;
}

static void remove_program(const struct lw_remote_call *call)
{
    if (call->code.program != 0)
        lw_remote_program_remove(call->tracer->breakpoints);
}

int lw_remote_call_begin(struct lw_tracer *tracer, const struct lw_remote_code *code,
                         struct lw_remote_call **call)
{
    struct lw_stop stop;
    struct lw_remote_call *new = calloc(1, sizeof(*new));
    if (!new)
        return -ENOMEM;
    *new = (struct lw_remote_call){.tracer = tracer, .code = *code};
    new->code.program = tracer->breakpoints ? lw_remote_program_lay(tracer->breakpoints) : 0;
    int error = lw_threads_borrow(tracer, &stop, &new->since_ns);
    if (!error)
        error = begin_at_stop(new, &stop);
    if (!error) {
        *call = new;
        return 0;
    }
    remove_program(new);
    free(new);
    lw_tracer_wake(tracer); /* a wake-up may have been taken for one of our stops */
    return error;
}

int lw_remote_call_begin_alone(struct lw_tracer *tracer, const struct lw_remote_code *code,
                               const struct lw_stop *stop, struct lw_remote_call **call)
{
    struct lw_remote_call *new = calloc(1, sizeof(*new));
    if (!new)
        return -ENOMEM;
    *new = (struct lw_remote_call){
        .tracer = tracer, .code = *code, .is_alone = true, .since_ns = lw_clock_now()};
    new->code.program = 0;
    int error = begin_at_stop(new, stop);
    if (!error)
        *call = new;
    else
        free(new);
    return error;
}

/* ---- Calls ---- */

/* No stop has come. What is the matter with the program is seen when the thread stops for us. */
static void look_after(struct lw_remote_call *call, uint64_t now, uint64_t *look_at,
                       uint64_t *warn_at)
{
    if (call->in_program && now >= *look_at) {
        ptrace(PTRACE_INTERRUPT, call->tid, NULL, NULL);
        call->was_disturbed = true;
        *look_at = now + LOOK_NS;
    }
    if (now < *warn_at)
        return;
    lw_warn("waiting for thread %d of process %d, which makes a system call for us and "
            "does not come back (frozen, or stuck in the kernel)",
            (int)call->tid, (int)call->tracer->pid);
    *warn_at = LW_NEVER;
}

/* Others may have interrupted the thread (lw_threads_let_others_take_signals): the kernel has taken
 * that back with this stop, and nobody must wait for one that will not come. */
static void note_stop(const struct lw_remote_call *call)
{
    struct lw_thread *thread = lw_tracer_thread(call->tracer, call->tid);
    if (thread)
        thread->interrupted = false;
}

/* Waits for the thread's next stop. It cannot be left alone now, however long it takes (a cgroup
 * may be frozen). */
static int await_stop(struct lw_remote_call *call, struct lw_stop *stop)
{
    uint64_t warn_at = lw_clock_now() + WARN_NS, look_at = lw_clock_now() + LOOK_NS;
    for (;;) {
        const uint64_t next = call->in_program && look_at < warn_at ? look_at : warn_at;
        *stop = call->is_alone ? lw_wait_for(call->tid, next) : lw_tracer_next(call->tracer, next);
        if (stop->kind == LW_STOP_NONE) {
            look_after(call, lw_clock_now(), &look_at, &warn_at);
            continue;
        }
        bool is_end = stop->kind == LW_STOP_EXITED || stop->kind == LW_STOP_KILLED ||
                      stop->kind == LW_STOP_EXEC;
        if (stop->tid == call->tid && !is_end) {
            note_stop(call);
            return 0;
        }
        int error = call->is_alone ? -ESRCH : lw_threads_settle(call->tracer, stop);
        if (error || stop->tid == call->tid)
            return -ESRCH;
    }
}

int lw_borrowed_run(struct lw_remote_call *call, enum __ptrace_request request, bool interrupt,
                    bool (*is_wanted)(struct lw_remote_call *, const struct lw_stop *))
{
    long signal = 0;
    struct lw_stop stop;
    for (;;) {
        if (interrupt) /* any stop takes it back, so it is asked for each time */
            ptrace(PTRACE_INTERRUPT, call->tid, NULL, NULL);
        int error = ptrace(request, call->tid, NULL, signal) == 0 ? 0 : -ESRCH;
        if (!error)
            error = await_stop(call, &stop);
        call->is_gone = error != 0;
        if (error)
            return error;
        call->stop = stop.kind;
        if (is_wanted(call, &stop))
            return 0;
        call->was_disturbed = true;
        signal = stop.kind == LW_STOP_SIGNAL ? stop.signal : 0;
    }
}

static bool is_event_stop(struct lw_remote_call *call, const struct lw_stop *stop)
{
    (void)call;
    return stop->kind == LW_STOP_TRAP || stop->kind == LW_STOP_GROUP;
}

/* ---- Stores ---- */

/* A page of our own, for a stack that has no room: it grows only for the thread itself. */
static int map_page(struct lw_remote_call *call)
{
    const uint64_t arguments[6] = {
        0, LW_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, UINT64_MAX, 0};
    int64_t result;
    int error = lw_remote_call_make(call, SYS_mmap, arguments, &result);
    if (error)
        return error;
    if (lw_remote_result_is_error(result))
        return (int)result;
    call->page = (uint64_t)result;
    call->page_lowest = call->page + LW_PAGE_SIZE;
    return 0;
}

static uint64_t *lowest(struct lw_remote_call *call)
{
    return call->page != 0 ? &call->page_lowest : &call->lowest;
}

static int write_store(struct lw_remote_call *call, struct lw_remote_store *store,
                       const void *bytes)
{
    store->address = (*lowest(call) - store->size) & ~15ull;
    int error = lw_memory_read_all(store->memory, store->address, store->original, store->size);
    return error ? error : lw_memory_write(store->memory, store->address, bytes, store->size);
}

int lw_remote_call_store(struct lw_remote_call *call, struct lw_memory *memory, const void *bytes,
                         size_t size, uint64_t *address)
{
    if (size > LW_STORE_MAX || call->store_count == sizeof(call->stores) / sizeof(call->stores[0]))
        return -E2BIG;
    if (call->is_gone)
        return -ESRCH;
    struct lw_remote_store *store = &call->stores[call->store_count];
    *store = (struct lw_remote_store){.memory = memory, .size = size};
    int error = write_store(call, store, bytes);
    if (error == -EFAULT && call->page == 0) {
        error = map_page(call);
        if (!error)
            error = write_store(call, store, bytes);
    }
    if (error)
        return error;
    *lowest(call) = *address = store->address;
    call->store_count++;
    return 0;
}

/* Nothing of the thread's is below its red zone; but where its stack is a coroutine's, that may be
 * the end of it, and somebody else's memory. */
static void take_stores_back(struct lw_remote_call *call)
{
    while (call->store_count > 0) {
        struct lw_remote_store *store = &call->stores[--call->store_count];
        lw_memory_write(store->memory, store->address, store->original, store->size);
    }
    if (call->page != 0) {
        const uint64_t arguments[6] = {call->page, LW_PAGE_SIZE};
        int64_t result;
        lw_remote_call_make(call, SYS_munmap, arguments, &result);
    }
}

pid_t lw_remote_call_thread(const struct lw_remote_call *call)
{
    return call->tid;
}

const struct lw_registers *lw_remote_call_registers(const struct lw_remote_call *call)
{
    return &call->registers;
}

const struct lw_remote_code *lw_remote_call_code(const struct lw_remote_call *call)
{
    return &call->code;
}

/* ---- The end ---- */

int lw_remote_call_end(struct lw_remote_call *call, uint64_t *pause_ns)
{
    if (!call->is_gone)
        take_stores_back(call);
    /* At the end of a system call it is too early: registers given back there are those of the
     * thread when the kernel next looks for signals and restarts, which it does only when there is
     * something pending. The stops for an interrupt and for a signal are in the middle of that
     * look; but after a signal's, the thread might not join the others in a group stop. */
    int error = call->is_gone ? -ESRCH : 0;
    bool is_in_look = call->stop == LW_STOP_TRAP || call->stop == LW_STOP_GROUP ||
                      (call->stop == LW_STOP_SIGNAL && !call->was_disturbed);
    if (!error && !is_in_look)
        error = lw_borrowed_run(call, PTRACE_CONT, true, is_event_stop);
    if (!error)
        error = give_back(call);
    remove_way_back(call);
    remove_program(call);
    if (pause_ns)
        *pause_ns = lw_clock_now() - call->since_ns;
    lw_tracer_wake(call->tracer); /* a wake-up may have been taken for one of our stops */
    free(call);
    return error;
}
