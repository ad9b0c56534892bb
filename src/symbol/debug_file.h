/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a module's separate debug information may come from. */
#ifndef LEAKWATCH_SYMBOL_DEBUG_FILE_H
#define LEAKWATCH_SYMBOL_DEBUG_FILE_H

#include <elfutils/libdwfl.h>
#include <stdbool.h>

/*
 * A Dwfl find_debuginfo callback. elfutils' own opens whatever the module's file names, be it a
 * FIFO. This one looks for the build-id (in /usr/lib/debug, and by debuginfod where DEBUGINFOD_URLS
 * is set); for the file's .gnu_debuglink, a mere name, beside the file, in .debug there and below
 * /usr/lib/debug, where it must be a regular file with the same build-id; and for a supplementary
 * file (dwz) by its build-id, or as a regular file below /usr/lib/debug.
 */
int lw_debug_file_find(Dwfl_Module *module, void **userdata, const char *name, Dwarf_Addr base,
                       const char *file, const char *link, GElf_Word crc, char **debug_file);

/* A download for this Dwfl is broken off once one of SIGINT, SIGTERM, SIGQUIT, SIGHUP and SIGALRM
 * is pending: they are blocked while a report is made, and who sends them does not want to wait. */
void lw_debug_file_obey_signals(Dwfl *dwfl);

/* Opens the module's DWARF, if there is any; false: it wants a supplementary file that cannot be
 * had, which libdw would go on to look for in its own way: it must not be used. */
bool lw_debug_file_open(Dwfl_Module *module);

#endif
