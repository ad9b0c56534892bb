/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line, parsed with argp and checked. */
#include "leakwatch/app/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/units.h"
#include "leakwatch/model/stack.h"
#include "option_table.h"
#include "option_words.h"

#define DEFAULT_EXPIRE_NS   (10 * LW_NS_PER_SECOND)
#define DEFAULT_INTERVAL_NS (10 * LW_NS_PER_SECOND)
#define DEFAULT_TOP         10
#define DEFAULT_DEPTH       64
#define DEFAULT_OVERHEAD    5 /* percent */
#define DEFAULT_MEMORY      (512ull << 20)
#define SMALLEST_MEMORY     (1ull << 20)

/* Does not return. */
#define usage_error(state, ...) lw_option_refuse((state)->input, __VA_ARGS__)

static uint64_t parse_number(const struct argp_state *state, const char *option, const char *text,
                             uint64_t min, uint64_t max)
{
    char *end;

    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    /* strtoull takes blanks and a minus sign, which no option here means */
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < min || value > max)
        usage_error(state, "%s '%s' is not a whole number from %llu to %llu", option, text,
                    (unsigned long long)min, (unsigned long long)max);
    return value;
}

static uint64_t parse_time(const struct argp_state *state, const char *option, const char *text)
{
    uint64_t ns = 0;
    int result = lw_parse_duration(text, &ns);

    if (result == -ERANGE)
        usage_error(state, "%s '%s' is too long a time", option, text);
    else if (result != 0)
        usage_error(state, "%s '%s' is not a time such as 500ms, 30, 30s or 5m", option, text);
    else if (ns == 0)
        usage_error(state, "%s must be longer than 0", option);
    return ns;
}

static uint64_t parse_size(const struct argp_state *state, const char *option, const char *text)
{
    uint64_t bytes = 0;
    int result = lw_parse_size(text, &bytes);

    if (result == -ERANGE)
        usage_error(state, "%s '%s' is too large", option, text);
    else if (result != 0)
        usage_error(state, "%s '%s' is not a size such as 4096, 4k or 1M", option, text);
    return bytes;
}

/* The index of `text` in `words`, which end with NULL. */
static int parse_word(const struct argp_state *state, const char *option, const char *text,
                      const char *const *words, const char *choices)
{
    int index = lw_option_word(text, words);

    if (index < 0)
        usage_error(state, "%s '%s' is not one of %s", option, text, choices);
    return index;
}

static void set_pid(struct lw_options *options, const struct argp_state *state, const char *text)
{
    char *end;

    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < 1 ||
        value > INT32_MAX)
        usage_error(state, "'%s' is not a PID", text);
    else if (options->pid != 0)
        usage_error(state, "more than one PID is given (%d and %s): watch one at a time",
                    (int)options->pid, text);
    options->pid = (pid_t)value;
}

static void set_argument(struct lw_options *options, struct argp_state *state, const char *text)
{
    if (!lw_argument_is_command(state, text)) {
        set_pid(options, state, text);
        return;
    }
    if (text[0] == '\0')
        usage_error(state, "the command is empty");
    options->command = &state->argv[state->next - 1];
    state->next = state->argc;
}

static void set_defaults(struct lw_options *options)
{
    *options = (struct lw_options){
        .expire_ns = DEFAULT_EXPIRE_NS,
        .interval_ns = DEFAULT_INTERVAL_NS,
        .duration_ns = LW_NEVER,
        .depth = DEFAULT_DEPTH,
        .max_size = UINT64_MAX,
        .max_memory = DEFAULT_MEMORY,
        .engine = LW_ENGINE_AUTO,
        .report = {.sort = LW_SORT_BYTES, .top = DEFAULT_TOP},
        .color = LW_COLOR_AUTO,
    };
}

/* An engine that sees everything has nothing to estimate, and only sampling can keep to a limit. */
static void check_sampling(const struct lw_options *options, const struct argp_state *state)
{
    bool sampled = options->sample_auto || options->sample_bytes != 0;

    if (sampled && options->engine == LW_ENGINE_TRAP)
        usage_error(state, "--sample is not for --engine=trap, which sees every allocation anyway");
    if (options->max_overhead > 0 && !options->sample_auto)
        usage_error(state, "--max-overhead is for --sample=auto, which is not given");
}

static void check(const struct lw_options *options, const struct argp_state *state)
{
    if (options->pid == 0 && !options->command)
        usage_error(state, "nothing to watch: give a PID (-p PID), or a command after --");
    if (options->pid != 0 && options->command)
        usage_error(state, "give a PID or a command, not both (PID %d and '%s')", (int)options->pid,
                    options->command[0]);
    if (options->min_size > options->max_size)
        usage_error(state, "--min-size is larger than --max-size: no block can be both");
    if (options->quiet && options->verbosity > 0)
        usage_error(state, "--quiet and --verbose contradict each other");
    check_sampling(options, state);
}

static bool is_standard_output(const char *file)
{
    return !file || strcmp(file, "-") == 0;
}

static bool is_same_file(const char *a, const char *b)
{
    if (is_standard_output(a) || is_standard_output(b))
        return is_standard_output(a) && is_standard_output(b);
    return strcmp(a, b) == 0;
}

static void add_output(struct lw_options *options, const struct argp_state *state,
                       const struct lw_writer *writer, const char *file)
{
    if (options->output_count == LW_OUTPUT_MAX)
        usage_error(state, "more than %d --format are given", LW_OUTPUT_MAX);
    options->outputs[options->output_count++] =
        (struct lw_output_request){.writer = writer, .file = file};
}

static void add_suppressions(struct lw_options *options, const struct argp_state *state,
                             const char *text)
{
    if (options->suppression_file_count == LW_SUPPRESSION_FILES_MAX)
        usage_error(state, "more than %d --suppressions are given", LW_SUPPRESSION_FILES_MAX);
    options->suppression_files[options->suppression_file_count++] = text;
}

/* Gives each format its file, and each file its one format. */
static void assign_outputs(struct lw_options *options, const struct argp_state *state)
{
    bool used = false;

    if (options->output_count == 0)
        add_output(options, state, &lw_text_writer, NULL);
    if (options->metrics_file)
        add_output(options, state, &lw_prometheus_writer, options->metrics_file);
    if (options->generated_suppressions)
        add_output(options, state, &lw_suppressions_writer, options->generated_suppressions);
    for (size_t i = 0; i < options->output_count; i++) {
        struct lw_output_request *request = &options->outputs[i];

        if (!request->file) {
            request->file = options->output;
            used = true;
        }
        options->report.every_stack |= request->writer->whole_file;
        for (size_t j = 0; j < i; j++)
            if (is_same_file(options->outputs[j].file, request->file))
                usage_error(state,
                            "%s and %s would both be written to %s: give each a file, "
                            "--format=FORMAT:FILE",
                            options->outputs[j].writer->name, request->writer->name,
                            is_standard_output(request->file) ? "standard output" : request->file);
    }
    if (options->output && !used)
        usage_error(state, "nothing is left for --output: every --format has a file of its own");
}

static const char *parse_file(const struct argp_state *state, const char *option, const char *text)
{
    if (text[0] == '\0')
        usage_error(state, "%s needs the name of a file", option);
    return text;
}

static void set_format(struct lw_options *options, const struct argp_state *state, const char *text)
{
    size_t length = strcspn(text, ":");
    const struct lw_writer *writer = lw_writer_find(text, length);

    if (!writer)
        usage_error(state, "--format '%.*s' is not one of %s", (int)length, text,
                    lw_writer_names());
    else if (text[length] == ':' && text[length + 1] == '\0')
        usage_error(state, "'--format=%s' needs the name of a file behind the colon", text);
    add_output(options, state, writer, text[length] == ':' ? text + length + 1 : NULL);
}

static void set_weight(struct lw_options *options, const struct argp_state *state, const char *text)
{
    options->weight =
        (enum lw_weight)parse_word(state, "--weight", text, lw_weight_words, LW_WEIGHT_CHOICES);
}

static void set_sort(struct lw_options *options, const struct argp_state *state, const char *text)
{
    static const char *const words[] = {"bytes", "blocks", "age", "growth", NULL};

    options->report.sort =
        (enum lw_report_sort)parse_word(state, "--sort", text, words, "bytes, blocks, age, growth");
}

static void set_color(struct lw_options *options, const struct argp_state *state, const char *text)
{
    options->color =
        text ? (enum lw_color)parse_word(state, "--color", text, lw_color_words, LW_COLOR_CHOICES)
             : LW_COLOR_ALWAYS;
}

static void set_engine(struct lw_options *options, const struct argp_state *state, const char *text)
{
    static const char *const words[] = {"auto", "record", "trap", NULL};

    options->engine =
        (enum lw_engine_choice)parse_word(state, "--engine", text, words, "auto, record, trap");
}

/* The last --sample counts. */
static void set_sample(struct lw_options *options, const struct argp_state *state, const char *text)
{
    uint64_t bytes = 0;

    options->sample_auto = strcmp(text, "auto") == 0;
    if (!options->sample_auto &&
        (lw_parse_size(text, &bytes) != 0 || bytes < LW_SAMPLE_MIN || bytes > LW_SAMPLE_MAX))
        usage_error(state, "--sample '%s' is not auto, nor a size from 1k to 1024G", text);
    options->sample_bytes = bytes;
}

static void set_max_overhead(struct lw_options *options, const struct argp_state *state,
                             const char *text)
{
    double percent = 0;

    if (lw_parse_percent(text, &percent) != 0 || percent <= 0 || percent > 100)
        usage_error(state, "--max-overhead '%s' is not a number above 0, up to 100 (percent)",
                    text);
    options->max_overhead = percent;
}

static void set_max_memory(struct lw_options *options, const struct argp_state *state,
                           const char *text)
{
    options->max_memory = parse_size(state, "--max-memory", text);
    if (options->max_memory < SMALLEST_MEMORY)
        usage_error(state, "--max-memory '%s' is less than 1M", text);
}

/* All have been read. */
static void finish(struct lw_options *options, const struct argp_state *state)
{
    check(options, state);
    assign_outputs(options, state);
    if (options->max_overhead == 0) /* not given */
        options->max_overhead = DEFAULT_OVERHEAD;
}

/* What is watched, how and when. */
static error_t parse_watch_option(int key, const char *text, const struct argp_state *state)
{
    struct lw_options *options = ((struct lw_option_parse *)state->input)->options;

    switch (key) {
    case 'p':
        set_pid(options, state, text);
        break;
    case 'z':
        options->min_size = parse_size(state, "--min-size", text);
        break;
    case 'Z':
        options->max_size = parse_size(state, "--max-size", text);
        break;
    case 'l':
        options->depth = parse_number(state, "--depth", text, 1, LW_STACK_MAX_DEPTH);
        break;
    case 'e':
        options->expire_ns = parse_time(state, "--expire", text);
        break;
    case 'i':
        options->interval_ns = parse_time(state, "--interval", text);
        break;
    case 'n':
        options->count = parse_number(state, "--count", text, 1, UINT32_MAX);
        break;
    case 'd':
        options->duration_ns = parse_time(state, "--duration", text);
        break;
    case KEY_MARK:
        options->mark_ns = parse_time(state, "--mark", text);
        break;
    case KEY_ENGINE:
        set_engine(options, state, text);
        break;
    case KEY_SAMPLE:
        set_sample(options, state, text);
        break;
    case KEY_MAX_OVERHEAD:
        set_max_overhead(options, state, text);
        break;
    case KEY_MAX_MEMORY:
        set_max_memory(options, state, text);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* What is said of it, and where. */
static error_t parse_report_option(int key, const char *text, const struct argp_state *state)
{
    struct lw_options *options = ((struct lw_option_parse *)state->input)->options;

    switch (key) {
    case 'T':
        options->report.top = parse_number(state, "--top", text, 0, UINT32_MAX);
        break;
    case 'a':
        options->report.show_blocks = true;
        break;
    case 'o':
        options->output = parse_file(state, "--output", text);
        break;
    case 'q':
        options->quiet = true;
        break;
    case 'v':
        options->verbosity++;
        break;
    case KEY_SORT:
        set_sort(options, state, text);
        break;
    case KEY_FORMAT:
        set_format(options, state, text);
        break;
    case KEY_WEIGHT:
        set_weight(options, state, text);
        break;
    case KEY_METRICS_FILE:
        options->metrics_file = parse_file(state, "--metrics-file", text);
        break;
    case KEY_COLOR:
        set_color(options, state, text);
        break;
    case KEY_ERROR_EXITCODE:
        options->error_exitcode = (int)parse_number(state, "--error-exitcode", text, 0, 255);
        break;
    case KEY_SUPPRESSIONS:
        add_suppressions(options, state, parse_file(state, "--suppressions", text));
        break;
    case KEY_NO_DEFAULT_SUPPRESSIONS:
        options->no_default_suppressions = true;
        break;
    case KEY_GENERATE_SUPPRESSIONS:
        options->generated_suppressions = parse_file(state, "--generate-suppressions", text);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct lw_options *options = ((struct lw_option_parse *)state->input)->options;

    switch (key) {
    case ARGP_KEY_ARG:
        set_argument(options, state, text);
        break;
    case ARGP_KEY_END:
        finish(options, state);
        break;
    default:
        return parse_watch_option(key, text, state) == 0 ? 0
                                                         : parse_report_option(key, text, state);
    }
    return 0;
}

void lw_options_parse(struct lw_options *options, int argc, char **argv)
{
    static const struct argp argp = {
        .options = lw_option_table,
        .parser = parse_option,
        .args_doc = lw_option_arguments,
        .doc = lw_option_doc,
    };

    set_defaults(options);
    argp_program_version = "leakwatch " LEAKWATCH_VERSION;
    argp_err_exit_status = LW_EXIT_USAGE;
    lw_config_parse(options, &argp, argc, argv);
}

void lw_options_deinit(struct lw_options *options)
{
    lw_vector_for_each (text, &options->texts)
        free(*text);
    lw_vector_deinit(&options->texts);
}
