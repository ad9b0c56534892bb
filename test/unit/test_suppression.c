/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Suppressions: both syntaxes and their errors, patterns, and which stacks they match. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "leakwatch/report/suppression.h"
#include "report/pattern.h"

static void test_globs_match_the_whole_text(void **state)
{
    (void)state;
    assert_true(lw_pattern_glob("malloc", "malloc"));
    assert_false(lw_pattern_glob("malloc", "mallocs"));
    assert_false(lw_pattern_glob("malloc", "xmalloc"));
    assert_true(lw_pattern_glob("*alloc", "reallocalloc"));
    assert_true(lw_pattern_glob("m?lloc*", "malloc"));
    assert_false(lw_pattern_glob("m?lloc", "mlloc"));
    assert_true(lw_pattern_glob("*", ""));
    assert_true(lw_pattern_glob("", ""));
    assert_false(lw_pattern_glob("?", ""));
    assert_true(lw_pattern_glob("a*b*c", "a-b-b-c"));
    assert_false(lw_pattern_glob("a*b*c", "a-c-b"));
    assert_true(lw_pattern_glob("operator*(T*)", "operator*(T*)"));
    assert_false(lw_pattern_glob("[a]", "a")); /* fnmatch would */
}

static void test_the_sanitizers_look_for_parts(void **state)
{
    (void)state;
    assert_true(lw_pattern_find("lloc", "malloc"));
    assert_true(lw_pattern_find("m*o", "malloc"));
    assert_false(lw_pattern_find("o*m", "malloc"));
    assert_true(lw_pattern_find("^mal", "malloc"));
    assert_false(lw_pattern_find("^alloc", "malloc"));
    assert_true(lw_pattern_find("^*alloc", "malloc"));
    assert_true(lw_pattern_find("alloc$", "malloc"));
    assert_false(lw_pattern_find("mallo$", "malloc"));
    assert_true(lw_pattern_find("oo$", "foofoo"));
    assert_true(lw_pattern_find("^malloc$", "malloc"));
    assert_false(lw_pattern_find("^malloc$", "mallocmalloc"));
    assert_true(lw_pattern_find("ma*$", "malloc"));
    assert_true(lw_pattern_find("*", "malloc"));
    assert_false(lw_pattern_find("m?lloc", "malloc")); /* no wildcard there */
    assert_false(lw_pattern_find("*", ""));
}

/* Exponential, the first would take longer than the universe is old. */
static void test_no_pattern_takes_long(void **state)
{
    char pattern[4001], text[20001];

    (void)state;
    for (size_t i = 0; i < sizeof(pattern) - 2; i += 2)
        memcpy(pattern + i, "*a", 2);
    memcpy(pattern + sizeof(pattern) - 2, "b", 2);
    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    assert_false(lw_pattern_glob(pattern, text));
    assert_false(lw_pattern_find(pattern, text));
}

static struct lw_suppressions *parse(const char *text)
{
    struct lw_suppressions *set = lw_suppressions_create();

    assert_non_null(set);
    lw_error *error = lw_suppressions_parse(set, "a.supp", false, text, strlen(text));
    if (error)
        fail_msg("%s", lw_error_message(error));
    return set;
}

static void expect_bad(const char *text, const char *message)
{
    struct lw_suppressions *set = lw_suppressions_create();
    lw_error *error = lw_suppressions_parse(set, "a.supp", false, text, strlen(text));

    if (!error || !strstr(lw_error_message(error), message))
        fail_msg("expected '%s' for '%s', got '%s'", message, text,
                 error ? lw_error_message(error) : "no error");
    lw_error_destroy(error);
    lw_suppressions_destroy(set);
}

static const char mixed[] = "# a comment\n"
                            "leak:^first*$  \r\n"
                            "\n"
                            "{\n"
                            "   the second, in valgrind's words\n"
                            "   Memcheck,Addrcheck:Leak\n"
                            "   match-leak-kinds: definite, reachable\n"
                            "   # another comment\n"
                            "   fun:malloc\n"
                            "   ...\n"
                            "   obj:/usr/lib/*.so\n"
                            "   src:a.c:12\n"
                            "}\n"
                            "race:not about leaks\n"
                            "{\n<insert_a_name>\nHelgrind:Race\nfun:a\nwhatever\n}\n"
                            "{\nanother\nMemcheck:Param\nwrite(buf)\nfun:a\n}\n"
                            "  leak:last";

static void test_both_syntaxes_in_one_file(void **state)
{
    struct lw_suppressions *set = parse(mixed);

    (void)state;
    assert_int_equal(lw_suppressions_count(set), 3);
    assert_int_equal(lw_suppressions_skipped(set), 3);
    assert_string_equal(lw_suppressions_get(set, 0)->name, "leak:^first*$");
    assert_int_equal(lw_suppressions_get(set, 0)->line, 2);
    assert_string_equal(lw_suppressions_get(set, 1)->name, "the second, in valgrind's words");
    assert_int_equal(lw_suppressions_get(set, 1)->line, 4);
    assert_string_equal(lw_suppressions_get(set, 1)->file, "a.supp");
    assert_false(lw_suppressions_get(set, 1)->is_default);
    assert_string_equal(lw_suppressions_get(set, 2)->name, "leak:last");
    lw_suppressions_destroy(set);
}

static void test_bad_lines_are_named(void **state)
{
    (void)state;
    expect_bad("leak:a\nleek:b\n", "a.supp:2: 'leek:b' is neither leak:PATTERN nor");
    expect_bad("malloc", "a.supp:1: 'malloc' is neither");
    expect_bad("race", "a.supp:1: 'race' is neither");
    expect_bad("leak:  \n", "a.supp:1: leak: needs a pattern");
    expect_bad("}\n", "a.supp:1: '}' is neither");
    expect_bad("\n{\n", "a.supp:2: the suppression that begins in line 2 has no }");
    expect_bad("{\n}\n", "a.supp:2: the suppression needs a name and a kind");
    expect_bad("{\nname\nLeak\n}", "a.supp:3: 'Leak' is no TOOL:KIND");
    expect_bad("{\nname\nMemcheck:leak\n}", "a.supp:3: Memcheck knows no 'leak'");
    expect_bad("{\nname\nMemcheck:Leak\nfun:a\n", "begins in line 1 has no }");
    expect_bad("{\nname\nHelgrind:Race\nfun:a\n", "begins in line 1 has no }");
    expect_bad("{\nname\nMemcheck:Leak\nfan:a\n}", "a.supp:4: 'fan:a' is not fun:, obj: or src:");
    expect_bad("{\nname\nMemcheck:Leak\nfun:\n}", "a.supp:4: 'fun:' needs a pattern");
    expect_bad("{\nname\nMemcheck:Leak\n....\n}", "a.supp:4: '....' is not");
    expect_bad("{\nname\nMemcheck:Leak\n...\n}", "a.supp:5: the suppression needs a frame");
    expect_bad("{\nname\nMemcheck:Leak\n}", "a.supp:4: the suppression needs a frame");
    expect_bad("{\nname\nMemcheck:Leak\nsrc:a.c:x\n}", "a.supp:4: 'x' is no number");
    expect_bad("{\nname\nMemcheck:Leak\nmatch-leak-kinds: lost\nfun:a\n}",
               "a.supp:4: 'lost' is not one of definite,");
}

/* Whatever a file holds, it is read or refused. */
static void test_garbage_is_refused(void **state)
{
    struct lw_suppressions *set = lw_suppressions_create();
    unsigned seed = 1;
    char text[300];

    (void)state;
    lw_error *error = lw_suppressions_parse(set, "a.supp", false, "leak:a\0b\n", 9);
    assert_non_null(strstr(lw_error_message(error), "a.supp has a NUL byte"));
    lw_error_destroy(error);
    lw_suppressions_destroy(set);
    for (int i = 0; i < 20000; i++) {
        static const char alphabet[] = "{}\n\n\n:.*leakfunobjsrcMemcheck \t#";
        size_t length = (size_t)rand_r(&seed) % sizeof(text);
        for (size_t j = 0; j < length; j++)
            text[j] = i % 2 ? (char)rand_r(&seed)
                            : alphabet[(size_t)rand_r(&seed) % (sizeof(alphabet) - 1)];
        set = lw_suppressions_create();
        lw_error_destroy(lw_suppressions_parse(set, "a.supp", false, text, length));
        lw_suppressions_destroy(set);
    }
    for (size_t length = 0; length < sizeof(mixed) - 1; length++) { /* cut short anywhere */
        set = lw_suppressions_create();
        lw_error_destroy(lw_suppressions_parse(set, "a.supp", false, mixed, length));
        lw_suppressions_destroy(set);
    }
}

static void test_too_many_are_refused(void **state)
{
    const size_t count = 10001;
    char *text = malloc(count * 7 + 1);

    (void)state;
    for (size_t i = 0; i < count; i++)
        memcpy(text + i * 7, "leak:a\n", 8);
    expect_bad(text, "a.supp:10001: there are more than 10000");
    free(text);
}

static void test_files(void **state)
{
    char path[] = "/tmp/leakwatch-test.XXXXXX";
    int fd = mkstemp(path);
    struct lw_suppressions *set = lw_suppressions_create();
    const char text[] = "leak:a\n";
    char expected[64];

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
    assert_null(lw_suppressions_read(set, path));
    assert_string_equal(lw_suppressions_get(set, 0)->file, path);
    assert_int_equal(ftruncate(fd, (4 << 20) + 1), 0);
    lw_error *error = lw_suppressions_read(set, path);
    snprintf(expected, sizeof(expected), "%s is larger than 4M", path);
    assert_non_null(strstr(lw_error_message(error), expected));
    lw_error_destroy(error);
    close(fd);
    unlink(path);
    error = lw_suppressions_read(set, path);
    assert_non_null(strstr(lw_error_message(error), "cannot open the suppressions file /tmp/"));
    lw_error_destroy(error);
    error = lw_suppressions_read(set, "/");
    assert_non_null(strstr(lw_error_message(error), "Is a directory"));
    lw_error_destroy(error);
    lw_suppressions_destroy(set);
}

/* ---- which stacks match ---- */

#define MAX_FRAMES 8
#define MAX_WORDS  64

static const struct lw_frame_names in_malloc = {.function = "malloc",
                                                .module_path = "/lib/libc.so"};
static const struct lw_frame_names in_keep = {
    .function = "T::keep(int)",
    .linkage_name = "_ZN1T4keepEi",
    .file = "/src/deep/keep.cc",
    .line = 12,
    .module_path = "/usr/bin/app",
};
static const struct lw_frame_names in_new = {.function = "operator new(unsigned long)",
                                             .linkage_name = "_Znwm"};
static const struct lw_frame_names in_main = {.function = "main", .module_path = "/usr/bin/app"};
static const struct lw_frame_names unknown = {0};

/* The index of what matches the stack of the `count` frames; -1: nothing does; -2: more frames must
 * be known. */
static int find(const char *text, const struct lw_frame_names *const *names, size_t count,
                bool complete)
{
    struct lw_suppressions *set = parse(text);
    uint64_t marks[MAX_FRAMES][MAX_WORDS], joined[MAX_WORDS];
    const uint64_t *frames[MAX_FRAMES];
    size_t index = 0;

    assert_true(lw_suppressions_mark_words(set) <= MAX_WORDS);
    for (size_t i = 0; i < count; i++) {
        lw_suppressions_mark(set, names[i], marks[i]);
        frames[i] = marks[i];
    }
    const struct lw_marked_stack stack = {
        frames, count, complete, names[0] == &in_malloc && count > 1 && names[1] == &in_new,
        joined};
    enum lw_suppression_verdict verdict = lw_suppressions_find(set, &stack, &index);
    lw_suppressions_destroy(set);
    if (verdict == LW_SUPPRESSION_FOUND)
        return (int)index;
    return verdict == LW_SUPPRESSION_NONE ? -1 : -2;
}

/* malloc < T::keep(int) < (unknown) < main */
static int find_usual(const char *text)
{
    return find(text, (const struct lw_frame_names *[]){&in_malloc, &in_keep, &unknown, &in_main},
                4, true);
}

#define LEAK(frames) "{\nname\nMemcheck:Leak\n" frames "\n}\n"

static void test_frames_match_from_the_innermost(void **state)
{
    (void)state;
    assert_int_equal(find_usual(LEAK("fun:malloc")), 0);
    assert_int_equal(find_usual(LEAK("fun:_ZN1T4keepEi")), -1);
    assert_int_equal(find_usual(LEAK("fun:malloc\nfun:_ZN1T4keepEi")), 0);
    assert_int_equal(find_usual(LEAK("fun:malloc\nfun:T::keep(int)")), 0);
    assert_int_equal(find_usual(LEAK("fun:malloc\nfun:main")), -1);
    assert_int_equal(find_usual(LEAK("fun:malloc\nobj:*/app\nfun:*\nobj:*/app")), 0);
    assert_int_equal(find_usual(LEAK("fun:malloc\nobj:*/app\nobj:*/app")), -1);
    assert_int_equal(find_usual(LEAK("fun:malloc\nobj:*/app\nobj:*\nfun:main\nfun:_start")), -1);
    assert_int_equal(find_usual(LEAK("match-leak-kinds: all\nfun:malloc")), 0);
    assert_int_equal(find_usual(LEAK("match-leak-kinds: none\nfun:malloc")), -1);
}

/* Where operator new calls malloc, valgrind sees the former only. */
static void test_operator_new_may_come_first(void **state)
{
    const struct lw_frame_names *names[] = {&in_malloc, &in_new, &in_keep, &in_main};

    (void)state;
    assert_int_equal(find(LEAK("fun:_Znwm\nfun:_ZN1T4keepEi"), names, 4, true), 0);
    assert_int_equal(find(LEAK("fun:malloc\nfun:_Znwm\nfun:_ZN1T4keepEi"), names, 4, true), 0);
    assert_int_equal(find(LEAK("fun:_ZN1T4keepEi"), names, 4, true), -1);
    assert_true(lw_linkage_name_is_new("_ZnamSt11align_val_t"));
    assert_false(lw_linkage_name_is_new("_ZdlPv"));
    assert_false(lw_linkage_name_is_new(NULL));
}

static void test_sources(void **state)
{
    (void)state;
    assert_int_equal(find_usual(LEAK("fun:malloc\nsrc:keep.cc")), 0);
    assert_int_equal(find_usual(LEAK("fun:malloc\nsrc:keep.cc:12")), 0);
    assert_int_equal(find_usual(LEAK("fun:malloc\nsrc:keep.cc:13")), -1);
    assert_int_equal(find_usual(LEAK("fun:malloc\nsrc:*/deep/*:12")), 0);
    assert_int_equal(find_usual(LEAK("src:*")), -1);
}

static void test_any_number_of_frames(void **state)
{
    (void)state;
    assert_int_equal(find_usual(LEAK("...\nfun:main")), 0);
    assert_int_equal(find_usual(LEAK("...\nfun:malloc")), 0); /* none is a number */
    assert_int_equal(find_usual(LEAK("fun:malloc\n...\nfun:main\n...")), 0);
    assert_int_equal(find_usual(LEAK("fun:malloc\n...\nfun:malloc")), -1);
    assert_int_equal(find_usual(LEAK("...\nobj:*/app\nfun:main")), -1);
    /* what matched first is not what goes on */
    assert_int_equal(
        find(LEAK("...\nfun:malloc\nfun:main"),
             (const struct lw_frame_names *[]){&in_malloc, &in_keep, &in_malloc, &in_main}, 4,
             true),
        0);
}

static void test_any_name_of_any_frame(void **state)
{
    (void)state;
    assert_int_equal(find_usual("leak:keep("), 0);
    assert_int_equal(find_usual("leak:ZN1T"), -1);
    assert_int_equal(find_usual("leak:deep/keep.cc$"), 0);
    assert_int_equal(find_usual("leak:^/usr/bin/app$"), 0);
    assert_int_equal(find_usual("leak:^app"), -1);
    assert_int_equal(find_usual("leak:nothing\nleak:main\nleak:malloc"), 1); /* the first */
}

static void test_more_frames_are_asked_for_when_they_matter(void **state)
{
    const struct lw_frame_names *names[] = {&in_malloc, &in_keep};

    (void)state;
    assert_int_equal(find(LEAK("fun:malloc\nfun:main"), names, 2, false), -1);
    assert_int_equal(find(LEAK("fun:malloc\n...\nfun:main"), names, 2, false), -2);
    assert_int_equal(find(LEAK("fun:malloc\n...\nfun:main"), names, 2, true), -1);
    assert_int_equal(find("leak:main", names, 2, false), -2);
    assert_int_equal(find("leak:malloc", names, 2, false), 0);
    /* an earlier one may match yet */
    assert_int_equal(find("leak:main\nleak:malloc", names, 2, false), -2);
    assert_int_equal(find("leak:main\nleak:malloc", names, 2, true), 1);
}

/* Frames of many stacks are compared once, whatever the number of patterns. */
static void test_more_patterns_than_bits_in_a_word(void **state)
{
    char text[4000] = "";

    (void)state;
    for (int i = 0; i < 170; i++)
        sprintf(text + strlen(text), "leak:no%d\n", i);
    strcat(text, "leak:main\n");
    assert_int_equal(find_usual(text), 170);
}

static void test_the_default_set(void **state)
{
    struct lw_suppressions *set = lw_suppressions_create();

    (void)state;
    lw_error *error = lw_suppressions_add_defaults(set);
    if (error)
        fail_msg("%s", lw_error_message(error));
    assert_true(lw_suppressions_count(set) > 20);
    assert_int_equal(lw_suppressions_skipped(set), 0);
    assert_true(lw_suppressions_get(set, 0)->is_default);
    lw_suppressions_destroy(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_globs_match_the_whole_text),
        cmocka_unit_test(test_the_sanitizers_look_for_parts),
        cmocka_unit_test(test_no_pattern_takes_long),
        cmocka_unit_test(test_both_syntaxes_in_one_file),
        cmocka_unit_test(test_bad_lines_are_named),
        cmocka_unit_test(test_garbage_is_refused),
        cmocka_unit_test(test_too_many_are_refused),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_frames_match_from_the_innermost),
        cmocka_unit_test(test_operator_new_may_come_first),
        cmocka_unit_test(test_sources),
        cmocka_unit_test(test_any_number_of_frames),
        cmocka_unit_test(test_any_name_of_any_frame),
        cmocka_unit_test(test_more_frames_are_asked_for_when_they_matter),
        cmocka_unit_test(test_more_patterns_than_bits_in_a_word),
        cmocka_unit_test(test_the_default_set),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
