/* SPDX-License-Identifier: GPL-2.0-or-later */
/* x86-64 instructions, decoded by Zydis and displaced for execution elsewhere. */
#include "leakwatch/arch/instruction.h"

#include <Zydis/Zydis.h>
#include <errno.h>
#include <string.h>

const uint8_t lw_breakpoint_instruction[LW_BREAKPOINT_SIZE] = {0xcc};

struct decoded {
    ZydisDecodedInstruction instruction;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    uint64_t address;
    const uint8_t *bytes;
};

static bool decode(const uint8_t *bytes, size_t size, uint64_t address, struct decoded *decoded)
{
    ZydisDecoder decoder;
    if (ZYAN_FAILED(ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)))
        return false;
    decoded->address = address;
    decoded->bytes = bytes;
    return ZYAN_SUCCESS(
        ZydisDecoderDecodeFull(&decoder, bytes, size, &decoded->instruction, decoded->operands));
}

/* The address of a pc-relative operand, or 0. */
static uint64_t relative_address(const struct decoded *decoded, ZydisOperandType type)
{
    const ZydisDecodedOperand *operand = &decoded->operands[0];
    if (operand->type != type)
        return 0;
    if (type == ZYDIS_OPERAND_TYPE_MEMORY && operand->mem.base != ZYDIS_REGISTER_RIP)
        return 0;
    ZyanU64 address = 0;
    if (ZYAN_FAILED(
            ZydisCalcAbsoluteAddress(&decoded->instruction, operand, decoded->address, &address)))
        return 0;
    return address;
}

static enum lw_flow flow_of(const struct decoded *decoded, bool is_direct)
{
    /* Zydis has these two among the branches; outside a transaction, xabort does nothing. */
    if (decoded->instruction.mnemonic == ZYDIS_MNEMONIC_XEND ||
        decoded->instruction.mnemonic == ZYDIS_MNEMONIC_XABORT)
        return LW_FLOW_NEXT;
    switch (decoded->instruction.meta.category) {
    case ZYDIS_CATEGORY_RET:
        return LW_FLOW_RETURN;
    case ZYDIS_CATEGORY_UNCOND_BR:
        return is_direct ? LW_FLOW_JUMP : LW_FLOW_JUMP_INDIRECT;
    case ZYDIS_CATEGORY_COND_BR:
        return LW_FLOW_BRANCH;
    default:
        break;
    }
    switch (decoded->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_HLT:
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2:
    case ZYDIS_MNEMONIC_INT3:
        return LW_FLOW_STOP;
    default:
        return LW_FLOW_NEXT;
    }
}

bool lw_instruction_decode(const uint8_t *bytes, size_t size, uint64_t address,
                           struct lw_instruction *instruction)
{
    struct decoded decoded;
    if (!decode(bytes, size, address, &decoded))
        return false;
    ZydisInstructionCategory category = decoded.instruction.meta.category;
    uint64_t target = 0, slot = 0;
    if (category == ZYDIS_CATEGORY_UNCOND_BR || category == ZYDIS_CATEGORY_COND_BR ||
        category == ZYDIS_CATEGORY_CALL) {
        target = relative_address(&decoded, ZYDIS_OPERAND_TYPE_IMMEDIATE);
        slot = relative_address(&decoded, ZYDIS_OPERAND_TYPE_MEMORY);
    }
    *instruction = (struct lw_instruction){
        .address = address,
        .length = decoded.instruction.length,
        .flow = flow_of(&decoded, target != 0),
        .is_call = category == ZYDIS_CATEGORY_CALL,
        .target = target,
        .slot = slot,
    };
    return true;
}

/* Code being written for address `to`. */
struct emitter {
    struct lw_displaced *out;
    uint64_t to;
};

static void emit(struct emitter *emitter, const void *bytes, size_t size)
{
    memcpy(emitter->out->code + emitter->out->size, bytes, size);
    emitter->out->size += size;
}

/* A thread stopped at what is emitted next is where the program is at `address`. */
static void note_rewind(struct emitter *emitter, uint64_t address, unsigned stack)
{
    struct lw_displaced *out = emitter->out;
    out->rewind[out->rewind_count].offset = out->size;
    out->rewind[out->rewind_count].stack = stack;
    out->rewind[out->rewind_count].address = address;
    out->rewind_count++;
}

static bool fits_rel32(int64_t distance)
{
    return distance == (int32_t)distance;
}

/* jmp rel32 where the target is near, else jmp *0(%rip) with the address behind it. */
static void emit_jump(struct emitter *emitter, uint64_t target)
{
    int64_t distance = (int64_t)(target - (emitter->to + emitter->out->size + 5));
    if (fits_rel32(distance)) {
        int32_t rel32 = (int32_t)distance;
        emit(emitter, "\xe9", 1);
        emit(emitter, &rel32, sizeof(rel32));
    } else {
        emit(emitter, "\xff\x25\0\0\0\0", 6);
        emit(emitter, &target, sizeof(target));
    }
}

/* The instruction's own bytes, a pc-relative operand adjusted, and ModRM.reg replaced where
 * `opcode_extension` is not negative. */
static int emit_copy(struct emitter *emitter, const struct decoded *decoded, int opcode_extension)
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
                               (int64_t)(emitter->to + emitter->out->size);
        if (!fits_rel32(displacement))
            return -ERANGE;
        int32_t disp32 = (int32_t)displacement;
        memcpy(&copy[instruction->raw.disp.offset], &disp32, sizeof(disp32));
    }
    emit(emitter, copy, instruction->length);
    return 0;
}

/* A conditional branch (jcc, loop, jrcxz):
 *     jcc 1f; jmp NEXT; 1: jmp TARGET */
static int displace_branch(struct emitter *emitter, const struct decoded *decoded, uint64_t target)
{
    const ZydisDecodedInstruction *instruction = &decoded->instruction;
    uint64_t next = decoded->address + instruction->length;
    uint8_t opcode = instruction->opcode;
    if (instruction->opcode_map == ZYDIS_OPCODE_MAP_0F)
        opcode = (uint8_t)(0x70 | (opcode & 0x0f)); /* jcc rel32 -> jcc rel8 */
    else if (instruction->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT ||
             instruction->raw.imm[0].size != 8)
        return -ENOTSUP; /* xbegin */
    if (instruction->attributes & ZYDIS_ATTRIB_HAS_ADDRESSSIZE)
        emit(emitter, "\x67", 1); /* jecxz, loop on ecx */
    emit(emitter, &opcode, 1);
    unsigned rel8 = emitter->out->size;
    emit(emitter, "\0", 1);
    note_rewind(emitter, next, 0);
    emit_jump(emitter, next);
    emitter->out->code[rel8] = (uint8_t)(emitter->out->size - rel8 - 1);
    note_rewind(emitter, target, 0);
    emit_jump(emitter, target);
    return 0;
}

/* A call: push the return address that the program expects, then jump:
 *     push 1f(%rip); jmp TARGET; 1: .quad NEXT
 * A thread stopped between the two has made the call (direct) or can be put back before it. */
static int displace_call(struct emitter *emitter, const struct decoded *decoded, uint64_t target)
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
    unsigned disp = emitter->out->size;
    emit(emitter, "\0\0\0\0", 4);
    if (target != 0) {
        note_rewind(emitter, target, 0);
        emit_jump(emitter, target);
    } else {
        note_rewind(emitter, decoded->address, 8);
        int error = emit_copy(emitter, decoded, 4); /* ff /2 call -> ff /4 jmp */
        if (error)
            return error;
    }
    int32_t distance = (int32_t)(emitter->out->size - (disp + 4));
    memcpy(emitter->out->code + disp, &distance, sizeof(distance));
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

int lw_instruction_displace(const uint8_t *bytes, size_t size, uint64_t address, uint64_t to,
                            struct lw_displaced *displaced)
{
    struct decoded decoded;
    struct lw_instruction instruction;
    if (!decode(bytes, size, address, &decoded) || !is_displaceable(&decoded.instruction) ||
        !lw_instruction_decode(bytes, size, address, &instruction))
        return -ENOTSUP;

    *displaced = (struct lw_displaced){0};
    struct emitter emitter = {.out = displaced, .to = to};
    note_rewind(&emitter, address, 0);
    if (instruction.is_call)
        return displace_call(&emitter, &decoded, instruction.target);
    switch (instruction.flow) {
    case LW_FLOW_BRANCH:
        return displace_branch(&emitter, &decoded, instruction.target);
    case LW_FLOW_JUMP:
        emit_jump(&emitter, instruction.target);
        return 0;
    case LW_FLOW_JUMP_INDIRECT:
    case LW_FLOW_RETURN:
    case LW_FLOW_STOP:
        return emit_copy(&emitter, &decoded, -1);
    case LW_FLOW_NEXT:
        break;
    }
    int error = emit_copy(&emitter, &decoded, -1);
    if (error)
        return error;
    note_rewind(&emitter, address + instruction.length, 0);
    emit_jump(&emitter, address + instruction.length);
    return 0;
}
