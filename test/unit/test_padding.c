/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The padding behind the code of this very process's modules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "trace/padding.h"

#define PAGE 4096
/* A small library of glibc's that nothing uses. */
#define PLUGIN          "libBrokenLocale.so.1"
#define PLUGIN_FUNCTION "__ctype_get_mb_cur_max"

struct fixture {
    struct lw_process_memory memory;
    struct lw_module_table *modules;
    struct lw_padding_list paddings;
};

static int setup(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){0};
    lw_error *error = lw_process_memory_init(&fixture.memory, getpid());
    if (error != NULL)
        fail_msg("%s", lw_error_message(error));
    fixture.modules = lw_module_table_create(getpid(), &fixture.memory.memory);
    assert_non_null(fixture.modules);
    assert_int_equal(lw_module_table_refresh(fixture.modules, NULL), 0);
    assert_int_equal(lw_padding_discover(&fixture.paddings, fixture.modules), 0);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    lw_padding_list_deinit(&fixture->paddings);
    lw_module_table_destroy(fixture->modules);
    lw_process_memory_deinit(&fixture->memory);
    return 0;
}

static struct lw_padding *find(struct fixture *fixture, const struct lw_module *module)
{
    lw_vector_for_each (padding, &fixture->paddings.list)
        if (padding->module == module->id)
            return padding;
    return NULL;
}

static const struct lw_module *module_of(struct fixture *fixture, const void *address)
{
    const struct lw_module *module =
        lw_module_table_find(fixture->modules, (uint64_t)(uintptr_t)address);
    assert_non_null(module);
    return module;
}

static void test_lies_behind_the_code(void **state)
{
    struct fixture *fixture = *state;
    assert_true(fixture->paddings.list.count > 0);
    lw_vector_for_each (padding, &fixture->paddings.list) {
        const struct lw_module *module = lw_module_table_get(fixture->modules, padding->module);
        assert_true(module != NULL && module->loaded);
        assert_true(padding->start < padding->end && padding->end - padding->start < PAGE);
        assert_int_equal(padding->end % PAGE, 0);
        assert_true(padding->start > module->start && padding->end <= module->end);
        /* No code of the file is there. */
        uint8_t byte;
        assert_int_equal(lw_elf_image_read(module->image, padding->start - module->bias, &byte, 1),
                         0);
        assert_int_equal(
            lw_elf_image_read(module->image, padding->start - module->bias - 1, &byte, 1), 1);
        assert_true(padding->used == 0 && padding->original == NULL);
    }
}

static void test_opening_keeps_the_bytes(void **state)
{
    struct fixture *fixture = *state;
    struct lw_memory *memory = &fixture->memory.memory;
    lw_vector_for_each (padding, &fixture->paddings.list) {
        size_t size = padding->end - padding->start;
        uint8_t in_file[PAGE];
        assert_int_equal(lw_padding_open(padding, fixture->modules, memory), 0);
        assert_memory_equal(padding->original, (void *)padding->start, size);
        assert_int_equal(lw_padding_read_file(padding, fixture->modules, in_file), 0);
        assert_memory_equal(padding->original, in_file, size);
        uint8_t *original = padding->original;
        assert_int_equal(lw_padding_open(padding, fixture->modules, memory), 0);
        assert_ptr_equal(padding->original, original);
    }
}

static void test_refuses_bytes_of_another(void **state)
{
    struct fixture *fixture = *state;
    struct lw_memory *memory = &fixture->memory.memory;
    struct lw_padding *padding = &fixture->paddings.list.items[0];
    uint8_t saved, other;
    uint64_t last = padding->end - 1;
    assert_int_equal(lw_memory_read_all(memory, last, &saved, 1), 0);
    other = (uint8_t)~saved;
    assert_int_equal(lw_memory_write(memory, last, &other, 1), 0);
    assert_int_equal(lw_padding_open(padding, fixture->modules, memory), -EBUSY);
    assert_null(padding->original);
    assert_int_equal(lw_memory_write(memory, last, &saved, 1), 0);
    assert_int_equal(lw_padding_open(padding, fixture->modules, memory), 0);
}

/* What a fork has copied may be older than what was written last. */
static void test_older_bytes_are_given_back(void **state)
{
    struct fixture *fixture = *state;
    struct lw_memory *memory = &fixture->memory.memory;
    struct lw_padding *padding = &fixture->paddings.list.items[0];
    const uint8_t code[] = {0x90, 0x90, 1, 2}, later[] = {3, 4}, more[] = {0xcc}, other[] = {0x77};
    const uint8_t last[] = {0x55};
    uint8_t now[sizeof(code) + sizeof(more)];
    assert_int_equal(lw_padding_open(padding, fixture->modules, memory), 0);
    assert_int_equal(lw_padding_write(padding, memory, code, sizeof(code)), 0);
    padding->varying = 2;
    padding->varying_end = sizeof(code);
    memcpy(padding->ours + 2, later, sizeof(later)); /* the memory has not seen it */
    padding->ours[padding->used++] = more[0];        /* nor that */
    assert_int_equal(lw_padding_restore(padding, memory), 0);
    assert_int_equal(lw_memory_read_all(memory, padding->start, now, sizeof(now)), 0);
    assert_memory_equal(now, padding->original, sizeof(now));

    /* Where the code in front is another's, so is what follows. */
    assert_int_equal(lw_memory_write(memory, padding->start, code, sizeof(code)), 0);
    assert_int_equal(lw_memory_write(memory, padding->start + 1, other, 1), 0);
    assert_int_equal(lw_padding_restore(padding, memory), 0);
    assert_int_equal(lw_memory_read_all(memory, padding->start + 1, now, 1), 0);
    assert_int_equal(now[0], other[0]);
    assert_int_equal(lw_memory_write(memory, padding->start, code, sizeof(code)), 0);
    assert_int_equal(lw_memory_write(memory, padding->start + sizeof(code), last, 1), 0);
    assert_int_equal(lw_padding_restore(padding, memory), 0);
    assert_int_equal(lw_memory_read_all(memory, padding->start, now, 1), 0);
    assert_int_equal(now[0], code[0]);
    assert_int_equal(
        lw_memory_write(memory, padding->start, padding->original, sizeof(code) + sizeof(more)), 0);
}

static void test_only_what_stays_lends(void **state)
{
    struct fixture *fixture = *state;
    void *handle = dlopen(PLUGIN, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        skip();
    extern int main(void);
    assert_int_equal(lw_module_table_refresh(fixture->modules, NULL), 0);
    assert_int_equal(lw_padding_discover(&fixture->paddings, fixture->modules), 0);
    const struct lw_padding *own = find(fixture, module_of(fixture, (void *)main));
    const struct lw_padding *libc = find(fixture, module_of(fixture, (void *)getenv));
    const struct lw_padding *plugin =
        find(fixture, module_of(fixture, dlsym(handle, PLUGIN_FUNCTION)));
    assert_true(own == NULL || own->lends);
    assert_true(libc == NULL || libc->lends);
    assert_true(plugin != NULL && !plugin->lends);
    dlclose(handle);
}

static void test_comes_and_goes_with_its_module(void **state)
{
    struct fixture *fixture = *state;
    size_t count = fixture->paddings.list.count;
    assert_int_equal(lw_padding_discover(&fixture->paddings, fixture->modules), 0);
    assert_int_equal(fixture->paddings.list.count, count);

    void *handle = dlopen(PLUGIN, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        skip();
    assert_int_equal(lw_module_table_refresh(fixture->modules, NULL), 0);
    const struct lw_module *module = module_of(fixture, dlsym(handle, PLUGIN_FUNCTION));
    assert_null(find(fixture, module));
    assert_int_equal(lw_padding_discover(&fixture->paddings, fixture->modules), 0);
    struct lw_padding *padding = find(fixture, module);
    assert_non_null(padding);
    assert_int_equal(fixture->paddings.list.count, count + 1);
    assert_int_equal(lw_padding_open(padding, fixture->modules, &fixture->memory.memory), 0);

    /* Back at another place: the old entry goes, with what it held. */
    uint64_t start = module->start, size = module->end - module->start;
    dlclose(handle);
    void *blocker = mmap((void *)start, size, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    assert_true(blocker != MAP_FAILED);
    handle = dlopen(PLUGIN, RTLD_NOW | RTLD_LOCAL);
    assert_int_equal(lw_module_table_refresh(fixture->modules, NULL), 0);
    assert_int_equal(lw_padding_discover(&fixture->paddings, fixture->modules), 0);
    padding = find(fixture, module);
    assert_true(padding != NULL && padding->original == NULL);
    assert_true(padding->start > module->start && padding->end <= module->end);
    assert_int_equal(fixture->paddings.list.count, count + 1);

    dlclose(handle);
    munmap(blocker, size);
    assert_int_equal(lw_module_table_refresh(fixture->modules, NULL), 0);
    assert_int_equal(lw_padding_discover(&fixture->paddings, fixture->modules), 0);
    assert_null(find(fixture, module));
    assert_int_equal(fixture->paddings.list.count, count);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_lies_behind_the_code),     TEST(test_opening_keeps_the_bytes),
        TEST(test_refuses_bytes_of_another), TEST(test_older_bytes_are_given_back),
        TEST(test_only_what_stays_lends),    TEST(test_comes_and_goes_with_its_module),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
