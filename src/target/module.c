/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keeps the table of the target's modules in step with its mappings. */
#include "leakwatch/target/module.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/log.h"
#include "leakwatch/base/map.h"
#include "leakwatch/base/vector.h"
#include "leakwatch/target/maps.h"
#include "module_file.h"

#define VDSO_MAX (1u << 20) /* bytes; real ones have two pages */
#define NO_INDEX UINT32_MAX

struct entry {
    struct lw_module module;
    uint64_t inode;
    uint32_t dev_major, dev_minor;
    uint32_t next;     /* index of another entry with the same file key */
    uint64_t claimed;  /* the refresh that last found it loaded */
    uint64_t measured; /* the refresh that last set start and end */
};

/* Consecutive mappings of one file, of which at least one is executable. */
struct run {
    const struct lw_mapping *first, *last, *text;
    struct entry *entry;
};

struct range {
    uint64_t start, end;
    const struct lw_module *module;
};

struct lw_module_table {
    pid_t pid;
    struct lw_memory *memory;
    pthread_mutex_t mutex;             /* of `entries`, which other threads read */
    LW_VECTOR(struct entry *) entries; /* by id - 1 */
    struct lw_map by_file;             /* file key -> index of the first entry */
    struct lw_maps maps;
    LW_VECTOR(struct run) runs;     /* of this refresh, by address */
    LW_VECTOR(struct range) ranges; /* by address, apart from each other */
    uint64_t generation;
};

/* Every module keeps its file open, and a large program has thousands. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        lw_debug("cannot raise the limit of open files: %s", strerror(errno));
}

struct lw_module_table *lw_module_table_create(pid_t pid, struct lw_memory *memory)
{
    struct lw_module_table *table = calloc(1, sizeof(*table));
    if (table == NULL)
        return NULL;
    raise_file_limit();
    table->pid = pid;
    table->memory = memory;
    pthread_mutex_init(&table->mutex, NULL);
    return table;
}

static void destroy_entry(struct entry *entry)
{
    if (entry->module.fd >= 0 && entry->module.image == NULL)
        close(entry->module.fd);
    lw_elf_image_close(entry->module.image);
    free(entry->module.build_id);
    free(entry->module.path);
    free(entry);
}

LW_DEFINE_CLEANUP(cleanup_entry, struct entry *, destroy_entry, NULL)

void lw_module_table_destroy(struct lw_module_table *table)
{
    if (table == NULL)
        return;
    lw_vector_for_each (entry, &table->entries)
        destroy_entry(*entry);
    lw_vector_deinit(&table->entries);
    lw_vector_deinit(&table->runs);
    lw_vector_deinit(&table->ranges);
    lw_map_deinit(&table->by_file);
    lw_maps_deinit(&table->maps);
    pthread_mutex_destroy(&table->mutex);
    free(table);
}

static bool is_vdso(const struct lw_mapping *mapping)
{
    return mapping->inode == 0 && strcmp(mapping->path, "[vdso]") == 0;
}

static bool same_file(const struct lw_mapping *a, const struct lw_mapping *b)
{
    return a->inode == b->inode && a->dev_major == b->dev_major && a->dev_minor == b->dev_minor &&
           strcmp(a->path, b->path) == 0;
}

static int collect_runs(struct lw_module_table *table)
{
    lw_vector_clear(&table->runs);
    struct run run = {0};
    lw_vector_for_each (mapping, &table->maps.list) {
        /* A mapping of the start of the file begins another load of it (dlmopen maps one library
         * several times, maybe side by side). */
        bool goes_on = run.first != NULL && same_file(run.first, mapping) &&
                       !(mapping->offset == 0 && run.text != NULL);
        if (!goes_on) {
            if (run.text != NULL && lw_vector_push(&table->runs, run) != 0)
                return -ENOMEM;
            run = (struct run){0};
            if (mapping->inode == 0 && !is_vdso(mapping))
                continue;
            run.first = mapping;
        }
        run.last = mapping;
        if (run.text == NULL && mapping->executable)
            run.text = mapping;
    }
    if (run.text != NULL && lw_vector_push(&table->runs, run) != 0)
        return -ENOMEM;
    return 0;
}

/* Run-time minus link-time address, from where the executable segment that the mapping is of (or a
 * part of, when mprotect has split it) has come to lie. */
static uint64_t compute_bias(const struct lw_elf_image *image, const struct lw_mapping *text)
{
    uint64_t page_mask = (uint64_t)sysconf(_SC_PAGESIZE) - 1;
    size_t count = 0;
    const struct lw_elf_segment *segments =
        image != NULL ? lw_elf_image_segments(image, &count) : NULL;
    for (size_t i = 0; i < count; i++) {
        const struct lw_elf_segment *segment = &segments[i];
        uint64_t lead = segment->offset & page_mask;
        uint64_t page_offset = segment->offset - lead;
        if (segment->executable && text->offset >= page_offset &&
            text->offset < segment->offset + segment->file_size)
            return text->start - (text->offset - page_offset) - (segment->address - lead);
    }
    return text->start - text->offset;
}

static uint64_t file_key(uint64_t inode, uint32_t dev_major, uint32_t dev_minor)
{
    uint64_t device = (uint64_t)dev_major << 32 | dev_minor;
    return lw_hash64(inode ^ lw_hash64(device)) >> 1; /* the map has no room for UINT64_MAX */
}

static uint32_t first_of_file(const struct lw_module_table *table, uint64_t key)
{
    uint64_t index;
    return lw_map_get(&table->by_file, key, &index) ? (uint32_t)index : NO_INDEX;
}

static bool is_of_file(const struct entry *entry, const struct lw_mapping *mapping)
{
    return entry->inode == mapping->inode && entry->dev_major == mapping->dev_major &&
           entry->dev_minor == mapping->dev_minor;
}

/* What cannot be read as ELF is one module however often it is mapped: JIT compilers map one memory
 * file in thousands of places. */
static bool is_loaded_as(const struct entry *entry, const struct lw_mapping *text)
{
    const struct lw_module *module = &entry->module;
    if (!module->loaded || !is_of_file(entry, text))
        return false;
    if (module->image == NULL)
        return strcmp(module->path, text->path) == 0;
    return compute_bias(module->image, text) == atomic_load(&module->bias);
}

static struct entry *find_loaded(const struct lw_module_table *table, const struct lw_mapping *text)
{
    uint64_t key = file_key(text->inode, text->dev_major, text->dev_minor);
    for (uint32_t i = first_of_file(table, key); i != NO_INDEX;) {
        struct entry *entry = table->entries.items[i];
        if (is_loaded_as(entry, text))
            return entry;
        i = entry->next;
    }
    return NULL;
}

/* An earlier load of the same file that is there no longer. The inode alone does not tell: a
 * library may be rewritten in place between dlclose and dlopen. */
static struct entry *find_earlier(const struct lw_module_table *table, const struct entry *fresh,
                                  const struct lw_mapping *text)
{
    const char *build_id = fresh->module.build_id;
    uint64_t key = file_key(fresh->inode, fresh->dev_major, fresh->dev_minor);
    for (uint32_t i = first_of_file(table, key); i != NO_INDEX;) {
        struct entry *entry = table->entries.items[i];
        if (entry->claimed != table->generation && is_of_file(entry, text) &&
            strcmp(entry->module.build_id, build_id) == 0 &&
            (build_id[0] != '\0' || strcmp(entry->module.path, fresh->module.path) == 0))
            return entry;
        i = entry->next;
    }
    return NULL;
}

static void read_vdso(struct lw_module_table *table, struct lw_module *module,
                      const struct lw_mapping *mapping)
{
    uint64_t size = mapping->end - mapping->start;
    lw_auto_free void *bytes = size <= VDSO_MAX ? malloc(size) : NULL;
    if (bytes == NULL || lw_memory_read_all(table->memory, mapping->start, bytes, size) != 0 ||
        lw_elf_image_open_memory(bytes, size, &module->image) != 0)
        lw_info("the vdso of process %d cannot be read", (int)table->pid);
}

static void read_file(struct lw_module_table *table, struct lw_module *module,
                      const struct lw_mapping *text)
{
    lw_auto_close int fd = lw_module_file_open(table->pid, text);
    if (fd < 0)
        lw_info("the file behind %s cannot be opened", module->path);
    else if (lw_elf_image_open(fd, &module->image) != 0)
        lw_info("%s is mapped executable but is no ELF file", module->path);
    /* One descriptor for both: a process may have very many modules. */
    module->fd = module->image != NULL ? lw_elf_image_descriptor(module->image) : fd;
    if (module->image == NULL)
        fd = -1;
    module->is_executable = lw_module_file_is_executable(table->pid, text);
}

static struct entry *create_entry(struct lw_module_table *table, const struct run *run)
{
    LW_CLEANUP(cleanup_entry) struct entry *entry = calloc(1, sizeof(*entry));
    if (entry == NULL)
        return NULL;
    entry->inode = run->text->inode;
    entry->dev_major = run->text->dev_major;
    entry->dev_minor = run->text->dev_minor;
    entry->next = NO_INDEX;

    struct lw_module *module = &entry->module;
    module->fd = -1;
    module->is_vdso = is_vdso(run->text);
    module->path = strdup(run->text->path);
    if (module->path == NULL)
        return NULL;
    const char *slash = strrchr(module->path, '/');
    module->name = slash != NULL ? slash + 1 : module->path;
    if (module->is_vdso)
        read_vdso(table, module, run->text);
    else
        read_file(table, module, run->text);
    module->build_id = strdup(module->image != NULL ? lw_elf_image_build_id(module->image) : "");
    if (module->build_id == NULL)
        return NULL;
    atomic_init(&module->bias, compute_bias(module->image, run->text));
    return lw_take_pointer(entry);
}

static int publish_entry(struct lw_module_table *table, struct entry *entry)
{
    uint64_t key = file_key(entry->inode, entry->dev_major, entry->dev_minor);
    size_t index = table->entries.count;
    entry->module.id = (uint32_t)index + 1;
    entry->next = first_of_file(table, key);
    pthread_mutex_lock(&table->mutex);
    int result = lw_vector_push(&table->entries, entry);
    pthread_mutex_unlock(&table->mutex);
    if (result != 0)
        return result;
    /* Published already: where this fails, a reload of the file merely gets another id. */
    (void)lw_map_set(&table->by_file, key, index);
    return 0;
}

/* The entry of a run that no loaded module accounts for. */
static int load_run(struct lw_module_table *table, struct run *run)
{
    LW_CLEANUP(cleanup_entry) struct entry *fresh = create_entry(table, run);
    if (fresh == NULL)
        return -ENOMEM;
    struct entry *entry = find_earlier(table, fresh, run->text);
    if (entry != NULL) {
        atomic_store(&entry->module.bias, atomic_load(&fresh->module.bias));
    } else {
        int result = publish_entry(table, fresh);
        if (result != 0)
            return result;
        entry = lw_take_pointer(fresh);
    }
    entry->module.loaded = true;
    entry->claimed = table->generation;
    run->entry = entry;
    return 0;
}

static void match_loaded(struct lw_module_table *table)
{
    lw_vector_for_each (run, &table->runs) {
        run->entry = find_loaded(table, run->text);
        if (run->entry != NULL)
            run->entry->claimed = table->generation;
    }
}

static int load_others(struct lw_module_table *table, bool *changed)
{
    lw_vector_for_each (run, &table->runs) {
        if (run->entry != NULL)
            continue;
        *changed = true;
        /* An earlier run may have loaded the module of which this one is another part. */
        run->entry = find_loaded(table, run->text);
        if (run->entry != NULL)
            continue;
        int result = load_run(table, run);
        if (result != 0)
            return result;
    }
    return 0;
}

static void unload_missing(struct lw_module_table *table, bool *changed)
{
    lw_vector_for_each (item, &table->entries) {
        struct entry *entry = *item;
        if (entry->module.loaded && entry->claimed != table->generation) {
            entry->module.loaded = false;
            *changed = true;
        }
    }
}

static void measure(struct entry *entry, const struct run *run, uint64_t generation)
{
    struct lw_module *module = &entry->module;
    if (entry->measured != generation)
        module->start = run->first->start;
    module->end = run->last->end; /* runs come by address */
    entry->measured = generation;
}

static int rebuild_ranges(struct lw_module_table *table)
{
    lw_vector_clear(&table->ranges);
    lw_vector_for_each (run, &table->runs) {
        const struct lw_module *module = &run->entry->module;
        struct range range = {run->first->start, run->last->end, module};
        struct range *before =
            table->ranges.count > 0 ? &table->ranges.items[table->ranges.count - 1] : NULL;
        measure(run->entry, run, table->generation);
        /* Anonymous pages between two parts of one ELF module are its own: programs that move
         * their code to huge pages leave such a hole. */
        if (before != NULL && before->module == module && module->image != NULL)
            before->end = range.end;
        else if (lw_vector_push(&table->ranges, range) != 0)
            return -ENOMEM;
    }
    return 0;
}

int lw_module_table_refresh(struct lw_module_table *table, bool *changed)
{
    bool ignored;
    if (changed == NULL)
        changed = &ignored;
    *changed = false;
    int result = lw_maps_read(&table->maps, table->pid);
    if (result != 0)
        return result;
    if (table->maps.list.count == 0)
        return -ESRCH; /* a zombie has a maps file, but no mappings */
    result = collect_runs(table);
    if (result != 0)
        return result;
    table->generation++;
    match_loaded(table);
    result = load_others(table, changed);
    if (result != 0)
        return result;
    unload_missing(table, changed);
    return rebuild_ranges(table);
}

const struct lw_module *lw_module_table_find(struct lw_module_table *table, uint64_t address)
{
    size_t low = 0, high = table->ranges.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table->ranges.items[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == table->ranges.count || table->ranges.items[low].start > address)
        return NULL;
    return table->ranges.items[low].module;
}

const struct lw_module *lw_module_table_get(struct lw_module_table *table, uint32_t id)
{
    const struct lw_module *module = NULL;
    pthread_mutex_lock(&table->mutex);
    if (id >= 1 && id <= table->entries.count)
        module = &table->entries.items[id - 1]->module;
    pthread_mutex_unlock(&table->mutex);
    return module;
}

size_t lw_module_table_count(struct lw_module_table *table)
{
    pthread_mutex_lock(&table->mutex);
    size_t count = table->entries.count;
    pthread_mutex_unlock(&table->mutex);
    return count;
}
