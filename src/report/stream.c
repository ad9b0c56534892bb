/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The end of every write to an output stream: flushed, and its failure told once. */
#include "stream.h"

#include <errno.h>

int lw_stream_flush(FILE *stream)
{
    int result = 0;

    /* stdio drops what it cannot write only when the buffer overflows meanwhile; then errno is long
     * gone and the error flag alone remembers. */
    if (fflush(stream) != 0)
        result = -errno;
    else if (ferror(stream))
        result = -EIO;
    clearerr(stream);
    return result;
}
