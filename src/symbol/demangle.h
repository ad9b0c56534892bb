/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Mangled names of C++, Rust and D -> what a programmer wrote. */
#ifndef LEAKWATCH_SYMBOL_DEMANGLE_H
#define LEAKWATCH_SYMBOL_DEMANGLE_H

/* The caller frees it; NULL when the name is not a mangled one (or memory has run out): it is then
 * shown as it is. */
char *lw_demangle(const char *name);

#endif
