/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A row of call-frame information, packed: how to step from one frame to its caller. */
#ifndef LEAKWATCH_UNWIND_ROW_H
#define LEAKWATCH_UNWIND_ROW_H

#include <stdint.h>

/*
 * What the unwinding of compiled code needs in all but odd cases: where the canonical frame address
 * (CFA) is, and where the caller's frame pointer was saved. The return address is always the word
 * below the CFA. Freestanding: the agent that runs in the target includes this too.
 *
 * Bits: kind 3, offset/8 18, slot 10 (from the lowest).
 */
enum lw_row_kind {
    LW_ROW_NONE,  /* no (usable) call-frame information here */
    LW_ROW_SP,    /* CFA = stack pointer + offset */
    LW_ROW_FP,    /* CFA = frame pointer + offset */
    LW_ROW_DEREF, /* CFA = the word at frame pointer + offset - LW_ROW_DEREF_BIAS (realigned stacks)
                   */
    LW_ROW_SIGNAL, /* a signal trampoline: the kernel's signal context is at the stack pointer */
    LW_ROW_END,    /* the outermost frame: its return address is undefined */
    LW_ROW_PLT,    /* a procedure linkage table: CFA = sp + 8, or + 16 once the entry has pushed */
};

#define LW_ROW_DEREF_BIAS (1 << 20)
#define LW_ROW_OFFSET_MAX ((1 << 18) - 1) /* in units of 8 bytes */
/* Slot n: the caller's frame pointer is at CFA - 8 n; 0: it is still in the register. */
#define LW_ROW_SLOT_MAX 1022
/* The caller's frame pointer is the word that the frame pointer points to (realigned stacks). */
#define LW_ROW_SLOT_AT_FP 1023

typedef uint32_t lw_row;

static inline lw_row lw_row_pack(enum lw_row_kind kind, uint32_t offset, uint32_t slot)
{
    return (uint32_t)kind | (offset / 8) << 3 | slot << 21;
}

static inline enum lw_row_kind lw_row_kind(lw_row row)
{
    return (enum lw_row_kind)(row & 7);
}

static inline uint32_t lw_row_offset(lw_row row) /* bytes */
{
    return ((row >> 3) & LW_ROW_OFFSET_MAX) * 8;
}

static inline uint32_t lw_row_slot(lw_row row)
{
    return row >> 21;
}

#endif
