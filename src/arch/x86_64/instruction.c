/* SPDX-License-Identifier: GPL-2.0-or-later */
/* x86-64 instructions, decoded by Zydis and displaced for execution elsewhere. */
#include "leakwatch/arch/instruction.h"

#include <Zydis/Zydis.h>
#include <string.h>

#include "emitter.h"

const uint8_t lw_breakpoint_instruction[LW_BREAKPOINT_SIZE] = {0xcc};

bool lw_decoded_init(struct lw_decoded *decoded, const uint8_t *bytes, size_t size,
                     uint64_t address)
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
static uint64_t relative_address(const struct lw_decoded *decoded, ZydisOperandType type)
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

static enum lw_flow flow_of(const struct lw_decoded *decoded, bool is_direct)
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
    struct lw_decoded decoded;
    if (!lw_decoded_init(&decoded, bytes, size, address))
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

int lw_instruction_displace(const uint8_t *bytes, size_t size, uint64_t address, uint64_t to,
                            struct lw_displaced *displaced)
{
    struct lw_emitter emitter = {.to = to};
    struct lw_instruction instruction;
    int error = lw_emitter_displace(&emitter, bytes, size, address, &instruction);
    if (error)
        return error;
    if (instruction.flow == LW_FLOW_NEXT && !instruction.is_call)
        lw_emitter_go_on(&emitter, address + instruction.length);

    *displaced = (struct lw_displaced){.size = emitter.size, .rewind_count = emitter.place_count};
    memcpy(displaced->code, emitter.code, emitter.size);
    for (unsigned i = 0; i < emitter.place_count; i++) {
        displaced->rewind[i].offset = (uint8_t)emitter.places[i].offset;
        displaced->rewind[i].stack = emitter.places[i].stack;
        displaced->rewind[i].address = emitter.places[i].address;
    }
    return 0;
}
