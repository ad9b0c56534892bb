/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A function whose entry was replaced by a jump, and the gate through which it is still reached. */
#ifndef LEAKWATCH_ARCH_GATE_H
#define LEAKWATCH_ARCH_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "leakwatch/arch/instruction.h"

#define LW_JUMP_SIZE  5 /* bytes of a direct jump */
#define LW_WINDOW_MAX (LW_JUMP_SIZE - 1 + LW_INSTRUCTION_MAX)
#define LW_GATE_MAX   256 /* bytes */

/*
 * The gate holds displaced copies of the instructions that a jump at the function's entry
 * overwrites (its window), and goes on behind them. Calling the gate is calling the function.
 */
struct lw_gate {
    uint8_t code[LW_GATE_MAX];
    unsigned size;
    unsigned window; /* bytes of whole instructions that the jump touches, LW_JUMP_SIZE or more;
                        less when the function ends before and `slack` bytes of filler follow */
    unsigned slack;  /* bytes of filler (nops, int3, zeros behind the function's end) in the jump */
    /* Every place of the gate where a thread can be stopped, and where the program itself is then,
     * once its stack pointer is raised by `stack` bytes. places[0] is the entry. */
    struct {
        uint16_t offset;
        uint8_t stack;
        uint64_t address;
    } places[4 * LW_JUMP_SIZE];
    unsigned place_count;
};

/*
 * Builds the gate for the function at `address`, whose first bytes are given (LW_WINDOW_MAX + 1 of
 * them where there are as many), to run at `to`. 0; -ERANGE: `to` is too far away for what an
 * instruction refers to; -ENOTSUP:
 *   - an instruction cannot be displaced, or a call returns into the window;
 *   - a branch of the window targets the window's inside, or the entry itself, where the jump is
 *     then (a call of the entry is let through: it is a call like any other);
 *   - the function ends in the window and what follows is no filler;
 *   - the jump would lie across a cache line (64 bytes): it is written while other processors may
 *     run there, and such a write can be seen torn.
 * Whether other code of the function branches into the window is not known here.
 */
int lw_gate_build(const uint8_t *bytes, size_t size, uint64_t address, uint64_t to,
                  struct lw_gate *gate);

/* The jump from `from` to `to`; 0 or -ERANGE (more than 2 GiB apart). */
int lw_jump_encode(uint64_t from, uint64_t to, uint8_t jump[LW_JUMP_SIZE]);

#endif
