/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The options that there are, as argp and --help have them. */
#ifndef LEAKWATCH_SRC_APP_OPTION_TABLE_H
#define LEAKWATCH_SRC_APP_OPTION_TABLE_H

#include <argp.h>

/* Options without a letter: keys that are no printable character. */
enum {
    KEY_FORMAT = 0x100,
    KEY_WEIGHT,
    KEY_METRICS_FILE,
    KEY_SORT,
    KEY_ERROR_EXITCODE,
    KEY_COLOR,
    KEY_ENGINE,
    KEY_SAMPLE,
    KEY_MAX_OVERHEAD,
    KEY_MAX_MEMORY,
    KEY_SUPPRESSIONS,
    KEY_NO_DEFAULT_SUPPRESSIONS,
    KEY_GENERATE_SUPPRESSIONS,
    KEY_MARK,
};

extern const struct argp_option lw_option_table[];
extern const char lw_option_arguments[], lw_option_doc[];

#endif
