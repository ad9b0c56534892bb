/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Comparing names with the patterns of suppressions. */
#include "pattern.h"

#include <stddef.h>
#include <string.h>

/* Only the last * ever needs to take more: an earlier one that took the least leaves the most to
 * those behind it. So there is one place to go back to, and nothing exponential. */
bool lw_pattern_glob(const char *pattern, const char *text)
{
    const char *retry_pattern = NULL, *retry_text = NULL;

    for (;;) {
        if (*pattern == '*') {
            retry_pattern = ++pattern;
            retry_text = text;
        } else if (*text && (*pattern == *text || *pattern == '?')) {
            pattern++;
            text++;
        } else if (!*pattern && !*text) {
            return true;
        } else if (retry_pattern && *retry_text) {
            pattern = retry_pattern;
            text = ++retry_text;
        } else {
            return false;
        }
    }
}

/* The text's end is these `length` characters, or with `whole` the text is. */
static bool ends_with(const char *text, const char *part, size_t length, bool whole)
{
    size_t text_length = strlen(text);

    if (whole ? text_length != length : text_length < length)
        return false;
    return memcmp(text + text_length - length, part, length) == 0;
}

bool lw_pattern_find(const char *pattern, const char *text)
{
    if (*text == '\0')
        return false;
    bool anchored = *pattern == '^';
    pattern += anchored;
    for (;;) {
        size_t length = strcspn(pattern, "*$");
        if (pattern[length] == '$')
            return ends_with(text, pattern, length, anchored);
        const char *found = memmem(text, strlen(text), pattern, length);
        if (!found || (anchored && found != text))
            return false;
        if (pattern[length] == '\0')
            return true;
        text = found + length;
        pattern += length + 1;
        anchored = false;
    }
}
