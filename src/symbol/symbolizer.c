/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Module and offset -> function, file, line and inlined callers. */
#include "leakwatch/symbol/symbolizer.h"

#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "debug_file.h"
#include "demangle.h"
#include "inline_chain.h"
#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/log.h"
#include "leakwatch/base/map.h"
#include "leakwatch/base/vector.h"

struct resolution {
    size_t count;
    struct lw_symbol symbols[];
};

struct module_symbols {
    bool opened; /* `dwfl` was tried */
    Dwfl *dwfl;  /* NULL: only the module's own image is there */
    Dwfl_Module *dwfl_module;
    bool has_dwarf;               /* that may be used */
    struct lw_map resolutions[2]; /* by is_return: offset -> struct resolution */
};

struct lw_symbolizer {
    struct lw_module_table *modules;
    Dwfl_Callbacks callbacks;
    char *debuginfo_path;                  /* NULL: elfutils' default */
    LW_VECTOR(struct module_symbols) list; /* by module id - 1 */
    LW_VECTOR(char *) names;               /* demangled ones, which symbols point to */
};

static const struct lw_symbol unknown_symbol;

struct lw_symbolizer *lw_symbolizer_create(struct lw_module_table *modules)
{
    struct lw_symbolizer *symbolizer = calloc(1, sizeof(*symbolizer));
    if (!symbolizer)
        return NULL;
    symbolizer->modules = modules;
    symbolizer->callbacks = (Dwfl_Callbacks){
        .find_elf = dwfl_build_id_find_elf, /* never called: modules come with their file */
        .find_debuginfo = lw_debug_file_find,
        .section_address = dwfl_offline_section_address,
        .debuginfo_path = &symbolizer->debuginfo_path,
    };
    return symbolizer;
}

void lw_symbolizer_destroy(struct lw_symbolizer *symbolizer)
{
    if (!symbolizer)
        return;
    lw_vector_for_each (module, &symbolizer->list) {
        for (int i = 0; i < 2; i++) {
            for (size_t j = 0; j < module->resolutions[i].capacity; j++)
                if (module->resolutions[i].entries[j].key != UINT64_MAX)
                    free((void *)(uintptr_t)module->resolutions[i].entries[j].value);
            lw_map_deinit(&module->resolutions[i]);
        }
        dwfl_end(module->dwfl);
    }
    lw_vector_deinit(&symbolizer->list);
    lw_vector_for_each (name, &symbolizer->names)
        free(*name);
    lw_vector_deinit(&symbolizer->names);
    free(symbolizer);
}

/* Opens the module's file in a Dwfl of its own, in which addresses are link-time ones. */
static void open_module(struct lw_symbolizer *symbolizer, struct module_symbols *symbols,
                        const struct lw_module *module)
{
    symbols->opened = true;
    lw_auto_close int fd = module->fd < 0 ? -1 : fcntl(module->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return;
    Dwfl *dwfl = dwfl_begin(&symbolizer->callbacks);
    if (!dwfl)
        return;
    dwfl_report_begin(dwfl);
    symbols->dwfl_module = dwfl_report_elf(dwfl, module->name, module->path, fd, 0, true);
    dwfl_report_end(dwfl, NULL, NULL);
    if (!symbols->dwfl_module) {
        dwfl_end(dwfl);
        return;
    }
    fd = -1; /* the Dwfl's now */
    symbols->dwfl = dwfl;
    lw_debug_file_obey_signals(dwfl);
    symbols->has_dwarf = lw_debug_file_open(symbols->dwfl_module);
    if (!symbols->has_dwarf)
        lw_info("the supplementary debug information of %s is not there", module->path);
}

static struct module_symbols *symbols_of(struct lw_symbolizer *symbolizer,
                                         const struct lw_module *module)
{
    while (symbolizer->list.count < module->id)
        if (lw_vector_push(&symbolizer->list, (struct module_symbols){0}) < 0)
            return NULL;
    struct module_symbols *symbols = &symbolizer->list.items[module->id - 1];
    if (!symbols->opened)
        open_module(symbolizer, symbols, module);
    return symbols;
}

/* The symbol in Dwfl's tables, which are .symtab of the file or of its debug information. */
static bool find_dwfl_symbol(Dwfl_Module *module, uint64_t address, struct lw_elf_symbol *symbol)
{
    GElf_Off offset;
    GElf_Sym elf;
    const char *name =
        module ? dwfl_module_addrinfo(module, address, &offset, &elf, NULL, NULL, NULL) : NULL;
    if (!name || name[0] == '\0' || GELF_ST_TYPE(elf.st_info) == STT_OBJECT)
        return false;
    /* Size 0: a label in assembly, the nearest before the address. */
    if (elf.st_size != 0 && offset >= elf.st_size)
        return false;
    *symbol = (struct lw_elf_symbol){name, address - offset, elf.st_size};
    return true;
}

static bool find_elf_symbol(const struct lw_module *module, Dwfl_Module *dwfl_module,
                            uint64_t address, struct lw_elf_symbol *symbol)
{
    struct lw_elf_symbol other;
    bool found = module->image && lw_elf_image_symbol_at(module->image, address, symbol);
    if (!find_dwfl_symbol(dwfl_module, address, &other))
        return found;
    /* A label is no better than a function that holds the address. */
    if (!found || (other.size != 0 && other.address > symbol->address))
        *symbol = other;
    return true;
}

/* The name as it is shown, which lives as long as the symbolizer. */
static const char *shown_name(struct lw_symbolizer *symbolizer, const char *name)
{
    if (!name || name[0] == '\0')
        return NULL;
    lw_auto_free char *demangled = lw_demangle(name);
    if (!demangled || lw_vector_push(&symbolizer->names, demangled) < 0)
        return name;
    return lw_take_pointer(demangled);
}

static struct resolution *resolve(struct lw_symbolizer *symbolizer, const struct lw_module *module,
                                  const struct module_symbols *symbols, uint64_t offset,
                                  bool is_return)
{
    Dwfl_Module *dwfl_module = symbols->dwfl_module;
    struct lw_symbol chain[LW_CHAIN_MAX] = {0};
    struct lw_elf_symbol elf;
    uint64_t address = offset - (is_return && offset > 0);
    size_t count = symbols->has_dwarf ? lw_inline_chain(dwfl_module, address, chain) : 1;
    struct lw_symbol *outermost = &chain[count - 1];
    /* The symbol table says what the linker calls it, DWARF what its author did: the former is what
     * other tools show, and where to look in a disassembly. */
    if (find_elf_symbol(module, dwfl_module, address, &elf)) {
        outermost->function = elf.name;
        outermost->offset = offset - elf.address;
    } else if (outermost->function) {
        outermost->offset += offset - address;
    }

    struct resolution *resolution = malloc(sizeof(*resolution) + count * sizeof(chain[0]));
    if (!resolution)
        return NULL;
    resolution->count = count;
    for (size_t i = 0; i < count; i++) {
        resolution->symbols[i] = chain[i];
        resolution->symbols[i].function = shown_name(symbolizer, chain[i].function);
        if (resolution->symbols[i].function)
            resolution->symbols[i].linkage_name = chain[i].function;
    }
    return resolution;
}

size_t lw_symbolizer_resolve(struct lw_symbolizer *symbolizer, uint32_t module_id, uint64_t offset,
                             bool is_return, const struct lw_symbol **symbols)
{
    *symbols = &unknown_symbol;
    const struct lw_module *module = lw_module_table_get(symbolizer->modules, module_id);
    struct module_symbols *of_module = module ? symbols_of(symbolizer, module) : NULL;
    if (!of_module || offset == UINT64_MAX)
        return 1;

    struct lw_map *map = &of_module->resolutions[is_return];
    const struct resolution *resolution;
    uint64_t value;
    if (lw_map_get(map, offset, &value)) {
        resolution = (const struct resolution *)(uintptr_t)value;
    } else {
        struct resolution *made = resolve(symbolizer, module, of_module, offset, is_return);
        if (!made || lw_map_set(map, offset, (uintptr_t)made) < 0) {
            free(made);
            return 1;
        }
        resolution = made;
    }
    *symbols = resolution->symbols;
    return resolution->count;
}
