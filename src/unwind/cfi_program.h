/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs programs of call-frame instructions (DWARF 5, 6.4.2) and packs what they say into rows. */
#ifndef LEAKWATCH_UNWIND_CFI_PROGRAM_H
#define LEAKWATCH_UNWIND_CFI_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "byte_reader.h"
#include "leakwatch/unwind/row.h"

/* Where the canonical frame address (CFA) is, as far as a row can tell. */
enum lw_cfa_form {
    LW_CFA_OTHER,
    LW_CFA_REGISTER, /* register + offset */
    LW_CFA_DEREF,    /* the word at register + offset */
    LW_CFA_PLT,      /* the expression that linkers give to procedure linkage tables */
};
struct lw_cfa {
    enum lw_cfa_form form;
    uint64_t number; /* of the register */
    int64_t offset;
};

/* Where the caller's value of a register is. */
enum lw_rule_form {
    LW_RULE_OTHER,
    LW_RULE_SAME,   /* still in the register */
    LW_RULE_IS_CFA, /* the CFA itself: the stack pointer, unless something else is said of it */
    LW_RULE_UNDEFINED,
    LW_RULE_AT_CFA,      /* in memory, at the CFA + offset */
    LW_RULE_AT_REGISTER, /* in memory, at register + offset */
};
struct lw_rule {
    enum lw_rule_form form;
    uint64_t number;
    int64_t offset;
};

/* The rules in force at one instruction, of the registers that unwinding by rows tracks. */
struct lw_cfi_rules {
    struct lw_cfa cfa;
    struct lw_rule frame_pointer, stack_pointer, return_address;
};

/* A common information entry (CIE): what the functions that refer to it have in common. */
struct lw_cfi_common {
    uint64_t code_factor;
    int64_t data_factor;
    uint8_t encoding; /* of addresses: DW_EH_PE_* */
    bool
        has_augmentation; /* its functions' entries have data of their own, after their addresses */
    bool is_signal_frame;
    struct lw_cfi_rules initial;
};

/* Takes the rows of a function as its program runs: `row` is valid from the address up to the next
 * call's; the addresses do not decrease. False: no more is wanted. */
struct lw_row_sink {
    bool (*take)(struct lw_row_sink *sink, uint64_t address, lw_row row);
};

/* The rules before the first instruction of a CIE. */
struct lw_cfi_rules lw_cfi_default_rules(void);

/* Runs a CIE's instructions to completion, from common->initial to common->initial; false when one
 * is not understood. */
bool lw_cfi_run_common(struct lw_cfi_common *common, struct lw_byte_reader instructions);

/*
 * Runs the program of the function at [start, end). From an instruction that is not understood to
 * the end of the function the rows are LW_ROW_NONE.
 */
void lw_cfi_run(const struct lw_cfi_common *common, struct lw_byte_reader instructions,
                uint64_t start, uint64_t end, struct lw_row_sink *sink);

#endif
