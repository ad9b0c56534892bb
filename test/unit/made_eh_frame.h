/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A made-up ELF file with call-frame information, put together one entry at a time. */
#ifndef LEAKWATCH_TEST_MADE_EH_FRAME_H
#define LEAKWATCH_TEST_MADE_EH_FRAME_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dwarf.h>
#include <elf.h>
#include <string.h>

#include "leakwatch/unwind/row_table.h"

#define RBX 3
#define RBP 6
#define RSP 7
#define R10 10
#define RA  16

/* Where the parts of the file lie, which is loaded as a whole at BASE. */
#define BASE        0x400000u
#define HDR         0x200u
#define SECTION     0x400u
#define FILE_SIZE   0x4000u
#define NAMES       0x3f00u
#define CODE        (BASE + 0x1000u) /* the functions, 0x100 bytes each */
#define FUNCTION(n) (CODE + 0x100u * (n))

static struct {
    uint8_t bytes[FILE_SIZE];
    size_t size; /* up to here */
    size_t cie, entry;
    unsigned functions;
    bool directory, table, section_header; /* what leads to the section */
} file;

static void put(const void *bytes, size_t size)
{
    assert_true(file.size + size <= NAMES);
    if (size > 0)
        memcpy(file.bytes + file.size, bytes, size);
    file.size += size;
}

static void put8(uint8_t byte)
{
    put(&byte, 1);
}

static void put32(uint32_t word)
{
    put(&word, 4);
}

static void set32(size_t at, uint32_t word)
{
    memcpy(file.bytes + at, &word, 4);
}

static void begin_entry(void)
{
    file.entry = file.size;
    put32(0);
}

static void end_entry(void)
{
    while (file.size % 4 != 0)
        put8(DW_CFA_nop);
    set32(file.entry, (uint32_t)(file.size - file.entry - 4));
}

/* What compilers begin with: CFA = rsp + 8, the return address below it. */
static const uint8_t usual[] = {DW_CFA_def_cfa, RSP, 8, DW_CFA_offset | RA, 1};

static void put_cie(const char *augmentation, const void *instructions, size_t size)
{
    begin_entry();
    file.cie = file.entry;
    put32(0);
    put8(1); /* version */
    put(augmentation, strlen(augmentation) + 1);
    put8(1);    /* code alignment */
    put8(0x78); /* data alignment: -8 */
    put8(RA);
    size_t length = file.size;
    put8(0);
    for (const char *letter = augmentation + 1; *letter != '\0'; letter++) {
        if (*letter == 'R' || *letter == 'L')
            put8(DW_EH_PE_pcrel | DW_EH_PE_sdata4);
        if (*letter == 'P') {
            put8(DW_EH_PE_indirect | DW_EH_PE_pcrel | DW_EH_PE_sdata4);
            put32(0x1234);
        }
    }
    file.bytes[length] = (uint8_t)(file.size - length - 1);
    put(instructions, size);
    end_entry();
}

static void put_fde_at(uint64_t start, uint32_t length, const void *instructions, size_t size)
{
    begin_entry();
    put32((uint32_t)(file.size - file.cie));
    put32((uint32_t)(start - BASE - file.size));
    put32(length);
    put8(0); /* augmentation data */
    put(instructions, size);
    end_entry();
    if (file.table) {
        size_t row = HDR + 12 + 8 * file.functions;
        set32(row, (uint32_t)(start - BASE - HDR));
        set32(row + 4, (uint32_t)(file.entry - HDR));
        set32(HDR + 8, file.functions + 1);
    }
    file.functions++;
}

#define PUT_FDE(...)                                                                               \
    put_fde_at(FUNCTION(file.functions), 0x100, (const uint8_t[]){__VA_ARGS__},                    \
               sizeof((const uint8_t[]){__VA_ARGS__}))

static void begin_file(bool directory, bool table, bool section_header)
{
    memset(&file, 0, sizeof(file));
    file.directory = directory;
    file.table = table;
    file.section_header = section_header;
    file.size = SECTION;
    if (directory) {
        file.bytes[HDR] = 1;
        file.bytes[HDR + 1] = DW_EH_PE_pcrel | DW_EH_PE_sdata4;
        file.bytes[HDR + 2] = table ? DW_EH_PE_udata4 : DW_EH_PE_omit;
        file.bytes[HDR + 3] = table ? DW_EH_PE_datarel | DW_EH_PE_sdata4 : DW_EH_PE_omit;
        set32(HDR + 4, SECTION - HDR - 4);
    }
    put_cie("zR", usual, sizeof(usual));
}

static void put_section_headers(Elf64_Ehdr *header)
{
    static const char names[] = "\0.eh_frame\0.names";
    const Elf64_Shdr sections[] = {
        {0},
        {.sh_name = 1,
         .sh_type = SHT_PROGBITS,
         .sh_flags = SHF_ALLOC,
         .sh_addr = BASE + SECTION,
         .sh_offset = SECTION,
         .sh_size = file.size - SECTION},
        {.sh_name = 11, .sh_type = SHT_STRTAB, .sh_offset = NAMES, .sh_size = sizeof(names)},
    };
    memcpy(file.bytes + NAMES, names, sizeof(names));
    header->e_shoff = NAMES + 0x20;
    header->e_shentsize = sizeof(sections[0]);
    header->e_shnum = 3;
    header->e_shstrndx = 2;
    _Static_assert(NAMES + 0x20 + sizeof(sections) <= FILE_SIZE, "room for section headers");
    memcpy(file.bytes + header->e_shoff, sections, sizeof(sections));
}

static struct lw_row_table compile(void)
{
    Elf64_Ehdr header = {
        .e_ident = ELFMAG "\x02\x01\x01",
        .e_type = ET_EXEC,
        .e_machine = EM_X86_64,
        .e_version = EV_CURRENT,
        .e_phoff = sizeof(header),
        .e_ehsize = sizeof(header),
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_phnum = file.directory ? 2 : 1,
    };
    const Elf64_Phdr segments[] = {
        {.p_type = PT_LOAD,
         .p_flags = PF_R | PF_X,
         .p_vaddr = BASE,
         .p_filesz = FILE_SIZE,
         .p_memsz = FILE_SIZE},
        {.p_type = PT_GNU_EH_FRAME,
         .p_flags = PF_R,
         .p_offset = HDR,
         .p_vaddr = BASE + HDR,
         .p_filesz = SECTION - HDR,
         .p_memsz = SECTION - HDR},
    };
    if (file.section_header)
        put_section_headers(&header);
    memcpy(file.bytes, &header, sizeof(header));
    memcpy(file.bytes + sizeof(header), segments, sizeof(segments));

    struct lw_elf_image *image = NULL;
    struct lw_row_table table;
    assert_int_equal(lw_elf_image_open_memory(file.bytes, sizeof(file.bytes), &image), 0);
    assert_int_equal(lw_row_table_compile(image, &table), 0);
    lw_elf_image_close(image);
    assert_int_equal(table.base, BASE);
    for (size_t i = 1; i < table.count; i++) {
        assert_true(table.start[i] > table.start[i - 1]);
        assert_int_not_equal(table.row[i], table.row[i - 1]);
    }
    if (table.count > 0)
        assert_int_equal(table.row[table.count - 1], LW_ROW_NONE);
    return table;
}

#endif
