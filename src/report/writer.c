/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Output formats by name. */
#include <string.h>

#include "leakwatch/report/report.h"

static const struct lw_writer *const writers[] = {
    &lw_text_writer, &lw_json_writer, &lw_folded_writer, &lw_pprof_writer,     &lw_svg_writer,
    &lw_html_writer, &lw_heap_writer, &lw_massif_writer, &lw_prometheus_writer};

const struct lw_writer *lw_writer_find(const char *name, size_t length)
{
    for (size_t i = 0; i < sizeof(writers) / sizeof(writers[0]); i++)
        if (strlen(writers[i]->name) == length && strncmp(writers[i]->name, name, length) == 0)
            return writers[i];
    return NULL;
}

const char *lw_writer_names(void)
{
    return "text, json, folded, pprof, svg, html, heap, massif, prometheus";
}
