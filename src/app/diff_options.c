/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of `leakwatch diff`, parsed with argp and checked. */
#include "diff_options.h"
#include "option_words.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_TOP 10
/* Of reports in a file, from either end: so many lines may be held at once. */
#define LARGEST_NUMBER 1000000

enum {
    KEY_FORMAT = 0x100,
    KEY_WEIGHT,
    KEY_BY,
    KEY_COLOR,
    KEY_ERROR_EXITCODE,
};

static const char doc[] =
    "Compare two reports that leakwatch --format=json has written, of one watch or of two "
    "processes "
    "of the same build, and tell which stacks have grown. With two FILEs these are the last report "
    "of each (a summary is one, too), with one FILE its first and its last. FILE may be -, "
    "standard input.\v"
    "A report lists ten stacks, unless the watch was given --top: watch with --top=0 to compare "
    "all.\n"
    "\n"
    "Examples:\n"
    "  leakwatch -p 4711 --format=json:lw.json -T 0 -e 5m -d 1h\n"
    "  leakwatch diff lw.json                   what has grown within that hour\n"
    "  leakwatch diff monday.json friday.json   since Monday\n"
    "  leakwatch diff --format=svg:lw.svg lw.json\n"
    "                                           a flame graph, red: growth";

static const struct argp_option option_table[] = {
    {0, 0, 0, 0, "What to compare:", 1},
    {"reports", 'r', "A,B", 0,
     "The A-th report with the B-th: 1 is the first of a file, -1 the last (default -1,-1 with "
     "two FILEs, 1,-1 with one)",
     1},
    {"weight", KEY_WEIGHT, "WEIGHT", 0,
     "What counts: expired-bytes, expired-blocks, live-bytes or live-blocks (default "
     "expired-bytes)",
     1},
    {"by", KEY_BY, "KEY", 0,
     "Those stacks are the same whose frames have the same address (build-id and offset), or the "
     "same function (default address)",
     1},

    {0, 0, 0, 0, "What to print:", 2},
    {"top", 'T', "N", 0, "List N stacks, 0 for all that have changed (default 10)", 2},
    {"format", KEY_FORMAT, "FORMAT[:FILE]", 0,
     "text; json: one object; folded: stacks with two weights, for flamegraph.pl; svg: a flame "
     "graph "
     "for a browser, red where something has grown (default text). To FILE as with --output",
     2},
    {"output", 'o', "FILE", 0,
     "Write to FILE, which is replaced, instead of standard output; %p in it is the PID of the "
     "second report",
     2},
    {"color", KEY_COLOR, "WHEN", OPTION_ARG_OPTIONAL,
     "Colour: auto (on a terminal), always or never (default auto; no WHEN: always)", 2},
    {"quiet", 'q', 0, 0, "On standard error, errors only: no warnings", 2},
    {"verbose", 'v', 0, 0, "Print addresses, full paths and names, and offsets", 2},

    {0, 0, 0, 0, "How to exit:", 3},
    {"error-exitcode", KEY_ERROR_EXITCODE, "N", 0,
     "Exit with N when the total or any stack has grown (default 0: that does not matter)", 3},

    {0, 0, 0, 0, "Help:", -1},
    {0},
};

/* argp_error does not return. */
#define usage_error(state, ...) argp_error((state), __VA_ARGS__)

/* The index of `text` in `words`, which end with NULL. */
static int parse_word(const struct argp_state *state, const char *option, const char *text,
                      const char *const words[], const char *choices)
{
    int index = lw_option_word(text, words);

    if (index < 0)
        usage_error(state, "%s '%s' is not one of %s", option, text, choices);
    return index;
}

static long parse_number(const struct argp_state *state, const char *option, const char *text,
                         long max)
{
    char *end;

    errno = 0;
    long value = strtol(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value > max)
        usage_error(state, "%s '%s' is not a whole number from 0 to %ld", option, text, max);
    return value;
}

/* One number of --reports, which `stop` ends; returns what is behind that. */
static const char *parse_report(const struct argp_state *state, const char *all, const char *text,
                                char stop, long *number)
{
    char *end;

    errno = 0;
    *number = strtol(text, &end, 10);
    if ((text[0] != '-' && (text[0] < '0' || text[0] > '9')) || end == text || *end != stop ||
        errno != 0 || *number == 0 || labs(*number) > LARGEST_NUMBER)
        usage_error(state,
                    "--reports '%s' is not two numbers such as 1,-1: from 1 to %d, or negative to "
                    "count from the end",
                    all, LARGEST_NUMBER);
    return end + 1;
}

static void set_reports(struct lw_diff_command *command, const struct argp_state *state,
                        const char *text)
{
    const char *second = parse_report(state, text, text, ',', &command->numbers[0]);

    parse_report(state, text, second, '\0', &command->numbers[1]);
}

static void set_weight(struct lw_diff_command *command, const struct argp_state *state,
                       const char *text)
{
    command->diff.weight =
        (enum lw_weight)parse_word(state, "--weight", text, lw_weight_words, LW_WEIGHT_CHOICES);
}

static void set_by(struct lw_diff_command *command, const struct argp_state *state,
                   const char *text)
{
    static const char *const words[] = {"address", "function", NULL};

    command->diff.by =
        (enum lw_diff_key)parse_word(state, "--by", text, words, "address, function");
}

static void set_color(struct lw_diff_command *command, const struct argp_state *state,
                      const char *text)
{
    command->color =
        text ? (enum lw_color)parse_word(state, "--color", text, lw_color_words, LW_COLOR_CHOICES)
             : LW_COLOR_ALWAYS;
}

static void set_output(struct lw_diff_command *command, const struct argp_state *state,
                       const char *option, const char *text)
{
    if (text[0] == '\0')
        usage_error(state, "%s needs the name of a file", option);
    if (command->output)
        usage_error(state, "the output is one file, not both %s and %s", command->output, text);
    command->output = text;
}

static void set_format(struct lw_diff_command *command, const struct argp_state *state,
                       const char *text)
{
    static const struct lw_diff_writer *const writers[] = {
        &lw_diff_text_writer, &lw_diff_json_writer, &lw_diff_folded_writer, &lw_diff_svg_writer};
    size_t length = strcspn(text, ":");

    if (command->writer)
        usage_error(state, "more than one --format is given: diff writes one");
    for (size_t i = 0; i < sizeof(writers) / sizeof(writers[0]); i++)
        if (strlen(writers[i]->name) == length && strncmp(writers[i]->name, text, length) == 0)
            command->writer = writers[i];
    if (!command->writer)
        usage_error(state, "--format '%.*s' is not one of text, json, folded, svg", (int)length,
                    text);
    if (text[length] == ':')
        set_output(command, state, "--format=FORMAT:FILE", text + length + 1);
}

static void add_path(struct lw_diff_command *command, const struct argp_state *state,
                     const char *text)
{
    if (command->paths[1])
        usage_error(state, "more than two files are given: two reports are compared");
    if (command->paths[0] && strcmp(text, "-") == 0 && strcmp(command->paths[0], "-") == 0)
        usage_error(state, "standard input is one file: give - once to compare two reports in it");
    command->paths[command->paths[0] ? 1 : 0] = text;
}

static void finish(struct lw_diff_command *command, const struct argp_state *state)
{
    if (!command->paths[0])
        usage_error(state, "nothing to compare: give one or two files that leakwatch "
                           "--format=json has written (a command that is called diff is started "
                           "by: leakwatch -- diff)");
    if (command->numbers[0] == 0) {
        command->numbers[0] = command->paths[1] ? -1 : 1;
        command->numbers[1] = -1;
    }
    if (command->quiet && command->verbose)
        usage_error(state, "--quiet and --verbose contradict each other");
    if (!command->writer)
        command->writer = &lw_diff_text_writer;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct lw_diff_command *command = state->input;

    switch (key) {
    case 'r':
        set_reports(command, state, text);
        break;
    case 'T':
        command->diff.top = (size_t)parse_number(state, "--top", text, UINT32_MAX);
        break;
    case 'o':
        set_output(command, state, "--output", text);
        break;
    case 'q':
        command->quiet = true;
        break;
    case 'v':
        command->verbose = true;
        break;
    case KEY_FORMAT:
        set_format(command, state, text);
        break;
    case KEY_WEIGHT:
        set_weight(command, state, text);
        break;
    case KEY_BY:
        set_by(command, state, text);
        break;
    case KEY_COLOR:
        set_color(command, state, text);
        break;
    case KEY_ERROR_EXITCODE:
        command->error_exitcode = (int)parse_number(state, "--error-exitcode", text, 255);
        break;
    case ARGP_KEY_ARG:
        add_path(command, state, text);
        break;
    case ARGP_KEY_END:
        finish(command, state);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

void lw_diff_options_parse(struct lw_diff_command *command, int argc, char **argv)
{
    static const struct argp argp = {
        .options = option_table,
        .parser = parse_option,
        .args_doc = "FILE [FILE]",
        .doc = doc,
    };

    *command = (struct lw_diff_command){.diff = {.top = DEFAULT_TOP}};
    argp_program_version = "leakwatch " LEAKWATCH_VERSION;
    argp_err_exit_status = LW_EXIT_USAGE;
    if (argp_parse(&argp, argc, argv, 0, NULL, command) != 0) {
        fprintf(stderr, "leakwatch: out of memory\n");
        exit(LW_EXIT_USAGE);
    }
}
