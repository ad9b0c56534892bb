/* SPDX-License-Identifier: GPL-2.0-or-later */
/* x86-64 call stacks: the System V calling convention, and Linux's signal frames. */
#include "leakwatch/arch/frame.h"

#include <ucontext.h>

#include "leakwatch/arch/instruction.h"

/* `call *%rax`, and `call *disp32(base, index)`; prefixes need not be seen to find the end. */
#define SHORTEST_CALL 2
#define LONGEST_CALL  7
/* An entry of a lazy linkage table: `jmp *slot`, `push index` and, behind them, `jmp` to the first
 * entry (psABI, chapter 5). */
#define PLT_ENTRY     16
#define PLT_LAST_JUMP 11

const unsigned lw_frame_pointer_number = 6; /* rbp: psABI, figure 3.36 */

struct lw_frame_entry lw_frame_entry(uint64_t sp)
{
    return (struct lw_frame_entry){.return_slot = sp, .caller_sp = sp + sizeof(uint64_t)};
}

bool lw_frame_plt_has_pushed(uint64_t pc)
{
    return pc % PLT_ENTRY >= PLT_LAST_JUMP;
}

bool lw_frame_ends_in_call(const uint8_t *bytes, size_t size, uint64_t end)
{
    for (unsigned length = SHORTEST_CALL; length <= LONGEST_CALL && length <= size; length++) {
        struct lw_instruction instruction;
        if (lw_instruction_decode(bytes + size - length, length, end - length, &instruction) &&
            instruction.is_call && instruction.length == length)
            return true;
    }
    return false;
}

/* `mov $15, %rax; syscall` (rt_sigreturn), which every C library returns from a signal handler
 * with, so that debuggers find it. */
const uint8_t lw_signal_trampoline[LW_SIGNAL_TRAMPOLINE_SIZE] = {0x48, 0xc7, 0xc0, 0x0f, 0x00,
                                                                 0x00, 0x00, 0x0f, 0x05};

/* The handler's return has popped the trampoline's address off struct rt_sigframe; the ucontext is
 * next. */
struct lw_signal_context lw_frame_signal_context(uint64_t sp)
{
    const uint64_t registers = sp + offsetof(ucontext_t, uc_mcontext.gregs);
    return (struct lw_signal_context){.pc = registers + REG_RIP * sizeof(greg_t),
                                      .sp = registers + REG_RSP * sizeof(greg_t),
                                      .fp = registers + REG_RBP * sizeof(greg_t)};
}
