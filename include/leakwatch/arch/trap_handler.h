/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A SIGTRAP handler that lets threads go on behind breakpoints when there is no tracer any more. */
#ifndef LEAKWATCH_ARCH_TRAP_HANDLER_H
#define LEAKWATCH_ARCH_TRAP_HANDLER_H

#include <stdint.h>

/*
 * Code that runs in the target, at any address, with what it needs to know behind it. It calls
 * nothing, keeps nothing, and makes system calls only where the program ends by the signal. While
 * there is a tracer, the signal of a breakpoint never reaches it.
 */
#define LW_TRAP_HANDLER_DATA   256u /* offset: what is in front of it is the code */
#define LW_TRAP_HANDLER_RETURN 240u /* offset: what the handler returns to */
extern const uint8_t lw_trap_handler_code[LW_TRAP_HANDLER_DATA];

/* struct sigaction as the kernel has it. */
struct lw_signal_action {
    uint64_t handler, flags, restorer, mask;
};

struct lw_trap_handler_pair {
    uint64_t behind; /* the pc of a thread that has run into the breakpoint */
    uint64_t go_on;  /* where it goes on */
};

struct lw_trap_handler_data {
    struct lw_signal_action previous;    /* what SIGTRAPs that are not ours go to */
    struct lw_trap_handler_pair pairs[]; /* the last one is 0 */
};

/* How the handler at this address is to be installed, over the program's `previous` action. */
struct lw_signal_action lw_trap_handler_action(uint64_t address,
                                               const struct lw_signal_action *previous);

#endif
