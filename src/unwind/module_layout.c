/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What unwinding needs of each loaded module: its call-frame table and which pages never change. */
#include "module_layout.h"

#include <elf.h>
#include <errno.h>
#include <stdatomic.h>

/* DW_EH_PE encodings of .eh_frame_hdr (LSB core, 10.6.2): the low nibble is the format. */
#define EH_PE_OMIT           0xff
#define EH_PE_FORMAT         0x0f
#define EH_PE_DATAREL_SDATA4 0x3b
#define EH_FRAME_HDR_VERSION 1
/* A row of the table: the function's start and its FDE, 32 bits each, relative to the header. */
#define EH_TABLE_ROW 8

void lw_module_layouts_init(struct lw_module_layouts *layouts, struct lw_memory *memory,
                            struct lw_module_table *modules)
{
    *layouts = (struct lw_module_layouts){.memory = memory, .modules = modules};
}

void lw_module_layouts_deinit(struct lw_module_layouts *layouts)
{
    lw_vector_deinit(&layouts->list);
}

void lw_module_layouts_flush(struct lw_module_layouts *layouts)
{
    lw_vector_clear(&layouts->list);
}

static unsigned encoded_size(uint8_t encoding)
{
    if (encoding == EH_PE_OMIT)
        return 0;
    switch (encoding & EH_PE_FORMAT) {
    case 0x02: /* udata2, sdata2 */
    case 0x0a:
        return 2;
    case 0x03: /* udata4, sdata4 */
    case 0x0b:
        return 4;
    case 0x00: /* absptr, udata8, sdata8 */
    case 0x04:
    case 0x0c:
        return 8;
    default:
        return 0;
    }
}

/* Fills in layout->table from the .eh_frame_hdr at `header`. */
static void read_table(struct lw_module_layouts *layouts, struct lw_module_layout *layout,
                       const struct lw_module *module, uint64_t header, uint64_t size)
{
    /* version, encodings of eh_frame_ptr, of the count and of the table, then the two numbers */
    uint8_t bytes[4 + 8 + 8];
    if (lw_memory_read_all(layouts->memory, header, bytes, sizeof(bytes)) < 0)
        return;
    unsigned pointer_size = encoded_size(bytes[1]), count_size = encoded_size(bytes[2]);
    if (bytes[0] != EH_FRAME_HDR_VERSION || count_size == 0 || bytes[3] != EH_PE_DATAREL_SDATA4)
        return;

    uint64_t count = 0;
    memcpy(&count, bytes + 4 + pointer_size, count_size); /* little-endian */
    uint64_t skip = 4 + pointer_size + count_size;
    if (size < skip)
        return;
    if (count > (size - skip) / EH_TABLE_ROW)
        count = (size - skip) / EH_TABLE_ROW;
    if (count == 0)
        return;

    layout->has_table = true;
    layout->table = (unw_dyn_info_t){
        .start_ip = module->start,
        .end_ip = module->end,
        .format = UNW_INFO_FORMAT_REMOTE_TABLE,
        .u.rti = {.segbase = header,
                  .table_data = header + skip,
                  .table_len = count * EH_TABLE_ROW / sizeof(unw_word_t)},
    };
}

static void add_segment(struct lw_module_layout *layout, uint64_t address, uint64_t size,
                        bool writable)
{
    const uint64_t mask = LW_PAGE_SIZE - 1;
    unsigned i = layout->segment_count++;
    layout->segments[i].start = address & ~mask;
    layout->segments[i].end = (address + size + mask) & ~mask;
    layout->segments[i].writable = writable;
}

static void read_image(struct lw_module_layouts *layouts, struct lw_module_layout *layout,
                       const struct lw_module *module)
{
    uint64_t bias = atomic_load(&module->bias), address, size;
    size_t count;
    const struct lw_elf_segment *segments = lw_elf_image_segments(module->image, &count);
    /* More than fit, and nothing is known to be constant. */
    for (size_t i = 0; i < count && count <= LW_LAYOUT_SEGMENTS; i++)
        add_segment(layout, segments[i].address + bias, segments[i].memory_size,
                    segments[i].writable);
    if (lw_elf_image_eh_frame_hdr(module->image, &address, &size))
        read_table(layouts, layout, module, address + bias, size);
}

/* The same from the ELF header that is mapped at the module's start, for a file that could not be
 * opened. */
static void read_mapped_headers(struct lw_module_layouts *layouts, struct lw_module_layout *layout,
                                const struct lw_module *module)
{
    Elf64_Ehdr header;
    Elf64_Phdr segments[2 * LW_LAYOUT_SEGMENTS];
    const uint64_t mask = LW_PAGE_SIZE - 1;
    uint64_t bias = 0;
    bool found = false;
    if (lw_memory_read_all(layouts->memory, module->start, &header, sizeof(header)) < 0 ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_phentsize != sizeof(segments[0]) ||
        header.e_phnum > sizeof(segments) / sizeof(segments[0]) ||
        lw_memory_read_all(layouts->memory, module->start + header.e_phoff, segments,
                           header.e_phnum * sizeof(segments[0])) < 0)
        return;

    for (unsigned i = 0; i < header.e_phnum && !found; i++) {
        found = segments[i].p_type == PT_LOAD && (segments[i].p_offset & ~mask) == 0;
        bias = module->start - (segments[i].p_vaddr & ~mask);
    }
    for (unsigned i = 0; i < header.e_phnum && found; i++) {
        const Elf64_Phdr *segment = &segments[i];
        if (segment->p_type == PT_LOAD && layout->segment_count < LW_LAYOUT_SEGMENTS)
            add_segment(layout, segment->p_vaddr + bias, segment->p_memsz, segment->p_flags & PF_W);
        else if (segment->p_type == PT_GNU_EH_FRAME)
            read_table(layouts, layout, module, segment->p_vaddr + bias, segment->p_memsz);
    }
}

const struct lw_module_layout *lw_module_layouts_find(struct lw_module_layouts *layouts,
                                                      uint64_t address)
{
    const struct lw_module *module = lw_module_table_find(layouts->modules, address);
    if (!module)
        return NULL;
    while (layouts->list.count < module->id)
        if (lw_vector_push(&layouts->list, (struct lw_module_layout){0}) < 0)
            return NULL;

    struct lw_module_layout *layout = &layouts->list.items[module->id - 1];
    if (!layout->known) {
        layout->known = true;
        if (module->image)
            read_image(layouts, layout, module);
        else
            read_mapped_headers(layouts, layout, module);
    }
    return layout;
}

bool lw_module_layouts_is_constant(struct lw_module_layouts *layouts, uint64_t page)
{
    const struct lw_module_layout *layout = lw_module_layouts_find(layouts, page);
    bool constant = false;
    for (unsigned i = 0; layout && i < layout->segment_count; i++) {
        if (page < layout->segments[i].start || page >= layout->segments[i].end)
            continue;
        if (layout->segments[i].writable)
            return false;
        constant = true;
    }
    return constant;
}
