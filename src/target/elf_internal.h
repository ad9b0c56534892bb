/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What elf_image.c and elf_symbols.c share: the image, and its symbol tables, read when first asked
 * for. */
#ifndef LEAKWATCH_TARGET_ELF_INTERNAL_H
#define LEAKWATCH_TARGET_ELF_INTERNAL_H

#include <gelf.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/vector.h"
#include "leakwatch/target/elf_image.h"

#define LW_BUILD_ID_MAX 64 /* bytes; SHA-1 has 20 */

struct lw_elf_symbols;

/* Immutable once open, but for what hides behind `symbols`, which has a lock of its own: the tracer
 * and the reporter ask the same image. */
struct lw_elf_image {
    int fd;               /* -1: in memory */
    unsigned char *bytes; /* NULL: in a file */
    size_t size;
    unsigned machine, type;
    LW_VECTOR(struct lw_elf_segment) segments;
    uint64_t eh_frame_hdr, eh_frame_hdr_size; /* size 0: none */
    char build_id[2 * LW_BUILD_ID_MAX + 1];
    char soname[256];
    struct lw_elf_symbols *symbols;
};

LW_DEFINE_CLEANUP(lw_cleanup_elf, Elf *, elf_end, NULL)
#define lw_auto_elf LW_CLEANUP(lw_cleanup_elf)

/* A libelf handle, which the caller ends: a thread has its own, since libelf locks nothing. NULL
 * when the file is not ELF. */
Elf *lw_elf_image_begin(const struct lw_elf_image *image);

struct lw_elf_symbols *lw_elf_symbols_create(void);
void lw_elf_symbols_destroy(struct lw_elf_symbols *symbols);

#endif
