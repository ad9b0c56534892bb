/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options that LEAKWATCH_OPTIONS and the files of --config give, before the command line does. */
#include "config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/vector.h"

#define BLANKS   " \t\r"
#define LONGEST  (1u << 20) /* bytes of a file: /dev/zero is no configuration */
#define PROGRAM  "leakwatch"
#define VARIABLE "LEAKWATCH_OPTIONS"

typedef LW_VECTOR(char *) word_list;

/* As argp ends when it refuses. */
static void __attribute__((noreturn)) suggest_help(void)
{
    fprintf(stderr, "Try `" PROGRAM " --help' or `" PROGRAM " --usage' for more information.\n");
    exit(LW_EXIT_USAGE);
}

void lw_option_refuse(const struct lw_option_parse *parse, const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, PROGRAM ": %s%s", parse->origin, parse->origin[0] != '\0' ? ": " : "");
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    suggest_help();
}

static void __attribute__((noreturn)) out_of_memory(void)
{
    fprintf(stderr, PROGRAM ": out of memory\n");
    exit(LW_EXIT_USAGE);
}

/* Between begin_source and end_source, options are read from one source (a file, say). Where what
 * it says contradicts what earlier ones said, it takes the place of that. */
static void begin_source(struct lw_option_parse *parse, enum lw_option_place place)
{
    struct lw_options *options = parse->options;

    parse->place = place;
    parse->earlier = *options;
    options->pid = 0;
    options->quiet = false;
    options->verbosity = 0;
    options->sample_auto = false;
    options->sample_bytes = 0;
    options->max_overhead = 0;
    options->output = NULL;
}

/* Is there a format for --output to give its file to? */
static bool needs_output(const struct lw_options *options, const struct lw_options *earlier)
{
    for (size_t i = 0; i < options->output_count; i++)
        if (!options->outputs[i].file)
            return true;
    return options->output_count == earlier->output_count; /* none was added that does not */
}

static void end_source(struct lw_option_parse *parse)
{
    struct lw_options *options = parse->options;
    const struct lw_options *earlier = &parse->earlier;
    bool trap = options->engine == LW_ENGINE_TRAP && earlier->engine != LW_ENGINE_TRAP;

    if (options->pid == 0 && !options->command)
        options->pid = earlier->pid;
    if (!options->quiet) {
        options->quiet = earlier->quiet && options->verbosity == 0;
        options->verbosity += earlier->verbosity;
    }
    if (!options->sample_auto && options->sample_bytes == 0 && !trap) {
        options->sample_auto = earlier->sample_auto;
        options->sample_bytes = earlier->sample_bytes;
    }
    if (options->max_overhead == 0 && (options->sample_auto || !earlier->sample_auto))
        options->max_overhead = earlier->max_overhead;
    if (!options->output && needs_output(options, earlier))
        options->output = earlier->output;
}

static void read_file(struct lw_option_parse *parse, const char *path);

/* What depends on where an option stands. */
static error_t parse_here(int key, char *text, struct argp_state *state)
{
    struct lw_option_parse *parse = state->input;
    bool command_line = parse->place == LW_PLACE_COMMAND_LINE;

    if (key == ARGP_KEY_INIT && !command_line)
        state->err_stream = NULL; /* argp would suggest "leakwatch: FILE:LINE --help" */
    else if (key == LW_KEY_CONFIG && parse->place == LW_PLACE_FILE)
        lw_option_refuse(parse, "--config is not for a file that is read by --config");
    else if (key == LW_KEY_CONFIG && parse->place == LW_PLACE_ENVIRONMENT)
        read_file(parse, text);
    else if (key == 'p' && parse->place == LW_PLACE_ENVIRONMENT)
        lw_option_refuse(parse, "a PID is not taken from the environment");
    else if (key == ARGP_KEY_ARG && !command_line)
        lw_option_refuse(parse, "'%s' is not an option", text);
    else if (key == ARGP_KEY_END && command_line)
        end_source(parse);
    if (key == LW_KEY_CONFIG || (key == ARGP_KEY_END && !command_line))
        return 0;
    return parse->argp->parser(key, text, state);
}

/* Has argp read a command line, or what stands for one, of the present source. */
static void read_arguments(struct lw_option_parse *parse, int argc, char **argv, unsigned flags)
{
    struct argp here = *parse->argp;

    here.parser = parse_here;
    /* in order: options after the command are the command's own */
    error_t result = argp_parse(&here, argc, argv, ARGP_IN_ORDER | flags, NULL, parse);
    if (result == EINVAL)
        suggest_help(); /* getopt has complained */
    if (result != 0)
        out_of_memory();
}

/* What options may point into stays until lw_options_deinit. */
static char *keep(struct lw_options *options, char *text)
{
    if (!text || lw_vector_push(&options->texts, text) != 0)
        out_of_memory();
    return text;
}

/*
 * Takes the next word off *rest, in place; NULL at the end and at a comment. Blanks part words;
 * quotes and the backslash keep blanks in them as they do in a shell.
 */
static char *next_word(const struct lw_option_parse *parse, char **rest)
{
    char *at = *rest + strspn(*rest, BLANKS), *word = at, *end = at;
    char quote = '\0';

    if (*at == '\0' || *at == '#')
        return NULL;
    for (; *at != '\0' && (quote || !strchr(BLANKS, *at)); at++) {
        if (*at == quote)
            quote = '\0';
        else if (!quote && (*at == '\'' || *at == '"'))
            quote = *at;
        else if (*at == '\\' && quote != '\'' && at[1] != '\0')
            *end++ = *++at;
        else
            *end++ = *at;
    }
    if (quote)
        lw_option_refuse(parse, "the quote (%c) is not closed", quote);
    *rest = *at == '\0' ? at : at + 1;
    *end = '\0';
    return word;
}

/* "expire = 5m", "expire 5m" or "expire=5m": --expire=5m. "quiet": --quiet. */
static char *named_option(const struct lw_option_parse *parse, char *text)
{
    int length = (int)strcspn(text, BLANKS "=#");
    char *rest = text + length + strspn(text + length, BLANKS);
    bool assigned = *rest == '=';
    char *option;

    if (length == 0)
        lw_option_refuse(parse, "'%s' does not begin with the name of an option", text);
    if (assigned)
        rest++;
    const char *value = next_word(parse, &rest);
    if (value && next_word(parse, &rest))
        lw_option_refuse(parse, "more than one value for %.*s: quote one that has blanks", length,
                         text);
    if (asprintf(&option, "--%.*s%s%s", length, text, value || assigned ? "=" : "",
                 value ? value : "") < 0)
        return NULL;
    return option;
}

static void push_word(word_list *words, char *word)
{
    if (lw_vector_push(words, word) != 0)
        out_of_memory();
}

/* Has argp read one line of parse->origin, as a command line of its own. */
static void read_line(struct lw_option_parse *parse, char *text)
{
    word_list words = {0};
    lw_auto_free char *name = NULL;
    char *word;

    text += strspn(text, BLANKS);
    if (*text == '\0' || *text == '#')
        return;
    /* getopt begins its complaints with this */
    if (asprintf(&name, PROGRAM ": %s", parse->origin) < 0)
        out_of_memory();
    push_word(&words, name);
    if (*text == '-')
        while ((word = next_word(parse, &text)))
            push_word(&words, word);
    else
        push_word(&words, keep(parse->options, named_option(parse, text)));
    push_word(&words, NULL);
    /* no --help or --version in here */
    read_arguments(parse, (int)words.count - 1, words.items, ARGP_NO_HELP);
    lw_vector_deinit(&words);
}

/* Reads `text`, which stays with the options; `numbered`: complaints tell the line. */
static void read_text(struct lw_option_parse *parse, char *text, const char *source, bool numbered)
{
    const char *outer = parse->origin;
    char *rest = keep(parse->options, text), *line;

    for (unsigned number = 1; (line = strsep(&rest, "\n")); number++) {
        lw_auto_free char *origin = NULL;

        if ((numbered ? asprintf(&origin, "%s:%u", source, number)
                      : asprintf(&origin, "%s", source)) < 0)
            out_of_memory();
        parse->origin = origin;
        read_line(parse, line);
        parse->origin = outer;
    }
}

/* At most `size` bytes of the file, the number of which is put into *length; 0 or an errno. */
static int read_bytes(const char *path, char *bytes, size_t size, size_t *length)
{
    FILE *file = fopen(path, "re");

    if (!file)
        return errno;
    *length = fread(bytes, 1, size, file);
    int error = ferror(file) ? errno : 0;
    fclose(file); /* nothing was written */
    return error;
}

/* The lines of the file stand in the place of --config. */
static void read_file(struct lw_option_parse *parse, const char *path)
{
    enum lw_option_place place = parse->place;
    lw_auto_free char *text = calloc(1, LONGEST + 2);
    size_t length = 0;

    if (!text)
        out_of_memory();
    int error = read_bytes(path, text, LONGEST + 1, &length);
    if (error != 0)
        lw_option_refuse(parse, "--config '%s' cannot be read: %s", path, strerror(error));
    if (length > LONGEST || strlen(text) != length)
        lw_option_refuse(parse, "--config '%s' is not a text of options", path);
    parse->place = LW_PLACE_FILE;
    read_text(parse, strdup(text), path, true);
    parse->place = place;
}

typedef LW_VECTOR(const char *) file_list;

bool lw_argument_is_command(const struct argp_state *state, const char *text)
{
    bool after_dashes = state->quoted != 0 && state->next - 1 >= state->quoted;

    return after_dashes || text[0] == '\0' || text[strspn(text, "0123456789")] != '\0';
}

/* Finds each --config of a command line; what else there is counts for nothing yet. */
static error_t scan_option(int key, char *text, struct argp_state *state)
{
    file_list *files = state->input;

    if (key == LW_KEY_CONFIG && lw_vector_push(files, (const char *)text) != 0)
        return ENOMEM;
    if (key == ARGP_KEY_ARG && lw_argument_is_command(state, text))
        state->next = state->argc; /* its options are its own */
    return 0;
}

static void read_environment(struct lw_option_parse *parse, const char *text)
{
    begin_source(parse, LW_PLACE_ENVIRONMENT);
    read_text(parse, strdup(text), VARIABLE, false);
    end_source(parse);
}

static void read_configuration(struct lw_option_parse *parse, int argc, char **argv)
{
    const struct argp scanner = {.options = parse->argp->options, .parser = scan_option};
    const char *environment = getenv(VARIABLE);
    file_list files = {0};

    if (argp_parse(&scanner, argc, argv, ARGP_IN_ORDER | ARGP_SILENT, NULL, &files) == 0) {
        if (environment)
            read_environment(parse, environment);
        lw_vector_for_each (file, &files) {
            begin_source(parse, LW_PLACE_FILE);
            read_file(parse, *file);
            end_source(parse);
        }
    }
    lw_vector_deinit(&files);
}

void lw_config_parse(struct lw_options *options, const struct argp *argp, int argc, char **argv)
{
    struct lw_option_parse parse = {.options = options, .argp = argp, .origin = ""};

    read_configuration(&parse, argc, argv);
    begin_source(&parse, LW_PLACE_COMMAND_LINE);
    read_arguments(&parse, argc, argv, 0);
}
