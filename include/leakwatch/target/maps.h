/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The mappings of a process, from /proc/PID/maps. */
#ifndef LEAKWATCH_TARGET_MAPS_H
#define LEAKWATCH_TARGET_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "leakwatch/base/vector.h"

struct lw_mapping {
    uint64_t start, end; /* [start, end) */
    uint64_t offset;     /* in the file */
    uint64_t inode;
    uint32_t dev_major, dev_minor;
    bool readable, writable, executable, shared, deleted;
    char *path; /* never NULL; "" for anonymous memory; "[vdso]" and the like; without " (deleted)";
                   octal escapes undone */
};

struct lw_maps {
    LW_VECTOR(struct lw_mapping) list; /* by start */
};

/* 0 or a negative errno. `maps` is {0} or one that was read before, which is replaced. */
int lw_maps_read(struct lw_maps *maps, pid_t pid);
/* The same from the text of such a file, for tests. Lines it cannot read make -EINVAL. */
int lw_maps_parse(struct lw_maps *maps, const char *text);
void lw_maps_deinit(struct lw_maps *maps);

/* The mapping that holds the address, or NULL. */
const struct lw_mapping *lw_maps_find(const struct lw_maps *maps, uint64_t address);

#endif
