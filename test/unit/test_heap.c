/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Heap profiles as gperftools writes them, line by line. test_formats.py has google-pprof and
 * jeprof read a real one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "whole_file.h"

static void test_exactly_this(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    struct lw_report_stack stacks[] = {sample.stack, sample.stack};
    stacks[1].facts.stats.expired_bytes = stacks[1].facts.stats.expired_blocks = 0;
    stacks[1].frames += 2; /* serve */
    stacks[1].frame_count = 1;
    sample.report.stacks = stacks;
    sample.report.every_count = 2;
    sample.modules[1].path = "/bin/a\np"; /* one line each, whatever the names are */
    char *text = write_whole_file(&lw_heap_writer, &sample.report, LW_WEIGHT_EXPIRED_BLOCKS, NULL);
    /* of keep and serve, which are one piece of code, one address; libx is not loaded */
    assert_string_equal(text, "heap profile:      2:     3000 [    20:    18000] @ heapprofile\n"
                              "     2:     3000 [    10:     9000] @ 0x7f000009a01a 0x5501201 "
                              "0x7f1234567777\n"
                              "     0:        0 [    10:     9000] @ 0x5501201\n"
                              "\nMAPPED_LIBRARIES:\n"
                              "7f0000026000-7f000017b000 r-xp 00026000 00:00 0 /lib/libc.so.6\n"
                              "5501000-5503000 r-xp 00001000 00:00 0 /bin/a\\x0ap\n");
    free(text);
    text = write_whole_file(&lw_heap_writer, &sample.report, LW_WEIGHT_LIVE_BYTES, NULL);
    assert_memory_equal(text, "heap profile:      6:     7000 [", 32);
    free(text);
}

static void test_full_disk(void **state)
{
    (void)state;
    expect_full_disk_to_be_told(&lw_heap_writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exactly_this),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
