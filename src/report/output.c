/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where reports go: standard output, or a file that can be reopened so that logs rotate. */
#include "leakwatch/report/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "leakwatch/base/cleanup.h"
#include "stream.h"

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

static lw_error *open_file(const char *path, FILE **stream)
{
    bool root = geteuid() == 0;
    /* Non-blocking only for the open itself: a named pipe without a reader must not hold up a
     * watch that is under way. As root no link is followed, since the directory may be anyone's. */
    lw_auto_close int fd = open(path,
                                O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK |
                                    (root ? O_NOFOLLOW : 0),
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

lw_error *lw_output_open(struct lw_output *output, const char *pattern, pid_t pid)
{
    lw_auto_free char *path = NULL;

    *output = (struct lw_output){.stream = stdout};
    if (!pattern || strcmp(pattern, "-") == 0)
        return NULL;
    lw_error *error = expand_pattern(pattern, pid, &path);
    if (!error)
        error = open_file(path, &output->stream);
    if (error)
        return error;
    output->path = lw_take_pointer(path);
    return NULL;
}

lw_error *lw_output_reopen(struct lw_output *output)
{
    FILE *stream;

    if (!output->path)
        return NULL;
    lw_error *error = open_file(output->path, &stream);
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
    lw_auto_free char *path = lw_take_pointer(output->path);
    FILE *stream = output->stream;
    int result = 0;

    output->stream = NULL;
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
