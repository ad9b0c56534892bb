/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The registers of a stopped thread and the calling convention that gives them meaning. */
#ifndef LEAKWATCH_ARCH_REGISTERS_H
#define LEAKWATCH_ARCH_REGISTERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

/* Opaque above arch: use the functions. */
struct lw_registers {
    struct user_regs_struct native;
};

/* Of a thread in a ptrace stop: 0 or a negative errno (-ESRCH: it is gone, or not stopped). */
int lw_registers_read(pid_t tid, struct lw_registers *registers);
int lw_registers_write(pid_t tid, const struct lw_registers *registers);
/* Writes the program counter alone, which costs half of lw_registers_write. */
int lw_registers_write_pc(pid_t tid, uint64_t pc);

uint64_t lw_registers_pc(const struct lw_registers *registers);
void lw_registers_set_pc(struct lw_registers *registers, uint64_t pc);
uint64_t lw_registers_sp(const struct lw_registers *registers);
void lw_registers_set_sp(struct lw_registers *registers, uint64_t sp);
/* Of the thread's own storage. */
uint64_t lw_registers_thread_pointer(const struct lw_registers *registers);
uint64_t lw_registers_frame_pointer(const struct lw_registers *registers);

/* All that is known of a thread that sleeps in a system call, from /proc/PID/syscall. The other
 * registers are such that what depends on them cannot be unwound. */
void lw_registers_of_sleeper(struct lw_registers *registers, uint64_t pc, uint64_t sp);

/* The same place in the same call: all registers that a signal handler's return brings back. */
bool lw_registers_equal(const struct lw_registers *a, const struct lw_registers *b);

/* Where the return address lies, at a function's entry and at its return instruction: two stops of
 * one thread with equal slots are the two ends of one call. */
uint64_t lw_registers_return_slot(const struct lw_registers *registers);
/* The same, at the instruction that a call has just returned to. */
uint64_t lw_registers_returned_slot(const struct lw_registers *registers);

/* Integer argument n (from 0, at most 5) of a function whose entry the thread has just reached. */
uint64_t lw_registers_argument(const struct lw_registers *registers, unsigned n);
/* Integer result of a function that is about to return. */
uint64_t lw_registers_result(const struct lw_registers *registers);

/* DWARF register number -> value; false when the number names none of the integer registers or pc.
 */
bool lw_registers_dwarf(const struct lw_registers *registers, unsigned number, uint64_t *value);

/*
 * A system call that only a tracer's stop made fail with EINTR (epoll_wait, semop, sigtimedwait and
 * others that the kernel does not restart by itself) is set up to be made again. True when the
 * registers were changed; the caller writes them back.
 */
bool lw_registers_restart_interrupted(struct lw_registers *registers);

/*
 * A call that the kernel would restart by another one (restart_syscall), for the time that is left,
 * is set up to be made again itself, with its whole time limit. True when the registers were
 * changed; the caller writes them back.
 */
bool lw_registers_restart_in_full(struct lw_registers *registers);

/* As the thread goes on once the system call that a stop broke off is made again, whether the
 * kernel would have restarted it or (where the stop was the tracer's alone) let it fail with EINTR.
 */
void lw_registers_repeat_call(struct lw_registers *registers, bool by_tracer);

/* As the thread goes on behind a signal handler that has broken off its system call: that is made
 * again or has failed with EINTR. `restart` is the handler's SA_RESTART. */
void lw_registers_break_off_call(struct lw_registers *registers, bool restart);
/* The thread begins a signal handler, as if called by the kernel, with the stack pointer `sp`. */
void lw_registers_enter_handler(struct lw_registers *registers, uint64_t handler,
                                const uint64_t arguments[3], uint64_t sp);

/* The thread makes this system call next, at a system call instruction; what it was in before is
 * forgotten. */
void lw_registers_set_call(struct lw_registers *registers, long number, const uint64_t arguments[6],
                           uint64_t instruction);
/* The result of a system call that has just ended: a negative errno on failure. */
int64_t lw_registers_call_result(const struct lw_registers *registers);
/* It was broken off and did nothing; the kernel would restart it (-ERESTARTSYS and its like). */
bool lw_registers_call_broken_off(const struct lw_registers *registers);

/* The bytes of a system call instruction. */
#define LW_SYSCALL_SIZE 2
extern const uint8_t lw_syscall_instruction[LW_SYSCALL_SIZE];
/* AUDIT_ARCH_..., by which filters (seccomp) know the instruction's calls. */
extern const uint32_t lw_syscall_arch;

#endif
