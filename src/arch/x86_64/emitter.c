/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writing instructions of the program so that they can run at another address. */
#include "emitter.h"

#include <errno.h>
#include <string.h>

#define BRANCH_MAX 32 /* bytes of code; no instruction becomes more */
_Static_assert(LW_GATE_MAX >= (LW_JUMP_SIZE + 1) * BRANCH_MAX, "a gate has room for its window");

static void emit(struct lw_emitter *emitter, const void *bytes, size_t size)
{
    memcpy(emitter->code + emitter->size, bytes, size);
    emitter->size += (unsigned)size;
}

/* A thread stopped at what is emitted next is where the program is at `address`. */
static void note_place(struct lw_emitter *emitter, uint64_t address, uint8_t stack)
{
    unsigned i = emitter->place_count++;
    emitter->places[i].offset = (uint16_t)emitter->size;
    emitter->places[i].stack = stack;
    emitter->places[i].address = address;
}

static bool fits_rel32(int64_t distance)
{
    return distance == (int32_t)distance;
}

int lw_jump_encode(uint64_t from, uint64_t to, uint8_t jump[LW_JUMP_SIZE])
{
    int64_t distance = (int64_t)(to - (from + LW_JUMP_SIZE));
    if (!fits_rel32(distance))
        return -ERANGE;
    int32_t rel32 = (int32_t)distance;
    jump[0] = 0xe9;
    memcpy(jump + 1, &rel32, sizeof(rel32));
    return 0;
}

/* jmp rel32 where the target is near, else jmp *0(%rip) with the address behind it. */
static void emit_jump(struct lw_emitter *emitter, uint64_t target)
{
    uint8_t jump[LW_JUMP_SIZE];
    if (lw_jump_encode(emitter->to + emitter->size, target, jump) == 0) {
        emit(emitter, jump, sizeof(jump));
    } else {
        emit(emitter, "\xff\x25\0\0\0\0", 6);
        emit(emitter, &target, sizeof(target));
    }
}

void lw_emitter_go_on(struct lw_emitter *emitter, uint64_t address)
{
    note_place(emitter, address, 0);
    emit_jump(emitter, address);
}

/* The instruction's own bytes, a pc-relative operand adjusted, and ModRM.reg replaced where
 * `opcode_extension` is not negative. */
static int emit_copy(struct lw_emitter *emitter, const struct lw_decoded *decoded,
                     int opcode_extension)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;
    uint8_t copy[LW_INSTRUCTION_MAX];
    memcpy(copy, decoded->bytes, instruction->length);
    if (opcode_extension >= 0) {
        uint8_t *modrm = &copy[instruction->raw.modrm.offset];
        *modrm = (uint8_t)((*modrm & ~0x38) | (opcode_extension << 3));
    }
    if (instruction->attributes & ZYDIS_ATTRIB_IS_RELATIVE) {
        if (instruction->raw.disp.size != 32)
            return -ENOTSUP;
        int64_t displacement = instruction->raw.disp.value + (int64_t)decoded->address -
                               (int64_t)(emitter->to + emitter->size);
        if (!fits_rel32(displacement))
            return -ERANGE;
        int32_t disp32 = (int32_t)displacement;
        memcpy(&copy[instruction->raw.disp.offset], &disp32, sizeof(disp32));
    }
    emit(emitter, copy, instruction->length);
    return 0;
}

/* jcc TARGET, in one instruction where the target is near; false when it is not. */
static bool emit_near_branch(struct lw_emitter *emitter, uint8_t condition, uint64_t target)
{
    int64_t distance = (int64_t)(target - (emitter->to + emitter->size + 6));
    if (!fits_rel32(distance))
        return false;
    uint8_t opcode[] = {0x0f, 0x80 | condition};
    int32_t rel32 = (int32_t)distance;
    emit(emitter, opcode, sizeof(opcode));
    emit(emitter, &rel32, sizeof(rel32));
    return true;
}

/* A conditional branch (jcc, loop, jrcxz):
 *     jcc 1f; jmp NEXT; 1: jmp TARGET
 * where in a gate NEXT is what follows (and a jcc is one instruction if it can be). */
static int displace_branch(struct lw_emitter *emitter, const struct lw_decoded *decoded,
                           uint64_t target)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;
    uint64_t next = decoded->address + instruction->length;
    uint8_t opcode = instruction->opcode;
    if (instruction->opcode_map == ZYDIS_OPCODE_MAP_0F)
        opcode = (uint8_t)(0x70 | (opcode & 0x0f)); /* jcc rel32 -> jcc rel8 */
    else if (instruction->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT ||
             instruction->raw.imm[0].size != 8)
        return -ENOTSUP; /* xbegin */
    bool is_jcc = (opcode & 0xf0) == 0x70;
    if (emitter->is_gate && is_jcc && emit_near_branch(emitter, opcode & 0x0f, target))
        return 0;
    if (instruction->attributes & ZYDIS_ATTRIB_HAS_ADDRESSSIZE)
        emit(emitter, "\x67", 1); /* jecxz, loop on ecx */
    emit(emitter, &opcode, 1);
    unsigned taken = emitter->size++;
    note_place(emitter, next, 0);
    unsigned not_taken = 0;
    if (emitter->is_gate) {
        emit(emitter, "\xeb", 1);
        not_taken = emitter->size++;
    } else {
        emit_jump(emitter, next);
    }
    emitter->code[taken] = (uint8_t)(emitter->size - taken - 1);
    lw_emitter_go_on(emitter, target);
    if (not_taken)
        emitter->code[not_taken] = (uint8_t)(emitter->size - not_taken - 1);
    return 0;
}

/* A call: push the return address that the program expects, then jump:
 *     push 1f(%rip); jmp TARGET; 1: .quad NEXT
 * A thread stopped between the two has made the call (direct) or can be put back before it. */
static int displace_call(struct lw_emitter *emitter, const struct lw_decoded *decoded,
                         uint64_t target)
{
    uint64_t next = decoded->address + decoded->instruction.length;
    const ZydisDecodedOperand *operand = &decoded->operands[0];
    if (target == 0 && (decoded->instruction.opcode != 0xff || operand->size != 64))
        return -ENOTSUP;
    if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY &&
        (operand->mem.base == ZYDIS_REGISTER_RSP || operand->mem.base == ZYDIS_REGISTER_ESP))
        return -ENOTSUP; /* the push would move what the call reads */
    if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER && operand->reg.value == ZYDIS_REGISTER_RSP)
        return -ENOTSUP;

    emit(emitter, "\xff\x35", 2);
    unsigned disp = emitter->size;
    emit(emitter, "\0\0\0\0", 4);
    if (target != 0) {
        lw_emitter_go_on(emitter, target);
    } else {
        note_place(emitter, decoded->address, 8);
        int error = emit_copy(emitter, decoded, 4); /* ff /2 call -> ff /4 jmp */
        if (error)
            return error;
    }
    int32_t distance = (int32_t)(emitter->size - (disp + 4));
    memcpy(emitter->code + disp, &distance, sizeof(distance));
    emit(emitter, &next, sizeof(next));
    return 0;
}

static bool is_displaceable(const ZydisDecodedInstruction *instruction)
{
    switch (instruction->meta.category) {
    case ZYDIS_CATEGORY_SYSCALL: /* a restarted one goes back by its length, into the copy */
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_INTERRUPT: /* the pc that its handler sees is the copy's */
        return false;
    default:
        return true;
    }
}

int lw_emitter_displace(struct lw_emitter *emitter, const uint8_t *bytes, size_t size,
                        uint64_t address, struct lw_instruction *instruction)
{
    struct lw_decoded decoded;
    if (!lw_decoded_init(&decoded, bytes, size, address) ||
        !is_displaceable(&decoded.instruction) ||
        !lw_instruction_decode(bytes, size, address, instruction))
        return -ENOTSUP;
    note_place(emitter, address, 0);
    if (instruction->is_call)
        return displace_call(emitter, &decoded, instruction->target);
    switch (instruction->flow) {
    case LW_FLOW_BRANCH:
        return displace_branch(emitter, &decoded, instruction->target);
    case LW_FLOW_JUMP:
        emit_jump(emitter, instruction->target);
        return 0;
    case LW_FLOW_JUMP_INDIRECT:
    case LW_FLOW_RETURN:
    case LW_FLOW_STOP:
    case LW_FLOW_NEXT:
        break;
    }
    return emit_copy(emitter, &decoded, -1);
}
