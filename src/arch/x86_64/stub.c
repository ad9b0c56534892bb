/* SPDX-License-Identifier: GPL-2.0-or-later */
/* lea datum(%rip), %r11; jmp to (or jmp *pointer(%rip)) */
#include "leakwatch/arch/stub.h"

#include <errno.h>
#include <string.h>

#include "leakwatch/arch/gate.h"

#define LEA_SIZE 7
#define JMP_SIZE 6

/* The displacement from the end of an instruction, written where the instruction has it: last. */
static int put_displacement(uint8_t *instruction, unsigned size, uint64_t end, uint64_t target)
{
    int64_t distance = (int64_t)(target - end);
    int32_t displacement = (int32_t)distance;
    if (displacement != distance)
        return -ERANGE;
    memcpy(instruction + size - sizeof(displacement), &displacement, sizeof(displacement));
    return 0;
}

int lw_stub_encode(uint64_t from, uint64_t datum, uint64_t to, uint64_t pointer,
                   uint8_t stub[LW_STUB_SIZE])
{
    memcpy(stub, "\x4c\x8d\x1d\0\0\0\0", LEA_SIZE);
    memcpy(stub + LEA_SIZE, "\xff\x25\0\0\0\0", JMP_SIZE);
    int error = put_displacement(stub, LEA_SIZE, from + LEA_SIZE, datum);
    if (!error)
        error = put_displacement(stub + LEA_SIZE, JMP_SIZE, from + LW_STUB_SIZE, pointer);
    if (!error)
        (void)lw_jump_encode(from + LEA_SIZE, to, stub + LEA_SIZE);
    return error;
}
