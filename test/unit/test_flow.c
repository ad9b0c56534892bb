/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Control flow of functions made for it, and of the allocators that are installed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "leakwatch/arch/instruction.h"
#include "leakwatch/base/cleanup.h"
#include "probe/flow.h"

#define LIBRARIES     "/usr/lib/x86_64-linux-gnu/"
#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static struct lw_elf_image *open_image(const char *path)
{
    struct lw_elf_image *image = NULL;
    lw_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    assert_int_equal(lw_elf_image_open(fd, &image), 0);
    return image;
}

/* ---- Functions of our own ---- */

/* Functions that are global are another's; `sample_part` is not. */
#define FUNCTION(name, body)                                                                       \
    ".type " #name ", @function\n" #name ":\n" body ".size " #name ", .-" #name "\n"
#define MARK(name) ".globl " #name "\n" #name ":\n"

/* clang-format off */
__asm__(".pushsection .text\n"
        ".globl sample, sample_alias, sample_loop, sample_calls, sample_other\n"
        ".globl sample_entered, sample_reentered\n"
        FUNCTION(sample,
        "    test %edi, %edi\n"
        "    jz 1f\n"
        "    jmp sample_part\n"
        "1:  cmp $1, %edi\n"
        MARK(sample_conditional_exit)
        "    je sample_other\n"
        "    cmp $2, %edi\n"
        "    je 2f\n"
        "    cmp $3, %edi\n"
        "    je 3f\n"
        "    cmp $4, %edi\n"
        "    je 4f\n"
        "    call sample_other\n"
        MARK(sample_exit)
        "    ret\n"
        MARK(sample_indirect_exit)
        "2:  jmp *%rax\n"
        "3:  ud2\n"
        MARK(sample_plt_exit)
        "4:  jmp getenv@PLT\n")
        FUNCTION(sample_part,
        MARK(sample_part_exit)
        "    ret $8\n")
        FUNCTION(sample_alias,
        "    jmp sample_other\n")
        FUNCTION(sample_loop,
        "    nop\n"
        "1:  dec %rax\n"
        "    jmp 1b\n")
        FUNCTION(sample_calls,
        "    test %edi, %edi\n"
        "    jz 1f\n"
        "    call malloc@PLT\n"
        MARK(sample_calls_exit)
        "    ret\n"
        "1:  jmp malloc@PLT\n")
        FUNCTION(sample_entered,
        "    push %rbx\n"
        "1:  mov %rdi, %rbx\n"
        "    jmp sample_entered_part\n"
        "    ret\n")
        FUNCTION(sample_entered_part, /* moved away, and comes back */
        "    dec %rdi\n"
        "    jnz sample_entered + 1\n"
        "    ret\n")
        FUNCTION(sample_reentered,
        "    test %rdi, %rdi\n"
        "    jz 1f\n"
        "    dec %rdi\n"
        "    jmp sample_reentered\n"
        "1:  ret\n")
        FUNCTION(sample_other,
        MARK(sample_other_exit)
        "    ret\n")
        ".popsection");
/* clang-format on */

extern const uint8_t sample[], sample_alias[], sample_loop[], sample_calls[], sample_other[],
    sample_entered[], sample_reentered[];
extern const uint8_t sample_conditional_exit[], sample_exit[], sample_indirect_exit[],
    sample_plt_exit[], sample_part_exit[], sample_calls_exit[], sample_other_exit[];

struct own {
    struct lw_elf_image *image;
    uint64_t bias;
    struct lw_address_list watched;
    struct lw_flow_summary summary;
};

static int setup_own(void **state)
{
    static struct own own;
    struct lw_elf_symbol symbol;
    own = (struct own){.image = open_image("/proc/self/exe")};
    assert_non_null(own.image);
    assert_int_equal(lw_elf_image_find_symbols(own.image, "sample", &symbol, 1), 1);
    own.bias = (uint64_t)(uintptr_t)sample - symbol.address;
    *state = &own;
    return 0;
}

static int teardown_own(void **state)
{
    struct own *own = *state;
    lw_flow_summary_deinit(&own->summary);
    lw_vector_deinit(&own->watched.list);
    lw_elf_image_close(own->image);
    return 0;
}

static uint64_t link_address(const struct own *own, const void *address)
{
    return (uint64_t)(uintptr_t)address - own->bias;
}

static void walk(struct own *own, const void *entry, bool past_watched)
{
    lw_flow_summary_deinit(&own->summary);
    assert_int_equal(lw_flow_walk(own->image, link_address(own, entry), &own->watched, past_watched,
                                  &own->summary),
                     0);
}

static bool has_exit(const struct own *own, const void *address, enum lw_exit_kind kind)
{
    lw_vector_for_each (exit, &own->summary.exits)
        if (exit->address == link_address(own, address) && exit->kind == kind)
            return true;
    return false;
}

static void test_exits_of_every_kind(void **state)
{
    struct own *own = *state;
    walk(own, sample, true);
    assert_true(has_exit(own, sample_exit, LW_EXIT_RETURN));
    assert_true(has_exit(own, sample_part_exit, LW_EXIT_RETURN));
    assert_true(has_exit(own, sample_conditional_exit, LW_EXIT_JUMP));
    assert_true(has_exit(own, sample_indirect_exit, LW_EXIT_JUMP));
    assert_true(has_exit(own, sample_plt_exit, LW_EXIT_JUMP));
    assert_int_equal(own->summary.exits.count, 5);
    assert_false(own->summary.ends_in_watched);
}

static void test_a_watched_function_is_no_exit(void **state)
{
    struct own *own = *state;
    assert_int_equal(lw_vector_push(&own->watched.list, link_address(own, sample_other)), 0);
    walk(own, sample, true);
    assert_true(own->summary.ends_in_watched);
    assert_false(has_exit(own, sample_conditional_exit, LW_EXIT_JUMP));
    assert_true(has_exit(own, sample_exit, LW_EXIT_RETURN));
    assert_int_equal(own->summary.exits.count, 4);
    walk(own, sample, false); /* what follows the call of a watched one is not looked at */
    assert_false(has_exit(own, sample_exit, LW_EXIT_RETURN));
    assert_int_equal(own->summary.exits.count, 3);
}

static void test_watched_functions_of_other_modules(void **state)
{
    struct own *own = *state;
    walk(own, sample_calls, true);
    assert_true(own->summary.ends_in_watched);
    assert_true(has_exit(own, sample_calls_exit, LW_EXIT_RETURN));
    assert_int_equal(own->summary.exits.count, 1);
    walk(own, sample_calls, false);
    assert_int_equal(own->summary.exits.count, 0);
}

static void test_a_function_that_is_one_jump(void **state)
{
    struct own *own = *state;
    walk(own, sample_alias, true);
    assert_true(has_exit(own, sample_other_exit, LW_EXIT_RETURN));
    assert_int_equal(own->summary.exits.count, 1);
    assert_false(own->summary.ends_in_watched);
}

static void test_a_function_without_an_end(void **state)
{
    struct own *own = *state;
    walk(own, sample_loop, true);
    assert_int_equal(own->summary.exits.count, 0);
    walk(own, (void *)16, true); /* where there is no code */
    assert_int_equal(own->summary.exits.count, 0);
}

static bool enters(const struct own *own, const void *entry, unsigned window)
{
    bool result = false;
    assert_int_equal(lw_flow_enters(own->image, link_address(own, entry), window, &result), 0);
    return result;
}

static void test_branches_into_the_window(void **state)
{
    struct own *own = *state;
    assert_true(enters(own, sample_entered, 5));
    assert_true(enters(own, sample_entered, 2));
    assert_false(enters(own, sample_entered, 1));
    assert_false(enters(own, sample_reentered, 5)); /* back to the entry itself */
    assert_true(enters(own, sample_loop, 2));
    assert_false(enters(own, sample_loop, 1));
    assert_false(enters(own, sample, 5));
    assert_false(enters(own, sample_alias, 5));
}

/* ---- Allocators ---- */

struct library {
    struct lw_module module;
    struct lw_allocator_set set;
};

static const struct lw_allocator_site *find(const struct library *library, const char *symbol)
{
    lw_vector_for_each (site, &library->set.sites)
        if (strcmp(site->function->symbol, symbol) == 0)
            return site;
    return NULL;
}

/* The exit is an instruction of its kind. */
static void check_exit(const struct library *library, const struct lw_allocator_site *site,
                       const struct lw_allocator_exit *exit)
{
    uint8_t bytes[LW_INSTRUCTION_MAX];
    struct lw_instruction instruction;
    size_t size = lw_elf_image_read(library->module.image, exit->address, bytes, sizeof(bytes));
    if (!lw_instruction_decode(bytes, size, exit->address, &instruction))
        fail_msg("%s: no instruction at %#lx", site->function->symbol, exit->address);
    bool is_return = instruction.flow == LW_FLOW_RETURN;
    if (is_return != (exit->kind == LW_EXIT_RETURN) || instruction.flow == LW_FLOW_NEXT ||
        instruction.flow == LW_FLOW_STOP)
        fail_msg("%s: %#lx is no such exit", site->function->symbol, exit->address);
}

static void check_site(const struct library *library, const struct lw_allocator_site *site)
{
    if (site->function->act != LW_ACT_RELEASE && site->exits.count == 0 && !site->ends_in_watched)
        fail_msg("%s has no exit", site->function->symbol);
    lw_vector_for_each (exit, &site->exits) {
        check_exit(library, site, exit);
        for (const struct lw_allocator_exit *other = site->exits.items; other < exit; other++)
            assert_true(other->address != exit->address);
    }
    lw_vector_for_each (other, &library->set.sites)
        assert_true(other == site || other->address != site->address);
}

/* False when the library is not installed. */
static bool open_library(struct library *library, const char *path)
{
    *library = (struct library){.module = {.id = 7, .fd = -1, .image = open_image(path)}};
    if (!library->module.image)
        return false;
    assert_int_equal(lw_allocator_set_find(&library->set, &library->module), 0);
    assert_int_equal(library->set.module, 7);
    lw_vector_for_each (site, &library->set.sites)
        check_site(library, site);
    return true;
}

static void close_library(struct library *library)
{
    lw_allocator_set_deinit(&library->set);
    lw_elf_image_close(library->module.image);
}

static bool has_kind(const struct lw_allocator_site *site, enum lw_exit_kind kind)
{
    lw_vector_for_each (exit, &site->exits)
        if (exit->kind == kind)
            return true;
    return false;
}

static void expect_sites(const struct library *library, const char *const symbols[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!find(library, symbols[i]))
            fail_msg("%s was not found", symbols[i]);
}

static const char *const c_functions[] = {"malloc",   "calloc",         "realloc", "free",
                                          "memalign", "posix_memalign", "valloc"};

static void test_glibc(void **state)
{
    (void)state;
    struct library library;
    if (!open_library(&library, LIBRARIES "libc.so.6"))
        skip();
    expect_sites(&library, c_functions, LENGTH(c_functions));
    assert_non_null(find(&library, "reallocarray"));
    assert_non_null(find(&library, "pvalloc"));
    assert_true(has_kind(find(&library, "malloc"), LW_EXIT_RETURN));
    /* calloc ends in a jump to memset, on one of its paths. */
    assert_true(has_kind(find(&library, "calloc"), LW_EXIT_RETURN));
    assert_true(has_kind(find(&library, "calloc"), LW_EXIT_JUMP) ||
                find(&library, "calloc")->exits.count > 1);
    /* None has a return of its own. */
    assert_true(has_kind(find(&library, "memalign"), LW_EXIT_RETURN));
    assert_true(has_kind(find(&library, "valloc"), LW_EXIT_RETURN));
    assert_null(find(&library, "_Znwm"));
    close_library(&library);
}

static void test_libstdcxx(void **state)
{
    (void)state;
    struct library library;
    if (!open_library(&library, LIBRARIES "libstdc++.so.6"))
        skip();
    static const char *const aligned[] = {"_ZnwmSt11align_val_t", "_ZnamSt11align_val_t",
                                          "_ZnwmSt11align_val_tRKSt9nothrow_t",
                                          "_ZnamSt11align_val_tRKSt9nothrow_t"};
    expect_sites(&library, aligned, LENGTH(aligned));
    /* The others only call malloc and free, or each other. */
    assert_int_equal(library.set.sites.count, LENGTH(aligned));
    close_library(&library);
}

/* An allocator with functions and operators of its own. */
static void check_allocator(const char *path)
{
    struct library library;
    if (!open_library(&library, path))
        skip();
    static const char *const operators[] = {"_Znwm", "_ZnwmRKSt9nothrow_t", "_ZnwmSt11align_val_t"};
    expect_sites(&library, c_functions, LENGTH(c_functions));
    expect_sites(&library, operators, LENGTH(operators));
    close_library(&library);
}

static void test_jemalloc(void **state)
{
    (void)state;
    check_allocator(LIBRARIES "libjemalloc.so.2");
}

static void test_mimalloc(void **state)
{
    (void)state;
    check_allocator(LIBRARIES "libmimalloc.so.2");
}

static void test_tcmalloc(void **state)
{
    (void)state;
    check_allocator(LIBRARIES "libtcmalloc_minimal.so.4");
}

static void test_musl(void **state)
{
    (void)state;
    struct library library;
    if (!open_library(&library, "/lib/ld-musl-x86_64.so.1") &&
        !open_library(&library, "/usr/lib/x86_64-linux-musl/libc.so"))
        skip();
    expect_sites(&library, c_functions, LENGTH(c_functions));
    assert_true(has_kind(find(&library, "malloc"), LW_EXIT_RETURN));
    assert_true(find(&library, "memalign")->ends_in_watched); /* it is a jump to aligned_alloc */
    close_library(&library);
}

static void test_modules_without_an_allocator(void **state)
{
    (void)state;
    struct library library;
    if (open_library(&library, LIBRARIES "libm.so.6")) {
        assert_int_equal(library.set.sites.count, 0);
        struct lw_module vdso = library.module, unreadable = {.id = 8};
        vdso.is_vdso = true;
        struct lw_allocator_set set;
        assert_int_equal(lw_allocator_set_find(&set, &vdso), 0);
        assert_int_equal(set.sites.count, 0);
        assert_int_equal(lw_allocator_set_find(&set, &unreadable), 0);
        assert_true(set.sites.count == 0 && set.module == 8);
        close_library(&library);
    }
}

static void test_function_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < lw_allocator_function_count; i++)
        assert_ptr_equal(lw_allocator_function_named(lw_allocator_functions[i].symbol),
                         &lw_allocator_functions[i]);
    assert_null(lw_allocator_function_named("mallocx"));
    assert_null(lw_allocator_function_named("mallo"));
    assert_null(lw_allocator_function_named(""));
}

#define OWN(function) cmocka_unit_test_setup_teardown(function, setup_own, teardown_own)

int main(void)
{
    const struct CMUnitTest tests[] = {
        OWN(test_exits_of_every_kind),
        OWN(test_a_watched_function_is_no_exit),
        OWN(test_watched_functions_of_other_modules),
        OWN(test_a_function_that_is_one_jump),
        OWN(test_a_function_without_an_end),
        OWN(test_branches_into_the_window),
        cmocka_unit_test(test_glibc),
        cmocka_unit_test(test_libstdcxx),
        cmocka_unit_test(test_jemalloc),
        cmocka_unit_test(test_mimalloc),
        cmocka_unit_test(test_tcmalloc),
        cmocka_unit_test(test_musl),
        cmocka_unit_test(test_modules_without_an_allocator),
        cmocka_unit_test(test_function_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
