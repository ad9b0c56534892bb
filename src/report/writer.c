/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Output formats by name. */
#include <string.h>

#include "leakwatch/report/report.h"

const struct lw_writer *lw_writer_find(const char *name)
{
    static const struct lw_writer *const writers[] = {&lw_text_writer, &lw_json_writer};

    for (size_t i = 0; i < sizeof(writers) / sizeof(writers[0]); i++)
        if (strcmp(writers[i]->name, name) == 0)
            return writers[i];
    return NULL;
}
