/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests of formats that are a file a report share. Include after cmocka.h. */
#ifndef LEAKWATCH_TEST_WHOLE_FILE_H
#define LEAKWATCH_TEST_WHOLE_FILE_H

#include "report_sample.h"

/* The file, with a NUL behind it; the caller frees it. `size` may be NULL. */
static inline char *write_whole_file(const struct lw_writer *writer, const struct lw_report *report,
                                     enum lw_weight weight, size_t *size)
{
    const struct lw_writer_options options = {.weight = weight};
    char *text = NULL;
    size_t length;
    FILE *stream = open_memstream(&text, &length);

    assert_non_null(stream);
    assert_int_equal(writer->report(stream, &options, report), 0);
    fclose(stream);
    if (size)
        *size = length;
    return text;
}

static inline void expect_full_disk_to_be_told(const struct lw_writer *writer)
{
    const struct lw_writer_options options = {0};
    struct sample sample;

    sample_init(&sample);
    FILE *full = fopen("/dev/full", "w");
    assert_non_null(full);
    assert_true(writer->report(full, &options, &sample.report) < 0);
    fclose(full);
}

#endif
