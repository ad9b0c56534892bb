/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finding the code that remote calls need. */
#include <errno.h>
#include <string.h>

#include "leakwatch/arch/page.h"
#include "leakwatch/arch/remote_program.h"
#include "leakwatch/arch/signal_frame.h"
#include "leakwatch/trace/remote_call.h"

static uint64_t find_in_segment(const struct lw_elf_image *image,
                                const struct lw_elf_segment *segment, const uint8_t *code,
                                size_t length)
{
    uint8_t bytes[LW_PAGE_SIZE];
    for (uint64_t offset = 0; offset + length <= segment->file_size;
         offset += sizeof(bytes) - (length - 1)) {
        size_t wanted = segment->file_size - offset;
        if (wanted > sizeof(bytes))
            wanted = sizeof(bytes);
        size_t size = lw_elf_image_read(image, segment->address + offset, bytes, wanted);
        const uint8_t *found = memmem(bytes, size, code, length);
        if (found)
            return segment->address + offset + (uint64_t)(found - bytes);
    }
    return 0;
}

static uint64_t find_in_module(const struct lw_module *module, const uint8_t *code, size_t length)
{
    size_t count;
    const struct lw_elf_segment *segments = lw_elf_image_segments(module->image, &count);
    for (size_t i = 0; i < count; i++) {
        if (!segments[i].executable || segments[i].writable)
            continue;
        uint64_t address = find_in_segment(module->image, &segments[i], code, length);
        if (address != 0)
            return module->bias + address;
    }
    return 0;
}

/* The vdso and the C library are there until the process ends; others may be closed. */
static int preference(const struct lw_module *module)
{
    struct lw_elf_symbol symbol;
    if (module->is_vdso)
        return 0;
    bool is_libc = lw_elf_image_find_symbols(module->image, "__libc_start_main", &symbol, 1) > 0;
    return is_libc || module->is_executable ? 1 : 2;
}

static uint64_t find(struct lw_module_table *modules, const uint8_t *code, size_t length)
{
    size_t count = lw_module_table_count(modules);
    for (int wanted = 0; wanted <= 2; wanted++) {
        for (uint32_t id = 1; id <= count; id++) {
            const struct lw_module *module = lw_module_table_get(modules, id);
            if (!module->loaded || !module->image || preference(module) != wanted)
                continue;
            uint64_t address = find_in_module(module, code, length);
            if (address != 0)
                return address;
        }
    }
    return 0;
}

int lw_remote_code_find(struct lw_remote_code *code, struct lw_module_table *modules)
{
    code->program = 0;
    code->sigreturn = find(modules, lw_sigreturn_code, LW_SIGRETURN_SIZE);
    code->call =
        code->sigreturn ? find(modules, lw_call_and_return_code, LW_CALL_AND_RETURN_SIZE) : 0;
    if (code->call == 0) {
        code->sigreturn = 0;
        code->call = find(modules, lw_syscall_instruction, LW_SYSCALL_SIZE);
    }
    return code->call ? 0 : -ENOENT;
}

bool lw_remote_call_is_under_way(const struct lw_remote_code *code, struct lw_memory *memory,
                                 const struct lw_registers *registers)
{
    uint64_t pc = lw_registers_pc(registers), back;
    if (code->program != 0 && pc - code->program < LW_REMOTE_PROGRAM_SIZE)
        return true;
    return code->sigreturn != 0 && (pc == code->call || pc == code->call + LW_SYSCALL_SIZE) &&
           lw_memory_read_all(memory, lw_registers_sp(registers), &back, sizeof(back)) == 0 &&
           back == code->sigreturn;
}
