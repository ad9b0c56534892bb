/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading ELF images: this program, the C library, the vdso, and broken copies of one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <libelf.h>
#include <link.h>
#include <pthread.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/target/elf_image.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static struct lw_elf_image *open_path(const char *path)
{
    struct lw_elf_image *image = NULL;
    lw_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(lw_elf_image_open(fd, &image), 0);
    return image;
}

/* The file that holds a function of this process, and where it was loaded. */
static struct lw_elf_image *open_holder(void *function, uint64_t *bias)
{
    Dl_info info;
    assert_true(dladdr(function, &info) != 0);
    *bias = (uint64_t)(uintptr_t)info.dli_fbase;
    return open_path(info.dli_fname);
}

static int open_bytes(const void *bytes, size_t size, struct lw_elf_image **image)
{
    lw_auto_close int fd = memfd_create("elf", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    return lw_elf_image_open(fd, image);
}

static void test_c_library(void **state)
{
    (void)state;
    uint64_t bias, address, size;
    struct lw_elf_image *image = open_holder((void *)getenv, &bias);
    assert_int_equal(lw_elf_image_machine(image), EM_X86_64);
    assert_false(lw_elf_image_is_executable_type(image));
    assert_string_equal(lw_elf_image_soname(image), "libc.so.6");
    assert_int_equal(strlen(lw_elf_image_build_id(image)), 40);
    assert_int_equal(strspn(lw_elf_image_build_id(image), "0123456789abcdef"), 40);
    assert_true(lw_elf_image_eh_frame_hdr(image, &address, &size));
    assert_memory_equal((void *)(uintptr_t)(bias + address), "\x01\x1b\x03\x3b", 4);

    size_t count, executable = 0;
    const struct lw_elf_segment *segments = lw_elf_image_segments(image, &count);
    for (size_t i = 0; i < count; i++)
        executable += segments[i].executable;
    assert_true(count >= 2 && executable == 1);
    lw_elf_image_close(image);
}

static void test_finds_global_symbols_by_name(void **state)
{
    (void)state;
    uint64_t bias;
    struct lw_elf_symbol found[8];
    struct lw_elf_image *image = open_holder((void *)getenv, &bias);
    assert_int_equal(lw_elf_image_find_symbols(image, "getenv", found, 8), 1);
    assert_string_equal(found[0].name, "getenv");
    assert_true(found[0].address + bias == (uint64_t)(uintptr_t)getenv);
    assert_true(found[0].kind == LW_ELF_FUNCTION && found[0].global && found[0].size > 0);
    assert_int_equal(lw_elf_image_find_symbols(image, "environ", found, 8), 1);
    assert_int_equal(found[0].kind, LW_ELF_OBJECT);
    assert_int_equal(lw_elf_image_find_symbols(image, "strlen", found, 8), 1);
    assert_int_equal(found[0].kind, LW_ELF_IFUNC);

    /* pthread_cond_wait@GLIBC_2.2.5 and @@GLIBC_2.3.2 are different functions. */
    assert_int_equal(lw_elf_image_find_symbols(image, "pthread_cond_wait", found, 8), 2);
    assert_true(found[0].address != found[1].address);
    assert_int_equal(lw_elf_image_find_symbols(image, "pthread_cond_wait", found, 1), 1);

    assert_int_equal(lw_elf_image_find_symbols(image, "geten", found, 8), 0);
    assert_int_equal(lw_elf_image_find_symbols(image, "", found, 8), 0);
    lw_elf_image_close(image);
}

/* Found through .symtab alone, since it is local. */
static __attribute__((noinline, used)) int local_function(int x)
{
    __asm__ volatile("" : "+r"(x));
    return x + 1;
}

static void test_names_addresses(void **state)
{
    (void)state;
    uint64_t bias;
    struct lw_elf_symbol symbol;
    struct lw_elf_image *image = open_holder((void *)local_function, &bias);
    uint64_t start = (uint64_t)(uintptr_t)local_function - bias;
    assert_true(lw_elf_image_symbol_at(image, start, &symbol));
    assert_string_equal(symbol.name, "local_function");
    assert_true(symbol.address == start && !symbol.global);
    assert_true(lw_elf_image_symbol_at(image, start + symbol.size - 1, &symbol));
    assert_string_equal(symbol.name, "local_function");
    assert_false(lw_elf_image_symbol_at(image, 0, &symbol));
    assert_false(lw_elf_image_symbol_at(image, UINT64_MAX, &symbol));
    struct lw_elf_symbol found[2];
    assert_int_equal(lw_elf_image_find_symbols(image, "local_function", found, 2), 0);
    assert_int_equal(lw_elf_image_find_symbols(image, "main", found, 2), 1);
    lw_elf_image_close(image);
}

/* Of several names for one function, the one that people know. */
static void test_chooses_among_aliases(void **state)
{
    (void)state;
    /* Each with __libc_ names; free with cfree@GLIBC_2.2.5, which programs cannot be linked with
     * any more; memalign with aligned_alloc, lseek with llseek@GLIBC_2.2.5 and lseek64. */
    static const char *const names[] = {"malloc", "free", "memalign", "lseek"};
    uint64_t bias;
    struct lw_elf_symbol found[2], symbol;
    struct lw_elf_image *image = open_holder((void *)getenv, &bias);
    for (size_t i = 0; i < LENGTH(names); i++) {
        assert_int_equal(lw_elf_image_find_symbols(image, names[i], found, 2), 1);
        assert_true(lw_elf_image_symbol_at(image, found[0].address + 4, &symbol));
        assert_string_equal(symbol.name, names[i]);
        assert_true(symbol.address == found[0].address);
    }
    lw_elf_image_close(image);
}

static void test_reads_original_bytes(void **state)
{
    (void)state;
    uint64_t bias;
    unsigned char bytes[32];
    struct lw_elf_image *image = open_holder((void *)local_function, &bias);
    uint64_t start = (uint64_t)(uintptr_t)local_function - bias;
    assert_int_equal(lw_elf_image_read(image, start, bytes, sizeof(bytes)), sizeof(bytes));
    assert_memory_equal(bytes, (void *)local_function, sizeof(bytes));

    size_t count;
    const struct lw_elf_segment *segments = lw_elf_image_segments(image, &count);
    uint64_t end = segments[0].address + segments[0].file_size;
    assert_int_equal(lw_elf_image_read(image, end - 5, bytes, sizeof(bytes)), 5);
    assert_int_equal(lw_elf_image_read(image, UINT64_MAX, bytes, sizeof(bytes)), 0);
    lw_elf_image_close(image);
}

/* The dynamic section's entry of a loaded library, relocated by ld.so. */
static uint64_t dynamic_value(const struct link_map *map, int64_t tag)
{
    for (const Elf64_Dyn *entry = map->l_ld; entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag == tag)
            return entry->d_un.d_val;
    }
    return 0;
}

static void test_names_got_slots(void **state)
{
    (void)state;
    uint64_t bias;
    struct lw_elf_image *image = open_holder((void *)elf_version, &bias);
    Dl_info info;
    struct link_map *map;
    assert_true(dladdr1((void *)elf_version, &info, (void **)&map, RTLD_DL_LINKMAP) != 0);
    const Elf64_Rela *relocations = (void *)(uintptr_t)dynamic_value(map, DT_JMPREL);
    const Elf64_Sym *symbols = (void *)(uintptr_t)dynamic_value(map, DT_SYMTAB);
    const char *names = (void *)(uintptr_t)dynamic_value(map, DT_STRTAB);
    size_t count = dynamic_value(map, DT_PLTRELSZ) / sizeof(*relocations);
    bool malloc_seen = false;
    assert_true(count > 10);
    for (size_t i = 0; i < count; i++) {
        const char *expected = names + symbols[ELF64_R_SYM(relocations[i].r_info)].st_name;
        const char *name = lw_elf_image_got_symbol(image, relocations[i].r_offset);
        assert_non_null(name);
        assert_string_equal(name, expected);
        malloc_seen |= strcmp(name, "malloc") == 0;
    }
    assert_true(malloc_seen);
    assert_null(lw_elf_image_got_symbol(image, relocations[0].r_offset + 1));
    assert_null(lw_elf_image_got_symbol(image, 0));
    lw_elf_image_close(image);
}

static void test_names_slots_of_own_ifuncs(void **state)
{
    (void)state;
    uint64_t bias;
    struct lw_elf_image *image = open_holder((void *)getenv, &bias);
    Dl_info info;
    struct link_map *map;
    assert_true(dladdr1((void *)getenv, &info, (void **)&map, RTLD_DL_LINKMAP) != 0);
    const Elf64_Rela *relocations = (void *)(uintptr_t)dynamic_value(map, DT_JMPREL);
    size_t count = dynamic_value(map, DT_PLTRELSZ) / sizeof(*relocations);
    bool memset_seen = false;
    for (size_t i = 0; i < count; i++) {
        const char *name = lw_elf_image_got_symbol(image, relocations[i].r_offset);
        memset_seen |= name != NULL && strcmp(name, "memset") == 0;
    }
    assert_true(memset_seen);
    lw_elf_image_close(image);
}

static void test_vdso_from_memory(void **state)
{
    (void)state;
    const void *vdso = (void *)getauxval(AT_SYSINFO_EHDR);
    if (vdso == NULL)
        skip();
    struct lw_elf_image *image = NULL;
    uint64_t address, size;
    struct lw_elf_symbol found[2], symbol;
    assert_int_equal(lw_elf_image_open_memory(vdso, 4096, &image), 0);
    assert_true(lw_elf_image_eh_frame_hdr(image, &address, &size));
    assert_true(strncmp(lw_elf_image_soname(image), "linux-vdso.so", 13) == 0);
    assert_true(lw_elf_image_build_id(image)[0] != '\0');
    unsigned char bytes[4];
    assert_int_equal(lw_elf_image_read(image, 0, bytes, 4), 4);
    assert_memory_equal(bytes, ELFMAG, 4);
    lw_elf_image_close(image);

    assert_int_equal(lw_elf_image_open_memory(vdso, 8192, &image), 0);
    assert_int_equal(lw_elf_image_find_symbols(image, "__vdso_gettimeofday", found, 2), 1);
    assert_true(lw_elf_image_symbol_at(image, found[0].address + 1, &symbol));
    assert_non_null(strstr(symbol.name, "gettimeofday"));
    lw_elf_image_close(image);
}

static void test_refuses_what_is_not_elf(void **state)
{
    (void)state;
    struct lw_elf_image *image = NULL;
    unsigned char header[64] = ELFMAG "\x02\x01\x01";
    assert_int_equal(lw_elf_image_open_memory("", 0, &image), -ENOEXEC);
    assert_int_equal(lw_elf_image_open_memory("#!/bin/sh\n", 10, &image), -ENOEXEC);
    assert_int_equal(lw_elf_image_open_memory("!<arch>\n", 8, &image), -ENOEXEC);
    assert_int_equal(lw_elf_image_open_memory(header, 10, &image), -ENOEXEC);
    assert_int_equal(lw_elf_image_open_memory(header, sizeof(header), &image), -ENOEXEC);
    assert_int_equal(open_bytes("", 0, &image), -ENOEXEC);
    assert_int_equal(open_bytes("\x7f"
                                "ELF",
                                4, &image),
                     -ENOEXEC);
    assert_int_equal(lw_elf_image_open(-1, &image), -EBADF);
    lw_auto_close int directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(lw_elf_image_open(directory, &image) < 0);
    assert_null(image);
}

/* The bytes of the file that holds a function of this process. */
static unsigned char *read_holder(void *function, size_t *size)
{
    Dl_info info;
    assert_true(dladdr(function, &info) != 0);
    lw_auto_close int fd = open(info.dli_fname, O_RDONLY | O_CLOEXEC);
    struct stat status;
    assert_int_equal(fstat(fd, &status), 0);
    unsigned char *bytes = malloc((size_t)status.st_size);
    assert_int_equal(read(fd, bytes, (size_t)status.st_size), status.st_size);
    *size = (size_t)status.st_size;
    return bytes;
}

static unsigned char *read_library(size_t *size)
{
    return read_holder((void *)elf_version, size);
}

static Elf64_Shdr *section_of_type(unsigned char *bytes, unsigned type)
{
    const Elf64_Ehdr *header = (Elf64_Ehdr *)bytes;
    Elf64_Shdr *sections = (Elf64_Shdr *)(bytes + header->e_shoff);
    for (unsigned i = 0; i < header->e_shnum; i++)
        if (sections[i].sh_type == type)
            return &sections[i];
    fail();
    return NULL;
}

static void test_prefers_default_versions(void **state)
{
    (void)state;
    size_t size;
    uint64_t bias;
    struct lw_elf_symbol found, symbol;
    struct lw_elf_image *image = open_holder((void *)getenv, &bias);
    assert_int_equal(lw_elf_image_find_symbols(image, "free", &found, 1), 1);
    lw_elf_image_close(image);

    /* Had the C library made cfree the default, and kept free for old programs: */
    lw_auto_free unsigned char *bytes = read_holder((void *)getenv, &size);
    const Elf64_Shdr *table = section_of_type(bytes, SHT_DYNSYM);
    const Elf64_Sym *symbols = (Elf64_Sym *)(bytes + table->sh_offset);
    Elf64_Half *versions =
        (Elf64_Half *)(bytes + section_of_type(bytes, SHT_GNU_versym)->sh_offset);
    const char *names =
        (char *)bytes +
        ((Elf64_Shdr *)(bytes + ((Elf64_Ehdr *)bytes)->e_shoff))[table->sh_link].sh_offset;
    unsigned changed = 0;
    for (size_t i = 0; i < table->sh_size / sizeof(*symbols); i++) {
        const char *name = names + symbols[i].st_name;
        if (symbols[i].st_value != found.address || strcmp(name, "__libc_free") == 0)
            continue;
        assert_int_equal((versions[i] & 0x8000) != 0, strcmp(name, "cfree") == 0);
        versions[i] ^= 0x8000;
        changed++;
    }
    assert_int_equal(changed, 2);
    assert_int_equal(lw_elf_image_open_memory(bytes, size, &image), 0);
    assert_true(lw_elf_image_symbol_at(image, found.address, &symbol));
    assert_string_equal(symbol.name, "cfree");
    lw_elf_image_close(image);
}

static void test_refuses_other_classes_and_types(void **state)
{
    (void)state;
    size_t size;
    struct lw_elf_image *image = NULL;
    lw_auto_free unsigned char *bytes = read_library(&size);
    static const struct {
        size_t offset;
        unsigned char value;
    } changes[] = {{EI_CLASS, ELFCLASS32}, {EI_DATA, ELFDATA2MSB}, {16, ET_REL}, {16, ET_CORE}};
    for (size_t i = 0; i < LENGTH(changes); i++) {
        unsigned char old = bytes[changes[i].offset];
        bytes[changes[i].offset] = changes[i].value;
        assert_int_equal(lw_elf_image_open_memory(bytes, size, &image), -ENOEXEC);
        bytes[changes[i].offset] = old;
    }
    Elf64_Phdr *segment = (Elf64_Phdr *)(bytes + ((Elf64_Ehdr *)bytes)->e_phoff);
    while (segment->p_type != PT_LOAD)
        segment++;
    segment->p_vaddr = UINT64_MAX - 16;
    assert_int_equal(lw_elf_image_open_memory(bytes, size, &image), -ENOEXEC);
}

static void test_survives_truncation_while_open(void **state)
{
    (void)state;
    size_t size;
    struct lw_elf_image *image = NULL;
    lw_auto_free unsigned char *bytes = read_library(&size);
    lw_auto_close int fd = memfd_create("elf", MFD_CLOEXEC);
    assert_int_equal(write(fd, bytes, size), size);
    assert_int_equal(lw_elf_image_open(fd, &image), 0);
    assert_int_equal(ftruncate(fd, 0), 0);
    struct lw_elf_symbol symbol;
    unsigned char byte;
    assert_int_equal(lw_elf_image_find_symbols(image, "elf_version", &symbol, 1), 0);
    assert_int_equal(lw_elf_image_read(image, 0, &byte, 1), 0);
    assert_string_equal(lw_elf_image_soname(image), "libelf.so.1"); /* was read before */
    lw_elf_image_close(image);
}

/* Uses all of an image, whatever it holds. */
static void exercise(const struct lw_elf_image *image)
{
    size_t count;
    uint64_t address = 0, size;
    struct lw_elf_symbol found[4];
    unsigned char bytes[256];
    const struct lw_elf_segment *segments = lw_elf_image_segments(image, &count);
    for (size_t i = 0; i < count; i++) {
        uint64_t middle = segments[i].address + segments[i].memory_size / 2;
        lw_elf_image_read(image, middle, bytes, sizeof(bytes));
        if (lw_elf_image_symbol_at(image, middle, &found[0]))
            assert_true(strlen(found[0].name) > 0);
        lw_elf_image_got_symbol(image, middle & ~7ull);
    }
    lw_elf_image_eh_frame_hdr(image, &address, &size);
    lw_elf_image_read(image, address, bytes, sizeof(bytes));
    assert_true(strlen(lw_elf_image_soname(image)) < 256);
    assert_true(strlen(lw_elf_image_build_id(image)) <= 128);
    assert_true(lw_elf_image_find_symbols(image, "elf_begin", found, 4) <= 4);
}

static void exercise_bytes(const unsigned char *bytes, size_t size, bool in_file)
{
    struct lw_elf_image *image = NULL;
    int result =
        in_file ? open_bytes(bytes, size, &image) : lw_elf_image_open_memory(bytes, size, &image);
    if (result == 0)
        exercise(image);
    lw_elf_image_close(image);
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* Where damage hurts: the ELF header, program headers, section headers, and now and then anywhere.
 */
static size_t pick_offset(const unsigned char *bytes, size_t size, uint64_t *seed)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)bytes;
    uint64_t random = next_random(seed);
    switch (random >> 32 & 3) {
    case 0:
        return random % sizeof(*header);
    case 1:
        return sizeof(*header) + random % 0x2a0;
    case 2:
        return size - 1 - random % (32 * sizeof(Elf64_Shdr));
    default:
        return random % size;
    }
}

static void mutate_and_exercise(const unsigned char *bytes, size_t size, uint64_t *seed)
{
    lw_auto_free unsigned char *copy = malloc(size);
    memcpy(copy, bytes, size);
    size_t changes = 1 + next_random(seed) % 8;
    for (size_t i = 0; i < changes; i++) {
        size_t offset = pick_offset(bytes, size, seed);
        /* The extremes find more than random bytes do. */
        uint64_t random = next_random(seed);
        copy[offset] = (random & 3) == 0 ? 0xff : (unsigned char)(random >> 8);
    }
    size_t kept = next_random(seed) % 8 == 0 ? next_random(seed) % size : size;
    exercise_bytes(copy, kept, (next_random(seed) & 1) != 0);
}

static void test_survives_mutations(void **state)
{
    (void)state;
    size_t size;
    lw_auto_free unsigned char *bytes = read_library(&size);
    uint64_t seed = 0x9e3779b97f4a7c15;
    for (int round = 0; round < 400; round++)
        mutate_and_exercise(bytes, size, &seed);
    for (size_t kept = 0; kept < size; kept += size / 50)
        exercise_bytes(bytes, kept, true);
}

static void *look_up(void *image)
{
    struct lw_elf_symbol found[2];
    size_t count = lw_elf_image_find_symbols(image, "getenv", found, 2);
    return (void *)(uintptr_t)count;
}

static void test_threads_share_an_image(void **state)
{
    (void)state;
    uint64_t bias;
    struct lw_elf_image *image = open_holder((void *)getenv, &bias);
    pthread_t threads[4];
    for (size_t i = 0; i < LENGTH(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, look_up, image), 0);
    for (size_t i = 0; i < LENGTH(threads); i++) {
        void *count;
        assert_int_equal(pthread_join(threads[i], &count), 0);
        assert_int_equal((uintptr_t)count, 1);
    }
    lw_elf_image_close(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_c_library),
        cmocka_unit_test(test_finds_global_symbols_by_name),
        cmocka_unit_test(test_names_addresses),
        cmocka_unit_test(test_chooses_among_aliases),
        cmocka_unit_test(test_prefers_default_versions),
        cmocka_unit_test(test_reads_original_bytes),
        cmocka_unit_test(test_names_got_slots),
        cmocka_unit_test(test_names_slots_of_own_ifuncs),
        cmocka_unit_test(test_vdso_from_memory),
        cmocka_unit_test(test_refuses_what_is_not_elf),
        cmocka_unit_test(test_refuses_other_classes_and_types),
        cmocka_unit_test(test_survives_truncation_while_open),
        cmocka_unit_test(test_survives_mutations),
        cmocka_unit_test(test_threads_share_an_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
