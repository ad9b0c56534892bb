/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Words of options that leakwatch and its diff have in common, and the search for one. */
#include "option_words.h"

#include <stddef.h>
#include <string.h>

const char *const lw_weight_words[] = {"expired-bytes", "expired-blocks", "live-bytes",
                                       "live-blocks", NULL};
const char *const lw_color_words[] = {"auto", "always", "never", NULL};

int lw_option_word(const char *text, const char *const words[])
{
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], text) == 0)
            return i;
    return -1;
}
