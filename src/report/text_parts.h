/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts of the text writer beside its reports. */
#ifndef LEAKWATCH_SRC_REPORT_TEXT_PARTS_H
#define LEAKWATCH_SRC_REPORT_TEXT_PARTS_H

#include "leakwatch/report/report.h"

/* As in struct lw_writer. */
int lw_text_attach(FILE *stream, const struct lw_writer_options *options,
                   const struct lw_report_attach *attach);
int lw_text_end(FILE *stream, const struct lw_writer_options *options,
                const struct lw_report_end *end);
int lw_text_detach(FILE *stream, const struct lw_writer_options *options,
                   const struct lw_report_detach *detach);

#endif
