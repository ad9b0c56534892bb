/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two saved reports compared, stack by stack. */
#ifndef LEAKWATCH_REPORT_DIFF_H
#define LEAKWATCH_REPORT_DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "leakwatch/report/report.h"
#include "leakwatch/report/saved_report.h"

/* What makes two stacks the same one. */
enum lw_diff_key {
    /* The same places in the same builds (build-id and offset; the file's name where there is no
     * build-id). Code in no file (a JIT's) is at its address within one watch; between two
     * processes, addresses say nothing, and all of it is taken as equal. */
    LW_DIFF_BY_ADDRESS,
    LW_DIFF_BY_FUNCTION, /* the same functions in files of the same name, where they have names */
};

struct lw_diff_options {
    enum lw_weight weight;
    enum lw_diff_key by;
    size_t top; /* stacks that text and JSON list; 0: all */
};

/* Expired or live ones, as the weight says. */
struct lw_diff_amount {
    uint64_t bytes, blocks; /* at most INT64_MAX */
    uint64_t error;         /* standard error of the bytes; 0: exact */
};

enum lw_change {
    LW_CHANGE_GREW,
    LW_CHANGE_NEW,
    LW_CHANGE_SHRANK,
    LW_CHANGE_GONE,
    LW_CHANGE_NONE,
    /* Within twice the standard error of the difference; or one report lists its largest stacks
     * only, and this one may have been among the others. */
    LW_CHANGE_UNCLEAR,
    LW_CHANGE_COUNT
};
const char *lw_change_name(enum lw_change change); /* "grew", "new", ... */

struct lw_diff_stack {
    /* What stands for it in each report (it may have several that are the same); NULL: none. */
    const struct lw_report_stack *before, *after;
    struct lw_diff_amount from, to;
    /* It is not listed there, and `unlisted` is not 0: its amount is not known, but no more than
     * that. It is taken as 0. */
    bool from_unknown, to_unknown;
    enum lw_change change;
    int64_t change_bytes, change_blocks;
    int64_t rank; /* of the weight, what has changed for certain */
};

struct lw_diff_side {
    const struct lw_saved_report *saved;
    struct lw_diff_amount total;
    struct lw_diff_amount unlisted; /* of stacks that the report does not list */
    size_t listed;                  /* stacks that have any of the weight */
};

struct lw_diff {
    struct lw_diff_options options;
    struct lw_diff_side before, after;
    bool same_watch;
    uint64_t apart_ns; /* in the same watch, else 0 */
    enum lw_change total_change;
    struct lw_diff_stack *stacks; /* the largest certain growth first */
    size_t stack_count;
    size_t changes[LW_CHANGE_COUNT]; /* stacks of each kind */
    char **notes;                    /* what keeps the two from being compared, a line each */
    size_t note_count;
};

/* The reports outlive it. NULL: out of memory. */
struct lw_diff *lw_diff_create(const struct lw_saved_report *before,
                               const struct lw_saved_report *after,
                               const struct lw_diff_options *options);
void lw_diff_destroy(struct lw_diff *diff);

bool lw_diff_counts_blocks(const struct lw_diff *diff); /* else bytes */
/* The total, or any stack, has grown for certain. */
bool lw_diff_has_growth(const struct lw_diff *diff);
/* How many of the first stacks are to be listed: those that have changed, up to the top. */
size_t lw_diff_listed(const struct lw_diff *diff);
/* Of the second report, else of the first. */
const struct lw_report_stack *lw_diff_shown_stack(const struct lw_diff_stack *stack);
/* Standard error of the change of the bytes; 0: exact. */
uint64_t lw_diff_error(const struct lw_diff_amount *from, const struct lw_diff_amount *to);
/* Per minute in the same watch; false: there is no telling. */
bool lw_diff_per_minute(const struct lw_diff *diff, int64_t change, int64_t *per_minute);

/* A format. 0 or a negative errno when the stream failed. */
struct lw_diff_writer {
    const char *name;
    bool has_notes; /* it tells them itself */
    int (*write)(FILE *stream, const struct lw_writer_options *options, const struct lw_diff *diff);
};
extern const struct lw_diff_writer lw_diff_text_writer;
extern const struct lw_diff_writer lw_diff_json_writer;
extern const struct lw_diff_writer lw_diff_folded_writer;
extern const struct lw_diff_writer lw_diff_svg_writer;

#endif
