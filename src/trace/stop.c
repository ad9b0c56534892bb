/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Decoding of wait statuses, after ptrace(2). */
#include "leakwatch/trace/stop.h"

#include <sys/ptrace.h>

/* What PTRACE_O_TRACESYSGOOD adds to the SIGTRAP of a system call stop. */
#define SYSGOOD 0x80

/* For a tracee, waitid's si_status is the signal with the event above it. */
static enum lw_stop_kind trapped_kind(int signal, int event)
{
    switch (event) {
    case 0:
        return LW_STOP_SIGNAL;
    case PTRACE_EVENT_STOP:
        /* Only the four stopping signals make a group-stop; everything else comes as SIGTRAP. */
        return signal == SIGTRAP ? LW_STOP_TRAP : LW_STOP_GROUP;
    case PTRACE_EVENT_CLONE:
        return LW_STOP_CLONE;
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
        return LW_STOP_FORK;
    case PTRACE_EVENT_EXEC:
        return LW_STOP_EXEC;
    default:
        return LW_STOP_OTHER;
    }
}

struct lw_stop lw_stop_decode(const siginfo_t *info)
{
    struct lw_stop stop = {.tid = info->si_pid};
    switch (info->si_code) {
    case CLD_EXITED:
        stop.kind = LW_STOP_EXITED;
        stop.status = info->si_status;
        break;
    case CLD_KILLED:
    case CLD_DUMPED:
        stop.kind = LW_STOP_KILLED;
        stop.signal = info->si_status & 0x7f;
        break;
    case CLD_TRAPPED:
        stop.signal = info->si_status & 0x7f;
        stop.kind = info->si_status == (SIGTRAP | SYSGOOD)
                        ? LW_STOP_SYSCALL
                        : trapped_kind(stop.signal, info->si_status >> 8);
        break;
    default:
        stop.kind = LW_STOP_OTHER;
        break;
    }
    return stop;
}
