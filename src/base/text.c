/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text from the process under watch, and small files read whole. */
#include "leakwatch/base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "leakwatch/base/cleanup.h"

/* No file that is read whole comes near this: one that does is not what its name says. */
#define READ_LIMIT (64u << 20)

enum { FIRST_READ = 4096 };

static bool is_continuation(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

/* The length of the printable character that text begins with, or 0: a control character, or
 * invalid UTF-8 (overlong forms, surrogates and code points beyond U+10FFFF included). The ranges
 * of second bytes are those of table 3-7 of the Unicode standard, without C1. Reads no byte
 * behind a NUL. */
static size_t printable_length(const unsigned char *text)
{
    unsigned char lead = text[0], low = 0x80, high = 0xbf;
    size_t length;
    if (lead < 0x80)
        return lead >= 0x20 && lead != 0x7f;
    if (lead >= 0xc2 && lead <= 0xdf) {
        length = 2;
        low = lead == 0xc2 ? 0xa0 : 0x80; /* U+0080 to U+009F are the C1 controls */
    } else if (lead >= 0xe0 && lead <= 0xef) {
        length = 3;
        low = lead == 0xe0 ? 0xa0 : 0x80;
        high = lead == 0xed ? 0x9f : 0xbf;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        length = 4;
        low = lead == 0xf0 ? 0x90 : 0x80;
        high = lead == 0xf4 ? 0x8f : 0xbf;
    } else {
        return 0;
    }
    if (text[1] < low || text[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++) {
        if (!is_continuation(text[i]))
            return 0;
    }
    return length;
}

char *lw_text_escape(const char *text)
{
    size_t length = strlen(text);
    if (length > (SIZE_MAX - 1) / 4)
        return NULL;
    lw_auto_free char *escaped = malloc(length * 4 + 1); /* each byte may become \xHH */
    if (!escaped)
        return NULL;
    char *out = escaped;
    for (const unsigned char *at = (const unsigned char *)text; *at;) {
        size_t printable = printable_length(at);
        if (printable > 0) {
            out = mempcpy(out, at, printable);
            at += printable;
        } else {
            static const char digits[] = "0123456789abcdef";
            *out++ = '\\';
            *out++ = 'x';
            *out++ = digits[*at >> 4];
            *out++ = digits[*at & 15];
            at++;
        }
    }
    *out++ = '\0';
    char *fitted = realloc(escaped, (size_t)(out - escaped));
    if (fitted)
        escaped = fitted;
    return lw_take_pointer(escaped);
}

/* One read, again when a signal interrupts it. */
static ssize_t read_some(int fd, char *buffer, size_t size)
{
    ssize_t result;
    do {
        result = read(fd, buffer, size);
    } while (result < 0 && errno == EINTR);
    return result;
}

char *lw_text_read_file(const char *path, size_t *length)
{
    lw_auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    lw_auto_free char *text = NULL;
    size_t used = 0, capacity = 0;
    /* The size that stat gives is 0 in /proc: read until there is no more. */
    for (;;) {
        if (used + 1 >= capacity) {
            capacity = capacity ? capacity * 2 : FIRST_READ;
            char *grown = capacity > READ_LIMIT ? NULL : realloc(text, capacity);
            if (!grown) {
                errno = capacity > READ_LIMIT ? EFBIG : ENOMEM;
                return NULL;
            }
            text = grown;
        }
        ssize_t count = read_some(fd, text + used, capacity - used - 1);
        if (count < 0)
            return NULL;
        if (count == 0)
            break;
        used += (size_t)count;
    }
    text[used] = '\0';
    if (length)
        *length = used;
    return lw_take_pointer(text);
}
