/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pprof profiles, unpacked again: what refers to what. test_formats.py has an independent decoder
 * look at a real one. */
#include <profile.pb-c.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <zlib.h>

#include <cmocka.h>

#include "whole_file.h"

static Leakwatch__Profile *unpacked(const struct lw_report *report)
{
    static unsigned char plain[1 << 20];
    size_t size;
    char *text = write_whole_file(&lw_pprof_writer, report, LW_WEIGHT_EXPIRED_BYTES, &size);
    z_stream zip = {.next_in = (unsigned char *)text,
                    .avail_in = (unsigned)size,
                    .next_out = plain,
                    .avail_out = sizeof(plain)};
    assert_int_equal(inflateInit2(&zip, MAX_WBITS + 16), Z_OK);
    assert_int_equal(inflate(&zip, Z_FINISH), Z_STREAM_END);
    inflateEnd(&zip);
    free(text);
    Leakwatch__Profile *profile = leakwatch__profile__unpack(NULL, zip.total_out, plain);
    assert_non_null(profile);
    return profile;
}

static void expect_text(const Leakwatch__Profile *profile, int64_t index, const char *text)
{
    assert_true(index >= 0 && (size_t)index < profile->n_string_table);
    assert_string_equal(profile->string_table[index], text);
}

static void expect_line(const Leakwatch__Profile *profile, const Leakwatch__Line *line,
                        const char *function, const char *file, int number)
{
    const Leakwatch__Function *found = profile->function[line->function_id - 1];

    assert_int_equal(found->id, line->function_id);
    expect_text(profile, found->name, function);
    expect_text(profile, found->filename, file);
    assert_int_equal(line->line, number);
}

static void test_one_stack(void **state)
{
    static const int64_t values[] = {10, 9000, 3, 3500, 2, 3000};
    struct sample sample;

    (void)state;
    sample_init(&sample);
    Leakwatch__Profile *profile = unpacked(&sample.report);
    assert_string_equal(profile->string_table[0], "");
    assert_int_equal(profile->n_sample_type, 6);
    expect_text(profile, profile->sample_type[5]->type, "expired_space");
    expect_text(profile, profile->default_sample_type, "expired_space");
    assert_int_equal(profile->time_nanos, 1700000000007000000);
    assert_int_equal(profile->duration_nanos, 80500000000);
    assert_int_equal(profile->period, 1);
    assert_int_equal(profile->n_sample, 1);
    const Leakwatch__Sample *found = profile->sample[0];
    assert_memory_equal(found->value, values, sizeof(values));
    assert_int_equal(found->n_label, 4);
    expect_text(profile, found->label[0]->key, "stack");
    assert_int_equal(found->label[0]->num, 17);
    expect_text(profile, found->label[2]->num_unit, "nanoseconds");
    expect_text(profile, found->label[3]->key, "verdict");
    expect_text(profile, found->label[3]->str, "growing");

    /* keep is inlined into serve: one location */
    assert_int_equal(found->n_location_id, 3);
    const Leakwatch__Location *inner = profile->location[found->location_id[0] - 1];
    assert_int_equal(inner->address, 0x7f000009a01a); /* where it is, not where it returns to */
    const Leakwatch__Location *chain = profile->location[found->location_id[1] - 1];
    assert_int_equal(chain->address, 0x5501200);
    assert_int_equal(chain->n_line, 2);
    expect_line(profile, chain->line[0], "keep", "src/app.c", 42);
    expect_line(profile, chain->line[1], "serve", "src/app.c", 99);
    assert_int_equal(profile->location[found->location_id[2] - 1]->n_line, 0); /* has no name */
    leakwatch__profile__free_unpacked(profile, NULL);
}

static void test_the_program_is_the_first_mapping(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    Leakwatch__Profile *profile = unpacked(&sample.report);
    assert_int_equal(profile->n_mapping, 3);
    const Leakwatch__Mapping *program = profile->mapping[0], *libc = profile->mapping[1];
    expect_text(profile, program->filename, "/bin/app");
    expect_text(profile, program->build_id, "");
    assert_int_equal(program->memory_start, 0x5501000);
    assert_int_equal(program->memory_limit, 0x5503000);
    assert_int_equal(program->file_offset, 0x1000);
    assert_true(program->has_line_numbers && program->has_inline_frames);
    expect_text(profile, libc->build_id, "abc123");
    assert_true(libc->has_functions && !libc->has_filenames && !libc->has_line_numbers);
    assert_false(profile->mapping[2]->has_functions);
    assert_int_equal(profile->location[0]->mapping_id, libc->id);
    assert_int_equal(profile->location[1]->mapping_id, program->id);
    leakwatch__profile__free_unpacked(profile, NULL);
}

static void test_what_stacks_share_is_there_once(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    struct lw_report_stack stacks[] = {sample.stack, sample.stack};
    struct lw_report_frame frames[4];
    memcpy(frames, sample.frames, sizeof(frames));
    frames[0].function = "a\xff"; /* names must be UTF-8 */
    frames[0].module = frames[0].module_path = NULL;
    frames[0].module_number = 0;
    stacks[1].frames = frames;
    sample.report.stacks = stacks;
    sample.report.every_count = 2;
    sample.report.sample_bytes = 524288;
    Leakwatch__Profile *profile = unpacked(&sample.report);
    assert_int_equal(profile->period, 524288);
    assert_int_equal(profile->n_location, 4);
    assert_int_equal(profile->n_function, 4);
    const Leakwatch__Sample *a = profile->sample[0], *b = profile->sample[1];
    assert_int_not_equal(a->location_id[0], b->location_id[0]); /* one address, two modules */
    assert_int_equal(a->location_id[1], b->location_id[1]);
    const Leakwatch__Location *bare = profile->location[b->location_id[0] - 1];
    assert_int_equal(bare->mapping_id, 0);
    expect_line(profile, bare->line[0], "a\\xff", "", 0);
    for (size_t i = 0; i < profile->n_string_table; i++)
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(profile->string_table[i], profile->string_table[j]);
    leakwatch__profile__free_unpacked(profile, NULL);
}

static void test_nothing_at_all(void **state)
{
    struct lw_report report = {.context = {.pid = 1}};

    (void)state;
    Leakwatch__Profile *profile = unpacked(&report);
    assert_int_equal(profile->n_sample, 0);
    assert_int_equal(profile->n_mapping, 0);
    leakwatch__profile__free_unpacked(profile, NULL);
}

static void test_full_disk(void **state)
{
    (void)state;
    expect_full_disk_to_be_told(&lw_pprof_writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_stack),
        cmocka_unit_test(test_the_program_is_the_first_mapping),
        cmocka_unit_test(test_what_stacks_share_is_there_once),
        cmocka_unit_test(test_nothing_at_all),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
