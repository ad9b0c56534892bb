/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The module table of this very process while it loads and unloads libraries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/target/module.h"

/* A library that the test program and its sanitizers do not have already: a copy. */
#define ORIGINAL "libm.so.6"
#define NAME     "copy.so"

struct fixture {
    struct lw_process_memory memory;
    struct lw_module_table *table;
    char directory[64], path[128]; /* of the copy */
};

static void copy_file(const char *from, const char *to)
{
    lw_auto_close int in = open(from, O_RDONLY | O_CLOEXEC);
    lw_auto_close int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    struct stat status;
    assert_true(in >= 0 && out >= 0 && fstat(in, &status) == 0);
    assert_int_equal(sendfile(out, in, NULL, (size_t)status.st_size), status.st_size);
}

static int setup(void **state)
{
    static struct fixture fixture;
    strcpy(fixture.directory, "/tmp/lw-module-XXXXXX");
    assert_non_null(mkdtemp(fixture.directory));
    snprintf(fixture.path, sizeof(fixture.path), "%s/" NAME, fixture.directory);
    struct link_map *map;
    void *original = dlopen(ORIGINAL, RTLD_NOW | RTLD_LOCAL);
    assert_int_equal(dlinfo(original, RTLD_DI_LINKMAP, &map), 0);
    copy_file(map->l_name, fixture.path);
    dlclose(original);

    lw_error *error = lw_process_memory_init(&fixture.memory, getpid());
    if (error != NULL)
        fail_msg("%s", lw_error_message(error));
    fixture.table = lw_module_table_create(getpid(), &fixture.memory.memory);
    assert_non_null(fixture.table);
    assert_int_equal(lw_module_table_refresh(fixture.table, NULL), 0);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    lw_module_table_destroy(fixture->table);
    lw_process_memory_deinit(&fixture->memory);
    unlink(fixture->path); /* some tests have done so */
    return rmdir(fixture->directory);
}

static bool refresh(struct lw_module_table *table)
{
    bool changed;
    assert_int_equal(lw_module_table_refresh(table, &changed), 0);
    return changed;
}

static const struct lw_module *find(struct lw_module_table *table, const void *address)
{
    return lw_module_table_find(table, (uint64_t)(uintptr_t)address);
}

static const struct lw_module *find_named(struct lw_module_table *table, const char *name)
{
    for (uint32_t id = 1; id <= lw_module_table_count(table); id++) {
        const struct lw_module *module = lw_module_table_get(table, id);
        if (strcmp(module->name, name) == 0)
            return module;
    }
    return NULL;
}

static void *open_copy(const struct fixture *fixture)
{
    void *handle = dlopen(fixture->path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        fail_msg("%s", dlerror());
    return handle;
}

static void check_bias(const struct lw_module *module, const char *name, const void *address)
{
    struct lw_elf_symbol found[4];
    size_t count = lw_elf_image_find_symbols(module->image, name, found, 4);
    assert_true(count > 0);
    assert_true(found[0].address + module->bias == (uint64_t)(uintptr_t)address);
}

static void test_c_library_and_executable(void **state)
{
    struct fixture *fixture = *state;
    const struct lw_module *libc = find(fixture->table, (void *)getenv);
    assert_non_null(libc);
    assert_string_equal(libc->name, "libc.so.6");
    assert_true(libc->loaded && !libc->is_executable && !libc->is_vdso && libc->fd >= 0);
    assert_int_equal(strlen(libc->build_id), 40);
    assert_true(libc->start < (uintptr_t)getenv && libc->end > (uintptr_t)getenv);
    check_bias(libc, "getenv", (void *)getenv);
    assert_ptr_equal(lw_module_table_get(fixture->table, libc->id), libc);

    extern int main(void);
    const struct lw_module *program = find(fixture->table, (void *)main);
    assert_true(program != NULL && program->is_executable && program->id == 1);
    check_bias(program, "main", (void *)main);

    assert_null(find(fixture->table, NULL));
    assert_null(find(fixture->table, &fixture));
    assert_null(lw_module_table_find(fixture->table, libc->end + (1ull << 46)));
    assert_null(lw_module_table_get(fixture->table, 0));
    uint32_t count = (uint32_t)lw_module_table_count(fixture->table);
    assert_non_null(lw_module_table_get(fixture->table, count));
    assert_null(lw_module_table_get(fixture->table, count + 1));
}

static void test_vdso(void **state)
{
    struct fixture *fixture = *state;
    const struct lw_module *vdso = find_named(fixture->table, "[vdso]");
    if (vdso == NULL)
        skip();
    uint64_t address, size;
    assert_true(vdso->is_vdso && vdso->fd == -1 && vdso->image != NULL);
    assert_true(vdso->bias == vdso->start);
    assert_true(lw_elf_image_eh_frame_hdr(vdso->image, &address, &size));
    struct lw_elf_symbol found[2];
    assert_int_equal(lw_elf_image_find_symbols(vdso->image, "__vdso_gettimeofday", found, 2), 1);
    assert_ptr_equal(lw_module_table_find(fixture->table, vdso->bias + found[0].address), vdso);
}

static void test_a_library_comes_goes_and_comes_back(void **state)
{
    struct fixture *fixture = *state;
    struct lw_module_table *table = fixture->table;
    assert_false(refresh(table));
    assert_null(find_named(table, NAME));
    size_t count = lw_module_table_count(table);

    void *handle = open_copy(fixture);
    void *function = dlsym(handle, "cbrt");
    assert_null(find(table, function));
    assert_true(refresh(table));
    assert_false(refresh(table));
    const struct lw_module *module = find(table, function);
    assert_non_null(module);
    assert_string_equal(module->name, NAME);
    assert_int_equal(module->id, count + 1);
    check_bias(module, "cbrt", function);

    assert_int_equal(dlclose(handle), 0);
    assert_true(refresh(table));
    assert_false(refresh(table));
    assert_null(find(table, function));
    assert_false(module->loaded);
    assert_string_equal(module->name, NAME);
    struct lw_elf_symbol found[2];
    assert_true(lw_elf_image_find_symbols(module->image, "sinh", found, 2) > 0);

    /* Something in its place, so that it comes back somewhere else. */
    uint64_t bias = module->bias;
    void *blocker = mmap((void *)module->start, module->end - module->start, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    assert_true(blocker != MAP_FAILED);
    handle = open_copy(fixture);
    assert_true(refresh(table));
    function = dlsym(handle, "cbrt");
    assert_ptr_equal(find(table, function), module);
    assert_true(module->loaded && module->bias != bias);
    check_bias(module, "cbrt", function);
    assert_int_equal(lw_module_table_count(table), count + 1);
    munmap(blocker, module->end - module->start);
    dlclose(handle);
}

static void test_moved_between_two_refreshes(void **state)
{
    struct fixture *fixture = *state;
    struct lw_module_table *table = fixture->table;
    void *handle = open_copy(fixture);
    assert_true(refresh(table));
    const struct lw_module *module = find(table, dlsym(handle, "cbrt"));
    uint64_t start = module->start, size = module->end - module->start;
    dlclose(handle);
    void *blocker = mmap((void *)start, size, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    assert_true(blocker != MAP_FAILED);
    handle = open_copy(fixture);
    assert_true(refresh(table));
    assert_ptr_equal(find(table, dlsym(handle, "cbrt")), module);
    assert_true(module->loaded && module->start != start);
    check_bias(module, "cbrt", dlsym(handle, "cbrt"));
    munmap(blocker, size);
    dlclose(handle);
}

static void test_one_file_loaded_twice(void **state)
{
    struct fixture *fixture = *state;
    struct lw_module_table *table = fixture->table;
    void *here = open_copy(fixture);
    void *there = dlmopen(LM_ID_NEWLM, fixture->path, RTLD_NOW | RTLD_LOCAL);
    if (here == NULL || there == NULL)
        skip(); /* ASan's runtime may forbid namespaces */
    assert_true(refresh(table));
    void *one = dlsym(here, "cbrt"), *other = dlsym(there, "cbrt");
    assert_true(one != other);
    const struct lw_module *first = find(table, one), *second = find(table, other);
    assert_true(first != NULL && second != NULL && first != second);
    assert_true(first->id != second->id && first->loaded && second->loaded);
    assert_string_equal(first->path, second->path);
    assert_string_equal(first->build_id, second->build_id);
    check_bias(first, "cbrt", one);
    check_bias(second, "cbrt", other);
    assert_false(refresh(table));

    dlclose(there);
    assert_true(refresh(table));
    assert_true(first->loaded && !second->loaded);
    assert_ptr_equal(find(table, one), first);
    dlclose(here);
}

static void check_deleted(struct lw_module_table *table, void *handle)
{
    const struct lw_module *module = find(table, dlsym(handle, "cbrt"));
    assert_non_null(module);
    assert_string_equal(module->name, NAME);
    assert_non_null(module->image);
    check_bias(module, "cbrt", dlsym(handle, "cbrt"));
    unsigned char magic[4];
    assert_int_equal(pread(module->fd, magic, 4, 0), 4);
    assert_memory_equal(magic, "\177ELF", 4);
}

static void test_a_file_deleted_after_the_refresh(void **state)
{
    struct fixture *fixture = *state;
    void *handle = open_copy(fixture);
    assert_true(refresh(fixture->table));
    assert_int_equal(unlink(fixture->path), 0);
    assert_false(refresh(fixture->table));
    check_deleted(fixture->table, handle);
    dlclose(handle);
}

static void test_a_file_replaced_before_the_refresh(void **state)
{
    struct fixture *fixture = *state;
    void *handle = open_copy(fixture);
    assert_int_equal(unlink(fixture->path), 0);
    copy_file("/proc/self/exe", fixture->path); /* not the file that is mapped */
    assert_true(refresh(fixture->table));
    const struct lw_module *module = find(fixture->table, dlsym(handle, "cbrt"));
    assert_non_null(module);
    if (geteuid() == 0)
        check_deleted(fixture->table, handle);
    else
        assert_null(module->image); /* map_files is for root; never the wrong file */
    dlclose(handle);
}

static void test_a_file_rewritten_in_place(void **state)
{
    struct fixture *fixture = *state;
    struct lw_module_table *table = fixture->table;
    void *handle = open_copy(fixture);
    assert_true(refresh(table));
    const struct lw_module *before = find(table, dlsym(handle, "cbrt"));
    assert_int_equal(dlclose(handle), 0);
    assert_true(refresh(table));

    struct stat old, new;
    assert_int_equal(stat(fixture->path, &old), 0);
    copy_file("/lib/x86_64-linux-gnu/libz.so.1", fixture->path);
    assert_int_equal(stat(fixture->path, &new), 0);
    assert_true(old.st_ino == new.st_ino);
    handle = open_copy(fixture);
    assert_true(refresh(table));
    const struct lw_module *after = find(table, dlsym(handle, "deflate"));
    assert_true(after != NULL && after != before && after->loaded && !before->loaded);
    assert_string_not_equal(after->build_id, before->build_id);
    check_bias(after, "deflate", dlsym(handle, "deflate"));
    dlclose(handle);
}

static void *map_file(int fd, void *at, int protection, off_t offset)
{
    int flags = MAP_PRIVATE | (at != NULL ? MAP_FIXED : 0);
    void *memory = mmap(at, 4096, protection, flags, fd, offset);
    assert_true(memory != MAP_FAILED);
    return memory;
}

static void test_code_that_is_not_elf(void **state)
{
    struct fixture *fixture = *state;
    struct lw_module_table *table = fixture->table;
    lw_auto_close int fd = memfd_create("jit", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, 4 * 4096), 0);
    void *plain = map_file(fd, NULL, PROT_READ, 0);
    assert_false(refresh(table)); /* data */
    size_t count = lw_module_table_count(table);
    void *code = map_file(fd, NULL, PROT_READ | PROT_EXEC, 4096);
    assert_true(refresh(table));
    const struct lw_module *module = find(table, code);
    assert_non_null(module);
    assert_true(module->image == NULL && module->loaded);
    assert_string_equal(module->path, "/memfd:jit");
    assert_string_equal(module->build_id, "");

    /* However often it is mapped, it stays one module. */
    void *more = map_file(fd, NULL, PROT_READ | PROT_EXEC, 3 * 4096);
    assert_int_equal(lw_module_table_refresh(table, NULL), 0);
    assert_ptr_equal(find(table, more), module);
    assert_int_equal(lw_module_table_count(table), count + 1);
    munmap(plain, 4096);
    munmap(code, 4096);
    munmap(more, 4096);
    assert_true(refresh(table));
    assert_false(module->loaded);
}

static void test_code_split_by_mprotect(void **state)
{
    struct fixture *fixture = *state;
    struct lw_module_table *table = fixture->table;
    void *handle = open_copy(fixture);
    assert_true(refresh(table));
    void *function = dlsym(handle, "cbrt");
    const struct lw_module *module = find(table, function);
    uint64_t bias = module->bias, start = module->start, end = module->end;
    size_t count = lw_module_table_count(table);
    void *page = (void *)((uintptr_t)function & ~4095ull);

    assert_int_equal(mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
    assert_false(refresh(table));
    assert_ptr_equal(find(table, function), module);

    /* Code moved to anonymous memory, as huge-page remapping does. */
    void *moved =
        mmap(page, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    assert_ptr_equal(moved, page);
    assert_false(refresh(table));
    assert_ptr_equal(find(table, function), module);
    assert_ptr_equal(find(table, (char *)page + 4096), module);
    assert_true(module->bias == bias && module->start == start && module->end == end);

    /* Met like this by a new table, it is one module too. */
    struct lw_module_table *fresh = lw_module_table_create(getpid(), &fixture->memory.memory);
    assert_int_equal(lw_module_table_refresh(fresh, NULL), 0);
    assert_true(lw_module_table_count(fresh) <= count);
    assert_true(find(fresh, function) == find(fresh, (char *)page - 4096));
    assert_false(refresh(fresh));
    lw_module_table_destroy(fresh);
    dlclose(handle);
}

static void test_a_process_that_is_gone(void **state)
{
    struct fixture *fixture = *state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(0);
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    struct lw_module_table *table = lw_module_table_create(child, &fixture->memory.memory);
    assert_int_equal(lw_module_table_refresh(table, NULL), -ESRCH); /* a zombie */
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(lw_module_table_refresh(table, NULL), -ESRCH);
    assert_int_equal(lw_module_table_count(table), 0);
    lw_module_table_destroy(table);
    lw_module_table_destroy(NULL);
}

static void test_raises_the_file_limit(void **state)
{
    (void)state;
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_true(limit.rlim_cur == limit.rlim_max);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_c_library_and_executable, setup, teardown),
        cmocka_unit_test_setup_teardown(test_vdso, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_library_comes_goes_and_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_moved_between_two_refreshes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_file_loaded_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_deleted_after_the_refresh, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_replaced_before_the_refresh, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_file_rewritten_in_place, setup, teardown),
        cmocka_unit_test_setup_teardown(test_code_that_is_not_elf, setup, teardown),
        cmocka_unit_test_setup_teardown(test_code_split_by_mprotect, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_process_that_is_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_raises_the_file_limit, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
