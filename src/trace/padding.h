/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The unused executable bytes behind a module's code, up to the end of its last page. */
#ifndef LEAKWATCH_TRACE_PADDING_H
#define LEAKWATCH_TRACE_PADDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "leakwatch/base/vector.h"
#include "leakwatch/target/memory.h"
#include "leakwatch/target/module.h"

/*
 * The kernel maps whole pages: what follows an executable segment's last byte on its page is mapped
 * executable, holds whatever the file has there, and is reached by no symbol, jump or unwind row.
 */
struct lw_padding {
    uint32_t module;
    bool lends;          /* to other modules: this one is never unloaded */
    uint64_t start, end; /* in the target */
    uint64_t file_offset;
    uint64_t used;     /* bytes from start that were given out */
    uint64_t kept;     /* bytes at the end that are not given out */
    uint8_t *original; /* end - start bytes, read before the first use; NULL until then */
    uint8_t *ours;     /* what the first `used` bytes hold now; likewise */
    /* of these, bytes [varying, varying_end) have been written more than once */
    size_t varying, varying_end;
};

struct lw_padding_list {
    LW_VECTOR(struct lw_padding) list; /* at most a few for each loaded module */
};

/* Lists the paddings of modules that were loaded since, drops those of modules that are gone. */
int lw_padding_discover(struct lw_padding_list *paddings, struct lw_module_table *modules);
/* Drops the paddings of modules that are gone, or were loaded again elsewhere. */
void lw_padding_drop_unloaded(struct lw_padding_list *paddings, struct lw_module_table *modules);
void lw_padding_list_deinit(struct lw_padding_list *paddings);

/* Makes the padding ready to be written: keeps its bytes. -EBUSY when they are not those of the
 * file. */
int lw_padding_open(struct lw_padding *padding, struct lw_module_table *modules,
                    struct lw_memory *memory);

/* The same for one that another leakwatch has written to: all of it is taken for ours. */
int lw_padding_adopt(struct lw_padding *padding, struct lw_module_table *modules,
                     struct lw_memory *memory);

/* Takes `size` bytes from the padding and fills them. -ENOSPC when they do not fit. */
int lw_padding_write(struct lw_padding *padding, struct lw_memory *memory, const void *bytes,
                     size_t size);
/* Gives the padding back, in the target's memory or a copy of it, which may be older than what was
 * written last; does nothing where the memory holds what we never wrote (the module was unmapped,
 * and something else may be there). */
int lw_padding_restore(const struct lw_padding *padding, struct lw_memory *memory);

/* The padding's bytes in the file; 0 or a negative errno. */
int lw_padding_read_file(const struct lw_padding *padding, struct lw_module_table *modules,
                         uint8_t *bytes);

#endif
