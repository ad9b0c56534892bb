/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The .eh_frame section of an ELF file: its functions, and the program of each. */
#ifndef LEAKWATCH_UNWIND_EH_FRAME_H
#define LEAKWATCH_UNWIND_EH_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cfi_program.h"
#include "leakwatch/base/vector.h"
#include "leakwatch/target/elf_image.h"

/* A function, of which a frame description entry (FDE) tells. */
struct lw_fde {
    uint64_t start, end;
    uint32_t common;                         /* offset of its CIE in the section */
    uint32_t instructions, instructions_end; /* likewise; both 0: malformed */
};

#define LW_CIE_SLOTS 16 /* CIEs kept decoded */
struct lw_cie {
    bool known, is_usable;
    uint32_t offset;
    struct lw_cfi_common common;
};

struct lw_eh_frame {
    uint8_t *bytes;
    size_t size;
    uint64_t address; /* link-time, as the next two */
    uint64_t code_start, code_end;
    LW_VECTOR(struct lw_fde) functions; /* by start */
    struct lw_cie cies[LW_CIE_SLOTS];
    size_t budget; /* bytes that may still be decoded: entries may share them */
};

/* Reads it: 0 or -ENOMEM. A file without one has no functions. */
int lw_eh_frame_init(struct lw_eh_frame *frame, const struct lw_elf_image *image);
void lw_eh_frame_deinit(struct lw_eh_frame *frame);

/* Passes the rows of one of the functions to the sink. */
void lw_eh_frame_run(struct lw_eh_frame *frame, const struct lw_fde *function,
                     struct lw_row_sink *sink);

#endif
