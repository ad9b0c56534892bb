/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making system calls by a borrowed thread: by a program in the target that makes them all, or one
 * by one, from system call stop to system call stop. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "borrowed.h"
#include "breakpoint_table.h"
#include "leakwatch/target/process.h"
#include "leakwatch/trace/call_filter.h"
#include "threads.h"

#define SIGNAL_BIT(number) (1ull << ((number)-1))

/* For us, of a program whose end signal was refused. */
#define WAIT_SECONDS 1

/* ---- One by one ---- */

static bool is_system_call(struct lw_remote_call *call, const struct lw_stop *stop)
{
    (void)call;
    return stop->kind == LW_STOP_SYSCALL;
}

static int make_one(struct lw_remote_call *call, long number, const uint64_t arguments[6],
                    int64_t *result)
{
    struct lw_registers registers;
    do {
        lw_borrowed_prepare(call, &registers);
        lw_registers_set_call(&registers, number, arguments, call->code.call);
        if (lw_registers_write(call->tid, &registers) != 0 ||
            lw_borrowed_run(call, PTRACE_SYSCALL, false, is_system_call) != 0 || /* its beginning */
            lw_borrowed_run(call, PTRACE_SYSCALL, false, is_system_call) != 0 || /* its end */
            lw_registers_read(call->tid, &registers) != 0) {
            call->is_gone = true;
            return -ESRCH;
        }
    } while (lw_registers_call_broken_off(&registers)); /* by a stop, of which there are few */
    *result = lw_registers_call_result(&registers);
    return 0;
}

static uint64_t sum(uint64_t argument, const struct lw_remote_request *requests, unsigned plus)
{
    return plus ? argument + (uint64_t)requests[plus - 1].result : argument;
}

static int make_one_by_one(struct lw_remote_call *call, struct lw_remote_request *requests,
                           size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct lw_remote_request *request = &requests[i];
        uint64_t arguments[6];
        memcpy(arguments, request->arguments, sizeof(arguments));
        arguments[0] = sum(arguments[0], requests, request->first_plus);
        arguments[4] = sum(arguments[4], requests, request->fifth_plus);
        int error = make_one(call, request->number, arguments, &request->result);
        if (error)
            return error;
        if (request->may_fail)
            continue;
        if (lw_remote_result_is_error(request->result) ||
            (request->is_fixed && request->result != (int64_t)arguments[0]))
            break;
    }
    return 0;
}

/* ---- By the program ---- */

/* What lies below the thread's stack: a zero, to which requests point that add nothing; a request
 * for the thread's number in its own namespace; ours; and the signal to itself that stops the
 * thread for its tracer. Without one, it is as if nothing had come. */
struct program {
    uint64_t address;
    size_t count, size;
    struct {
        uint64_t zero;
        struct lw_program_request requests[];
    } * data;
};

/* `index` counts from the first, so that ours begin at 1. */
static uint64_t result_address(const struct program *program, size_t index)
{
    return program->address + sizeof(program->data->zero) +
           index * sizeof(struct lw_program_request) + offsetof(struct lw_program_request, result);
}

static void translate(struct program *program, const struct lw_remote_request *requests)
{
    for (size_t i = 0; i < program->count; i++) {
        const struct lw_remote_request *from = &requests[i];
        struct lw_program_request *to = &program->data->requests[1 + i];
        to->number = (uint64_t)from->number;
        memcpy(to->arguments, from->arguments, sizeof(to->arguments));
        to->first_plus =
            from->first_plus ? result_address(program, from->first_plus) : program->address;
        to->fifth_plus =
            from->fifth_plus ? result_address(program, from->fifth_plus) : program->address;
        to->flags =
            (from->may_fail ? LW_REQUEST_MAY_FAIL : 0) | (from->is_fixed ? LW_REQUEST_IS_FIXED : 0);
        to->result = from->result;
    }
}

static void add_end(struct program *program, int signal)
{
    struct lw_program_request *requests = program->data->requests;
    requests[0] = (struct lw_program_request){
        .number = SYS_gettid, .first_plus = program->address, .fifth_plus = program->address};
    requests[1 + program->count] =
        (struct lw_program_request){.number = SYS_tkill,
                                    .arguments = {0, (uint64_t)signal, WAIT_SECONDS},
                                    .first_plus = result_address(program, 0),
                                    .fifth_plus = program->address,
                                    .flags = LW_REQUEST_IS_LAST};
}

/*
 * It has made the last request: the same signal may come from elsewhere, behind any other. Where
 * the signal was refused (by a security module), it waits for us to interrupt it.
 */
static bool is_end(struct lw_remote_call *call, const struct lw_stop *stop)
{
    struct lw_registers registers;
    if (lw_registers_read(call->tid, &registers) != 0)
        return false;
    const uint64_t offset = lw_registers_pc(&registers) - call->code.program;
    const bool is_last = lw_registers_program_request(&registers) == call->last_request &&
                         offset >= LW_REMOTE_PROGRAM_END && offset < LW_REMOTE_PROGRAM_SIZE;
    if (stop->kind == LW_STOP_SIGNAL)
        return is_last && stop->signal == call->end_signal;
    if (stop->kind != LW_STOP_TRAP && stop->kind != LW_STOP_GROUP)
        return false;
    call->signal_refused = is_last && offset == LW_REMOTE_PROGRAM_REST;
    call->has_left = offset >= LW_REMOTE_PROGRAM_SIZE;
    return call->signal_refused || call->has_left;
}

/* It could not wait either, and has everything back, but for what its calls have done. */
static int let_go(struct lw_remote_call *call)
{
    call->is_gone = true;
    lw_threads_let_others_take_signals(call->tracer, call->tid);
    ptrace(call->stop == LW_STOP_GROUP ? PTRACE_LISTEN : PTRACE_CONT, call->tid, NULL, NULL);
    return -EPERM;
}

static int run_program(struct lw_remote_call *call, struct program *program)
{
    struct lw_registers registers;
    lw_borrowed_prepare(call, &registers);
    lw_registers_set_program(&registers, call->code.program,
                             program->address + sizeof(program->data->zero));
    int error = lw_borrowed_write_mask(call, ~SIGNAL_BIT(call->end_signal));
    if (!error)
        error = lw_registers_write(call->tid, &registers);
    call->in_program = true;
    if (!error)
        error = lw_borrowed_run(call, PTRACE_CONT, false, is_end);
    call->in_program = false;
    if (!error && call->has_left)
        return let_go(call);
    if (!error)
        error = lw_borrowed_write_mask(call, UINT64_MAX);
    if (!error) /* from here on, it must not look at the requests any more */
        error = lw_borrowed_stand_by(call);
    if (!error &&
        !lw_borrowed_transfer(call, false, program->address, program->data, program->size))
        error = -ESRCH;
    call->is_gone |= error != 0;
    return error ? -ESRCH : 0;
}

/* -EFAULT: there is no room on the stack; nothing has been done. */
static int make_by_program(struct lw_remote_call *call, struct lw_remote_request *requests,
                           size_t count)
{
    struct program program = {
        .count = count,
        .size = sizeof(program.data->zero) + (count + 2) * sizeof(struct lw_program_request),
    };
    program.address = (call->lowest - program.size) & ~15ull;
    call->last_request = program.address + sizeof(program.data->zero) +
                         (count + 1) * sizeof(struct lw_program_request);
    program.data = calloc(1, program.size);
    uint8_t *original = malloc(program.size);
    int error = program.data && original ? 0 : -ENOMEM;
    if (!error) {
        translate(&program, requests);
        add_end(&program, call->end_signal);
        if (!lw_borrowed_transfer(call, false, program.address, original, program.size) ||
            !lw_borrowed_transfer(call, true, program.address, program.data, program.size))
            error = -EFAULT;
    }
    if (!error) {
        error = run_program(call, &program);
        for (size_t i = 0; !error && i < count; i++)
            requests[i].result = program.data->requests[1 + i].result;
        if (!call->is_gone) /* what is there now may be another program's */
            lw_borrowed_transfer(call, true, program.address, original, program.size);
    }
    free(program.data);
    free(original);
    return error;
}

/*
 * A signal that has no effect on the thread: with no handler, ignored by default, and not blocked
 * (to be accepted by sigwait(3) or signalfd(2) then); SIGCONT is not among them, since it undoes
 * stop signals.
 */
static int choose_end_signal(const struct lw_remote_call *call)
{
    static const int candidates[] = {SIGURG, SIGWINCH, SIGCHLD};
    struct lw_task_status status;
    if (call->code.program == 0 || !call->under_frame || call->signal_refused ||
        lw_task_status_read(call->tracer->pid, call->tid, &status) != 0)
        return 0;
    for (size_t i = 0; i < sizeof(candidates) / sizeof(candidates[0]); i++)
        if (!((status.signals_caught | call->mask) & SIGNAL_BIT(candidates[i])))
            return candidates[i];
    return 0;
}

/* ---- Both ---- */

int lw_remote_call_make_all(struct lw_remote_call *call, struct lw_remote_request *requests,
                            size_t count)
{
    if (call->is_gone)
        return -ESRCH;
    if (count == 0)
        return 0;
    for (size_t i = 0; i < count; i++)
        if (call->is_filtered && !lw_call_is_asked(requests[i].number, requests[i].arguments))
            return -EPERM;
    for (size_t i = 0; i < count; i++)
        requests[i].result = -ECANCELED;
    call->end_signal = choose_end_signal(call);
    int error = call->end_signal ? make_by_program(call, requests, count) : -EFAULT;
    return error == -EFAULT ? make_one_by_one(call, requests, count) : error;
}

int lw_remote_call_make(struct lw_remote_call *call, long number, const uint64_t arguments[6],
                        int64_t *result)
{
    struct lw_remote_request request = {.number = number};
    memcpy(request.arguments, arguments, sizeof(request.arguments));
    int error = lw_remote_call_make_all(call, &request, 1);
    *result = request.result;
    return error;
}
