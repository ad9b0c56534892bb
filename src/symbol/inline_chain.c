/* SPDX-License-Identifier: GPL-2.0-or-later */
/* DWARF: the functions inlined at an address, and where. */
#include "inline_chain.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <limits.h>

/* Namespaces and functions in each other. */
#define DEEPEST_NESTING 64
/* Entries of one unit to look at: where siblings are children too, the tree looks far larger than
 * the file. */
#define MOST_ENTRIES (1u << 22)

struct source {
    const char *file;
    int line;
};

/* The compilation unit that holds the address, whose addresses are smaller than ours by *bias. */
static Dwarf_Die *find_unit(Dwfl_Module *module, uint64_t address, Dwarf_Addr *bias)
{
    Dwarf_Die *unit = dwfl_module_addrdie(module, address, bias);
    /* It takes an address in a gap to be in the unit before the gap. */
    if (unit && dwarf_haspc(unit, address - *bias) > 0)
        return unit;
    /* elfutils before 0.191 finds units only through .debug_aranges, which clang and rustc leave
     * out. */
    unit = NULL;
    while ((unit = dwfl_module_nextcu(module, unit, bias)))
        if (dwarf_haspc(unit, address - *bias) > 0)
            return unit;
    return NULL;
}

/*
 * libdw's own search (dwarf_getscopes) recurses as deep as the file says, follows siblings
 * backwards for ever, leaks when it fails, and leaves an inlined function for the place where it
 * was written instead of where it was inlined.
 */
static bool next_sibling(Dwarf_Die *die)
{
    Dwarf_Off offset = dwarf_dieoffset(die);
    return dwarf_siblingof(die, die) == 0 && dwarf_dieoffset(die) > offset;
}

static bool may_hold_functions(Dwarf_Die *die)
{
    switch (dwarf_tag(die)) {
    case DW_TAG_namespace:
    case DW_TAG_module:
    case DW_TAG_class_type:
    case DW_TAG_structure_type:
    case DW_TAG_union_type:
    case DW_TAG_subprogram: /* nested functions, methods of local classes */
    case DW_TAG_lexical_block:
        return true;
    default:
        return false;
    }
}

static bool find_function(Dwarf_Die *parent, Dwarf_Addr address, unsigned depth, unsigned *budget,
                          Dwarf_Die *function)
{
    Dwarf_Die die;
    if (depth == 0 || dwarf_child(parent, &die) != 0)
        return false;
    do {
        if (*budget == 0)
            return false;
        --*budget;
        if (dwarf_tag(&die) == DW_TAG_subprogram && dwarf_haspc(&die, address) > 0) {
            *function = die;
            return true;
        }
        if (may_hold_functions(&die) && find_function(&die, address, depth - 1, budget, function))
            return true;
    } while (next_sibling(&die));
    return false;
}

/* Goes from a function or block to the block or inlined function in it that holds the address. */
static bool enter_scope(Dwarf_Die *die, Dwarf_Addr address)
{
    Dwarf_Die child;
    if (dwarf_child(die, &child) != 0)
        return false;
    do {
        if (dwarf_tag(&child) != DW_TAG_subprogram && dwarf_haspc(&child, address) > 0) {
            *die = child;
            return true;
        }
    } while (next_sibling(&child));
    return false;
}

/* Stores the functions inlined at the address, outermost first; returns how many. */
static size_t find_inlined(const Dwarf_Die *function, Dwarf_Addr address, Dwarf_Die *inlined,
                           size_t max)
{
    Dwarf_Die scope = *function;
    size_t count = 0;
    while (count < max && enter_scope(&scope, address))
        if (dwarf_tag(&scope) == DW_TAG_inlined_subroutine)
            inlined[count++] = scope;
    return count;
}

static struct source source_at(Dwarf_Die *unit, Dwarf_Addr address)
{
    struct source source = {0};
    Dwarf_Line *line = dwarf_getsrc_die(unit, address);
    /* Line 0 is code that belongs to no line. */
    if (line && dwarf_lineno(line, &source.line) == 0 && source.line > 0)
        source.file = dwarf_linesrc(line, NULL, NULL);
    return source.file ? source : (struct source){0};
}

static struct source call_site(Dwarf_Die *unit, Dwarf_Die *inlined)
{
    Dwarf_Attribute attribute;
    Dwarf_Word file, line;
    Dwarf_Files *files;
    size_t count;
    if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_file, &attribute), &file) != 0 ||
        dwarf_formudata(dwarf_attr(inlined, DW_AT_call_line, &attribute), &line) != 0 ||
        line == 0 || line > INT_MAX || dwarf_getsrcfiles(unit, &files, &count) != 0 ||
        file >= count)
        return (struct source){0};
    const char *name = dwarf_filesrc(files, file, NULL, NULL);
    return name ? (struct source){name, (int)line} : (struct source){0};
}

static const char *function_name(Dwarf_Die *function)
{
    Dwarf_Attribute attribute;
    const char *name = NULL;
    if (dwarf_attr_integrate(function, DW_AT_linkage_name, &attribute) ||
        dwarf_attr_integrate(function, DW_AT_MIPS_linkage_name, &attribute))
        name = dwarf_formstring(&attribute);
    return name ? name : dwarf_diename(function);
}

static struct lw_symbol make_symbol(Dwarf_Die *function, struct source source, bool inlined)
{
    return (struct lw_symbol){.function = function ? function_name(function) : NULL,
                              .file = source.file,
                              .line = source.line,
                              .inlined = inlined};
}

size_t lw_inline_chain(Dwfl_Module *module, uint64_t address, struct lw_symbol chain[LW_CHAIN_MAX])
{
    Dwarf_Addr bias = 0, start;
    Dwarf_Die *unit = find_unit(module, address, &bias);
    chain[0] = (struct lw_symbol){0};
    if (!unit)
        return 1;

    address -= bias;
    struct source source = source_at(unit, address);
    Dwarf_Die function, inlined[LW_CHAIN_MAX - 1];
    unsigned budget = MOST_ENTRIES;
    if (!find_function(unit, address, DEEPEST_NESTING, &budget, &function)) {
        chain[0] = make_symbol(NULL, source, false);
        return 1;
    }
    size_t count = find_inlined(&function, address, inlined, LW_CHAIN_MAX - 1);
    for (size_t i = 0; i < count; i++) {
        Dwarf_Die *die = &inlined[count - 1 - i];
        chain[i] = make_symbol(die, source, true);
        source = call_site(unit, die);
    }
    chain[count] = make_symbol(&function, source, false);
    if (dwarf_entrypc(&function, &start) == 0 && address >= start)
        chain[count].offset = address - start;
    return count + 1;
}
