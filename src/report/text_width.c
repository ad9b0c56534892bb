/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Columns that text takes on a terminal, and where it may be cut. */
#include "text_width.h"

#include <string.h>

/* Bytes of the escape sequence ("\033[1m") or the character at `text`, which is not its end. */
static size_t step(const char *text, size_t *columns)
{
    size_t length = 1;

    if (text[0] == '\033') {
        length = strcspn(text, "m");
        *columns = 0;
        return length + (text[length] == 'm');
    }
    while (((unsigned char)text[length] & 0xc0) == 0x80)
        length++;
    *columns = 1;
    return length;
}

size_t lw_text_width(const char *text)
{
    size_t width = 0, columns = 0;

    for (; *text; width += columns)
        text += step(text, &columns);
    return width;
}

size_t lw_text_fit(const char *text, size_t columns)
{
    size_t length = 0, width = 0;

    while (text[length]) {
        size_t more = 0, bytes = step(text + length, &more);

        if (width + more > columns)
            break;
        width += more;
        length += bytes;
    }
    return length;
}
