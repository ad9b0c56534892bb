/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Mangled names of C++, Rust and D -> what a programmer wrote. */
#include "demangle.h"

#include <libiberty/demangle.h>
#include <stddef.h>
#include <string.h>

/* Names come from the target: beyond this length one is not worth the demangler's time and stack.
 */
#define LONGEST_NAME 4096

char *lw_demangle(const char *name)
{
    /* One letter after the underscore tells every scheme: _Z (C++, old Rust), _R (Rust), _D. */
    if (name[0] != '_' || strnlen(name, LONGEST_NAME) == LONGEST_NAME)
        return NULL;
    const int options = DMGL_PARAMS | DMGL_ANSI;
    /* Old Rust names are valid C++ ones, with a hash at the end that only this takes off. */
    char *demangled = rust_demangle(name, options);
    if (!demangled && name[1] == 'Z')
        demangled = cplus_demangle_v3(name, options);
    if (!demangled && name[1] == 'D')
        demangled = dlang_demangle(name, options);
    return demangled;
}
