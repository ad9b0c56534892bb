/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rows of real programs and libraries against what libdw makes of the same files; damaged ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <time.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/unwind/row_table.h"

#define RBP 6
#define RSP 7
#define RA  16

static struct lw_elf_image *open_path(const char *path)
{
    struct lw_elf_image *image = NULL;
    lw_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && lw_elf_image_open(fd, &image) != 0)
        image = NULL;
    return image;
}

/* ---- What libdw says, as a row. ---- */

static int64_t negated(Dwarf_Word distance)
{
    return (int64_t)(0 - distance);
}

/* register + offset, in the two forms of an operation. */
static bool is_register_offset(const Dwarf_Op *operation, unsigned *number, int64_t *offset)
{
    if (operation->atom == DW_OP_bregx) {
        *number = (unsigned)operation->number;
        *offset = (int64_t)operation->number2;
        return true;
    }
    *number = operation->atom - DW_OP_breg0;
    *offset = (int64_t)operation->number;
    return operation->atom >= DW_OP_breg0 && operation->atom <= DW_OP_breg31;
}

/* "At the CFA + offset": libdw writes that as call_frame_cfa, plus_uconst. */
static bool is_at_cfa(const Dwarf_Op *operations, size_t count, int64_t *offset)
{
    if (count == 0 || operations[0].atom != DW_OP_call_frame_cfa || count > 2)
        return false;
    *offset = count == 2 ? (int64_t)operations[1].number : 0;
    return count == 1 || operations[1].atom == DW_OP_plus_uconst;
}

enum { NOT_A_SLOT = -1 };

static int frame_pointer_slot(Dwarf_Frame *frame)
{
    Dwarf_Op memory[3], *operations;
    size_t count;
    int64_t offset;
    unsigned number;
    assert_int_equal(dwarf_frame_register(frame, RBP, memory, &operations, &count), 0);
    if (count == 0)
        return operations == NULL ? 0 : NOT_A_SLOT;
    if (is_at_cfa(operations, count, &offset))
        return offset < 0 && offset % 8 == 0 && -offset / 8 <= LW_ROW_SLOT_MAX ? (int)(-offset / 8)
                                                                               : NOT_A_SLOT;
    /* Expressions begin with the CFA. */
    if (count == 2 && operations[0].atom == DW_OP_call_frame_cfa &&
        is_register_offset(&operations[1], &number, &offset) && number == RBP && offset == 0)
        return LW_ROW_SLOT_AT_FP;
    return NOT_A_SLOT;
}

static bool returns_below_cfa(Dwarf_Frame *frame, bool *undefined)
{
    Dwarf_Op memory[3], *operations;
    size_t count;
    int64_t offset;
    assert_int_equal(dwarf_frame_register(frame, RA, memory, &operations, &count), 0);
    *undefined = count == 0 && operations == memory;
    return is_at_cfa(operations, count, &offset) && offset == negated(8);
}

static lw_row offset_row(enum lw_row_kind kind, int64_t offset, int slot)
{
    bool fits = offset >= 0 && offset % 8 == 0 && offset / 8 <= LW_ROW_OFFSET_MAX;
    return fits ? lw_row_pack(kind, (uint32_t)offset, (uint32_t)slot) : LW_ROW_NONE;
}

static lw_row row_by_libdw(Dwarf_Frame *frame)
{
    Dwarf_Op *cfa;
    size_t count;
    unsigned number;
    int64_t offset;
    bool is_signal, undefined;
    assert_int_equal(dwarf_frame_info(frame, NULL, NULL, &is_signal), RA);
    bool returns = returns_below_cfa(frame, &undefined);
    if (undefined)
        return lw_row_pack(LW_ROW_END, 0, 0);
    if (is_signal)
        return lw_row_pack(LW_ROW_SIGNAL, 0, 0);
    int slot = frame_pointer_slot(frame);
    if (!returns || slot == NOT_A_SLOT || dwarf_frame_cfa(frame, &cfa, &count) != 0 ||
        !is_register_offset(&cfa[0], &number, &offset))
        return LW_ROW_NONE;
    if (count == 1 && (number == RSP || number == RBP))
        return offset_row(number == RSP ? LW_ROW_SP : LW_ROW_FP, offset, slot);
    if (count == 2 && number == RBP && cfa[1].atom == DW_OP_deref)
        return offset_row(LW_ROW_DEREF, offset + LW_ROW_DEREF_BIAS, slot);
    if (count == 9 && cfa[1].atom == DW_OP_breg16)
        return lw_row_pack(LW_ROW_PLT, 0, 0);
    return LW_ROW_NONE;
}

/* ---- The comparison. ---- */

struct tally {
    size_t functions, compared, none, missing;
    uint64_t bytes, none_bytes;
};

/* At every row of the function, and in the middle of each. */
static void compare_function(Dwarf_CFI *cfi, const struct lw_row_table *table, uint64_t start,
                             uint64_t end, struct tally *tally)
{
    tally->functions++;
    for (uint64_t address = start; address < end;) {
        Dwarf_Frame *frame = NULL;
        Dwarf_Addr from, to;
        assert_int_equal(dwarf_cfi_addrframe(cfi, address, &frame), 0);
        assert_true(dwarf_frame_info(frame, &from, &to, NULL) >= 0);
        assert_true(to > address);
        lw_row expected = row_by_libdw(frame);
        lw_row row = lw_row_table_find(table, address);
        free(frame);
        if (row != LW_ROW_NONE && row != expected)
            print_error("%#lx: row %#x, libdw %#x\n", address, row, expected);
        assert_true(row == LW_ROW_NONE || row == expected);
        assert_int_equal(lw_row_table_find(table, address + (to - address) / 2), row);
        assert_int_equal(lw_row_table_find(table, to - 1), row);
        tally->compared++;
        tally->bytes += to - address;
        tally->missing += row != expected;
        if (row == LW_ROW_NONE) {
            tally->none++;
            tally->none_bytes += to - address;
        }
        address = to;
    }
}

/* The section's entries, found without our own reader. */
static void compare_all(Elf *elf, const struct lw_row_table *table, struct tally *tally)
{
    Dwarf_CFI *cfi = dwarf_getcfi_elf(elf);
    assert_non_null(cfi);
    size_t names;
    elf_getshdrstrndx(elf, &names);
    for (Elf_Scn *section = NULL; (section = elf_nextscn(elf, section)) != NULL;) {
        GElf_Shdr header;
        gelf_getshdr(section, &header);
        if (strcmp(elf_strptr(elf, names, header.sh_name), ".eh_frame") != 0)
            continue;
        Elf_Data *data = elf_getdata(section, NULL);
        const uint8_t *e_ident = (const uint8_t *)elf_getident(elf, NULL);
        Dwarf_CFI_Entry entry;
        Dwarf_Off next;
        for (Dwarf_Off offset = 0; dwarf_next_cfi(e_ident, data, true, offset, &next, &entry) != 1;
             offset = next) {
            if (dwarf_cfi_cie_p(&entry))
                continue;
            /* Linkers write both addresses in 4 bytes, the first relative to itself. */
            int32_t distance;
            uint32_t size;
            memcpy(&distance, entry.fde.start, 4);
            memcpy(&size, entry.fde.start + 4, 4);
            uint64_t start = header.sh_addr + (uint64_t)distance +
                             (size_t)(entry.fde.start - (const uint8_t *)data->d_buf);
            compare_function(cfi, table, start, start + size, tally);
        }
    }
    dwarf_cfi_end(cfi);
}

static double milliseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* Every row of the file is the one that libdw gives, and few are missing. */
static void compare_file(const char *path)
{
    struct lw_elf_image *image = open_path(path);
    if (image == NULL) {
        print_message("%s: not here, not compared\n", path);
        return;
    }
    struct lw_row_table table;
    double begun = milliseconds();
    assert_int_equal(lw_row_table_compile(image, &table), 0);
    double took = milliseconds() - begun;
    lw_elf_image_close(image);

    struct tally tally = {0};
    lw_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    elf_version(EV_CURRENT);
    Elf *elf = elf_begin(fd, ELF_C_READ, NULL);
    assert_non_null(elf);
    compare_all(elf, &table, &tally);
    elf_end(elf);
    print_message("%s: %zu functions, %zu rows in %.1f ms; none for %zu of %zu rows, %.3f%% of the "
                  "code; %zu missing\n",
                  path, tally.functions, table.count, took, tally.none, tally.compared,
                  100.0 * (double)tally.none_bytes / (double)tally.bytes, tally.missing);
    assert_true(tally.compared > 20);
    assert_int_equal(tally.missing, 0);
    /* libcrypto's own assembly has frames that rows cannot tell of, in a thirteenth of it. */
    assert_true(tally.none_bytes * 10 < tally.bytes);
    lw_row_table_deinit(&table);
}

static const char *path_of(const char *library, char path[PATH_MAX])
{
    void *handle = dlopen(library, RTLD_LAZY);
    struct link_map *map;
    strcpy(path, library);
    if (handle != NULL && dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0)
        snprintf(path, PATH_MAX, "%s", map->l_name);
    return path;
}

static void test_libraries(void **state)
{
    (void)state;
    static const char *const libraries[] = {"libc.so.6", "libstdc++.so.6", "libcrypto.so.3",
                                            "libpython3.11.so.1.0", "libm.so.6"};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++)
        compare_file(path_of(libraries[i], path));
}

static void test_programs(void **state)
{
    (void)state;
    static const char *const programs[] = {"/proc/self/exe", "/usr/bin/python3",
                                           "/usr/bin/redis-server", "/usr/bin/perl",
                                           "/usr/sbin/nginx"};
    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
        compare_file(programs[i]);
}

static void test_vdso(void **state)
{
    (void)state;
    const void *vdso = (void *)getauxval(AT_SYSINFO_EHDR);
    if (vdso == NULL)
        skip();
    struct lw_elf_image *image = NULL;
    struct lw_row_table table;
    struct lw_elf_symbol symbol;
    assert_int_equal(lw_elf_image_open_memory(vdso, 8192, &image), 0);
    assert_int_equal(lw_row_table_compile(image, &table), 0);
    assert_int_equal(lw_elf_image_find_symbols(image, "__vdso_gettimeofday", &symbol, 1), 1);
    assert_int_equal(lw_row_table_find(&table, symbol.address), lw_row_pack(LW_ROW_SP, 8, 0));
    lw_row_table_deinit(&table);
    lw_elf_image_close(image);
}

/* ---- Damage. ---- */

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

struct bytes {
    uint8_t *items;
    size_t size, from; /* damage is done from here on */
};

static struct bytes read_file(const char *path)
{
    struct bytes bytes;
    struct stat status;
    lw_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(fstat(fd, &status), 0);
    bytes.size = (size_t)status.st_size;
    bytes.items = malloc(bytes.size);
    assert_int_equal(read(fd, bytes.items, bytes.size), bytes.size);
    uint64_t address, size;
    struct lw_elf_image *image = open_path(path);
    assert_true(lw_elf_image_eh_frame_hdr(image, &address, &size));
    size_t count;
    const struct lw_elf_segment *segments = lw_elf_image_segments(image, &count);
    while (address - segments->address >= segments->file_size)
        segments++;
    bytes.from = (size_t)(address - segments->address + segments->offset);
    lw_elf_image_close(image);
    return bytes;
}

/* A few bytes anywhere in the sections, or many; now and then in the file's headers. */
static void damage(struct bytes *bytes)
{
    size_t count = 1 + next_random() % (next_random() % 8 == 0 ? 2000 : 8);
    bool anywhere = next_random() % 16 == 0;
    size_t from = anywhere ? 0 : bytes->from;
    size_t size = next_random() % 8 == 0 ? 64 : bytes->size - from;
    for (size_t i = 0; i < count; i++)
        bytes->items[from + next_random() % size] = (uint8_t)next_random();
}

static void check_table(const struct lw_row_table *table)
{
    for (size_t i = 0; i < table->count; i++) {
        assert_true(i == 0 || table->start[i] > table->start[i - 1]);
        assert_true(i == 0 || table->row[i] != table->row[i - 1]);
        assert_true(lw_row_kind(table->row[i]) <= LW_ROW_PLT);
    }
    assert_true(table->count == 0 || table->row[table->count - 1] == LW_ROW_NONE);
}

static void test_damaged_files(void **state)
{
    (void)state;
    char path[PATH_MAX];
    struct bytes original = read_file(path_of("libcmocka.so.0", path));
    struct bytes damaged = original;
    damaged.items = malloc(original.size);
    size_t rows = 0;
    for (int i = 0; i < 4000; i++) {
        memcpy(damaged.items, original.items, original.size);
        damage(&damaged);
        struct lw_elf_image *image = NULL;
        if (lw_elf_image_open_memory(damaged.items, damaged.size, &image) != 0)
            continue;
        struct lw_row_table table;
        assert_int_equal(lw_row_table_compile(image, &table), 0);
        check_table(&table);
        rows += table.count;
        lw_row_table_deinit(&table);
        lw_elf_image_close(image);
    }
    assert_true(rows > 100000); /* otherwise this tries nothing */
    free(original.items);
    free(damaged.items);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_libraries),
        cmocka_unit_test(test_programs),
        cmocka_unit_test(test_vdso),
        cmocka_unit_test(test_damaged_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
