/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What call stacks look like in memory: return addresses, and the frames of signal handlers. */
#ifndef LEAKWATCH_ARCH_FRAME_H
#define LEAKWATCH_ARCH_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* DWARF's number of the frame pointer. */
extern const unsigned lw_frame_pointer_number;

/* At a function's entry and at its return instruction: where its return address lies, and the stack
 * pointer once it has returned. */
struct lw_frame_entry {
    uint64_t return_slot, caller_sp;
};
struct lw_frame_entry lw_frame_entry(uint64_t sp);

/* In an entry of a procedure linkage table: whether the word that it pushes is on the stack. */
bool lw_frame_plt_has_pushed(uint64_t pc);

/* Whether a call instruction ends where the bytes do, at the address `end`; this many bytes are
 * enough to tell. */
#define LW_CALL_INSTRUCTION_MAX 8
bool lw_frame_ends_in_call(const uint8_t *bytes, size_t size, uint64_t end);

/* The code that a signal handler returns to. */
#define LW_SIGNAL_TRAMPOLINE_SIZE 9 /* at least 8 */
extern const uint8_t lw_signal_trampoline[LW_SIGNAL_TRAMPOLINE_SIZE];

/* The addresses at which the kernel saved the interrupted thread's registers, for a stack pointer
 * at the trampoline. */
struct lw_signal_context {
    uint64_t pc, sp, fp;
};
struct lw_signal_context lw_frame_signal_context(uint64_t sp);

#endif
