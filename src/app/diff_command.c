/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads two reports, compares them and writes what has changed. */
#include "leakwatch/app/diff_command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "diff_options.h"
#include "leakwatch/base/log.h"
#include "leakwatch/report/output.h"

static lw_error *read_reports(const struct lw_diff_command *command,
                              struct lw_saved_report *reports[2])
{
    lw_error *error;

    if (!command->paths[1]) {
        error = lw_saved_reports_read(command->paths[0], command->numbers, 2, reports);
    } else {
        error = lw_saved_reports_read(command->paths[0], &command->numbers[0], 1, &reports[0]);
        if (!error)
            error = lw_saved_reports_read(command->paths[1], &command->numbers[1], 1, &reports[1]);
    }
    if (!error && strcmp(reports[0]->path, reports[1]->path) == 0 &&
        reports[0]->line == reports[1]->line)
        error = lw_error_create(EINVAL,
                                "both reports are the one in %s:%zu: there is nothing to compare "
                                "(--reports chooses others)",
                                reports[0]->path, reports[0]->line);
    return error;
}

/* Of two errors in a row, the first. */
static lw_error *first_error(lw_error *first, lw_error *second)
{
    if (first)
        lw_error_destroy(second);
    return first ? first : second;
}

static lw_error *write_to(struct lw_output *output, const struct lw_diff_command *command,
                          const struct lw_diff *diff)
{
    lw_error *error = lw_output_begin(output);
    if (error)
        return error;
    const struct lw_writer_options writing = {
        .color = command->color == LW_COLOR_ALWAYS ||
                 (command->color == LW_COLOR_AUTO && lw_output_is_terminal(output) &&
                  !getenv("NO_COLOR")),
        .verbose = command->verbose,
        .columns = lw_output_columns(output),
        .weight = command->diff.weight,
    };
    int result = command->writer->write(output->stream, &writing, diff);
    if (result != 0)
        error = lw_error_create(-result, "cannot write the comparison%s%s: %s",
                                output->path ? " to " : "", output->path ? output->path : "",
                                strerror(-result));
    return first_error(error, lw_output_commit(output, result == 0));
}

static lw_error *write_diff(const struct lw_diff_command *command, const struct lw_diff *diff)
{
    struct lw_output output;

    if (!command->writer->has_notes)
        for (size_t i = 0; i < diff->note_count; i++)
            lw_warn("%s", diff->notes[i]);
    lw_error *error =
        lw_output_open(&output, command->output, diff->after.saved->report.context.pid, true);
    if (error)
        return error;
    error = write_to(&output, command, diff);
    return first_error(error, lw_output_close(&output));
}

static lw_error *compare(const struct lw_diff_command *command, bool *has_growth)
{
    struct lw_saved_report *reports[2] = {NULL, NULL};
    struct lw_diff *diff = NULL;
    lw_error *error = read_reports(command, reports);

    if (!error) {
        diff = lw_diff_create(reports[0], reports[1], &command->diff);
        error = diff ? write_diff(command, diff) : lw_error_create(ENOMEM, "out of memory");
    }
    *has_growth = diff && lw_diff_has_growth(diff);
    lw_diff_destroy(diff);
    lw_saved_report_destroy(reports[0]);
    lw_saved_report_destroy(reports[1]);
    return error;
}

int lw_diff_command_run(int argc, char **argv)
{
    struct lw_diff_command command;
    char name[] = "leakwatch diff"; /* in what argp prints */
    bool has_growth = false;

    argv[0] = name;
    lw_diff_options_parse(&command, argc, argv);
    if (command.quiet)
        lw_log_set_level(LW_LOG_ERROR);
    lw_error *error = compare(&command, &has_growth);
    if (error) {
        lw_log(LW_LOG_ERROR, "%s", lw_error_message(error));
        lw_error_destroy(error);
        return LW_EXIT_FAILED;
    }
    return has_growth ? command.error_exitcode : LW_EXIT_DONE;
}
