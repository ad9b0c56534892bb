/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parsing of /proc/PID/maps, well-formed and not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "leakwatch/target/maps.h"

static void test_parses_every_field(void **state)
{
    (void)state;
    struct lw_maps maps = {0};
    assert_int_equal(
        lw_maps_parse(&maps,
                      "55d0c0a00000-55d0c0a01000 r--p 00000000 fd:01 1234567    /usr/bin/a b\n"
                      "7f0000000000-7f0000002000 r-xs 0001f000 103:0a 18446744073709551615 /x\n"
                      "7f0000003000-7f0000004000 rw-p 00000000 00:00 0 \n"
                      "7f0000004000-7f0000005000 ---p 00000000 00:00 0\n"
                      "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0   [vsyscall]\n"),
        0);
    assert_int_equal(maps.list.count, 5);
    const struct lw_mapping *m = maps.list.items;
    assert_true(m[0].start == 0x55d0c0a00000 && m[0].end == 0x55d0c0a01000);
    assert_true(m[0].readable && !m[0].writable && !m[0].executable && !m[0].shared);
    assert_int_equal(m[0].dev_major, 0xfd);
    assert_int_equal(m[0].dev_minor, 1);
    assert_int_equal(m[0].inode, 1234567);
    assert_string_equal(m[0].path, "/usr/bin/a b");
    assert_true(m[1].executable && m[1].shared && m[1].offset == 0x1f000);
    assert_int_equal(m[1].dev_major, 0x103);
    assert_true(m[1].inode == UINT64_MAX);
    assert_string_equal(m[2].path, "");
    assert_true(m[2].writable);
    assert_string_equal(m[3].path, "");
    assert_string_equal(m[4].path, "[vsyscall]");
    assert_true(!m[4].readable && m[4].executable);
    lw_maps_deinit(&maps);
}

static void test_undoes_what_the_kernel_adds_to_names(void **state)
{
    (void)state;
    struct lw_maps maps = {0};
    assert_int_equal(lw_maps_parse(&maps, "1000-2000 r--p 0 00:01 5 /tmp/lib.so (deleted)\n"
                                          "2000-3000 r--p 0 00:01 6 /a\\012b\\040c\n"
                                          "3000-4000 r--p 0 00:01 7 /(deleted) x\n"),
                     0);
    assert_string_equal(maps.list.items[0].path, "/tmp/lib.so");
    assert_true(maps.list.items[0].deleted);
    assert_string_equal(maps.list.items[1].path, "/a\nb\\040c"); /* only newline is escaped */
    assert_string_equal(maps.list.items[2].path, "/(deleted) x");
    assert_false(maps.list.items[2].deleted);
    lw_maps_deinit(&maps);
}

static void test_refuses_malformed_lines(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "\n",
        "x\n",
        "1000\n",
        "1000-\n",
        "2000-1000 r--p 0 0:0 0\n",
        "1000-1000 r--p 0 0:0 0\n",
        "-1-2000 r--p 0 0:0 0\n",
        "1000-2000 r--\n",
        "1000-2000 rw-q 0 0:0 0\n",
        "1000-2000 r--p\n",
        "1000-2000 r--p 0 00 0\n",
        "1000-2000 r--p 0 0:0\n",
        "1000-2000 r--p 0 0:0 \n",
        "1000-2000 r--p 0 0:0 12x /a\n",
        "1000-11112222333344445555 r--p 0 0:0 0\n",
        "1000-2000 r--p 0 111222333:0 0\n",
        "1000-2000 r--p 0 0:0 0 /a\n2000-3000 bad\n",
        "1000-2000 r--p 0 0:\n0 0 /a\n",
    };
    struct lw_maps maps = {0};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        if (lw_maps_parse(&maps, lines[i]) != -EINVAL)
            fail_msg("accepted: %s", lines[i]);
        assert_int_equal(maps.list.count, 0);
    }
    assert_int_equal(lw_maps_parse(&maps, ""), 0);
    assert_int_equal(maps.list.count, 0);
    lw_maps_deinit(&maps);
}

static void test_every_prefix_is_parsed_or_refused(void **state)
{
    (void)state;
    static const char text[] = "1000-2000 r-xp 00001000 08:01 42       /lib/a.so (deleted)\n"
                               "3000-4000 rw-p 00000000 00:00 0 [heap]\n";
    struct lw_maps maps = {0};
    for (size_t length = 0; length < sizeof(text); length++) {
        char *prefix = strndup(text, length);
        int result = lw_maps_parse(&maps, prefix);
        assert_true(result == 0 || result == -EINVAL);
        free(prefix);
    }
    lw_maps_deinit(&maps);
}

static void test_cuts_overlaps_of_a_torn_read(void **state)
{
    (void)state;
    struct lw_maps maps = {0};
    assert_int_equal(lw_maps_parse(&maps, "1000-3000 r--p 00000000 00:01 5 /a\n"
                                          "1000-5000 r--p 00000000 00:01 5 /a\n"
                                          "2000-3000 r--p 00000000 00:01 5 /a\n"),
                     0);
    assert_int_equal(maps.list.count, 2);
    assert_int_equal(maps.list.items[1].start, 0x3000);
    assert_int_equal(maps.list.items[1].end, 0x5000);
    assert_int_equal(maps.list.items[1].offset, 0x2000);
    lw_maps_deinit(&maps);
}

static void test_finds_by_address(void **state)
{
    (void)state;
    struct lw_maps maps = {0};
    assert_null(lw_maps_find(&maps, 0x1000));
    assert_int_equal(lw_maps_parse(&maps, "1000-2000 r--p 0 0:0 0\n2000-3000 rw-p 0 0:0 0\n"
                                          "5000-6000 r--p 0 0:0 0\n"),
                     0);
    assert_null(lw_maps_find(&maps, 0));
    assert_null(lw_maps_find(&maps, 0xfff));
    assert_ptr_equal(lw_maps_find(&maps, 0x1000), &maps.list.items[0]);
    assert_ptr_equal(lw_maps_find(&maps, 0x1fff), &maps.list.items[0]);
    assert_ptr_equal(lw_maps_find(&maps, 0x2000), &maps.list.items[1]);
    assert_null(lw_maps_find(&maps, 0x3000));
    assert_ptr_equal(lw_maps_find(&maps, 0x5fff), &maps.list.items[2]);
    assert_null(lw_maps_find(&maps, 0x6000));
    assert_null(lw_maps_find(&maps, UINT64_MAX));
    lw_maps_deinit(&maps);
}

static void test_reads_a_live_process(void **state)
{
    (void)state;
    struct lw_maps maps = {0};
    assert_int_equal(lw_maps_read(&maps, getpid()), 0);
    const struct lw_mapping *code =
        lw_maps_find(&maps, (uint64_t)(uintptr_t)test_reads_a_live_process);
    assert_non_null(code);
    assert_true(code->executable && code->path[0] == '/');
    const struct lw_mapping *stack = lw_maps_find(&maps, (uint64_t)(uintptr_t)&maps);
    assert_true(stack != NULL && stack->writable);
    uint64_t end = 0;
    for (size_t i = 0; i < maps.list.count; i++) {
        assert_true(maps.list.items[i].start >= end);
        end = maps.list.items[i].end;
    }
    assert_int_equal(lw_maps_read(&maps, getpid()), 0); /* replaces */
    lw_maps_deinit(&maps);
    lw_maps_deinit(&maps);
}

static void test_a_process_that_is_gone(void **state)
{
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    struct lw_maps maps = {0};
    assert_int_equal(lw_maps_read(&maps, child), -ESRCH);
    lw_maps_deinit(&maps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parses_every_field),
        cmocka_unit_test(test_undoes_what_the_kernel_adds_to_names),
        cmocka_unit_test(test_refuses_malformed_lines),
        cmocka_unit_test(test_every_prefix_is_parsed_or_refused),
        cmocka_unit_test(test_cuts_overlaps_of_a_torn_read),
        cmocka_unit_test(test_finds_by_address),
        cmocka_unit_test(test_reads_a_live_process),
        cmocka_unit_test(test_a_process_that_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
