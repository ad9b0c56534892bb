/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of functions, shortened: as demanglers make them, and as someone hostile would. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "report/name_groups.h"
#include "report/short_name.h"
#include "report/text_width.h"
#include "symbol/demangle.h"

static void expect(const char *name, size_t columns, const char *expected)
{
    char *demangled = lw_demangle(name);
    char *shorter = lw_name_shorten(demangled ? demangled : name, columns);

    assert_non_null(shorter);
    assert_string_equal(shorter, expected);
    assert_true(lw_text_width(shorter) <= columns);
    free(shorter);
    free(demangled);
}

static void test_what_fits_is_left_alone(void **state)
{
    (void)state;
    expect("malloc", 6, "malloc");
    expect("_ZN3app3ArrILi7ELb1EE3putEv", 24, "app::Arr<7, true>::put()");
    expect("std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >::f()",
           90,
           "std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >::f()");
    expect("", 1, "");
}

/* app::Box<int>::Inner::go(std::vector<std::pair<int, std::less<int>>> &) */
#define NESTED "_ZN3app3BoxIiSt4lessIiEE5Inner2goERSt6vectorISt4pairIiS2_ESaIS7_EE"

static void test_innermost_first(void **state)
{
    (void)state;
    expect(NESTED, 139,
           "app::Box<int, std::less<int> >::Inner::go(std::vector<std::pair<int, std::less<int> >, "
           "std::allocator<std::pair<int, std::less<int> > > >&)");
    expect(NESTED, 138,
           "app::Box<int, std::less<int> >::Inner::go(std::vector<std::pair<int, std::less<int> >, "
           "std::allocator<std::pair<int, std::less<…> > > >&)");
    expect(NESTED, 100,
           "app::Box<int, std::less<int> >::Inner::go(std::vector<std::pair<…>, "
           "std::allocator<…> >&)");
    expect(NESTED, 60, "app::Box<int, std::less<int> >::Inner::go(std::vector<…>&)");
    /* where a function is says more than its parameters */
    expect(NESTED, 50, "app::Box<int, std::less<…> >::Inner::go(…)");
    expect(NESTED, 30, "app::Box<…>::Inner::go(…)");
    expect(NESTED, 20, "…::Inner::go(…)");
    expect(NESTED, 9, "…::go(…)");
    expect(NESTED, 6, "…::go…");
    expect(NESTED, 1, "…");
}

static void test_noise(void **state)
{
    (void)state;
    expect("std::vector<std::__cxx11::basic_string<char, std::char_traits<char>, "
           "std::allocator<char> > >::f()",
           40, "std::vector<std::string >::f()");
    expect(
        "std::__1::basic_string<char, std::char_traits<char>, std::allocator<char>>::append(char "
        "const*)",
        40, "std::string::append(char const*)");
    expect("app::(anonymous namespace)::Hidden::run(int) [clone .constprop.0]", 25,
           "app::Hidden::run(int)");
    expect("(anonymous namespace)::Hidden::run(int)", 39,
           "(anonymous namespace)::Hidden::run(int)");
}

static void test_return_types(void **state)
{
    (void)state;
    expect("_ZN3app7handlerIiEEPFvT_Ei", 30, "void (*app::handler<…>(…))(…)");
    expect("_ZN3app3addIiEEDTplfp_fp0_ET_S2_", 30, "app::add<int>(int, int)");
    expect("_ZN3app3runIZ4mainEUlT_E0_EEDaS1_", 62,
           "app::run<main::{lambda(auto:1)#2}>(main::{lambda(auto:1)#2})");
    expect("std::vector<int, std::allocator<int> >& std::vector<int>::g<int>() const &", 40,
           "std::vector<int>::g<int>() const &");
    /* a function within a member function that is const has no blank that ends a type */
    expect("int A::run(int) const::Local::go(unsigned long, unsigned long)", 30,
           "A::run(…) const::Local::go(…)");
}

static void test_operators(void **state)
{
    (void)state;
    expect("_ZN3appltIiEEbRKNS_3BoxIT_St4lessIS2_EEES7_", 60,
           "app::operator< <int>(app::Box<…> const&, app::Box<…> const&)");
    expect("_ZN3appltIiEEbRKNS_3BoxIT_St4lessIS2_EEES7_", 30, "app::operator< <int>(…)");
    expect("_ZN3apprsIiEEbRKNS_3BoxIT_St4lessIS2_EEES7_", 30, "app::operator>><int>(…)");
    expect("_ZN3applsIiEERSt6vectorIT_SaIS2_EES5_S2_", 45,
           "app::operator<< <int>(std::vector<…>&, int)");
    expect("app::Pointer<app::Long<int> >::operator->() const", 40,
           "app::Pointer<…>::operator->() const");
    expect("app::Pointer<app::Long<int> >::operator()(unsigned long) const", 40,
           "app::Pointer<…>::operator()(…) const");
    expect("app::Pointer<app::Long<int> >::operator[](unsigned long)", 31,
           "app::Pointer<…>::operator[](…)");
    expect("bool app::Long<int>::operator<=><int>(app::Long<int>, int)", 34,
           "app::Long<int>::operator<=><…>(…)");
    expect("_ZNK12_GLOBAL__N_16HiddencvSt6vectorIiSaIiEEEv", 60,
           "Hidden::operator std::vector<…>() const");
    expect("_ZNK12_GLOBAL__N_16HiddencvmEv", 40, "Hidden::operator unsigned long() const");
    /* the scope of a type is no scope of the function */
    expect("_ZNK12_GLOBAL__N_16HiddencvSt6vectorIiSaIiEEEv", 31, "…::operator std::vector<…>() c…");
    expect("app::Pool::operator new(unsigned long)", 30, "app::Pool::operator new(…)");
}

static void test_functions_in_arguments(void **state)
{
    (void)state;
    expect("void app::call<&(app::plain(int))>()", 29, "app::call<&(app::plain(…))>()");
    expect("app::Box<void (*)(int, std::vector<int>)>::run(void (*)(int, std::vector<int>))", 46,
           "app::Box<void (*)(…)>::run(void (*)(…))");
    expect("std::_Function_handler<void (int), main::{lambda(int)#1}>::_M_invoke(std::_Any_data "
           "const&, int&&)",
           70, "std::_Function_handler<void (…), main::{lambda(…)#1}>::_M_invoke(…)");
    /* the condition of a template: neither `>` ends it */
    expect("std::enable_if<(3)>(2), int>::type compare<(3)>(2)>(std::vector<int>)", 20,
           "compare<(3)>(2)>(…)");
    expect("void app::run<(a)<(b)>(std::vector<int>)", 25, "app::run<(a)<(b)>(…)");
}

static void test_rust(void **state)
{
    (void)state;
    expect("_RNvMsr_NtCs3ssYzQotkvD_3std4pathNtB5_7PathBuf3newCs15kBYyAo9fc_7mycrate", 30,
           "<std::path::PathBuf>::new");
    expect("<alloc::vec::Vec<T> as alloc::vec::spec_from_iter::SpecFromIter<T,I>>::from_iter", 40,
           "<alloc::vec::Vec<T>>::from_iter");
    expect("<<A as long::scope::of::a::Trait>::Type as Into<B>>::into", 44, "<<…>::Type>::into");
    expect(
        "tokio::runtime::task::core::Core<server::handle::{{closure}},alloc::sync::Arc<H>>::poll",
        48, "tokio::runtime::task::core::Core<…>::poll");
    expect("core::ops::function::FnOnce::call_once{{vtable.shim}}", 40,
           "…::FnOnce::call_once{{vtable.shim}}");
    expect("core::slice::sort::merge<fn(u8) -> u16,u8>", 40, "core::slice::sort::merge<…>");
}

static void test_plain_names(void **state)
{
    (void)state;
    expect("a_function_in_c_with_a_name_that_does_not_end", 20, "a_function_in_c_wit…");
    expect("größe::<überlang, noch länger>::füllen(überlang)", 30, "größe::<…>::füllen(…)");
    expect("größe", 4, "grö…"); /* never within a character */
    expect("ééééé", 3, "éé…");
}

static void test_garbage(void **state)
{
    static const char *const parts[] = {"<", ">",  "(",  ")", "{",        "}",
                                        "[", "]",  "::", " ", "operator", "(anonymous namespace)",
                                        "é", "->", "as", "x", " as ",     "const"};
    unsigned random = 12345;

    (void)state;
    expect("foo<<<<<<<<<<(((((((((((", 10, "foo<<<<<<…");
    expect(">>>>>)))))]]]]}}}}::x", 10, "…::x");
    expect("<a as b> f(x, y)", 6, "f(…)");
    for (unsigned round = 0; round < 2000; round++) {
        char name[512] = "";
        for (unsigned i = 0; i < 24; i++) {
            random = random * 1103515245 + 12345;
            strcat(name, parts[random / 65536 % (sizeof(parts) / sizeof(parts[0]))]);
        }
        for (size_t columns = 1; columns < 40; columns += 7) {
            char *shorter = lw_name_shorten(name, columns);
            assert_non_null(shorter);
            assert_true(lw_text_width(shorter) <= columns);
            free(shorter);
        }
    }
}

static void test_deep_and_long(void **state)
{
    const size_t depth = 200000;
    char *name = malloc(4 * depth);

    (void)state;
    assert_non_null(name);
    for (size_t i = 0; i < depth; i++)
        memcpy(name + 2 * i, "a<", 2);
    memset(name + 2 * depth, '>', depth);
    strcpy(name + 3 * depth, "::f()");
    char *shorter = lw_name_shorten(name, 20);
    assert_string_equal(shorter, "a<a<a<a<…>>>>::f()");
    free(shorter);
    free(name);
}

/* That would take minutes if each of them were measured. */
static void test_many_scopes(void **state)
{
    const size_t scopes = 1000000;
    char *name = malloc(3 * scopes + 4);

    (void)state;
    assert_non_null(name);
    for (size_t i = 0; i < scopes; i++)
        memcpy(name + 3 * i, "a::", 3);
    strcpy(name + 3 * scopes, "f()");
    char *shorter = lw_name_shorten(name, 12);
    assert_string_equal(shorter, "…::a::a::f()");
    free(shorter);
    free(name);
}

static void expect_start(const char *name, const char *start)
{
    lw_name_groups groups = {0};

    assert_int_equal(lw_name_find_groups(name, &groups), 0);
    assert_string_equal(name + lw_name_start(name, &groups), start);
    lw_vector_deinit(&groups);
}

static void test_where_the_name_begins(void **state)
{
    (void)state;
    expect_start("main", "main");
    expect_start("void f<int>()", "f<int>()");
    expect_start("unsigned long const* app::f<int>()", "app::f<int>()");
    expect_start("void (anonymous namespace)::f<int>()", "(anonymous namespace)::f<int>()");
    expect_start("app::H::operator unsigned long() const",
                 "app::H::operator unsigned long() const");
    expect_start("bool app::operator< <int>(int) const", "app::operator< <int>(int) const");
    expect_start("f(int) [clone .cold]", "f(int) [clone .cold]");
    expect_start("a(int) const volatile::b()", "a(int) const volatile::b()");
    expect_start("operators are(int)", "are(int)");
    expect_start("f ", "f ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_fits_is_left_alone),
        cmocka_unit_test(test_innermost_first),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_return_types),
        cmocka_unit_test(test_operators),
        cmocka_unit_test(test_functions_in_arguments),
        cmocka_unit_test(test_rust),
        cmocka_unit_test(test_plain_names),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_deep_and_long),
        cmocka_unit_test(test_many_scopes),
        cmocka_unit_test(test_where_the_name_begins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
