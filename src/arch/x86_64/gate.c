/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Gates: the window that a jump overwrites, displaced as a whole. */
#include "leakwatch/arch/gate.h"

#include <errno.h>
#include <string.h>

#include "emitter.h"

#define CACHE_LINE 64

/* The instructions that the jump touches, as the program has them. */
struct window {
    struct lw_instruction instructions[LW_JUMP_SIZE];
    unsigned count;
    unsigned size; /* bytes */
    bool ends;     /* control does not go on behind the last instruction */
};

static bool ends_path(const struct lw_instruction *instruction)
{
    return instruction->flow != LW_FLOW_NEXT && instruction->flow != LW_FLOW_BRANCH;
}

static int measure(const uint8_t *bytes, size_t size, uint64_t address, struct window *window)
{
    *window = (struct window){0};
    while (window->size < LW_JUMP_SIZE && !window->ends) {
        struct lw_instruction *instruction = &window->instructions[window->count];
        if (!lw_instruction_decode(bytes + window->size, size - window->size,
                                   address + window->size, instruction))
            return -ENOTSUP;
        window->size += instruction->length;
        window->count++;
        window->ends = ends_path(instruction);
        /* It would return into the jump. */
        if (instruction->is_call && window->size < LW_JUMP_SIZE)
            return -ENOTSUP;
    }
    return 0;
}

/* A place that the window itself leads to must not be overwritten. The entry counts: going there
 * would run what the jump leads to once more. (A call of the entry is a call like any other.) */
static bool leads_inside(const struct window *window, uint64_t address)
{
    unsigned size = window->size > LW_JUMP_SIZE ? window->size : LW_JUMP_SIZE;
    for (unsigned i = 0; i < window->count; i++) {
        const struct lw_instruction *instruction = &window->instructions[i];
        uint64_t first = instruction->is_call ? address + 1 : address;
        if (instruction->target >= first && instruction->target < address + size)
            return true;
    }
    return false;
}

/* What assemblers and linkers put between functions; whole no-operations, so that no other
 * instruction passes for one. */
static unsigned filler_length(const uint8_t *bytes, size_t size)
{
    struct lw_decoded decoded;
    if (size == 0)
        return 0;
    if (bytes[0] == 0xcc || bytes[0] == 0)
        return 1;
    if (!lw_decoded_init(&decoded, bytes, size, 0) ||
        (decoded.instruction.meta.category != ZYDIS_CATEGORY_NOP &&
         decoded.instruction.meta.category != ZYDIS_CATEGORY_WIDENOP))
        return 0;
    return decoded.instruction.length;
}

static bool is_filler(const uint8_t *bytes, size_t size, unsigned needed)
{
    for (unsigned done = 0, length; done < needed; done += length) {
        length = filler_length(bytes + done, size - done);
        if (length == 0)
            return false;
    }
    return true;
}

static int emit_window(struct lw_emitter *emitter, const struct window *window,
                       const uint8_t *bytes, uint64_t address)
{
    unsigned offset = 0;
    for (unsigned i = 0; i < window->count; i++) {
        struct lw_instruction instruction;
        int error = lw_emitter_displace(emitter, bytes + offset, window->size - offset,
                                        address + offset, &instruction);
        if (error)
            return error;
        offset += instruction.length;
    }
    /* Behind a call, control comes back to the program by its return address. */
    if (!window->ends && !window->instructions[window->count - 1].is_call)
        lw_emitter_go_on(emitter, address + window->size);
    return 0;
}

int lw_gate_build(const uint8_t *bytes, size_t size, uint64_t address, uint64_t to,
                  struct lw_gate *gate)
{
    struct window window;
    if (address / CACHE_LINE != (address + LW_JUMP_SIZE - 1) / CACHE_LINE ||
        measure(bytes, size, address, &window) || leads_inside(&window, address))
        return -ENOTSUP;
    unsigned slack = window.size < LW_JUMP_SIZE ? LW_JUMP_SIZE - window.size : 0;
    if (!is_filler(bytes + window.size, size - window.size, slack))
        return -ENOTSUP;
    struct lw_emitter emitter = {.to = to, .is_gate = true};
    int error = emit_window(&emitter, &window, bytes, address);
    if (error)
        return error;

    *gate = (struct lw_gate){
        .size = emitter.size,
        .window = window.size,
        .slack = slack,
        .place_count = emitter.place_count,
    };
    memcpy(gate->code, emitter.code, emitter.size);
    for (unsigned i = 0; i < emitter.place_count; i++) {
        gate->places[i].offset = emitter.places[i].offset;
        gate->places[i].stack = emitter.places[i].stack;
        gate->places[i].address = emitter.places[i].address;
    }
    return 0;
}
