/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where reports go: standard output, a file that grows and can be reopened so that logs rotate, or
 * one whose contents are replaced. */
#include "leakwatch/report/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "leakwatch/base/cleanup.h"
#include "stream.h"
#include "terminal.h"

/* %p -> PID, %% -> %; *path is the caller's. */
static lw_error *expand_pattern(const char *pattern, pid_t pid, char **path)
{
    lw_auto_free char *expanded = NULL;
    size_t size;
    FILE *stream = open_memstream(&expanded, &size);
    bool valid = true;

    if (!stream)
        return lw_error_create(errno, "out of memory for the name of the output file");
    for (const char *c = pattern; *c; c++) {
        if (*c != '%') {
            putc(*c, stream);
            continue;
        }
        c++;
        if (*c == 'p') {
            fprintf(stream, "%d", (int)pid);
        } else if (*c == '%') {
            putc('%', stream);
        } else {
            valid = false;
            break; /* c may be at the terminator */
        }
    }
    if (fclose(stream) != 0)
        return lw_error_create(errno, "out of memory for the name of the output file");
    if (!valid)
        return lw_error_create(EINVAL,
                               "the output file name '%s' has a %% that is neither %%p (the PID) "
                               "nor %%%% (a percent sign)",
                               pattern);
    *path = lw_take_pointer(expanded);
    return NULL;
}

static lw_error *open_failed(const char *path, int code)
{
    if (code == ELOOP && geteuid() == 0)
        return lw_error_create(code,
                               "cannot open the output file %s: it is a symbolic link, which is "
                               "not followed as root; name the file itself",
                               path);
    if (code == ENXIO)
        return lw_error_create(code,
                               "cannot open the output file %s: it is a named pipe that nobody "
                               "reads; start the reader first",
                               path);
    return lw_error_create(code, "cannot open the output file %s: %s", path, strerror(code));
}

/* `how`: O_APPEND, or O_EXCL for a file that must be new. */
static lw_error *open_file(const char *path, int how, FILE **stream)
{
    bool root = geteuid() == 0;
    /* Non-blocking only for the open itself: a named pipe without a reader must not hold up a
     * watch that is under way. As root no link is followed, since the directory may be anyone's. */
    lw_auto_close int fd =
        open(path,
             O_WRONLY | O_CREAT | how | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (root ? O_NOFOLLOW : 0),
             root ? 0600 : 0666);
    if (fd < 0)
        return open_failed(path, errno);
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0)
        return open_failed(path, errno);
    FILE *opened = fdopen(fd, "a");
    if (!opened)
        return open_failed(path, errno);
    fd = -1;
    *stream = opened;
    return NULL;
}

/* A link is as good as its file, which is what is to be replaced; but not for root, see open_file.
 * *path is the caller's before and after. */
static lw_error *follow_link(char **path)
{
    struct stat status;

    if (lstat(*path, &status) != 0 || !S_ISLNK(status.st_mode))
        return NULL;
    if (geteuid() == 0)
        return open_failed(*path, ELOOP);
    char *followed = realpath(*path, NULL);
    if (!followed)
        return open_failed(*path, errno);
    free(*path);
    *path = followed;
    return NULL;
}

/* Whether something is there that only a stream can be written to. */
static bool is_special(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && !S_ISREG(status.st_mode);
}

/* A file is made and taken away, to know that it can be. */
static lw_error *open_replaced(struct lw_output *output)
{
    output->stream = NULL;
    lw_error *error = follow_link(&output->path);
    if (error)
        return error;
    if (asprintf(&output->temporary, "%s.%d.tmp", output->path, (int)getpid()) < 0) {
        output->temporary = NULL;
        return lw_error_create(ENOMEM, "out of memory for the name of the output file");
    }
    error = lw_output_begin(output);
    return error ? error : lw_output_commit(output, false);
}

static void forget_paths(struct lw_output *output)
{
    free(output->path);
    free(output->temporary);
    *output = (struct lw_output){0};
}

lw_error *lw_output_open(struct lw_output *output, const char *pattern, pid_t pid, bool replace)
{
    *output = (struct lw_output){.stream = stdout};
    if (!pattern || strcmp(pattern, "-") == 0)
        return NULL;
    lw_error *error = expand_pattern(pattern, pid, &output->path);
    if (!error)
        error = replace && !is_special(output->path)
                    ? open_replaced(output)
                    : open_file(output->path, O_APPEND, &output->stream);
    if (error)
        forget_paths(output);
    return error;
}

bool lw_output_is_replaced(const struct lw_output *output)
{
    return output->temporary != NULL;
}

lw_error *lw_output_begin(struct lw_output *output)
{
    if (!output->temporary)
        return NULL;
    lw_error *error = open_file(output->temporary, O_EXCL, &output->stream);
    if (!error || lw_error_code(error) != EEXIST)
        return error;
    /* a leakwatch of our process id was killed while it wrote */
    lw_error_destroy(error);
    unlink(output->temporary);
    return open_file(output->temporary, O_EXCL, &output->stream);
}

lw_error *lw_output_commit(struct lw_output *output, bool complete)
{
    if (!output->temporary || !output->stream)
        return NULL;
    int result = fclose(lw_take_pointer(output->stream)) == 0 ? 0 : errno;
    if (result == 0 && complete && rename(output->temporary, output->path) != 0)
        result = errno;
    if (result != 0 || !complete)
        unlink(output->temporary);
    if (result == 0)
        return NULL;
    return lw_error_create(result, "cannot write to %s: %s", output->path, strerror(result));
}

lw_error *lw_output_reopen(struct lw_output *output)
{
    FILE *stream;

    if (!output->path || output->temporary)
        return NULL;
    lw_error *error = open_file(output->path, O_APPEND, &stream);
    if (error)
        return error;
    FILE *old = output->stream;
    output->stream = stream;
    if (fclose(old) != 0)
        return lw_error_create(errno, "the end of the old output file %s was not written: %s",
                               output->path, strerror(errno));
    return NULL;
}

lw_error *lw_output_close(struct lw_output *output)
{
    lw_error *error = lw_output_commit(output, false);
    lw_auto_free char *path = lw_take_pointer(output->path);
    FILE *stream = output->stream;
    int result = 0;

    forget_paths(output);
    if (error)
        return error;
    if (!stream)
        return NULL;
    result = lw_stream_flush(stream);
    /* standard output is not ours to close */
    if (path && fclose(stream) != 0 && result == 0)
        result = -errno;
    if (result == 0)
        return NULL;
    return lw_error_create(-result, "cannot write to %s: %s", path ? path : "standard output",
                           strerror(-result));
}

bool lw_output_is_terminal(const struct lw_output *output)
{
    return output->stream && isatty(fileno(output->stream)) == 1;
}

unsigned lw_output_columns(const struct lw_output *output)
{
    return lw_output_is_terminal(output) ? lw_terminal_columns(fileno(output->stream)) : 0;
}
