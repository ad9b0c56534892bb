/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How wide a terminal is. */
#include "terminal.h"

#include <stdlib.h>
#include <sys/ioctl.h>

#define DEFAULT_COLUMNS 80
#define MOST_COLUMNS    10000

unsigned lw_terminal_columns(int fd)
{
    const char *text = getenv("COLUMNS");
    struct winsize size;
    char *end = NULL;

    /* A serial console reports a width of 0. */
    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    long columns = text ? strtol(text, &end, 10) : 0;
    if (columns <= 0 || columns > MOST_COLUMNS || *end != '\0')
        return DEFAULT_COLUMNS;
    return (unsigned)columns;
}
