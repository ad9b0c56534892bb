/* SPDX-License-Identifier: GPL-2.0-or-later */
/* DWARF: the functions inlined at an address, and where. */
#ifndef LEAKWATCH_SYMBOL_INLINE_CHAIN_H
#define LEAKWATCH_SYMBOL_INLINE_CHAIN_H

#include <elfutils/libdwfl.h>
#include <stddef.h>
#include <stdint.h>

#include "leakwatch/symbol/symbolizer.h"

/* Deeper chains lose the innermost functions; compilers make none. */
#define LW_CHAIN_MAX 64

/*
 * Fills `chain` with the inlined functions at the address, innermost first, and the function that
 * the code is in last; returns how many, at least 1 (all fields empty without debug information).
 * Names are as in DWARF, not demangled; they and the file names belong to the Dwfl.
 */
size_t lw_inline_chain(Dwfl_Module *module, uint64_t address, struct lw_symbol chain[LW_CHAIN_MAX]);

#endif
