/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line, parsed and checked. */
#ifndef LEAKWATCH_APP_OPTIONS_H
#define LEAKWATCH_APP_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "leakwatch/base/vector.h"
#include "leakwatch/report/report.h"

enum lw_color { LW_COLOR_AUTO, LW_COLOR_ALWAYS, LW_COLOR_NEVER };

/* Which mechanism watches (probe/engine.h); auto: record where that is possible, else trap. */
enum lw_engine_choice { LW_ENGINE_AUTO, LW_ENGINE_RECORD, LW_ENGINE_TRAP };

/* Bounds of --sample, bytes. A mean below the size of common blocks would sample nearly all of
 * them: estimates, at the cost of exact figures. */
#define LW_SAMPLE_MIN (1ull << 10)
#define LW_SAMPLE_MAX (1ull << 40)

/* Outputs at once. */
#define LW_OUTPUT_MAX 16

/* Files of suppressions. */
#define LW_SUPPRESSION_FILES_MAX 16

/* One --format. */
struct lw_output_request {
    const struct lw_writer *writer;
    const char *file; /* a pattern as lw_output_open takes it; NULL: standard output */
};

/* Exit codes of the program. */
enum { LW_EXIT_DONE = 0, LW_EXIT_FAILED = 1, LW_EXIT_USAGE = 2 };

struct lw_options {
    pid_t pid;                   /* 0 when a command is to be started */
    char **command;              /* NULL-terminated, points into argv; NULL when a PID is given */
    uint64_t expire_ns;          /* default 10 s */
    uint64_t interval_ns;        /* default 10 s */
    uint64_t count;              /* reports, 0: no limit */
    uint64_t duration_ns;        /* LW_NEVER: no limit */
    uint64_t mark_ns;            /* the window whose blocks are marked; 0: none are */
    size_t depth;                /* frames, default 64, 1 .. LW_STACK_MAX_DEPTH */
    uint64_t min_size, max_size; /* bytes, default 0 and UINT64_MAX */
    enum lw_engine_choice engine;
    uint64_t sample_bytes; /* mean between two samples; 0: every allocation, or sample_auto */
    bool sample_auto;      /* as much is sampled as max_overhead permits */
    double max_overhead;   /* percent, default 5, above 0 and at most 100 */
    uint64_t max_memory;   /* bytes, default 512 MiB, at least 1 MiB */
    struct lw_report_options report; /* sort, top (10), show_blocks */
    /* at least one, default text to standard output; at most one of them is standard output */
    struct lw_output_request outputs[LW_OUTPUT_MAX];
    size_t output_count;
    const char *output;       /* --output: of the request that has no file of its own */
    const char *metrics_file; /* one of `outputs` too; NULL: not given */
    enum lw_weight weight;    /* default LW_WEIGHT_EXPIRED_BYTES */
    const char *suppression_files[LW_SUPPRESSION_FILES_MAX];
    size_t suppression_file_count;
    bool no_default_suppressions;
    const char *generated_suppressions; /* one of `outputs` too; NULL: not given */
    int error_exitcode;                 /* 0: leaks do not change the exit code */
    bool quiet;
    int verbosity; /* number of -v */
    enum lw_color color;
    LW_VECTOR(char *)
    texts; /* of LEAKWATCH_OPTIONS and --config: members above may point into it */
};

/*
 * Parses LEAKWATCH_OPTIONS, the files of --config, and argv, with argp. On bad usage it prints one
 * line on stderr, says to try --help, and exits with LW_EXIT_USAGE; --help,
 * --usage and --version print and exit with 0. Touches no process. Checks everything that can be
 * checked without one: a PID or a command but not both, durations above 0, min-size <= max-size,
 * no sampling by an engine that sees everything, and so on.
 */
void lw_options_parse(struct lw_options *options, int argc, char **argv);
void lw_options_deinit(struct lw_options *options);

#endif
