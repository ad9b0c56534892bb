/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Machine instructions: what they do to control flow, and how to run one somewhere else. */
#ifndef LEAKWATCH_ARCH_INSTRUCTION_H
#define LEAKWATCH_ARCH_INSTRUCTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LW_INSTRUCTION_MAX 15 /* bytes */

/* The breakpoint instruction, and how far the pc has moved when its trap is reported. */
#define LW_BREAKPOINT_SIZE 1
extern const uint8_t lw_breakpoint_instruction[LW_BREAKPOINT_SIZE];

enum lw_flow {
    LW_FLOW_NEXT,          /* goes on to the next instruction (calls too) */
    LW_FLOW_BRANCH,        /* conditional: the next instruction or `target` */
    LW_FLOW_JUMP,          /* `target` */
    LW_FLOW_JUMP_INDIRECT, /* somewhere; `slot` is set when it is through a pc-relative pointer */
    LW_FLOW_RETURN,
    LW_FLOW_STOP, /* hlt, ud2: control does not go on */
};

struct lw_instruction {
    uint64_t address;
    unsigned length;
    enum lw_flow flow;
    bool is_call;    /* of LW_FLOW_NEXT: a call, to `target` when that is not 0 */
    uint64_t target; /* of a direct branch, jump or call; else 0 */
    uint64_t slot;   /* of an indirect jump or call through memory at a fixed address: that address;
                        else 0 */
};

/* Decodes the instruction at `bytes` (which the program has at `address`). False when the bytes are
 * none. */
bool lw_instruction_decode(const uint8_t *bytes, size_t size, uint64_t address,
                           struct lw_instruction *instruction);

/*
 * A displaced copy: code that, run at another address, does what the one instruction does at its
 * own and then goes on where it would have gone.
 */
#define LW_DISPLACED_MAX 64 /* bytes */

struct lw_displaced {
    uint8_t code[LW_DISPLACED_MAX];
    unsigned size;
    /* A thread stopped at code + rewind[i].offset is in the state that the program itself has at
     * rewind[i].address, once its stack pointer is raised by rewind[i].stack bytes. Every offset
     * that a thread can be stopped at is listed. */
    struct {
        uint8_t offset;
        uint8_t stack;
        uint64_t address;
    } rewind[4];
    unsigned rewind_count;
};

/* Makes the copy of the instruction for the address `to`. 0; -ERANGE when `to` is too far away
 * (more than 2 GiB) for what the instruction refers to; -ENOTSUP for one that cannot be displaced
 * (a system call, an undecodable one). */
int lw_instruction_displace(const uint8_t *bytes, size_t size, uint64_t address, uint64_t to,
                            struct lw_displaced *displaced);

#endif
