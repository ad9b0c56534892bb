/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which frame of a stack is marked, and which outer ones are told once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "leakwatch/base/cleanup.h"
#include "report/frame_role.h"
#include "report/outer_frames.h"
#include "report/text_frames.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct lw_report_frame in(const char *module, const char *function)
{
    return (struct lw_report_frame){.module = module, .function = function, .is_return = true};
}

/* Whether a frame behind malloc only passes the request on. */
static bool passes_on(struct lw_report_frame frame)
{
    struct lw_report_frame frames[] = {{.function = "malloc", .module = "libc.so.6"}, frame};
    const struct lw_report_stack stack = {.frames = frames, .frame_count = 2};
    size_t own = lw_report_own_frame(&stack);

    assert_in_range(own, 1, 2);
    return own == 2;
}

static void test_allocators(void **state)
{
    static const char *const wrappers[] = {"xmalloc",
                                           "xcalloc",
                                           "XMALLOC",
                                           "zmalloc",
                                           "zmalloc_usable",
                                           "ztrymalloc_usable_internal",
                                           "zcalloc_num",
                                           "g_malloc",
                                           "g_malloc0_n",
                                           "g_try_realloc",
                                           "g_strdup_printf",
                                           "g_memdup2",
                                           "g_slice_alloc0",
                                           "CRYPTO_malloc",
                                           "PyMem_Malloc",
                                           "_PyMem_RawMalloc",
                                           "PyObject_Calloc",
                                           "sqlite3Malloc",
                                           "luaM_realloc_",
                                           "l_alloc",
                                           "ngx_alloc",
                                           "ngx_palloc",
                                           "apr_palloc",
                                           "xstrdup",
                                           "strndup",
                                           "xmalloc.constprop.0",
                                           "xmalloc.part.0",
                                           "folly::checkedMalloc(int)",
                                           "app::Pool::operator new(unsigned long)",
                                           "operator new[](unsigned long)",
                                           "__rust_alloc",
                                           "__rdl_realloc",
                                           "void* app::my_malloc<int>(int)"};
    static const char *const others[] = {"main",
                                         "malloc_trim",
                                         "malloc_stats",
                                         "session_open",
                                         "mallocator",
                                         "reallocate",
                                         "strdup_list",
                                         "my_alloc",
                                         "alloc_session",
                                         "ngx_create_pool",
                                         "list_resize",
                                         "n",
                                         ""};

    (void)state;
    for (size_t i = 0; i < COUNT(wrappers); i++)
        if (!passes_on(in("app", wrappers[i])))
            fail_msg("is an allocator: %s", wrappers[i]);
    for (size_t i = 0; i < COUNT(others); i++)
        if (passes_on(in("app", others[i])))
            fail_msg("is no allocator: %s", others[i]);
}

static void test_runtimes(void **state)
{
    static const char *const modules[] = {
        "libc.so.6",       "libc-2.31.so",   "ld-linux-x86-64.so.2", "libstdc++.so.6.0.30",
        "libc++.so.1",     "libc++abi.so.1", "libjemalloc.so.2",     "libtcmalloc_minimal.so.4",
        "libmimalloc.so.2"};
    static const char *const names[] = {
        "std::vector<int, std::allocator<int> >::push_back(int&&)",
        "void std::vector<app::X>::_M_realloc_insert<app::X>(int)",
        "std::_Rb_tree_iterator<int> std::_Rb_tree<int>::_M_emplace_hint_unique<int>(int)",
        "__gnu_cxx::new_allocator<int>::allocate(unsigned long, void const*)",
        "alloc::raw_vec::RawVec<T,A>::reserve_for_push",
        "<alloc::string::String as core::clone::Clone>::clone",
        "<core::iter::Map as F>::fold"};

    (void)state;
    for (size_t i = 0; i < COUNT(modules); i++)
        assert_true(passes_on(in(modules[i], "anything")));
    assert_true(passes_on(in("libc.so.6", NULL)));
    for (size_t i = 0; i < COUNT(names); i++)
        if (!passes_on(in("app", names[i])))
            fail_msg("is of the runtime: %s", names[i]);
    /* the return type is the library's, the function is not */
    assert_false(passes_on(in("app", "std::vector<int> app::make<int>(std::string)")));
    assert_false(passes_on(in("app", "app::run(std::vector<int>)")));
    assert_false(passes_on(in("libcurl.so.4", "Curl_open")));
    assert_false(passes_on(in("app", NULL)));
    assert_false(passes_on(in(NULL, NULL)));
    struct lw_report_frame header = in("app", "__invoke_impl<void, main()::<lambda()>&>");
    assert_false(passes_on(header));
    header.file = "/usr/include/c++/12/bits/invoke.h";
    assert_true(passes_on(header));
}

static void test_own_frame(void **state)
{
    struct lw_report_frame frames[] = {
        {.function = "odd_name", .module = "own.so"}, /* where a watched function begins */
        in("libc.so.6", "getdelim"),
        in("app", "read_line"),
        in("libc.so.6", "qsort"),
    };
    struct lw_report_stack stack = {.frames = frames, .frame_count = 4};

    (void)state;
    assert_int_equal(lw_report_own_frame(&stack), 2);
    frames[0].is_return = true;
    assert_int_equal(lw_report_own_frame(&stack), 0);
    frames[0].is_return = false;
    stack.frame_count = 2;
    assert_int_equal(lw_report_own_frame(&stack), 2); /* none */
    stack.frame_count = 0;
    assert_int_equal(lw_report_own_frame(&stack), 0);
}

/* Stacks of malloc and frames at the offsets, innermost first, which end with 0. */
struct made {
    struct lw_report report;
    struct lw_report_stack stacks[4];
    struct lw_report_frame frames[4][16];
    struct lw_stack raw[4];
};

static void make(struct made *made, const uint64_t offsets[][16], size_t count)
{
    memset(made, 0, sizeof(*made));
    for (size_t i = 0; i < count; i++) {
        struct lw_report_stack *stack = &made->stacks[i];
        struct lw_report_frame *frames = made->frames[i];
        size_t depth = 0;

        frames[depth++] = (struct lw_report_frame){.function = "malloc", .module = "libc.so.6"};
        for (; offsets[i][depth - 1] != 0; depth++)
            frames[depth] = (struct lw_report_frame){.function = "f",
                                                     .module = "app",
                                                     .module_number = 2,
                                                     .offset = offsets[i][depth - 1],
                                                     .is_return = true};
        stack->facts.stack = &made->raw[i];
        stack->frames = frames;
        stack->frame_count = depth;
    }
    made->report.stacks = made->stacks;
    made->report.stack_count = count;
}

static void expect_shared(struct lw_outer_frames *outer, const struct made *made, size_t index,
                          size_t shared, size_t as)
{
    size_t found_as = 0;

    assert_int_equal(lw_outer_frames_shared(outer, &made->report, index, 1, &found_as), shared);
    if (shared > 0)
        assert_int_equal(found_as, as);
}

static void test_outer_frames(void **state)
{
    const uint64_t offsets[][16] = {
        {10, 11, 12, 13, 14, 15, 16},
        {20, 21, 22, 13, 14, 15, 16},     /* shares four of seven */
        {30, 21, 22, 13, 14, 15, 16},     /* nothing is folded into what is folded itself */
        {40, 41, 42, 43, 44, 14, 15, 16}, /* shares three of eight: shown in full */
    };
    struct lw_outer_frames outer = {0};
    struct made made;

    (void)state;
    make(&made, offsets, 4);
    expect_shared(&outer, &made, 0, 0, 0);
    expect_shared(&outer, &made, 1, 4, 0);
    expect_shared(&outer, &made, 2, 4, 0);
    expect_shared(&outer, &made, 3, 0, 0);
    lw_outer_frames_deinit(&outer);
}

static void test_callers_stay(void **state)
{
    const uint64_t offsets[][16] = {
        {10, 11, 12, 13, 14, 15, 16},
        {10, 11, 12, 13, 14, 15, 16}, /* another innermost frame, say */
        {15, 16},
        {11, 12, 13, 14, 15, 16},
    };
    struct lw_outer_frames outer = {0};
    struct made made;

    (void)state;
    make(&made, offsets, 4);
    expect_shared(&outer, &made, 0, 0, 0);
    expect_shared(&outer, &made, 1, 4, 0);
    expect_shared(&outer, &made, 2, 0, 0);
    expect_shared(&outer, &made, 3, 3, 0);
    lw_outer_frames_deinit(&outer);
}

static void test_ends_that_differ(void **state)
{
    const uint64_t offsets[][16] = {{10, 11, 12, 13, 14, 15, 16}, {20, 21, 22, 13, 14, 15, 16}};
    struct lw_outer_frames outer = {0};
    struct made made;

    (void)state;
    make(&made, offsets, 2);
    made.raw[1].truncated = true; /* it does not end where the other one does */
    expect_shared(&outer, &made, 0, 0, 0);
    expect_shared(&outer, &made, 1, 0, 0);
    lw_outer_frames_deinit(&outer);
    make(&made, offsets, 2);
    made.frames[1][7].module_number = 3;
    expect_shared(&outer, &made, 0, 0, 0);
    expect_shared(&outer, &made, 1, 0, 0);
    lw_outer_frames_deinit(&outer);
}

/* What is written of the last stack. */
static char *written(const struct made *made, unsigned columns, bool verbose, bool color)
{
    const struct lw_writer_options options = {
        .columns = columns, .verbose = verbose, .color = color};
    LW_CLEANUP(lw_outer_frames_deinit) struct lw_outer_frames outer = {0};
    char *text = NULL;
    size_t size = 0;

    for (size_t i = 0; i < made->report.stack_count; i++) {
        free(text);
        FILE *stream = open_memstream(&text, &size);
        assert_non_null(stream);
        const struct lw_pen pen = lw_pen_init(stream, &options);
        lw_text_frames(&pen, &outer, &made->report, i);
        fclose(stream);
    }
    return text;
}

static void expect_text(const struct made *made, unsigned columns, bool verbose, bool color,
                        const char *expected)
{
    char *text = written(made, columns, verbose, color);

    assert_string_equal(text, expected);
    free(text);
}

static void test_text(void **state)
{
    const uint64_t offsets[][16] = {{10, 11, 12, 13, 14, 15, 16}, {20, 21, 22, 13, 14, 15, 16}};
    struct made made;

    (void)state;
    make(&made, offsets, 2);
    expect_text(&made, 0, false, false,
                "    malloc+0x0  (libc.so.6)\n"
                "  > f+0x0  (app)\n"
                "    f+0x0  (app)\n"
                "    f+0x0  (app)\n"
                "    … 4 outer frames as in #1\n");
    expect_text(&made, 0, false, true,
                "\033[2m    malloc+0x0  (libc.so.6)\033[0m\n"
                "\033[1;35m  > \033[0m\033[1;35mf\033[0m+0x0  \033[2m(app)\033[0m\n"
                "    f+0x0  \033[2m(app)\033[0m\n"
                "    f+0x0  \033[2m(app)\033[0m\n"
                "    \033[2m… 4 outer frames as in #1\033[0m\n");
    char *text = written(&made, 80, true, false);
    assert_null(strstr(text, "outer frames"));
    assert_non_null(strstr(text, "  > 0x000000000000  f+0x0  (app+0x14)\n"));
    free(text);
}

static void test_lines_fit(void **state)
{
    const uint64_t offsets[][16] = {{10, 0}};
    struct made made;

    (void)state;
    make(&made, offsets, 1);
    made.frames[0][1].function = "shop::index<std::string, shop::item>::add(std::string const&)";
    made.frames[0][1].file = "/build/of/shop/src/index.cpp";
    made.frames[0][1].line = 42;
    expect_text(&made, 0, false, false,
                "    malloc+0x0  (libc.so.6)\n"
                "  > shop::index<std::string, shop::item>::add(std::string const&)+0x0  "
                "src/index.cpp:42  (app)\n");
    expect_text(&made, 88, false, false,
                "    malloc+0x0  (libc.so.6)\n"
                "  > shop::index<std::string, shop::item>::add(std::string const&)+0x0  "
                "src/index.cpp:42\n");
    expect_text(&made, 60, false, false,
                "    malloc+0x0  (libc.so.6)\n"
                "  > shop::index<…>::add(…)+0x0  src/index.cpp:42\n");
    expect_text(&made, 44, false, false,
                "    malloc+0x0  (libc.so.6)\n"
                "  > shop::index<…>::add(…)+0x0  index.cpp:42\n");
    char *text = written(&made, 44, true, false);
    assert_non_null(strstr(text, "std::string const&)+0x0  /build/of/shop/src/index.cpp:42"));
    free(text);
}

static void test_no_name_is_endless(void **state)
{
    const uint64_t offsets[][16] = {{10, 0}};
    char name[2000];
    struct made made;

    (void)state;
    make(&made, offsets, 1);
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    made.frames[0][1].function = name;
    char *text = written(&made, 0, false, false);
    assert_true(strlen(text) < 600);
    free(text);
    text = written(&made, 0, true, false);
    assert_non_null(strstr(text, name));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_allocators),
        cmocka_unit_test(test_runtimes),
        cmocka_unit_test(test_own_frame),
        cmocka_unit_test(test_outer_frames),
        cmocka_unit_test(test_callers_stay),
        cmocka_unit_test(test_ends_that_differ),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_lines_fit),
        cmocka_unit_test(test_no_name_is_endless),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
