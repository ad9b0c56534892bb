/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reports written as JSON to a file, for the tests of what reads them. Include after cmocka.h. */
#ifndef LEAKWATCH_TEST_SAVED_SAMPLE_H
#define LEAKWATCH_TEST_SAVED_SAMPLE_H

#include <unistd.h>

#include "leakwatch/report/saved_report.h"
#include "report_sample.h"

/* A report as a line; the caller frees it. (Inlined, GCC 12 takes the result for a pointer into the
 * frame.) */
static __attribute__((noinline, unused)) char *saved_line(const struct lw_report *report)
{
    const struct lw_writer_options options = {0};
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);

    assert_non_null(stream);
    assert_int_equal(lw_json_writer.report(stream, &options, report), 0);
    fclose(stream);
    return text;
}

/* A file of its own in /tmp, which holds the text. */
struct saved_file {
    char path[32];
    int fd;
};

static inline void saved_file_init(struct saved_file *file)
{
    strcpy(file->path, "/tmp/leakwatch-saved.XXXXXX");
    file->fd = mkstemp(file->path);
    assert_true(file->fd >= 0);
}

static inline void saved_file_set(const struct saved_file *file, const char *text, size_t length)
{
    assert_int_equal(ftruncate(file->fd, 0), 0);
    assert_int_equal(pwrite(file->fd, text, length, 0), length);
}

static inline void saved_file_deinit(struct saved_file *file)
{
    close(file->fd);
    unlink(file->path);
}

/* The report, as it is once it has been written and read back. */
static inline struct lw_saved_report *save(const struct lw_report *report)
{
    const long last = -1;
    struct lw_saved_report *saved = NULL;
    struct saved_file file;
    char *line = saved_line(report);

    saved_file_init(&file);
    saved_file_set(&file, line, strlen(line));
    lw_error *error = lw_saved_reports_read(file.path, &last, 1, &saved);
    if (error)
        fail_msg("%s", lw_error_message(error));
    saved->path = "saved.json"; /* that of the file is gone with it */
    saved_file_deinit(&file);
    free(line);
    return saved;
}

#endif
