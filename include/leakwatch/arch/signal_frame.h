/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel puts on a thread's stack for a signal handler, made by us. */
#ifndef LEAKWATCH_ARCH_SIGNAL_FRAME_H
#define LEAKWATCH_ARCH_SIGNAL_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "leakwatch/arch/registers.h"

/*
 * A thread whose stack pointer is at a frame, and that returns, makes the system call rt_sigreturn,
 * which gives it back all its registers, floating point and vectors too, and its signal mask. So it
 * finds its way back by itself from wherever it was sent.
 */
struct lw_signal_frame {
    uint64_t address; /* where the bytes are to be, and the stack pointer with them */
    size_t size;
    uint8_t *bytes; /* owned */
};

/*
 * The frame that brings the stopped thread back to these registers and this signal mask, to be put
 * below the address `top` of its stack. `sigreturn` is the address of code that makes the system
 * call (lw_sigreturn_code). 0; -ENOMEM; -ENOTSUP: the processor's state cannot be read whole.
 */
int lw_signal_frame_build(struct lw_signal_frame *frame, pid_t tid,
                          const struct lw_registers *registers, uint64_t mask, uint64_t top,
                          uint64_t sigreturn);
void lw_signal_frame_deinit(struct lw_signal_frame *frame);

/* Where a handler that is begun at the frame finds its context (ucontext_t). */
uint64_t lw_signal_frame_context(const struct lw_signal_frame *frame);

/* Flags of an action, as <asm/signal.h> has them. */
#define LW_SA_RESTART 0x10000000u
#define LW_SA_NODEFER 0x40000000u

/* A system call and a return; and what C libraries return to from their signal handlers. */
#define LW_CALL_AND_RETURN_SIZE 3
extern const uint8_t lw_call_and_return_code[LW_CALL_AND_RETURN_SIZE];
#define LW_SIGRETURN_SIZE 9
extern const uint8_t lw_sigreturn_code[LW_SIGRETURN_SIZE];

#endif
