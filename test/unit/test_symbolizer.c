/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The symbolizer, on this program (compiled with -g), on the C library and on damaged DWARF. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <gelf.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/symbol/symbolizer.h"

/* Each label names the address of an instruction, each constant the line that it is on. */
extern const char plain_here[], inlined_here[], returned_here[];

#define ALWAYS_INLINE static inline __attribute__((always_inline))

__attribute__((noipa)) static void plain_function(void)
{
    __asm__ volatile(".globl plain_here\nplain_here: nop");
}
enum { PLAIN_LINE = __LINE__ - 2 };

ALWAYS_INLINE void innermost(void)
{
    __asm__ volatile(".globl inlined_here\ninlined_here: nop");
}
enum { INNERMOST_LINE = __LINE__ - 2 };

ALWAYS_INLINE void middle(void)
{
    __asm__ volatile("nop");
    innermost();
}
enum { MIDDLE_LINE = __LINE__ - 2 };

__attribute__((noipa)) static void outer_function(void)
{
    __asm__ volatile("nop");
    middle();
    __asm__ volatile("nop");
}
enum { OUTER_LINE = __LINE__ - 3 };

/* The return address of the call is the first instruction of the next line. */
__attribute__((noipa)) static void calling_function(void)
{
    plain_function();
    __asm__ volatile(".globl returned_here\nreturned_here: nop");
}
enum { CALL_LINE = __LINE__ - 3 };

struct fixture {
    struct lw_process_memory memory;
    struct lw_module_table *modules;
    struct lw_symbolizer *symbolizer;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    assert_null(lw_process_memory_init(&fixture.memory, getpid()));
    fixture.modules = lw_module_table_create(getpid(), &fixture.memory.memory);
    assert_non_null(fixture.modules);
    assert_int_equal(lw_module_table_refresh(fixture.modules, NULL), 0);
    fixture.symbolizer = lw_symbolizer_create(fixture.modules);
    assert_non_null(fixture.symbolizer);
    *state = &fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    lw_symbolizer_destroy(fixture->symbolizer);
    lw_module_table_destroy(fixture->modules);
    lw_process_memory_deinit(&fixture->memory);
    return 0;
}

static size_t resolve(struct fixture *fixture, const void *address, bool is_return,
                      const struct lw_symbol **symbols)
{
    const struct lw_module *module = lw_module_table_find(fixture->modules, (uintptr_t)address);
    assert_non_null(module);
    return lw_symbolizer_resolve(fixture->symbolizer, module->id, (uintptr_t)address - module->bias,
                                 is_return, symbols);
}

static void assert_symbol(const struct lw_symbol *symbol, const char *function, int line,
                          bool inlined)
{
    assert_non_null(symbol->function);
    assert_string_equal(symbol->function, function);
    assert_non_null(symbol->file);
    const char *slash = strrchr(symbol->file, '/');
    assert_string_equal(slash ? slash + 1 : symbol->file, "test_symbolizer.c");
    assert_int_equal(symbol->line, line);
    assert_int_equal(symbol->inlined, inlined);
}

static void test_function_and_line(void **state)
{
    const struct lw_symbol *symbols, *again;
    plain_function();
    assert_int_equal(resolve(*state, plain_here, false, &symbols), 1);
    assert_symbol(symbols, "plain_function", PLAIN_LINE, false);
    assert_int_equal(symbols->offset, (uintptr_t)plain_here - (uintptr_t)plain_function);
    assert_int_equal(resolve(*state, plain_here, false, &again), 1);
    assert_ptr_equal(symbols, again);
}

static void test_inlined_functions(void **state)
{
    const struct lw_symbol *symbols;
    outer_function();
    assert_int_equal(resolve(*state, inlined_here, false, &symbols), 3);
    assert_symbol(&symbols[0], "innermost", INNERMOST_LINE, true);
    assert_symbol(&symbols[1], "middle", MIDDLE_LINE, true);
    assert_symbol(&symbols[2], "outer_function", OUTER_LINE, false);
    assert_int_equal(symbols[0].offset, 0);
    assert_int_equal(symbols[2].offset, (uintptr_t)inlined_here - (uintptr_t)outer_function);
}

static void test_return_address(void **state)
{
    const struct lw_symbol *exact, *returned;
    calling_function();
    assert_int_equal(resolve(*state, returned_here, true, &returned), 1);
    assert_symbol(returned, "calling_function", CALL_LINE, false);
    assert_int_equal(returned->offset, (uintptr_t)returned_here - (uintptr_t)calling_function);
    assert_int_equal(resolve(*state, returned_here, false, &exact), 1);
    assert_symbol(exact, "calling_function", CALL_LINE + 1, false);
    assert_int_equal(exact->offset, returned->offset);

    /* At its very start a function is not the one that the call before it is in. */
    assert_int_equal(resolve(*state, plain_function, false, &exact), 1);
    assert_string_equal(exact->function, "plain_function");
    assert_int_equal(resolve(*state, plain_function, true, &returned), 1);
    assert_true(!returned->function || strcmp(returned->function, "plain_function") != 0);
}

extern const char _start[];

/* Start code has no debug information, and is not of the file that happens to precede it. */
static void test_without_debug_information(void **state)
{
    const struct lw_symbol *symbols;
    assert_int_equal(resolve(*state, _start, false, &symbols), 1);
    assert_string_equal(symbols->function, "_start");
    assert_true(!symbols->file || !strstr(symbols->file, "test_symbolizer.c"));
}

static void *library_symbol(struct fixture *fixture, const char *library, const char *name)
{
    void *handle = dlopen(library, RTLD_NOW);
    if (!handle)
        skip();
    assert_int_equal(lw_module_table_refresh(fixture->modules, NULL), 0);
    void *address = dlsym(handle, name);
    assert_non_null(address);
    return address;
}

static void test_libc(void **state)
{
    /* Each with aliases: __libc_malloc, cfree, __libc_calloc, __posix_memalign. */
    static const char *const names[] = {"malloc", "free", "calloc", "realloc", "posix_memalign"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct lw_symbol *symbols;
        char *address = library_symbol(*state, "libc.so.6", names[i]);
        size_t count = resolve(*state, address + 4, false, &symbols);
        assert_non_null(symbols[count - 1].function);
        assert_string_equal(symbols[count - 1].function, names[i]);
        assert_int_equal(symbols[count - 1].offset, 4);
    }
}

static void test_demangling(void **state)
{
    const struct lw_symbol *symbols;
    char *address = library_symbol(*state, "libstdc++.so.6", "_Znwm");
    size_t count = resolve(*state, address, false, &symbols);
    assert_string_equal(symbols[count - 1].function, "operator new(unsigned long)");
    assert_string_equal(symbols[count - 1].linkage_name, "_Znwm");
    address = library_symbol(*state, "libstdc++.so.6", "_ZdlPv");
    count = resolve(*state, address + 1, true, &symbols);
    assert_string_equal(symbols[count - 1].function, "operator delete(void*)");
    assert_int_equal(symbols[count - 1].offset, 1);
}

static void test_vdso(void **state)
{
    struct fixture *fixture = *state;
    const struct lw_module *vdso = NULL;
    for (uint32_t id = 1; id <= lw_module_table_count(fixture->modules); id++)
        if (lw_module_table_get(fixture->modules, id)->is_vdso)
            vdso = lw_module_table_get(fixture->modules, id);
    struct lw_elf_symbol found;
    if (!vdso || lw_elf_image_find_symbols(vdso->image, "__vdso_clock_gettime", &found, 1) == 0)
        skip();
    const struct lw_symbol *symbols;
    assert_int_equal(
        lw_symbolizer_resolve(fixture->symbolizer, vdso->id, found.address, false, &symbols), 1);
    assert_non_null(strstr(symbols->function, "clock_gettime"));
}

static void assert_unknown(struct fixture *fixture, uint32_t module, uint64_t offset)
{
    for (int is_return = 0; is_return < 2; is_return++) {
        const struct lw_symbol *symbol = NULL;
        assert_int_equal(
            lw_symbolizer_resolve(fixture->symbolizer, module, offset, is_return, &symbol), 1);
        assert_non_null(symbol);
        assert_null(symbol->function);
        assert_null(symbol->file);
        assert_int_equal(symbol->line, 0);
        assert_int_equal(symbol->offset, 0);
        assert_false(symbol->inlined);
    }
}

static void test_unknown(void **state)
{
    struct fixture *fixture = *state;
    const struct lw_module *self =
        lw_module_table_find(fixture->modules, (uintptr_t)plain_function);
    assert_unknown(fixture, self->id, UINT64_MAX);
    assert_unknown(fixture, self->id, UINT64_MAX - 1);
    assert_unknown(fixture, self->id, 1ull << 62);
    assert_unknown(fixture, self->id, 0x10);
    assert_unknown(fixture, 0, (uintptr_t)plain_function);
    assert_unknown(fixture, UINT32_MAX, 0x1000);
}

/* Runs damage(bytes, size) on every section that holds debug information. */
static void damage_debug_sections(int fd, void (*damage)(uint8_t *bytes, size_t size))
{
    struct stat status;
    assert_int_equal(fstat(fd, &status), 0);
    uint8_t *file = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(file, MAP_FAILED);
    elf_version(EV_CURRENT);
    Elf *elf = elf_memory((char *)file, (size_t)status.st_size);
    assert_non_null(elf);
    size_t names, damaged = 0;
    assert_int_equal(elf_getshdrstrndx(elf, &names), 0);
    for (Elf_Scn *section = NULL; (section = elf_nextscn(elf, section));) {
        GElf_Shdr header;
        assert_non_null(gelf_getshdr(section, &header));
        const char *name = elf_strptr(elf, names, header.sh_name);
        if (!name || strncmp(name, ".debug_", 7) != 0)
            continue;
        damage(file + header.sh_offset, header.sh_size);
        damaged++;
    }
    assert_true(damaged > 3);
    elf_end(elf);
    munmap(file, (size_t)status.st_size);
}

static uint64_t random_state = 88172645463325252ull;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void damage_some(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; size != 0 && i < 1 + size / 64; i++)
        bytes[next_random() % size] = (uint8_t)next_random();
}

static int copy_of_this_program(void)
{
    lw_auto_fclose FILE *in = fopen("/proc/self/exe", "rb");
    int fd = memfd_create("damaged", MFD_CLOEXEC);
    assert_non_null(in);
    assert_true(fd >= 0);
    char buffer[65536];
    size_t size;
    while ((size = fread(buffer, 1, sizeof(buffer), in)) > 0)
        assert_int_equal(write(fd, buffer, size), size);
    return fd;
}

/* Wrong answers are allowed, and names from the symbol table remain right. */
static void test_damaged_debug_information(void **state)
{
    struct fixture *fixture = *state;
    struct lw_module *self =
        (struct lw_module *)lw_module_table_find(fixture->modules, (uintptr_t)plain_function);
    int own_fd = self->fd;
    static const char *const addresses[] = {plain_here, inlined_here, returned_here};
    for (int round = 0; round < 60; round++) {
        lw_auto_close int fd = copy_of_this_program();
        damage_debug_sections(fd, damage_some);
        self->fd = fd;
        struct fixture damaged = *fixture;
        damaged.symbolizer = lw_symbolizer_create(fixture->modules);
        for (int i = 0; i < 3; i++) {
            const struct lw_symbol *symbols;
            size_t count = resolve(&damaged, addresses[i], false, &symbols);
            assert_in_range(count, 1, 64);
            assert_non_null(symbols[count - 1].function);
            assert_non_null(strstr(symbols[count - 1].function, "_function"));
        }
        lw_symbolizer_destroy(damaged.symbolizer);
        self->fd = own_fd;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_function_and_line),
        cmocka_unit_test(test_inlined_functions),
        cmocka_unit_test(test_return_address),
        cmocka_unit_test(test_without_debug_information),
        cmocka_unit_test(test_libc),
        cmocka_unit_test(test_demangling),
        cmocka_unit_test(test_vdso),
        cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_damaged_debug_information),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
