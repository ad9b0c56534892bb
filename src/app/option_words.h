/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options that are one of a few words. */
#ifndef LEAKWATCH_SRC_APP_OPTION_WORDS_H
#define LEAKWATCH_SRC_APP_OPTION_WORDS_H

/* In the order of the values that they stand for; NULL at the end. */
extern const char *const lw_weight_words[], *const lw_color_words[];
#define LW_WEIGHT_CHOICES "expired-bytes, expired-blocks, live-bytes, live-blocks"
#define LW_COLOR_CHOICES  "auto, always, never"

/* The index of `text` in `words`; -1: it is none of them. */
int lw_option_word(const char *text, const char *const words[]);

#endif
