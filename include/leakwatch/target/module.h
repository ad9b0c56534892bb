/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The modules (executable, shared libraries, vdso) of the process under watch, past and present. */
#ifndef LEAKWATCH_TARGET_MODULE_H
#define LEAKWATCH_TARGET_MODULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "leakwatch/base/error.h"
#include "leakwatch/target/elf_image.h"
#include "leakwatch/target/memory.h"

/*
 * A module keeps its id, its names and its open file for ever, so that blocks allocated by a
 * library that was closed since can still be named. The same file loaded again (same device, inode
 * and build-id) is the same module with a new bias.
 *
 * One thread updates the table (lw_module_table_refresh) and looks addresses up; any thread may
 * call lw_module_table_get and read the fields that are not marked [owner].
 */
struct lw_module {
    uint32_t id;      /* dense, from 1 */
    char *path;       /* as in /proc/PID/maps, "[vdso]" for the vdso */
    const char *name; /* its last component */
    char *build_id;   /* lower-case hex, "" when there is none */
    int fd; /* the file that is mapped, opened through /proc/PID/map_files (so that a deleted or
               replaced file is the right one) or through /proc/PID/root after its device and inode
               were compared; -1 when it could not be had, or for the vdso */
    struct lw_elf_image *image; /* NULL when the file could not be read */
    bool is_executable;         /* the process's own executable */
    bool is_vdso;

    bool loaded;           /* [owner] */
    uint64_t start, end;   /* [owner] the span of its mappings, in the target */
    _Atomic uint64_t bias; /* run-time address minus link-time address, at its latest load */
};

struct lw_module_table;

/* NULL: out of memory. `memory` outlives the table (the vdso image is read through it). */
struct lw_module_table *lw_module_table_create(pid_t pid, struct lw_memory *memory);
void lw_module_table_destroy(struct lw_module_table *table);

/*
 * Reads /proc/PID/maps and brings the table up to date: new modules are opened, those that are gone
 * are marked unloaded. *changed (may be NULL) says whether anything was loaded or unloaded. 0 or a
 * negative errno (-ESRCH: the process is gone).
 */
int lw_module_table_refresh(struct lw_module_table *table, bool *changed);

/* [owner] The loaded module whose mappings hold the address, or NULL. Binary search. */
const struct lw_module *lw_module_table_find(struct lw_module_table *table, uint64_t address);

/* The module with this id (1 .. count), else NULL. */
const struct lw_module *lw_module_table_get(struct lw_module_table *table, uint32_t id);
size_t lw_module_table_count(struct lw_module_table *table);

#endif
