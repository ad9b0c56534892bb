/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening files at places that somebody else has chosen. */
#ifndef LEAKWATCH_BASE_FILE_H
#define LEAKWATCH_BASE_FILE_H

#include <stdint.h>

/*
 * Opens `path` for reading, close-on-exec, if it is a regular file, of inode `inode` unless that is
 * 0. To open a device or a FIFO can block or do worse: such is looked at first, through a
 * descriptor that opens nothing. The caller closes it; -1: it is not there, or not such a file.
 */
int lw_file_open_regular(const char *path, uint64_t inode);

#endif
