/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finding executable padding and keeping its bytes. */
#include "padding.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "leakwatch/arch/page.h"
#include "leakwatch/base/cleanup.h"

/* The executable, the dynamic linker and the C library stay until the process ends. */
static bool is_permanent(const struct lw_module *module)
{
    struct lw_elf_symbol symbol;
    return module->is_executable ||
           lw_elf_image_find_symbols(module->image, "_dl_debug_state", &symbol, 1) > 0 ||
           lw_elf_image_find_symbols(module->image, "__libc_start_main", &symbol, 1) > 0;
}

static int add_padding(struct lw_padding_list *paddings, const struct lw_module *module,
                       const struct lw_elf_segment *segment)
{
    uint64_t link_end = segment->address + segment->file_size;
    uint64_t page_end = (link_end + LW_PAGE_SIZE - 1) & ~(LW_PAGE_SIZE - 1);
    struct lw_padding padding = {
        .module = module->id,
        .lends = is_permanent(module),
        .start = module->bias + link_end,
        .end = module->bias + page_end,
        .file_offset = segment->offset + segment->file_size,
    };
    if (link_end == page_end || segment->memory_size != segment->file_size)
        return 0;
    return lw_vector_push(&paddings->list, padding);
}

static int discover_module(struct lw_padding_list *paddings, const struct lw_module *module)
{
    if (!module->image || module->fd < 0)
        return 0;
    size_t count;
    const struct lw_elf_segment *segments = lw_elf_image_segments(module->image, &count);
    for (size_t i = 0; i < count; i++) {
        if (!segments[i].executable || segments[i].writable)
            continue;
        int error = add_padding(paddings, module, &segments[i]);
        if (error)
            return error;
    }
    return 0;
}

static void free_padding(struct lw_padding *padding)
{
    free(padding->original);
    free(padding->ours);
}

void lw_padding_drop_unloaded(struct lw_padding_list *paddings, struct lw_module_table *modules)
{
    for (size_t i = paddings->list.count; i-- > 0;) {
        struct lw_padding *padding = &paddings->list.items[i];
        const struct lw_module *module = lw_module_table_get(modules, padding->module);
        if (module->loaded && padding->start >= module->start && padding->end <= module->end)
            continue;
        free_padding(padding);
        lw_vector_swap_remove(&paddings->list, i);
    }
}

static bool is_listed(const struct lw_padding_list *paddings, uint32_t module)
{
    lw_vector_for_each (padding, &paddings->list)
        if (padding->module == module)
            return true;
    return false;
}

int lw_padding_discover(struct lw_padding_list *paddings, struct lw_module_table *modules)
{
    lw_padding_drop_unloaded(paddings, modules);
    size_t count = lw_module_table_count(modules);
    for (uint32_t id = 1; id <= count; id++) {
        const struct lw_module *module = lw_module_table_get(modules, id);
        if (!module->loaded || is_listed(paddings, id))
            continue;
        int error = discover_module(paddings, module);
        if (error)
            return error;
    }
    return 0;
}

void lw_padding_list_deinit(struct lw_padding_list *paddings)
{
    lw_vector_for_each (padding, &paddings->list)
        free_padding(padding);
    lw_vector_deinit(&paddings->list);
}

int lw_padding_read_file(const struct lw_padding *padding, struct lw_module_table *modules,
                         uint8_t *bytes)
{
    const struct lw_module *module = lw_module_table_get(modules, padding->module);
    size_t size = padding->end - padding->start;
    memset(bytes, 0, size); /* the kernel maps zeros behind the end of the file */
    ssize_t n = pread(module->fd, bytes, size, (off_t)padding->file_offset);
    return n < 0 ? -errno : 0;
}

/* Reads both versions; `must_equal`: else -EBUSY. */
static int open_padding(struct lw_padding *padding, struct lw_module_table *modules,
                        struct lw_memory *memory, bool must_equal)
{
    if (padding->original)
        return 0;
    size_t size = padding->end - padding->start;
    lw_auto_free uint8_t *in_memory = malloc(size);
    lw_auto_free uint8_t *in_file = malloc(size);
    if (!in_memory || !in_file)
        return -ENOMEM;
    int error = lw_memory_read_all(memory, padding->start, in_memory, size);
    if (!error)
        error = lw_padding_read_file(padding, modules, in_file);
    if (error)
        return error;
    if (must_equal && memcmp(in_memory, in_file, size) != 0)
        return -EBUSY;
    padding->original = lw_take_pointer(in_file);
    padding->ours = lw_take_pointer(in_memory);
    return 0;
}

int lw_padding_open(struct lw_padding *padding, struct lw_module_table *modules,
                    struct lw_memory *memory)
{
    return open_padding(padding, modules, memory, true);
}

int lw_padding_adopt(struct lw_padding *padding, struct lw_module_table *modules,
                     struct lw_memory *memory)
{
    int error = open_padding(padding, modules, memory, false);
    if (!error)
        padding->used = padding->end - padding->start - padding->kept;
    return error;
}

int lw_padding_write(struct lw_padding *padding, struct lw_memory *memory, const void *bytes,
                     size_t size)
{
    if (size > padding->end - padding->start - padding->used - padding->kept)
        return -ENOSPC;
    int error = lw_memory_write(memory, padding->start + padding->used, bytes, size);
    if (error)
        return error;
    memcpy(padding->ours + padding->used, bytes, size);
    padding->used += size;
    return 0;
}

/* A copy of the target's memory has what had been written by then: of each byte that, or the
 * file's. What varies is taken for ours where all that is in front of it is. */
static bool was_ours(const struct lw_padding *padding, const uint8_t *now)
{
    const bool varies = memcmp(now, padding->ours, padding->varying) == 0;
    for (size_t i = 0; i < padding->used; i++) {
        if (varies && i >= padding->varying && i < padding->varying_end)
            continue;
        if (now[i] != padding->ours[i] && now[i] != padding->original[i])
            return false;
    }
    return true;
}

int lw_padding_restore(const struct lw_padding *padding, struct lw_memory *memory)
{
    if (!padding->original || padding->used == 0)
        return 0;
    lw_auto_free uint8_t *now = malloc(padding->used);
    if (!now)
        return -ENOMEM;
    int error = lw_memory_read_all(memory, padding->start, now, padding->used);
    if (error)
        return error == -EFAULT ? 0 : error;
    if (!was_ours(padding, now))
        return 0;
    error = lw_memory_write(memory, padding->start, padding->original, padding->used);
    return error == -EFAULT ? 0 : error; /* unmapped meanwhile */
}
