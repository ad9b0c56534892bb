/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The symbols of an ELF image by address and by name, and the symbols behind its GOT slots. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "elf_internal.h"

#define SECTION_MAX  (512u << 20) /* bytes: a bigger symbol or string table is not read */
#define NAME_LOOKED  128          /* leading bytes: the length of a name is the target's choice */
#define OVERLAPS_MAX 256          /* symbols looked at for one address, likewise */
#define NO_ENTRY     UINT32_MAX
/* A bit of .gnu.version, VERSYM_HIDDEN to other tools; glibc's elf.h has no name for it. */
#define HIDDEN_VERSION 0x8000

struct symbol_entry {
    struct lw_elf_symbol symbol;
    uint64_t max_end; /* of this and all entries before it */
    uint32_t next;    /* in its bucket */
    bool dynamic;     /* from .dynsym */
    bool hidden;      /* of a version that only old programs are bound to */
};

struct got_slot {
    uint64_t address;
    const char *name;
};

/* A string table, copied and ended with a NUL whatever the file has there. */
struct names {
    char *bytes;
    size_t size;
};

struct lw_elf_symbols {
    pthread_mutex_t mutex; /* while loading; afterwards nothing changes */
    bool loaded;
    struct names dynamic_names, static_names;
    LW_VECTOR(struct symbol_entry) entries; /* by address */
    uint32_t *buckets;                      /* global symbols by name */
    size_t bucket_count;                    /* a power of two, or 0 */
    LW_VECTOR(struct got_slot) slots;       /* by address */
};

struct lw_elf_symbols *lw_elf_symbols_create(void)
{
    struct lw_elf_symbols *symbols = calloc(1, sizeof(*symbols));
    if (symbols != NULL)
        pthread_mutex_init(&symbols->mutex, NULL);
    return symbols;
}

static void forget(struct lw_elf_symbols *symbols)
{
    free(symbols->dynamic_names.bytes);
    free(symbols->static_names.bytes);
    free(symbols->buckets);
    symbols->dynamic_names = symbols->static_names = (struct names){0};
    symbols->buckets = NULL;
    symbols->bucket_count = 0;
    lw_vector_deinit(&symbols->entries);
    lw_vector_deinit(&symbols->slots);
}

void lw_elf_symbols_destroy(struct lw_elf_symbols *symbols)
{
    if (symbols == NULL)
        return;
    forget(symbols);
    pthread_mutex_destroy(&symbols->mutex);
    free(symbols);
}

/* The section's contents, NULL when it has none that we would read. */
static Elf_Data *section_data(Elf_Scn *section, const GElf_Shdr *header)
{
    if (header->sh_type == SHT_NOBITS || header->sh_size > SECTION_MAX)
        return NULL;
    Elf_Data *data = elf_getdata(section, NULL);
    return data != NULL && data->d_buf != NULL ? data : NULL;
}

static int copy_names(Elf *elf, size_t section_index, struct names *names)
{
    Elf_Scn *section = elf_getscn(elf, section_index);
    GElf_Shdr header;
    Elf_Data *data = section != NULL && gelf_getshdr(section, &header) != NULL
                         ? section_data(section, &header)
                         : NULL;
    if (data == NULL)
        return -ENOENT;
    names->bytes = malloc(data->d_size + 1);
    if (names->bytes == NULL)
        return -ENOMEM;
    memcpy(names->bytes, data->d_buf, data->d_size);
    names->bytes[data->d_size] = '\0';
    names->size = data->d_size;
    return 0;
}

/* In .symtab, ld writes a versioned symbol as "name@VERSION" or "name@@VERSION". */
static void cut_versions(struct names *names)
{
    for (size_t i = 1; i < names->size; i++) {
        if (names->bytes[i] == '@' && names->bytes[i - 1] != '\0')
            names->bytes[i] = '\0';
    }
}

static const char *name_at(const struct names *names, uint64_t offset)
{
    return offset < names->size ? names->bytes + offset : "";
}

static bool symbol_kind(const GElf_Sym *raw, enum lw_elf_symbol_kind *kind)
{
    switch (GELF_ST_TYPE(raw->st_info)) {
    case STT_FUNC:
        *kind = LW_ELF_FUNCTION;
        return true;
    case STT_GNU_IFUNC:
        *kind = LW_ELF_IFUNC;
        return true;
    case STT_OBJECT:
        *kind = LW_ELF_OBJECT;
        return true;
    default:
        return false;
    }
}

/* In .symtab visibility does not matter: what was hidden in a library has become local when it was
 * linked, and a static program's malloc is hidden, and global all the same. */
static bool is_global(const GElf_Sym *raw, bool dynamic)
{
    unsigned binding = GELF_ST_BIND(raw->st_info);
    unsigned visibility = GELF_ST_VISIBILITY(raw->st_other);
    return (binding == STB_GLOBAL || binding == STB_WEAK || binding == STB_GNU_UNIQUE) &&
           (!dynamic || visibility == STV_DEFAULT || visibility == STV_PROTECTED);
}

/* `versions` is .gnu.version, or NULL. */
static bool is_hidden_version(Elf_Data *versions, size_t symbol)
{
    GElf_Versym version;
    return versions != NULL && gelf_getversym(versions, (int)symbol, &version) != NULL &&
           (version & HIDDEN_VERSION) != 0;
}

static int add_symbols(struct lw_elf_symbols *symbols, Elf_Data *data, const struct names *names,
                       bool dynamic, Elf_Data *versions)
{
    size_t count = data->d_size / sizeof(Elf64_Sym);
    for (size_t i = 1; i < count; i++) {
        GElf_Sym raw;
        enum lw_elf_symbol_kind kind;
        if (gelf_getsym(data, (int)i, &raw) == NULL)
            break;
        if (raw.st_shndx == SHN_UNDEF || raw.st_shndx == SHN_ABS || !symbol_kind(&raw, &kind))
            continue;
        const char *name = name_at(names, raw.st_name);
        if (name[0] == '\0')
            continue;
        struct symbol_entry entry = {
            .symbol = {.name = name,
                       .address = raw.st_value,
                       .size = raw.st_size,
                       .kind = kind,
                       .global = is_global(&raw, dynamic)},
            .next = NO_ENTRY,
            .dynamic = dynamic,
            .hidden = is_hidden_version(versions, i),
        };
        int result = lw_vector_push(&symbols->entries, entry);
        if (result != 0)
            return result;
    }
    return 0;
}

/* The first section of the type, with its contents. */
static Elf_Data *find_section(Elf *elf, unsigned type, size_t *index, GElf_Shdr *header)
{
    for (Elf_Scn *section = NULL; (section = elf_nextscn(elf, section)) != NULL;) {
        if (gelf_getshdr(section, header) == NULL || header->sh_type != type)
            continue;
        *index = elf_ndxscn(section);
        return section_data(section, header);
    }
    return NULL;
}

static int load_table(struct lw_elf_symbols *symbols, Elf *elf, bool dynamic)
{
    struct names *names = dynamic ? &symbols->dynamic_names : &symbols->static_names;
    GElf_Shdr header;
    size_t index;
    Elf_Data *data = find_section(elf, dynamic ? SHT_DYNSYM : SHT_SYMTAB, &index, &header);
    if (data == NULL)
        return 0;
    int result = copy_names(elf, header.sh_link, names);
    if (result != 0)
        return result == -ENOENT ? 0 : result;
    if (!dynamic)
        cut_versions(names);
    Elf_Data *versions = dynamic ? find_section(elf, SHT_GNU_versym, &index, &header) : NULL;
    return add_symbols(symbols, data, names, dynamic, versions);
}

/* Underscores before a name mostly make it an alias: __libc_malloc of malloc. */
static size_t privacy(const char *name)
{
    /* What C++ and Rust names begin with does not count. */
    if (name[0] == '_' && (name[1] == 'Z' || name[1] == 'R'))
        return 0;
    size_t count = 0;
    while (count < 8 && name[count] == '_')
        count++;
    return count;
}

/* Of two names for one address, negative when people know the left one less well. */
static int compare_names(const char *left, const char *right)
{
    size_t a_private = privacy(left), b_private = privacy(right);
    if (a_private != b_private)
        return a_private > b_private ? -1 : 1;
    size_t a_length = strnlen(left, NAME_LOOKED), b_length = strnlen(right, NAME_LOOKED);
    if (a_length != b_length)
        return a_length > b_length ? -1 : 1;
    return strncmp(right, left, NAME_LOOKED);
}

/* By address; of several names for one, the best last. */
static int compare_entries(const void *left, const void *right)
{
    const struct symbol_entry *a = left, *b = right;
    if (a->symbol.address != b->symbol.address)
        return a->symbol.address < b->symbol.address ? -1 : 1;
    if (a->dynamic != b->dynamic)
        return a->dynamic ? 1 : -1;
    if (a->symbol.global != b->symbol.global)
        return a->symbol.global ? 1 : -1;
    if (a->hidden != b->hidden)
        return a->hidden ? -1 : 1;
    return compare_names(a->symbol.name, b->symbol.name);
}

static uint64_t symbol_end(const struct lw_elf_symbol *symbol)
{
    uint64_t end;
    return __builtin_add_overflow(symbol->address, symbol->size, &end) ? UINT64_MAX : end;
}

static void index_addresses(struct lw_elf_symbols *symbols)
{
    if (symbols->entries.count == 0)
        return;
    qsort(symbols->entries.items, symbols->entries.count, sizeof(*symbols->entries.items),
          compare_entries);
    uint64_t max_end = 0;
    lw_vector_for_each (entry, &symbols->entries) {
        uint64_t end = symbol_end(&entry->symbol);
        if (entry->symbol.kind != LW_ELF_OBJECT && end > max_end)
            max_end = end;
        entry->max_end = max_end;
    }
}

static uint32_t hash_name(const char *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < NAME_LOOKED && name[i] != '\0'; i++)
        hash = (hash ^ (unsigned char)name[i]) * 16777619u;
    return hash;
}

static int index_names(struct lw_elf_symbols *symbols)
{
    size_t count = 16;
    while (count < symbols->entries.count)
        count *= 2;
    symbols->buckets = malloc(count * sizeof(*symbols->buckets));
    if (symbols->buckets == NULL)
        return -ENOMEM;
    memset(symbols->buckets, 0xff, count * sizeof(*symbols->buckets)); /* NO_ENTRY */
    symbols->bucket_count = count;
    for (uint32_t i = 0; i < symbols->entries.count; i++) {
        struct symbol_entry *entry = &symbols->entries.items[i];
        if (!entry->symbol.global)
            continue;
        uint32_t *bucket = &symbols->buckets[hash_name(entry->symbol.name) & (count - 1)];
        entry->next = *bucket;
        *bucket = i;
    }
    return 0;
}

/* The number of entries whose address is at most `address`. */
static size_t upper_bound(const struct lw_elf_symbols *symbols, uint64_t address)
{
    size_t low = 0, high = symbols->entries.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (symbols->entries.items[middle].symbol.address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

enum slot_relocation { SLOT_NONE, SLOT_SYMBOL, SLOT_IRELATIVE };

static enum slot_relocation slot_relocation(unsigned machine, uint64_t type)
{
    if (machine == EM_X86_64) {
        if (type == R_X86_64_JUMP_SLOT || type == R_X86_64_GLOB_DAT)
            return SLOT_SYMBOL;
        return type == R_X86_64_IRELATIVE ? SLOT_IRELATIVE : SLOT_NONE;
    }
    if (machine == EM_AARCH64) {
        if (type == R_AARCH64_JUMP_SLOT || type == R_AARCH64_GLOB_DAT)
            return SLOT_SYMBOL;
        return type == R_AARCH64_IRELATIVE ? SLOT_IRELATIVE : SLOT_NONE;
    }
    return SLOT_NONE;
}

/* A library's call to an ifunc of its own (memset in libc) goes through a slot that names no symbol
 * but has the resolver's address, which is that of the ifunc symbol. */
static const char *ifunc_name(const struct lw_elf_symbols *symbols, uint64_t resolver)
{
    for (size_t i = upper_bound(symbols, resolver); i > 0; i--) {
        const struct lw_elf_symbol *symbol = &symbols->entries.items[i - 1].symbol;
        if (symbol->address != resolver)
            break;
        if (symbol->kind == LW_ELF_IFUNC)
            return symbol->name;
    }
    return "";
}

static int add_slots(struct lw_elf_symbols *symbols, unsigned machine, Elf_Data *relocations,
                     Elf_Data *dynsym)
{
    size_t count = relocations->d_size / sizeof(Elf64_Rela);
    for (size_t i = 0; i < count; i++) {
        GElf_Rela raw;
        GElf_Sym symbol;
        const char *name = "";
        if (gelf_getrela(relocations, (int)i, &raw) == NULL)
            break;
        enum slot_relocation kind = slot_relocation(machine, GELF_R_TYPE(raw.r_info));
        uint64_t index = GELF_R_SYM(raw.r_info);
        if (kind == SLOT_IRELATIVE)
            name = ifunc_name(symbols, (uint64_t)raw.r_addend);
        else if (kind == SLOT_SYMBOL && dynsym != NULL && index <= INT32_MAX &&
                 gelf_getsym(dynsym, (int)index, &symbol) != NULL)
            name = name_at(&symbols->dynamic_names, symbol.st_name);
        if (name[0] == '\0')
            continue;
        struct got_slot slot = {.address = raw.r_offset, .name = name};
        int result = lw_vector_push(&symbols->slots, slot);
        if (result != 0)
            return result;
    }
    return 0;
}

static int compare_slots(const void *left, const void *right)
{
    const struct got_slot *a = left, *b = right;
    return (a->address > b->address) - (a->address < b->address);
}

static int load_slots(struct lw_elf_symbols *symbols, unsigned machine, Elf *elf)
{
    GElf_Shdr header;
    size_t dynsym_index = 0;
    Elf_Data *dynsym = find_section(elf, SHT_DYNSYM, &dynsym_index, &header);
    for (Elf_Scn *section = NULL; (section = elf_nextscn(elf, section)) != NULL;) {
        /* Relocations that the linker left for others (--emit-relocs) are not allocated. */
        if (gelf_getshdr(section, &header) == NULL || header.sh_type != SHT_RELA ||
            (header.sh_flags & SHF_ALLOC) == 0)
            continue;
        Elf_Data *data = section_data(section, &header);
        if (data == NULL)
            continue;
        int result =
            add_slots(symbols, machine, data, header.sh_link == dynsym_index ? dynsym : NULL);
        if (result != 0)
            return result;
    }
    if (symbols->slots.count > 0)
        qsort(symbols->slots.items, symbols->slots.count, sizeof(*symbols->slots.items),
              compare_slots);
    return 0;
}

static int load(struct lw_elf_symbols *symbols, const struct lw_elf_image *image)
{
    lw_auto_elf Elf *elf = lw_elf_image_begin(image);
    if (elf == NULL)
        return -ENOEXEC;
    int result = load_table(symbols, elf, true);
    if (result == 0)
        result = load_table(symbols, elf, false);
    if (result != 0)
        return result;
    index_addresses(symbols);
    result = index_names(symbols);
    return result == 0 ? load_slots(symbols, image->machine, elf) : result;
}

/* Loads at the first call; an image whose symbols cannot be read has none. */
static const struct lw_elf_symbols *symbols_of(const struct lw_elf_image *image)
{
    struct lw_elf_symbols *symbols = image->symbols;
    pthread_mutex_lock(&symbols->mutex);
    if (!symbols->loaded) {
        if (load(symbols, image) != 0)
            forget(symbols);
        symbols->loaded = true;
    }
    pthread_mutex_unlock(&symbols->mutex);
    return symbols;
}

static bool has_address(const struct lw_elf_symbol *found, size_t count, uint64_t address)
{
    for (size_t i = 0; i < count; i++) {
        if (found[i].address == address)
            return true;
    }
    return false;
}

size_t lw_elf_image_find_symbols(const struct lw_elf_image *image, const char *name,
                                 struct lw_elf_symbol *found, size_t max)
{
    const struct lw_elf_symbols *symbols = symbols_of(image);
    size_t count = 0;
    if (symbols->bucket_count == 0)
        return 0;
    uint32_t first = symbols->buckets[hash_name(name) & (symbols->bucket_count - 1)];
    for (int dynamic = 1; dynamic >= 0; dynamic--) {
        for (uint32_t i = first; i != NO_ENTRY; i = symbols->entries.items[i].next) {
            const struct symbol_entry *entry = &symbols->entries.items[i];
            if (count < max && entry->dynamic == (dynamic != 0) &&
                strcmp(entry->symbol.name, name) == 0 &&
                !has_address(found, count, entry->symbol.address))
                found[count++] = entry->symbol;
        }
    }
    return count;
}

bool lw_elf_image_symbol_at(const struct lw_elf_image *image, uint64_t address,
                            struct lw_elf_symbol *symbol)
{
    const struct lw_elf_symbols *symbols = symbols_of(image);
    size_t i = upper_bound(symbols, address);
    for (size_t looked = 0; i > 0 && looked < OVERLAPS_MAX; looked++, i--) {
        const struct symbol_entry *entry = &symbols->entries.items[i - 1];
        if (entry->max_end <= address)
            break;
        if (entry->symbol.kind != LW_ELF_OBJECT &&
            address - entry->symbol.address < entry->symbol.size) {
            *symbol = entry->symbol;
            return true;
        }
    }
    return false;
}

const char *lw_elf_image_got_symbol(const struct lw_elf_image *image, uint64_t got_slot)
{
    const struct lw_elf_symbols *symbols = symbols_of(image);
    struct got_slot key = {.address = got_slot};
    /* bsearch of an empty vector would be given a null pointer. */
    const struct got_slot *slot =
        symbols->slots.count == 0
            ? NULL
            : bsearch(&key, symbols->slots.items, symbols->slots.count, sizeof(key), compare_slots);
    return slot != NULL ? slot->name : NULL;
}
