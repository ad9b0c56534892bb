/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A snapshot turned into what a report says: sorted, cut to the top, compared with the last one,
 * named. */
#ifndef LEAKWATCH_REPORT_REPORT_H
#define LEAKWATCH_REPORT_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "leakwatch/model/snapshot.h"
#include "leakwatch/report/cohort.h"
#include "leakwatch/report/suppression.h"
#include "leakwatch/report/verdict.h"
#include "leakwatch/symbol/symbolizer.h"

/* What the writers (text.h, json.h) write. They see these structs and nothing else: no live state,
 * no clock, no process. */

struct lw_report_allocator {
    const char *module;   /* path */
    const char *version;  /* "" when unknown */
    const char *build_id; /* "" when there is none */
    const char *const *functions;
    size_t function_count;
};

/* What is being watched, told once when the watch begins. */
struct lw_report_attach {
    pid_t pid;
    const char *exe;
    const char *name;          /* what ps shows (at most 15 bytes); "" when unknown */
    const char *engine;        /* "trap" or "record" */
    const char *engine_reason; /* why not "record"; "" when there was no choice to explain */
    unsigned threads;
    uint64_t pause_ns; /* how long the target was held up to attach */
    uint64_t expire_ns, interval_ns;
    uint64_t min_size, max_size; /* bytes; 0 and UINT64_MAX: no limit */
    uint64_t sample_bytes;       /* mean between samples; 0: every allocation, or sample_auto */
    bool sample_auto;            /* as few as max_overhead (percent) demands */
    double max_overhead;
    bool from_start; /* a command that leakwatch started: no block is older than the watch */
    bool stopped;    /* the target is stopped (SIGSTOP) and stays so */
    const struct lw_report_allocator *allocators;
    size_t allocator_count;
};

/* A file that frames are in. */
struct lw_report_module {
    uint32_t id; /* as in model/stack.h */
    const char *path;
    const char *build_id; /* "" when there is none */
    bool is_executable;   /* the program's own */
    /* its code in the target, at its latest load: [start, end), and where that begins in the file;
     * all 0 when unknown */
    uint64_t start, end, file_offset;
};

struct lw_report_frame {
    const char *function; /* NULL: unknown */
    uint64_t function_offset;
    const char *module;      /* name, NULL: no module */
    const char *module_path; /* NULL likewise */
    size_t module_number;    /* lw_report.modules[module_number - 1]; 0 likewise */
    uint64_t offset;         /* link-time address in the module */
    uint64_t address;        /* in the target, at the module's latest load */
    bool is_return;          /* offset and address are where a call returns to, one past the call */
    const char *file;        /* NULL: unknown */
    int line;
    bool inlined;             /* into the next frame of the list */
    const char *linkage_name; /* `function`, before it was demangled; NULL likewise */
};

struct lw_report_stack {
    uint32_t id;
    struct lw_snapshot_stack facts;
    /* change of the expired bytes and blocks since the last report; in a summary, over the whole
     * watch */
    int64_t delta_bytes, delta_blocks;
    struct lw_verdict verdict; /* on the whole watch so far */
    /* only of a cohort's stack: what it allocated in the window */
    struct lw_cohort_sum allocated_marked;
    struct lw_report_frame *frames; /* innermost first; inlined functions are frames of their own */
    size_t frame_count;
    const struct lw_snapshot_block *blocks; /* expired ones, oldest first; NULL unless asked for */
    size_t block_count;
};

enum lw_report_sort { LW_SORT_BYTES, LW_SORT_BLOCKS, LW_SORT_AGE, LW_SORT_GROWTH };

struct lw_report_options {
    enum lw_report_sort sort;
    size_t top; /* stacks; 0: all */
    bool show_blocks;
    bool every_stack; /* some writer wants more than the top: lw_report.every_count */
    const struct lw_suppressions *suppressions; /* outlive the builder; NULL: none */
};

/* What suppressions keep out of a report. */
struct lw_report_hidden {
    uint64_t stacks; /* that would have been listed, were it not for --top */
    uint64_t expired_bytes, expired_blocks, live_bytes, live_blocks;
};

/* One that is in force, and what it hides now. */
struct lw_report_suppression {
    const struct lw_suppression *suppression;
    struct lw_report_hidden hidden;
};

/* What only the caller knows at the time of the report. */
struct lw_report_context {
    pid_t pid;
    const char *exe;     /* path of the program; "" when unknown */
    const char *name;    /* and what ps shows, at the attach; "" likewise */
    const char *engine;  /* as in lw_report_attach */
    uint64_t time_ns;    /* of day, since the epoch */
    uint64_t elapsed_ns; /* since the attach */
    uint64_t rss_bytes;  /* 0: unknown (the target has gone) */
    unsigned number;     /* of the report, from 1 */
    bool summary; /* the last one, over the whole watch: every stack that has anything to say, not
                     just expired ones */
    struct lw_cohort *cohort; /* NULL: none; a report adds to its drain, a summary does not */
};

/* The totals at one report. */
struct lw_report_point {
    uint64_t elapsed_ns;
    uint64_t live_bytes, expired_bytes;
    uint64_t rss_bytes;                                       /* 0: unknown */
    uint64_t suppressed_live_bytes, suppressed_expired_bytes; /* of the former */
};

struct lw_report {
    struct lw_report_context context;
    uint64_t expire_ns;
    struct lw_ledger_totals totals;
    struct lw_event_counts events;
    struct lw_loss_counts losses;
    uint64_t sample_bytes; /* as in the snapshot: 0: exact, no errors */
    uint64_t live_bytes_error, expired_bytes_error;
    /* since the last report; for the first one and for a summary, since the attach; has_previous
     * tells which */
    bool has_previous;
    int64_t delta_live_bytes, delta_expired_bytes, delta_expired_blocks;
    /* RSS per minute over the watch so far (least squares over the reports), bytes; with fewer than
     * two points there is none */
    bool has_rss_trend;
    int64_t rss_per_minute;
    size_t stack_total;             /* stacks that qualified before the cut to the top */
    uint64_t cut_bytes, cut_blocks; /* expired, of those cut */
    struct lw_report_stack *stacks;
    size_t stack_count; /* that are listed: the top */
    /* All that `stacks` holds: behind the listed ones those that were cut, and then those that have
     * nothing to say of their own but are part of a whole (nothing expired, or nothing live); only
     * if asked for, else stack_count. */
    size_t every_count;
    /* Of the totals, what belongs to suppressed stacks, which are not in `stacks` nor counted with
     * those that were cut. Blocks that are merely live are counted only with every_stack. */
    struct lw_report_hidden suppressed;
    struct lw_report_suppression *suppressions; /* in their order */
    size_t suppression_count;
    /* of the watch so far, by time, this report last; a long watch keeps every second, fourth, ...
     * report, so that it is bounded. The builder's, until the next report is built. */
    const struct lw_report_point *history;
    size_t history_count;
    struct lw_report_cohort cohort;
    struct lw_report_module *modules; /* of the named frames, in no order */
    size_t module_count;
};

/* What one report must remember for the next: expired bytes by stack, and the RSS seen. */
struct lw_report_builder;
/* NULL: out of memory. symbolizer and modules may be NULL in tests: frames are then unnamed. */
struct lw_report_builder *lw_report_builder_create(const struct lw_report_options *options,
                                                   struct lw_symbolizer *symbolizer,
                                                   struct lw_module_table *modules);
void lw_report_builder_destroy(struct lw_report_builder *builder);
/* Tells from now on which part of building a report takes so long. */
struct lw_progress;
void lw_report_builder_tell(struct lw_report_builder *builder, struct lw_progress *progress);

/*
 * Builds a report; strings and blocks in it live as long as the builder and the snapshot. A report
 * lists the stacks with expired blocks; a summary lists every stack with live or late-freed or
 * expired blocks. NULL: out of memory. A summary does not change what the next report is compared
 * with.
 */
struct lw_report *lw_report_build(struct lw_report_builder *builder,
                                  const struct lw_snapshot *snapshot,
                                  const struct lw_report_context *context);
void lw_report_destroy(struct lw_report *report);
/* Whether blocks have expired that no suppression hides. */
bool lw_report_has_leaks(const struct lw_report *report);

/* How the watch ended, when the target ended it. */
struct lw_report_end {
    pid_t pid;
    enum { LW_END_EXIT, LW_END_SIGNAL, LW_END_EXEC } kind;
    int status;      /* exit status or signal number; -1 with LW_END_EXIT: not known, nor which */
    const char *exe; /* of LW_END_EXEC: the new program; "" when unknown */
};

/* What the detach did and found. */
struct lw_report_detach {
    pid_t pid;
    unsigned threads;         /* released */
    unsigned probes_removed;  /* breakpoints, or jumps into the recorder */
    bool code_verified;       /* every byte that we had changed was read back and equals the file */
    const char *target_state; /* "running", "sleeping", "stopped", "exited", ... */
    uint64_t pause_ns;        /* longest time for which the detach held up a thread */
    uint64_t verified_bytes;  /* of code that were compared with their files */
};

/* What the formats that show one number for each stack show. */
enum lw_weight {
    LW_WEIGHT_EXPIRED_BYTES,
    LW_WEIGHT_EXPIRED_BLOCKS,
    LW_WEIGHT_LIVE_BYTES,
    LW_WEIGHT_LIVE_BLOCKS,
};
/* "expired-bytes" and so on, as --weight has it. */
const char *lw_weight_name(enum lw_weight weight);
bool lw_weight_is_live(enum lw_weight weight); /* else of expired blocks alone */
uint64_t lw_report_stack_weight(const struct lw_report_stack *stack, enum lw_weight weight);

/*
 * A writer: one output format. All functions write to `stream` and flush it; 0 or a negative errno
 * when the stream failed (a full disk, a closed pipe). Names are escaped (control characters)
 * before they are written.
 */
struct lw_writer_options {
    bool color;
    bool verbose;     /* full names, offsets, and unlisted details */
    unsigned columns; /* of the terminal; 0: it is none, and lines may be long */
    enum lw_weight weight;
};
struct lw_writer {
    const char *name; /* "text", "json", "folded" */
    /* Each report is a file of its own, over all stacks, and takes the place of the one before.
     * Such a writer has `report` alone, or makes a first file of `attach` too. */
    bool whole_file;
    /* A service that runs as somebody else reads the file: it may be read by all, even if made by
     * root. */
    bool for_everyone;
    bool binary; /* not for a terminal */
    int (*attach)(FILE *stream, const struct lw_writer_options *options,
                  const struct lw_report_attach *attach);
    int (*report)(FILE *stream, const struct lw_writer_options *options,
                  const struct lw_report *report);
    int (*end)(FILE *stream, const struct lw_writer_options *options,
               const struct lw_report_end *end);
    int (*detach)(FILE *stream, const struct lw_writer_options *options,
                  const struct lw_report_detach *detach);
};
extern const struct lw_writer lw_text_writer;
extern const struct lw_writer lw_json_writer;
extern const struct lw_writer lw_folded_writer;
extern const struct lw_writer lw_pprof_writer;
extern const struct lw_writer lw_svg_writer;
extern const struct lw_writer lw_html_writer;
extern const struct lw_writer lw_heap_writer;
extern const struct lw_writer lw_massif_writer;
extern const struct lw_writer lw_prometheus_writer;
/* What --generate-suppressions writes: no --format. */
extern const struct lw_writer lw_suppressions_writer;

/* The writer whose name is the first `length` characters of `name`; NULL when there is none. */
const struct lw_writer *lw_writer_find(const char *name, size_t length);
/* Their names, as in "text, json". */
const char *lw_writer_names(void);

#endif
