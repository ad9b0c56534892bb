/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A small program that makes one system call after the other. */
#ifndef LEAKWATCH_ARCH_REMOTE_PROGRAM_H
#define LEAKWATCH_ARCH_REMOTE_PROGRAM_H

#include <stdint.h>

#include "leakwatch/arch/registers.h"

/* What becomes of a call's result: an error ends the program, unless... */
#define LW_REQUEST_MAY_FAIL 1u /* the calls behind it do not need it */
/* And so does any other result than its first argument (MAP_FIXED_NOREPLACE before Linux 4.17). */
#define LW_REQUEST_IS_FIXED 2u
/* Made in any case, also after an error. Where it has failed, the program waits (ppoll) for as long
 * as its third and fourth argument say, a struct timespec, before it returns. */
#define LW_REQUEST_IS_LAST 4u

/* One system call, as the program reads it. */
struct lw_program_request {
    uint64_t number;
    uint64_t arguments[6];
    uint64_t first_plus, fifth_plus; /* addresses of what is added to those two arguments: another
                                        request's result, or a zero */
    uint64_t flags;                  /* LW_REQUEST_ */
    int64_t result;                  /* negative errno on failure */
};

/*
 * Code that runs in the target, at any address: it makes the calls of an array of requests, whose
 * address it is given by lw_registers_set_program, and then returns to where the stack pointer
 * pointed at that moment. Until then the stack pointer is below the requests, so that the frame of
 * a signal handler does not overwrite them. LW_REMOTE_PROGRAM_END is the offset of the instruction
 * behind the system call, LW_REMOTE_PROGRAM_REST that behind the wait.
 */
#define LW_REMOTE_PROGRAM_SIZE 128u
#define LW_REMOTE_PROGRAM_END  43u
#define LW_REMOTE_PROGRAM_REST 119u
extern const uint8_t lw_remote_program_code[LW_REMOTE_PROGRAM_SIZE];

void lw_registers_set_program(struct lw_registers *registers, uint64_t program, uint64_t requests);
/* Address of the request that a thread is at that stands in the program. */
uint64_t lw_registers_program_request(const struct lw_registers *registers);

#endif
