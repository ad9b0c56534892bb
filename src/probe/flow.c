/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Walking a function's control flow. */
#include "flow.h"

#include <errno.h>

#include "leakwatch/arch/instruction.h"
#include "leakwatch/base/map.h"

/* An allocator's entry function has some hundreds of instructions; this ends a walk that has lost
 * its way in corrupt code. */
#define INSTRUCTIONS_MAX 20000

struct walk {
    const struct lw_elf_image *image;
    uint64_t entry;
    const struct lw_address_list *watched;
    struct lw_flow_summary *summary;
    LW_VECTOR(uint64_t) pending; /* addresses still to be followed */
    struct lw_map seen;
    bool past_watched; /* follow calls of allocator functions to what comes after them */
    uint64_t window_end;
    bool enters_window; /* something targets what lies between the entry and window_end */
};

static bool read_instruction(const struct lw_elf_image *image, uint64_t address,
                             struct lw_instruction *instruction)
{
    uint8_t bytes[LW_INSTRUCTION_MAX];
    size_t size = lw_elf_image_read(image, address, bytes, sizeof(bytes));
    return lw_instruction_decode(bytes, size, address, instruction);
}

/* The name of the function that an indirect jump or call through a GOT slot, or a PLT entry at
 * `target`, reaches. */
static const char *plt_name(const struct lw_elf_image *image, uint64_t target)
{
    struct lw_instruction instruction;
    /* [endbr64;] [bnd] jmp *slot(%rip) */
    for (int i = 0; i < 2 && read_instruction(image, target, &instruction); i++) {
        if (instruction.flow == LW_FLOW_JUMP_INDIRECT)
            return instruction.slot ? lw_elf_image_got_symbol(image, instruction.slot) : NULL;
        target += instruction.length;
    }
    return NULL;
}

static bool is_plt_entry(const struct lw_elf_image *image, uint64_t target)
{
    struct lw_instruction instruction;
    for (int i = 0; i < 2 && read_instruction(image, target, &instruction); i++) {
        if (instruction.flow == LW_FLOW_JUMP_INDIRECT)
            return instruction.slot != 0;
        if (instruction.flow != LW_FLOW_NEXT || instruction.length != 4) /* endbr64 */
            return false;
        target += instruction.length;
    }
    return false;
}

static bool is_watched_entry(const struct walk *walk, uint64_t address)
{
    lw_vector_for_each (entry, &walk->watched->list)
        if (*entry == address)
            return true;
    return false;
}

/* Does a call or jump with this target or through this slot reach an allocator function? */
static bool reaches_watched(const struct walk *walk, uint64_t target, uint64_t slot)
{
    const char *name =
        slot ? lw_elf_image_got_symbol(walk->image, slot) : plt_name(walk->image, target);
    if (name && lw_allocator_function_named(name))
        return true;
    return target && target != walk->entry && is_watched_entry(walk, target);
}

static int add_exit(struct walk *walk, uint64_t address, enum lw_exit_kind kind)
{
    struct lw_allocator_exit exit = {.address = address, .kind = kind};
    return lw_vector_push(&walk->summary->exits, exit);
}

/* A jump that leaves the function: to an allocator function, to foreign code, or into a private
 * part. */
static int leave_function(struct walk *walk, const struct lw_instruction *instruction)
{
    if (reaches_watched(walk, instruction->target, instruction->slot)) {
        walk->summary->ends_in_watched = true;
        return 0;
    }
    struct lw_elf_symbol symbol;
    uint64_t target = instruction->target;
    /* A function that is nothing but a jump (mimalloc's posix_memalign) is another name of its
     * target. */
    bool is_alias = instruction->address == walk->entry;
    bool foreign = target == 0 || is_plt_entry(walk->image, target) ||
                   (!is_alias && lw_elf_image_symbol_at(walk->image, target, &symbol) &&
                    symbol.global && symbol.address == target);
    return foreign ? add_exit(walk, instruction->address, LW_EXIT_JUMP)
                   : lw_vector_push(&walk->pending, target);
}

static bool is_inside(const struct walk *walk, uint64_t address)
{
    struct lw_elf_symbol symbol;
    return lw_elf_image_symbol_at(walk->image, address, &symbol) && symbol.address == walk->entry &&
           address != walk->entry;
}

/* What one instruction adds; *next is where the straight path goes on, 0 when it ends. */
static int follow(struct walk *walk, const struct lw_instruction *instruction, uint64_t *next)
{
    *next = 0;
    switch (instruction->flow) {
    case LW_FLOW_RETURN:
        return add_exit(walk, instruction->address, LW_EXIT_RETURN);
    case LW_FLOW_STOP:
        return 0;
    case LW_FLOW_JUMP:
        if (is_inside(walk, instruction->target)) {
            *next = instruction->target;
            return 0;
        }
        return leave_function(walk, instruction);
    case LW_FLOW_JUMP_INDIRECT:
        return leave_function(walk, instruction);
    case LW_FLOW_BRANCH:
        *next = instruction->address + instruction->length;
        if (is_inside(walk, instruction->target))
            return lw_vector_push(&walk->pending, instruction->target);
        return leave_function(walk, instruction);
    case LW_FLOW_NEXT:
        if (walk->past_watched || !instruction->is_call ||
            !reaches_watched(walk, instruction->target, instruction->slot))
            *next = instruction->address + instruction->length;
        return 0;
    }
    return 0;
}

/* Another function begins here: the straight path has run past a call that does not return. */
static bool is_next_function(const struct walk *walk, uint64_t address)
{
    struct lw_elf_symbol symbol;
    return address != walk->entry && lw_elf_image_symbol_at(walk->image, address, &symbol) &&
           symbol.address == address && symbol.global;
}

/* Follows one straight path until it ends or joins what was seen. */
static int walk_path(struct walk *walk, uint64_t address)
{
    uint64_t fell_through_to = 0;
    while (address != 0 && !lw_map_get(&walk->seen, address, NULL) &&
           !(address == fell_through_to && is_next_function(walk, address))) {
        struct lw_instruction instruction;
        if (walk->seen.count >= INSTRUCTIONS_MAX ||
            !read_instruction(walk->image, address, &instruction))
            return 0; /* what cannot be decoded is not run either */
        if (instruction.target > walk->entry && instruction.target < walk->window_end)
            walk->enters_window = true;
        fell_through_to = address + instruction.length;
        int error = lw_map_set(&walk->seen, address, 1);
        if (!error)
            error = follow(walk, &instruction, &address);
        if (error)
            return error;
    }
    return 0;
}

static int run(struct walk *walk)
{
    *walk->summary = (struct lw_flow_summary){0};
    int error = lw_vector_push(&walk->pending, walk->entry);
    while (!error && walk->pending.count > 0)
        error = walk_path(walk, walk->pending.items[--walk->pending.count]);
    lw_vector_deinit(&walk->pending);
    lw_map_deinit(&walk->seen);
    return error;
}

int lw_flow_walk(const struct lw_elf_image *image, uint64_t entry,
                 const struct lw_address_list *watched, bool past_watched,
                 struct lw_flow_summary *summary)
{
    struct walk walk = {
        .image = image,
        .entry = entry,
        .watched = watched,
        .summary = summary,
        .past_watched = past_watched,
    };
    return run(&walk);
}

void lw_flow_summary_deinit(struct lw_flow_summary *summary)
{
    lw_vector_deinit(&summary->exits);
}

int lw_flow_enters(const struct lw_elf_image *image, uint64_t entry, unsigned window, bool *enters)
{
    struct lw_address_list none = {0};
    struct lw_flow_summary summary;
    struct walk walk = {
        .image = image,
        .entry = entry,
        .watched = &none,
        .summary = &summary,
        .past_watched = true,
        .window_end = entry + window,
    };
    int error = run(&walk);
    *enters = walk.enters_window;
    lw_flow_summary_deinit(&summary);
    return error;
}
