/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The end of every write to an output stream: flushed, and its failure told once. */
#ifndef LEAKWATCH_SRC_REPORT_STREAM_H
#define LEAKWATCH_SRC_REPORT_STREAM_H

#include <stdio.h>

/* 0 or a negative errno. The stream's error flag is cleared, so that a disk which has room again
 * does not fail the next report too. */
int lw_stream_flush(FILE *stream);

#endif
