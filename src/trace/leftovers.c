/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Taking over from a leakwatch that was killed, to take everything out. */
#include "leakwatch/trace/leftovers.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "breakpoint_table.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"
#include "leakwatch/trace/guard.h"
#include "leakwatch/trace/visit.h"

#define SETTLE_NS (5 * LW_NS_PER_SECOND)

/* ---- Calls under way ---- */

struct call_search {
    struct lw_memory *memory;
    const struct lw_remote_code *code;
};

static enum lw_visit_result visit_caller(void *context, const struct lw_visit *visit)
{
    const struct call_search *search = context;
    struct lw_registers asleep;
    lw_registers_of_sleeper(&asleep, visit->pc, visit->sp);
    return lw_remote_call_is_under_way(search->code, search->memory,
                                       visit->registers ? visit->registers : &asleep)
               ? LW_VISIT_AGAIN
               : LW_VISIT_DONE;
}

int lw_leftovers_await_calls(struct lw_tracer *tracer, struct lw_memory *memory,
                             const struct lw_remote_code *code, uint64_t deadline,
                             uint64_t *longest_ns)
{
    struct call_search search = {.memory = memory, .code = code};
    int left;
    do
        left = lw_tracer_visit(tracer, visit_caller, &search, deadline, longest_ns);
    while (left > 0 && lw_clock_now() < deadline);
    return left > 0 ? -ETIMEDOUT : left;
}

/* ---- Breakpoints ---- */

static bool is_handler(struct lw_breakpoint_table *table, const struct lw_padding *padding)
{
    uint8_t code[LW_TRAP_HANDLER_DATA];
    const uint64_t place = lw_guard_place_in(padding);
    return padding->lends && place + sizeof(code) <= padding->end &&
           lw_memory_read_all(table->memory, place, code, sizeof(code)) == 0 &&
           memcmp(code, lw_trap_handler_code, sizeof(code)) == 0;
}

static struct lw_padding *find_handler(struct lw_breakpoint_table *table)
{
    lw_vector_for_each (padding, &table->paddings.list)
        if (is_handler(table, padding))
            return padding;
    return NULL;
}

static bool has_program(const struct lw_breakpoint_table *table)
{
    lw_vector_for_each (padding, &table->paddings.list)
        if (lw_remote_program_in(padding, table->memory))
            return true;
    return false;
}

/* Is one planted there? Then its first byte is not the file's. */
static bool is_planted(struct lw_breakpoint_table *table, uint64_t address, const uint8_t *in_file)
{
    uint8_t now[LW_BREAKPOINT_SIZE];
    return lw_memory_read_all(table->memory, address, now, sizeof(now)) == 0 &&
           memcmp(now, lw_breakpoint_instruction, sizeof(now)) == 0 &&
           memcmp(now, in_file, sizeof(now)) != 0;
}

/* Makes the breakpoint's object anew, with the copy that it has. */
static int adopt_breakpoint(struct lw_breakpoint_table *table, uint64_t address, uint64_t copy)
{
    uint8_t in_file[LW_INSTRUCTION_MAX];
    const struct lw_module *module = lw_module_table_find(table->modules, address);
    if (!module || !module->image)
        return 0; /* unloaded since */
    size_t size =
        lw_elf_image_read(module->image, address - module->bias, in_file, sizeof(in_file));
    struct lw_breakpoint *breakpoint = lw_breakpoint_allocate(address, module->id);
    if (!breakpoint)
        return -ENOMEM;
    struct lw_displacement *displacement = breakpoint->displacement;
    breakpoint->copy = copy;
    displacement->size = LW_BREAKPOINT_SIZE;
    memcpy(displacement->original, in_file, LW_BREAKPOINT_SIZE);
    breakpoint->planted = size >= LW_BREAKPOINT_SIZE && is_planted(table, address, in_file);
    if (size < LW_BREAKPOINT_SIZE || lw_breakpoint_find(table, address) ||
        lw_instruction_displace(in_file, size, address, copy, &displacement->code) != 0) {
        lw_breakpoint_free(breakpoint); /* another library is there now */
        return 0;
    }
    int error = lw_breakpoint_enter(table, breakpoint);
    if (error)
        lw_breakpoint_free(breakpoint);
    return error ? error : lw_breakpoint_enter_copy(table, breakpoint);
}

static int adopt_padding(struct lw_breakpoint_table *table, uint64_t address)
{
    lw_vector_for_each (padding, &table->paddings.list)
        if (padding->start <= address && address < padding->end)
            return lw_padding_adopt(padding, table->modules, table->memory);
    return 0;
}

static int adopt_pairs(struct lw_breakpoint_table *table, uint64_t end)
{
    struct lw_trap_handler_pair pair;
    uint64_t address =
        table->guard.place + LW_TRAP_HANDLER_DATA + sizeof(struct lw_trap_handler_data);
    int error = 0;
    for (; !error && address + sizeof(pair) <= end; address += sizeof(pair)) {
        error = lw_memory_read_all(table->memory, address, &pair, sizeof(pair));
        if (!error && pair.behind == 0)
            break;
        if (!error)
            error = adopt_padding(table, pair.go_on);
        if (!error)
            error = adopt_breakpoint(table, pair.behind - LW_BREAKPOINT_SIZE, pair.go_on);
    }
    return error;
}

/* The table knows then what the guard knows; it was found before, and may be gone by now. */
static int adopt(struct lw_breakpoint_table *table)
{
    int error = 0;
    lw_vector_for_each (each, &table->paddings.list)
        if (!error && lw_remote_program_in(each, table->memory))
            error = lw_padding_adopt(each, table->modules, table->memory);
    struct lw_padding *padding = find_handler(table);
    if (error || !padding)
        return error;
    table->guard.place = lw_guard_place_in(padding);
    table->guard.installed = true;
    error = lw_padding_adopt(padding, table->modules, table->memory);
    return error ? error : adopt_pairs(table, padding->end);
}

/* ---- The tracer's thread ---- */

struct removal {
    pid_t pid;
    struct lw_breakpoint_table *table;
    lw_error *error;
    int result;
};

/* The guardian, or the next leakwatch, may have been killed as well, and have left a program too.
 */
static int await_all_calls(struct lw_tracer *tracer, uint64_t *longest_ns)
{
    struct lw_breakpoint_table *table = tracer->breakpoints;
    struct lw_remote_code code = table->guard.code;
    const uint64_t deadline = lw_clock_now() + SETTLE_NS;
    int error = lw_leftovers_await_calls(tracer, table->memory, &code, deadline, longest_ns);
    lw_vector_for_each (padding, &table->paddings.list) {
        code.program = lw_remote_program_in(padding, table->memory);
        if (!error && code.program)
            error = lw_leftovers_await_calls(tracer, table->memory, &code, deadline, longest_ns);
    }
    return error;
}

static void *run(void *argument)
{
    struct removal *removal = argument;
    struct lw_breakpoint_table *table = removal->table;
    struct lw_tracer tracer;
    struct lw_leave_result left;
    uint64_t longest_ns = 0;
    unsigned lifted;
    lw_tracer_init(&tracer, removal->pid, table);
    removal->error = lw_tracer_seize(&tracer);
    if (!removal->error) {
        removal->result = await_all_calls(&tracer, &longest_ns);
        if (!removal->result)
            removal->result = adopt(table);
        if (!removal->result)
            removal->result = lw_guard_remove(&tracer, &lifted, &longest_ns);
        /* Where the handler could not be taken out, the padding that it is in stays as it is. */
        if (!removal->result)
            removal->result = lw_tracer_leave(&tracer, &left);
    }
    lw_tracer_deinit(&tracer);
    return NULL;
}

lw_error *lw_leftovers_clear(pid_t pid, struct lw_memory *memory, struct lw_module_table *modules,
                             bool *found)
{
    struct removal removal = {.pid = pid, .table = lw_breakpoint_table_create(memory, modules)};
    int result = removal.table ? lw_padding_discover(&removal.table->paddings, modules) : -ENOMEM;
    *found = !result && (find_handler(removal.table) || has_program(removal.table));
    if (*found)
        result = lw_remote_code_find(&removal.table->guard.code, modules);
    if (*found && !result) {
        lw_info("removing what a leakwatch that was killed has left in process %d", (int)pid);
        result = lw_tracer_run(run, &removal);
    }
    lw_breakpoint_table_destroy(removal.table);
    if (!removal.error && !result)
        result = removal.result;
    if (removal.error || !result || result == -ESRCH)
        return removal.error;
    return lw_error_create(EBUSY,
                           "cannot remove what an earlier leakwatch has left in process %d (%s): "
                           "restart the process",
                           (int)pid, strerror(-result));
}
