/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The options that there are, in the words of --help. */
#include "option_table.h"

#include "config.h"

const char lw_option_arguments[] = "PID\n-- COMMAND [ARGUMENT...]";

const char lw_option_doc[] =
    "Watch a running process and report the blocks of memory that outlive a threshold, with the "
    "call stack that allocated each. The process is neither rebuilt nor restarted; at the end "
    "leakwatch detaches and it runs on as before.\v"
    "TIME is a number of seconds or has a unit: 500ms, 30s, 5m, 2h. SIZE is a number of bytes or "
    "has a unit: 4k, 1M. Ctrl-C ends the watch with a summary; SIGUSR1 asks for a report now, "
    "SIGUSR2 begins a new --mark.\n"
    "\n"
    "Examples:\n"
    "  leakwatch -p 4711                        report every 10s until Ctrl-C\n"
    "  leakwatch -p 4711 -e 5m -i 1m -n 12      what outlives 5 minutes, 12 reports\n"
    "  leakwatch -- ./server -p 8080            a command, from its first allocation\n"
    "  leakwatch --format=json -o lw.%p.json -d 1h 4711\n"
    "                                           an hour, as JSON, to a file\n"
    "  leakwatch diff lw.4711.json              what has grown in it\n"
    "  leakwatch diff --help                    more of that";

const struct argp_option lw_option_table[] = {
    {0, 0, 0, 0, "What to watch:", 1},
    {"pid", 'p', "PID", 0, "Watch this process (a bare PID does the same)", 1},
    {"min-size", 'z', "SIZE", 0, "Ignore blocks smaller than SIZE (default 0)", 1},
    {"max-size", 'Z', "SIZE", 0, "Ignore blocks larger than SIZE (default: no limit)", 1},
    {"depth", 'l', "N", 0, "Keep N frames of each stack (default 64, at most 1024)", 1},

    {0, 0, 0, 0, "How to watch:", 2},
    {"engine", KEY_ENGINE, "ENGINE", 0,
     "record: from inside the process, without stopping it; trap: by breakpoints; auto: record "
     "where that is possible, else trap (default auto)",
     2},
    {"sample", KEY_SAMPLE, "SIZE|auto", 0,
     "Watch one allocation in SIZE bytes on average (1k to 1024G) and estimate the rest; auto: as "
     "few as --max-overhead demands; not with trap (default: watch every allocation)",
     2},
    {"max-overhead", KEY_MAX_OVERHEAD, "PERCENT", 0,
     "With --sample=auto: slow the process down by at most PERCENT (default 5)", 2},

    {"max-memory", KEY_MAX_MEMORY, "SIZE", 0,
     "Blocks and stacks may take SIZE of memory (at least 1M); what does not fit is counted, but "
     "not known one by one (default 512M)",
     2},

    {0, 0, 0, 0, "When to report, and when to stop:", 3},
    {"expire", 'e', "TIME", 0, "Report blocks that are TIME old or older (default 10s)", 3},
    {"interval", 'i', "TIME", 0, "Report every TIME (default 10s)", 3},
    {"count", 'n', "N", 0, "Detach after N reports (default: no limit)", 3},
    {"duration", 'd', "TIME", 0, "Detach after TIME (default: no limit)", 3},
    {"mark", KEY_MARK, "TIME", 0,
     "Mark what is allocated in the first TIME of the watch, or in the TIME after a SIGUSR2, and "
     "tell in each report what is left of it, and where",
     3},

    {0, 0, 0, 0, "What to print:", 4},
    {"top", 'T', "N", 0, "List the N first stacks, 0 for all (default 10)", 4},
    {"sort", KEY_SORT, "KEY", 0, "Stacks by bytes, blocks, age or growth (default bytes)", 4},
    {"show-blocks", 'a', 0, 0, "List address, size and age of each expired block", 4},
    {"format", KEY_FORMAT, "FORMAT[:FILE]", 0,
     "text; json: one object a line; folded: stacks for flamegraph.pl and speedscope; "
     "svg: a flame graph for a browser; html: a page with that and more; "
     "pprof: a profile for pprof; heap: one for google-pprof and jeprof; "
     "massif: for ms_print; prometheus: metrics "
     "(default text). To FILE as with --output. May be given several times: all are written at "
     "once",
     4},
    {"weight", KEY_WEIGHT, "WEIGHT", 0,
     "What formats with one number a stack count: expired-bytes, expired-blocks, live-bytes or "
     "live-blocks (default expired-bytes)",
     4},
    {"metrics-file", KEY_METRICS_FILE, "FILE", 0,
     "Beside what --format says, write metrics to FILE (as --format=prometheus:FILE), for the "
     "textfile collector of node_exporter, which reads what is named *.prom",
     4},
    {"output", 'o', "FILE", 0,
     "Append to FILE instead of standard output (other than text and json: replace FILE with each "
     "report); %p in it is the PID; opened again on SIGHUP",
     4},
    {"suppressions", KEY_SUPPRESSIONS, "FILE", 0,
     "Do not list stacks that match a suppression in FILE: valgrind's Memcheck:Leak, or lines of "
     "LeakSanitizer's, leak:PATTERN. May be given several times",
     4},
    {"no-default-suppressions", KEY_NO_DEFAULT_SUPPRESSIONS, 0, 0,
     "List what the C library, OpenSSL, GLib and others allocate once and keep, too", 4},
    {"generate-suppressions", KEY_GENERATE_SUPPRESSIONS, "FILE", 0,
     "Write a suppression of each stack with expired blocks to FILE, which each report replaces",
     4},
    {"color", KEY_COLOR, "WHEN", OPTION_ARG_OPTIONAL,
     "Colour: auto (on a terminal), always or never (default auto; no WHEN: always)", 4},
    {"quiet", 'q', 0, 0, "On standard error, errors only: no warnings, no status line, no progress",
     4},
    {"verbose", 'v', 0, 0,
     "Print addresses, full paths and names, and every frame; say more on standard error; twice: "
     "still more",
     4},

    {0, 0, 0, 0, "How to exit:", 5},
    {"error-exitcode", KEY_ERROR_EXITCODE, "N", 0,
     "Exit with N when blocks have expired at the end, other than suppressed ones (default 0: they "
     "do not matter)",
     5},

    {0, 0, 0, 0, "Options from elsewhere:", 6},
    {"config", LW_KEY_CONFIG, "FILE", 0,
     "Read options from FILE, one a line: 'expire = 5m', or as on the command line; # begins a "
     "comment. May be given several times. Options are also read from LEAKWATCH_OPTIONS; FILE "
     "overrides that, and the command line both",
     6},

    {0, 0, 0, 0, "Help:", -1},
    {0},
};
