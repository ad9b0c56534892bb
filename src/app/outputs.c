/* SPDX-License-Identifier: GPL-2.0-or-later */
/* All outputs of a watch: each a format and where it goes. */
#include "outputs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "draft.h"
#include "privileges.h"

static lw_error *open_one(struct lw_outputs *outputs, const struct lw_options *options,
                          const struct lw_output_request *request, pid_t pid)
{
    struct lw_outgoing *added = &outputs->list[outputs->count];
    const struct lw_writer *writer = request->writer;
    lw_error *error = lw_output_open(&added->output, request->file, pid, writer->whole_file);
    if (error)
        return error;
    outputs->count++;
    bool terminal = lw_output_is_terminal(&added->output);
    if (terminal && writer->binary)
        return lw_error_create(EINVAL, "%s is not for a terminal: give it a file, --format=%s:FILE",
                               writer->name, writer->name);
    added->writer = writer;
    added->writing = (struct lw_writer_options){
        .color = options->color == LW_COLOR_ALWAYS ||
                 (options->color == LW_COLOR_AUTO && terminal && !getenv("NO_COLOR")),
        .verbose = options->verbosity > 0,
        .weight = options->weight,
    };
    return NULL;
}

lw_error *lw_outputs_open(struct lw_outputs *outputs, const struct lw_options *options, pid_t pid)
{
    outputs->count = 0;
    for (size_t i = 0; i < options->output_count; i++) {
        lw_error *error = open_one(outputs, options, &options->outputs[i], pid);
        if (error) {
            lw_error_destroy(lw_outputs_close(outputs));
            return error;
        }
    }
    return NULL;
}

lw_error *lw_outputs_reopen(struct lw_outputs *outputs)
{
    lw_error *error = NULL;
    const uint64_t taken = lw_privileges_take_up();
    for (size_t i = 0; i < outputs->count; i++) {
        lw_error *failed = lw_output_reopen(&outputs->list[i].output);
        if (failed) {
            lw_error_destroy(error);
            error = failed;
        }
    }
    lw_privileges_lay_down(taken);
    return error;
}

/* Keeps the first. */
static void join_errors(lw_error **first, lw_error *next)
{
    if (*first)
        lw_error_destroy(next);
    else
        *first = next;
}

lw_error *lw_outputs_close(struct lw_outputs *outputs)
{
    lw_error *error = NULL;
    for (size_t i = 0; i < outputs->count; i++)
        join_errors(&error, lw_output_close(&outputs->list[i].output));
    outputs->count = 0;
    return error;
}

bool lw_outputs_have_file(const struct lw_outputs *outputs)
{
    for (size_t i = 0; i < outputs->count; i++)
        if (outputs->list[i].output.path)
            return true;
    return false;
}

bool lw_outputs_leave_terminal(const struct lw_outputs *outputs)
{
    for (size_t i = 0; i < outputs->count; i++) {
        const struct lw_output *output = &outputs->list[i].output;
        if (!output->path && !lw_output_is_terminal(output))
            return false;
    }
    return true;
}

static int write_message(const struct lw_writer *writer, FILE *stream,
                         const struct lw_writer_options *writing, const struct lw_message *message)
{
    if (message->report)
        return writer->report(stream, writing, message->report);
    if (message->attach)
        return writer->attach(stream, writing, message->attach);
    if (message->end)
        return writer->end(stream, writing, message->end);
    return writer->detach(stream, writing, message->detach);
}

/* A whole file is made of every report; where it cannot replace the last, of the summary alone. */
static bool is_due(const struct lw_outgoing *each, const struct lw_message *message)
{
    if (!each->writer->whole_file)
        return true;
    if (message->attach)
        return each->writer->attach && lw_output_is_replaced(&each->output);
    return message->report &&
           (message->report->context.summary || lw_output_is_replaced(&each->output));
}

static int send_message(const struct lw_outgoing *each, const struct lw_message *message,
                        const sigset_t *ending, bool *over)
{
    struct lw_draft draft = {0};
    struct lw_writer_options writing = each->writing;
    writing.columns = lw_output_columns(&each->output); /* a window may have changed */
    int result = lw_draft_begin(&draft);
    if (result == 0)
        result = write_message(each->writer, draft.stream, &writing, message);
    if (result == 0) {
        result = lw_draft_send(&draft, fileno(each->output.stream), ending);
        *over |= lw_draft_was_interrupted();
    }
    lw_draft_deinit(&draft);
    return result;
}

/* A file that replaces the last one may be made, and renamed, in anyone's directory. */
static lw_error *begin_one(struct lw_outgoing *each)
{
    struct lw_output *output = &each->output;
    const uint64_t taken = lw_output_is_replaced(output) ? lw_privileges_take_up() : 0;
    lw_error *error = lw_output_begin(output);
    lw_privileges_lay_down(taken);
    /* whatever the umask says: who reads it would otherwise miss it without a word */
    if (!error && each->writer->for_everyone && lw_output_is_replaced(output) &&
        fchmod(fileno(output->stream), 0644) != 0) {
        error = lw_error_create(errno, "cannot let everyone read %s: %s", output->path,
                                strerror(errno));
        lw_error_destroy(lw_output_commit(output, false));
    }
    return error;
}

static lw_error *commit_one(struct lw_output *output, bool whole)
{
    const uint64_t taken = lw_output_is_replaced(output) ? lw_privileges_take_up() : 0;
    lw_error *error = lw_output_commit(output, whole);
    lw_privileges_lay_down(taken);
    return error;
}

static lw_error *write_one(struct lw_outgoing *each, const struct lw_message *message,
                           const sigset_t *ending, bool *over)
{
    const char *path = each->output.path;
    lw_error *error = begin_one(each);
    if (error)
        return error;
    int result = send_message(each, message, ending, over);
    if (result != 0)
        error = lw_error_create(-result, "cannot write the report%s%s: %s", path ? " to " : "",
                                path ? path : "", strerror(-result));
    join_errors(&error, commit_one(&each->output, result == 0));
    return error;
}

/* A terminal may be the one that shows the progress. */
static void tell_progress(struct lw_progress *progress, const struct lw_output *output)
{
    if (!progress)
        return;
    if (lw_output_is_terminal(output)) {
        lw_progress_end(progress);
        return;
    }
    lw_progress_begin(progress);
    lw_progress_tell(progress, "writing %s", output->path ? output->path : "standard output");
}

lw_error *lw_outputs_write(struct lw_outputs *outputs, const struct lw_message *message,
                           const sigset_t *ending, bool *interrupted)
{
    lw_error *error = NULL;
    bool over = false;
    for (size_t i = 0; i < outputs->count; i++) {
        struct lw_outgoing *each = &outputs->list[i];
        /* one signal must be enough to end the watch, however many readers have stalled */
        if (is_due(each, message) && (!over || lw_output_is_replaced(&each->output))) {
            tell_progress(outputs->progress, &each->output);
            join_errors(&error, write_one(each, message, ending, &over));
        }
    }
    if (outputs->progress)
        lw_progress_end(outputs->progress);
    *interrupted |= over;
    return error;
}
