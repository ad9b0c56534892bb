/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text within XML and HTML. */
#include "markup.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/text.h"

/* U+FFFE and U+FFFF are UTF-8, but not in XML. */
static bool is_no_character(const char *c)
{
    return memcmp(c, "\xef\xbf\xbe", 3) == 0 || memcmp(c, "\xef\xbf\xbf", 3) == 0;
}

int lw_markup_text(FILE *stream, const char *text)
{
    lw_auto_free char *escaped = lw_text_escape(text);

    if (!escaped)
        return -ENOMEM;
    for (const char *c = escaped; *c; c++) {
        switch (*c) {
        case '&':
            fputs("&amp;", stream);
            break;
        case '<':
            fputs("&lt;", stream);
            break;
        case '>':
            fputs("&gt;", stream);
            break;
        case '"':
            fputs("&quot;", stream);
            break;
        case '\xef':
            if (strlen(c) >= 3 && is_no_character(c)) {
                putc('?', stream);
                c += 2;
                break;
            }
            putc(*c, stream);
            break;
        default:
            putc(*c, stream);
            break;
        }
    }
    return 0;
}
