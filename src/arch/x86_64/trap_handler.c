/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How the SIGTRAP handler is installed. */
#include "leakwatch/arch/trap_handler.h"

/* Of the kernel's <asm/signal.h>. */
#define SA_SIGINFO   0x00000004u
#define SA_RESTORER  0x04000000u
#define SA_ONSTACK   0x08000000u
#define SA_RESTART   0x10000000u
#define SA_NODEFER   0x40000000u
#define SA_RESETHAND 0x80000000u

struct lw_signal_action lw_trap_handler_action(uint64_t address,
                                               const struct lw_signal_action *previous)
{
    struct lw_signal_action action = {
        .handler = address,
        .flags = SA_SIGINFO | SA_RESTORER | SA_NODEFER,
        .restorer = address + LW_TRAP_HANDLER_RETURN,
    };
    if (previous->handler > 1) { /* a function: the handler blocks for it what it wants blocked */
        action.flags |= previous->flags & ~(uint64_t)SA_RESETHAND;
        if (previous->flags & SA_RESTORER) /* it may return when we are gone */
            action.restorer = previous->restorer;
    }
    if (previous->handler <= 1) /* SIG_DFL, SIG_IGN: it is as if no signal had come */
        action.flags |= SA_ONSTACK | SA_RESTART;
    return action;
}
