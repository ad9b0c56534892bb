/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text that came from the process under watch, made safe for a terminal or a log. */
#ifndef LEAKWATCH_BASE_TEXT_H
#define LEAKWATCH_BASE_TEXT_H

#include <stddef.h>

/* Returns a copy in which every control character (C0, DEL, and C1 in UTF-8) and every byte that is
 * not valid UTF-8 is replaced by \xHH; the caller frees it. NULL when memory has run out. */
char *lw_text_escape(const char *text);

/* Reads all of a (small, /proc) file into a NUL-terminated string, with the number of bytes read in
 * *length (which may be NULL); the caller frees it. NULL with errno set on failure. */
char *lw_text_read_file(const char *path, size_t *length);

#endif
