/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writing instructions of the program so that they can run at another address: the common part of
 * displaced copies (instruction.c) and gates (gate.c). Private to arch. */
#ifndef LEAKWATCH_ARCH_X86_64_EMITTER_H
#define LEAKWATCH_ARCH_X86_64_EMITTER_H

#include <Zydis/Zydis.h>

#include "leakwatch/arch/gate.h"
#include "leakwatch/arch/instruction.h"

struct lw_decoded {
    ZydisDecodedInstruction instruction;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    uint64_t address;
    const uint8_t *bytes; /* borrowed */
};

/* False when the bytes are no instruction. */
bool lw_decoded_init(struct lw_decoded *decoded, const uint8_t *bytes, size_t size,
                     uint64_t address);

/* Code being written for address `to`: start with all else 0. */
struct lw_emitter {
    uint64_t to;
    bool is_gate; /* a branch that is not taken goes on with what is emitted next, not behind itself
                     in the program */
    uint8_t code[LW_GATE_MAX];
    unsigned size;
    /* A thread stopped at `offset` is where the program is at `address`, once its stack pointer is
     * raised by `stack` bytes. */
    struct {
        uint16_t offset;
        uint8_t stack;
        uint64_t address;
    } places[4 * LW_JUMP_SIZE];
    unsigned place_count;
};

/*
 * Emits what the instruction at `address` does, and tells what it is; what goes on to the next
 * instruction just ends. At most LW_JUMP_SIZE instructions have room. 0, or -ENOTSUP or -ERANGE as
 * lw_instruction_displace has them; the emitter is of no use then.
 */
int lw_emitter_displace(struct lw_emitter *emitter, const uint8_t *bytes, size_t size,
                        uint64_t address, struct lw_instruction *instruction);

/* Emits a jump to `address`, where the program is when it gets there. */
void lw_emitter_go_on(struct lw_emitter *emitter, uint64_t address);

#endif
