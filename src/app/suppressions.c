/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The suppressions that the options ask for. */
#include "suppressions.h"

#include <errno.h>

#include "leakwatch/base/log.h"

lw_error *lw_suppressions_load(const struct lw_options *options, struct lw_suppressions **set)
{
    lw_error *error = NULL;

    *set = lw_suppressions_create();
    if (!*set)
        return lw_error_create(ENOMEM, "out of memory");
    for (size_t i = 0; i < options->suppression_file_count && !error; i++)
        error = lw_suppressions_read(*set, options->suppression_files[i]);
    if (error)
        return error;
    if (lw_suppressions_skipped(*set) > 0)
        lw_info("%zu suppressions of other kinds than leaks are passed over",
                lw_suppressions_skipped(*set));
    return options->no_default_suppressions ? NULL : lw_suppressions_add_defaults(*set);
}
