/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The breakpoint table. */
#include "breakpoint_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct lw_breakpoint_table *lw_breakpoint_table_create(struct lw_memory *memory,
                                                       struct lw_module_table *modules)
{
    struct lw_breakpoint_table *table = calloc(1, sizeof(*table));
    if (table) {
        table->memory = memory;
        table->modules = modules;
    }
    return table;
}

void lw_breakpoint_free(struct lw_breakpoint *breakpoint)
{
    if (breakpoint)
        free(breakpoint->displacement);
    free(breakpoint);
}

void lw_breakpoint_table_destroy(struct lw_breakpoint_table *table)
{
    if (!table)
        return;
    lw_vector_for_each (item, &table->sorted)
        lw_breakpoint_free(*item);
    lw_vector_deinit(&table->sorted);
    lw_map_deinit(&table->rewinds);
    lw_padding_list_deinit(&table->paddings);
    free(table->guard.pairs);
    free(table);
}

/* Index of the first breakpoint at or above the address. */
static size_t lower_bound(const struct lw_breakpoint_table *table, uint64_t address)
{
    size_t low = 0, high = table->sorted.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table->sorted.items[middle]->address < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct lw_breakpoint *lw_breakpoint_find(const struct lw_breakpoint_table *table, uint64_t address)
{
    size_t index = lower_bound(table, address);
    if (index == table->sorted.count || table->sorted.items[index]->address != address)
        return NULL;
    return table->sorted.items[index];
}

struct lw_breakpoint *lw_breakpoint_hit(const struct lw_breakpoint_table *table, uint64_t pc)
{
    return lw_breakpoint_find(table, pc - LW_BREAKPOINT_SIZE);
}

bool lw_breakpoint_rewind(const struct lw_breakpoint_table *table, uint64_t pc, uint64_t *address,
                          unsigned *stack)
{
    uint64_t value;
    if (!lw_map_get(&table->rewinds, pc, &value))
        return false;
    const struct lw_breakpoint *breakpoint = (const struct lw_breakpoint *)(uintptr_t)value;
    const struct lw_displaced *code = &breakpoint->displacement->code;
    for (unsigned i = 0; i < code->rewind_count; i++) {
        if (breakpoint->copy + code->rewind[i].offset == pc) {
            *address = code->rewind[i].address;
            *stack = code->rewind[i].stack;
            return true;
        }
    }
    return false;
}

static uint32_t module_at(const struct lw_breakpoint_table *table, uint64_t address)
{
    const struct lw_module *module = lw_module_table_find(table->modules, address);
    return module ? module->id : 0;
}

/* The program's own bytes at an address, checked against the file where there is one. */
static int read_instruction(struct lw_breakpoint_table *table, uint64_t address, uint8_t *bytes,
                            size_t *size)
{
    ssize_t n = table->memory->read(table->memory, address, bytes, LW_INSTRUCTION_MAX);
    if (n < LW_BREAKPOINT_SIZE)
        return -EFAULT;
    *size = (size_t)n;
    lw_breakpoint_mask(table, address, bytes, *size);

    const struct lw_module *module = lw_module_table_find(table->modules, address);
    if (!module || !module->image)
        return 0;
    uint8_t in_file[LW_INSTRUCTION_MAX];
    struct lw_instruction instruction;
    size_t file_size =
        lw_elf_image_read(module->image, address - module->bias, in_file, sizeof(in_file));
    if (!lw_instruction_decode(in_file, file_size, address, &instruction))
        return -ENOTSUP;
    if (*size < instruction.length || memcmp(bytes, in_file, instruction.length) != 0)
        return -EBUSY;
    return 0;
}

int lw_breakpoint_enter_copy(struct lw_breakpoint_table *table, struct lw_breakpoint *breakpoint)
{
    const struct lw_displaced *code = &breakpoint->displacement->code;
    int error = 0;
    for (unsigned i = 0; !error && i < code->rewind_count; i++) {
        error = lw_map_set(&table->rewinds, breakpoint->copy + code->rewind[i].offset,
                           (uintptr_t)breakpoint);
        breakpoint->is_short |= code->rewind[i].address == breakpoint->address + LW_BREAKPOINT_SIZE;
    }
    return error;
}

/* Gives the copy a place in this padding, when it fits and is in reach. */
static int place_copy(struct lw_breakpoint_table *table, struct lw_padding *padding,
                      struct lw_breakpoint *breakpoint, const uint8_t *bytes, size_t size)
{
    uint64_t to = padding->start + padding->used;
    struct lw_displaced *code = &breakpoint->displacement->code;
    int error = lw_instruction_displace(bytes, size, breakpoint->address, to, code);
    if (error)
        return error;
    if (to + code->size > padding->end)
        return -ENOSPC;
    error = lw_padding_open(padding, table->modules, table->memory);
    breakpoint->copy = to;
    if (!error)
        error = lw_guard_note(table, breakpoint);
    if (!error)
        error = lw_padding_write(padding, table->memory, code->code, code->size);
    return error ? error : lw_breakpoint_enter_copy(table, breakpoint);
}

static int find_room(struct lw_breakpoint_table *table, struct lw_breakpoint *breakpoint,
                     const uint8_t *bytes, size_t size)
{
    int error = lw_padding_discover(&table->paddings, table->modules);
    if (error)
        return error;
    uint32_t own = breakpoint->displacement->module;
    int reason = -ENOSPC;
    for (int borrowed = 0; borrowed <= 1; borrowed++) {
        lw_vector_for_each (padding, &table->paddings.list) {
            if (borrowed ? !padding->lends || padding->module == own : padding->module != own)
                continue;
            error = place_copy(table, padding, breakpoint, bytes, size);
            if (error == 0 || error == -ENOTSUP || error == -ENOMEM)
                return error;
            if (error == -EBUSY)
                reason = -EBUSY;
        }
    }
    return reason;
}

int lw_breakpoint_enter(struct lw_breakpoint_table *table, struct lw_breakpoint *breakpoint)
{
    int error = lw_vector_push(&table->sorted, breakpoint);
    if (error)
        return error;
    struct lw_breakpoint **items = table->sorted.items;
    size_t index = table->sorted.count - 1;
    for (; index > 0 && items[index - 1]->address > breakpoint->address; index--)
        items[index] = items[index - 1];
    items[index] = breakpoint;
    return 0;
}

static void forget(struct lw_breakpoint_table *table, struct lw_breakpoint *breakpoint)
{
    const struct lw_displaced *code = &breakpoint->displacement->code;
    for (unsigned i = 0; i < code->rewind_count; i++)
        lw_map_remove(&table->rewinds, breakpoint->copy + code->rewind[i].offset, NULL);
    lw_guard_drop(table, breakpoint);
    lw_breakpoint_free(breakpoint);
}

struct lw_breakpoint *lw_breakpoint_allocate(uint64_t address, uint32_t module)
{
    struct lw_breakpoint *breakpoint = calloc(1, sizeof(*breakpoint));
    struct lw_displacement *displacement = calloc(1, sizeof(*displacement));
    if (!breakpoint || !displacement) {
        free(breakpoint);
        free(displacement);
        return NULL;
    }
    displacement->module = module;
    breakpoint->address = address;
    breakpoint->displacement = displacement;
    return breakpoint;
}

static int create_breakpoint(struct lw_breakpoint_table *table, uint64_t address,
                             struct lw_breakpoint **created)
{
    uint8_t bytes[LW_INSTRUCTION_MAX];
    size_t size = 0;
    int error = read_instruction(table, address, bytes, &size);
    if (error)
        return error;
    struct lw_breakpoint *breakpoint = lw_breakpoint_allocate(address, module_at(table, address));
    if (!breakpoint)
        return -ENOMEM;
    memcpy(breakpoint->displacement->original, bytes, LW_BREAKPOINT_SIZE);
    breakpoint->displacement->size = LW_BREAKPOINT_SIZE;
    error = find_room(table, breakpoint, bytes, size);
    if (!error)
        error = lw_breakpoint_enter(table, breakpoint);
    if (error)
        forget(table, breakpoint);
    else
        *created = breakpoint;
    return error;
}

static int write_breakpoint(struct lw_breakpoint_table *table, struct lw_breakpoint *breakpoint)
{
    int error = lw_memory_write(table->memory, breakpoint->address, lw_breakpoint_instruction,
                                LW_BREAKPOINT_SIZE);
    breakpoint->planted = error == 0;
    return error;
}

int lw_breakpoint_plant(struct lw_breakpoint_table *table, uint64_t address, void *owner,
                        struct lw_breakpoint **breakpoint)
{
    struct lw_breakpoint *found = lw_breakpoint_find(table, address);
    int error = found ? 0 : create_breakpoint(table, address, &found);
    if (!error && !found->planted)
        error = write_breakpoint(table, found);
    if (error)
        return error;
    if (owner)
        found->owner = owner;
    *breakpoint = found;
    return 0;
}

/* One whose copy is not ours, where the first `expected_size` bytes are these. */
static int create_diverted(struct lw_breakpoint_table *table, uint64_t address,
                           const uint8_t *expected, size_t expected_size, uint64_t copy,
                           struct lw_breakpoint **breakpoint)
{
    uint8_t bytes[LW_BREAKPOINT_WINDOW];
    int error = lw_memory_read_all(table->memory, address, bytes, expected_size);
    if (error)
        return error;
    if (memcmp(bytes, expected, expected_size) != 0 || lw_breakpoint_find(table, address))
        return -EBUSY;
    struct lw_breakpoint *created = lw_breakpoint_allocate(address, module_at(table, address));
    if (!created)
        return -ENOMEM;
    created->copy = copy;
    error = lw_breakpoint_enter(table, created);
    if (error)
        lw_breakpoint_free(created);
    else
        *breakpoint = created;
    return error;
}

static void set_original(struct lw_breakpoint *breakpoint, const uint8_t *original, size_t size)
{
    memcpy(breakpoint->displacement->original, original, size);
    breakpoint->displacement->size = (unsigned)size;
}

int lw_breakpoint_plant_diverted(struct lw_breakpoint_table *table, uint64_t address,
                                 const uint8_t *expected, size_t size, uint64_t copy,
                                 struct lw_breakpoint **breakpoint)
{
    int error = create_diverted(table, address, expected, size, copy, breakpoint);
    if (error)
        return error;
    set_original(*breakpoint, expected, size);
    return write_breakpoint(table, *breakpoint);
}

int lw_breakpoint_adopt(struct lw_breakpoint_table *table, uint64_t address,
                        const uint8_t *original, size_t size, uint64_t copy,
                        struct lw_breakpoint **breakpoint)
{
    int error = create_diverted(table, address, lw_breakpoint_instruction, LW_BREAKPOINT_SIZE, copy,
                                breakpoint);
    if (error)
        return error;
    set_original(*breakpoint, original, size);
    (*breakpoint)->planted = true;
    return 0;
}

/* Writes the bytes where a breakpoint is planted, the first one last. */
static int write_over(struct lw_memory *memory, uint64_t address, const uint8_t *bytes, size_t size)
{
    int error = 0;
    if (size > LW_BREAKPOINT_SIZE)
        error = lw_memory_write(memory, address + LW_BREAKPOINT_SIZE, bytes + LW_BREAKPOINT_SIZE,
                                size - LW_BREAKPOINT_SIZE);
    return error ? error : lw_memory_write(memory, address, bytes, LW_BREAKPOINT_SIZE);
}

int lw_breakpoint_replace(struct lw_breakpoint_table *table, struct lw_breakpoint *breakpoint,
                          const uint8_t *bytes)
{
    int error =
        write_over(table->memory, breakpoint->address, bytes, breakpoint->displacement->size);
    if (!error)
        breakpoint->planted = false;
    return error;
}

/*
 * Puts the program's own bytes back, in the target's memory or a copy of it, where ours is.
 * Elsewhere the module was unmapped (what is mapped there now is not ours to touch), or the copy
 * was made without the breakpoint.
 */
static int restore_byte(const struct lw_breakpoint *breakpoint, struct lw_memory *memory)
{
    uint8_t bytes[LW_BREAKPOINT_SIZE];
    int error = lw_memory_read_all(memory, breakpoint->address, bytes, sizeof(bytes));
    if (error)
        return error == -EFAULT ? 0 : error;
    if (memcmp(bytes, lw_breakpoint_instruction, sizeof(bytes)) != 0)
        return 0;
    error = write_over(memory, breakpoint->address, breakpoint->displacement->original,
                       breakpoint->displacement->size);
    return error == -EFAULT ? 0 : error; /* unmapped meanwhile */
}

int lw_breakpoint_lift(struct lw_breakpoint_table *table, struct lw_breakpoint *breakpoint)
{
    if (!breakpoint->planted)
        return 0;
    int error = restore_byte(breakpoint, table->memory);
    if (!error)
        breakpoint->planted = false;
    return error;
}

void lw_breakpoint_table_forget(struct lw_breakpoint_table *table, uint64_t address)
{
    size_t index = lower_bound(table, address);
    struct lw_breakpoint *breakpoint = lw_breakpoint_find(table, address);
    if (!breakpoint || breakpoint->planted)
        return;
    table->sorted.count--;
    memmove(&table->sorted.items[index], &table->sorted.items[index + 1],
            (table->sorted.count - index) * sizeof(table->sorted.items[0]));
    forget(table, breakpoint);
}

void lw_breakpoint_table_forget_unmapped(struct lw_breakpoint_table *table)
{
    size_t kept = 0;
    lw_vector_for_each (item, &table->sorted) {
        uint32_t module = (*item)->displacement->module;
        if (module == 0 || module_at(table, (*item)->address) == module)
            table->sorted.items[kept++] = *item;
        else
            forget(table, *item);
    }
    table->sorted.count = kept;
    lw_padding_drop_unloaded(&table->paddings, table->modules);
}

/* Copies the part of `bytes` (at `address`) that overlaps [start, start + size) into the buffer
 * there. */
static void overlay(uint64_t address, const uint8_t *bytes, size_t count, uint64_t start,
                    uint8_t *buffer, size_t size)
{
    uint64_t low = address > start ? address : start;
    uint64_t high = address + count < start + size ? address + count : start + size;
    if (low < high)
        memcpy(buffer + (low - start), bytes + (low - address), high - low);
}

void lw_breakpoint_mask(const struct lw_breakpoint_table *table, uint64_t address, void *buffer,
                        size_t size)
{
    size_t index =
        lower_bound(table, address >= LW_BREAKPOINT_SIZE ? address - LW_BREAKPOINT_SIZE + 1 : 0);
    for (; index < table->sorted.count; index++) {
        const struct lw_breakpoint *breakpoint = table->sorted.items[index];
        if (breakpoint->address >= address + size)
            break;
        if (breakpoint->planted)
            overlay(breakpoint->address, breakpoint->displacement->original, LW_BREAKPOINT_SIZE,
                    address, buffer, size);
    }
    lw_vector_for_each (padding, &table->paddings.list)
        if (padding->original)
            overlay(padding->start, padding->original, padding->used, address, buffer, size);
}

int lw_breakpoint_table_lift_all(struct lw_breakpoint_table *table)
{
    int result = 0, lifted = 0;
    lw_vector_for_each (item, &table->sorted) {
        struct lw_breakpoint *breakpoint = *item;
        if (!breakpoint->planted)
            continue;
        int error = restore_byte(breakpoint, table->memory);
        if (error)
            result = error; /* go on: the others must come out all the same */
        breakpoint->planted = false;
        lifted++;
    }
    return result ? result : lifted;
}

static bool has_guard(const struct lw_breakpoint_table *table, const struct lw_padding *padding)
{
    return padding->start <= table->guard.place && table->guard.place < padding->end;
}

/* The guard's padding last, and only when `guard_too`: what is left, should leakwatch be killed
 * meanwhile, is found by the guard. */
static int restore_paddings(const struct lw_breakpoint_table *table, struct lw_memory *memory,
                            bool guard_too)
{
    int result = 0;
    for (int guard = 0; guard <= (int)guard_too; guard++) {
        lw_vector_for_each (padding, &table->paddings.list) {
            int error =
                has_guard(table, padding) == (guard == 1) ? lw_padding_restore(padding, memory) : 0;
            if (error)
                result = error;
        }
    }
    return result;
}

int lw_breakpoint_table_restore_padding(struct lw_breakpoint_table *table)
{
    /* A guard that could not be taken out is where a SIGTRAP still goes. */
    return restore_paddings(table, table->memory, !table->guard.installed);
}

/* What was planted when the copy was made may have been lifted since, so its own bytes decide. */
int lw_breakpoint_table_lift_copy(const struct lw_breakpoint_table *table, struct lw_memory *child)
{
    int result = 0;
    lw_vector_for_each (item, &table->sorted) {
        int error = restore_byte(*item, child);
        if (error)
            result = error;
    }
    return result;
}

int lw_breakpoint_table_clean_copy(const struct lw_breakpoint_table *table, struct lw_memory *child)
{
    int result = lw_breakpoint_table_lift_copy(table, child);
    int restored = restore_paddings(table, child, true);
    int lifted = lw_remote_program_lift(table, child);
    result = result ? result : restored;
    return result ? result : lifted;
}
