/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Chooses lines of a file of JSON lines. A file of a long watch is large: only lines that do not
 * begin as leakwatch writes them are parsed to be told apart. */
#include "saved_lines.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/log.h"
#include "leakwatch/base/vector.h"

/* json-c takes lengths as int. */
#define LONGEST_LINE (1u << 30)

LW_DEFINE_CLEANUP(cleanup_tokener, struct json_tokener *, json_tokener_free, NULL)
LW_DEFINE_CLEANUP(cleanup_json, struct json_object *, json_object_put, NULL)

/* The lines that may yet turn out to be the wanted one: with a negative number the last so many. */
struct window {
    long number;
    LW_VECTOR(struct lw_saved_line) lines;
};

static void window_deinit(struct window *window)
{
    lw_vector_for_each (line, &window->lines)
        free(line->text);
    lw_vector_deinit(&window->lines);
}

static lw_error *no_memory(void)
{
    return lw_error_create(ENOMEM, "out of memory");
}

lw_error *lw_saved_line_parse(const struct lw_saved_line *line, const char *path,
                              struct json_object **object)
{
    LW_CLEANUP(cleanup_tokener) struct json_tokener *tokener = json_tokener_new();

    if (!tokener)
        return no_memory();
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    LW_CLEANUP(cleanup_json)
    struct json_object *parsed = json_tokener_parse_ex(tokener, line->text, (int)line->length);
    enum json_tokener_error error = json_tokener_get_error(tokener);
    if (error == json_tokener_continue)
        return lw_error_create(EINVAL, "%s:%zu: the line is cut short", path, line->number);
    if (error != json_tokener_success)
        return lw_error_create(EINVAL, "%s:%zu: not JSON: %s, at byte %zu", path, line->number,
                               json_tokener_error_desc(error),
                               json_tokener_get_parse_end(tokener) + 1);
    if (!json_object_is_type(parsed, json_type_object))
        return lw_error_create(EINVAL, "%s:%zu: not a JSON object", path, line->number);
    *object = lw_take_pointer(parsed);
    return NULL;
}

static size_t skip_blanks(const struct lw_saved_line *line, size_t at)
{
    while (at < line->length && memchr(" \t\r", line->text[at], 3))
        at++;
    return at;
}

/* Behind `word`, if that is what comes next; else 0. */
static size_t skip_word(const struct lw_saved_line *line, size_t at, const char *word)
{
    size_t length = strlen(word);

    at = skip_blanks(line, at);
    if (line->length - at < length || memcmp(line->text + at, word, length) != 0)
        return 0;
    return at + length;
}

/* True if the type stands where leakwatch puts it. */
static bool has_plain_type(const struct lw_saved_line *line, bool *is_report)
{
    size_t at = skip_word(line, 0, "{");

    at = at ? skip_word(line, at, "\"type\"") : 0;
    at = at ? skip_word(line, at, ":") : 0;
    if (at == 0 || skip_word(line, at, "\"") == 0)
        return false;
    *is_report = skip_word(line, at, "\"report\"") || skip_word(line, at, "\"summary\"");
    return true;
}

static lw_error *look_at(const struct lw_saved_line *line, const char *path, bool *is_report)
{
    LW_CLEANUP(cleanup_json) struct json_object *object = NULL;
    struct json_object *type;

    if (has_plain_type(line, is_report))
        return NULL;
    lw_error *error = lw_saved_line_parse(line, path, &object);
    if (error)
        return error;
    if (!json_object_object_get_ex(object, "type", &type) ||
        !json_object_is_type(type, json_type_string))
        return lw_error_create(EINVAL, "%s:%zu: not a line of --format=json: it has no \"type\"",
                               path, line->number);
    const char *name = json_object_get_string(type);
    *is_report = strcmp(name, "report") == 0 || strcmp(name, "summary") == 0;
    return NULL;
}

/* `index`: of the report, from 1. */
static int keep(struct window *window, const struct lw_saved_line *line, size_t index)
{
    if (window->number > 0 && index != (size_t)window->number)
        return 0;
    struct lw_saved_line copy = *line;
    copy.text = malloc(line->length + 1);
    if (!copy.text)
        return -ENOMEM;
    memcpy(copy.text, line->text, line->length);
    if (lw_vector_push(&window->lines, copy) != 0) {
        free(copy.text);
        return -ENOMEM;
    }
    if (window->number < 0 && window->lines.count > (size_t)-window->number) {
        free(window->lines.items[0].text);
        memmove(window->lines.items, window->lines.items + 1, --window->lines.count * sizeof(copy));
    }
    return 0;
}

/* Counts the report that the line is, if it is one, and lets those windows keep it that want it. */
static lw_error *take_line(const struct lw_saved_line *line, const char *path,
                           struct window windows[], size_t count, size_t *reports)
{
    bool is_report = false;

    if (line->length > LONGEST_LINE)
        return lw_error_create(EFBIG, "%s:%zu: a line of more than 1 GiB is not read", path,
                               line->number);
    if (skip_blanks(line, 0) == line->length)
        return NULL;
    lw_error *error = look_at(line, path, &is_report);
    if (error || !is_report)
        return error;
    ++*reports;
    for (size_t i = 0; i < count; i++)
        if (keep(&windows[i], line, *reports) != 0)
            return no_memory();
    return NULL;
}

/* A line without its end is that of a file that is still being written, or was cut. */
static bool is_cut(const struct lw_saved_line *line, const char *path)
{
    LW_CLEANUP(cleanup_json) struct json_object *object = NULL;

    if (line->length > LONGEST_LINE || skip_blanks(line, 0) == line->length)
        return false;
    lw_error *error = lw_saved_line_parse(line, path, &object);
    if (!error)
        return false;
    lw_warn("%s:%zu: the last line is not complete (is the file still being written?): it is "
            "passed over",
            path, line->number);
    lw_error_destroy(error);
    return true;
}

static lw_error *read_lines(FILE *stream, const char *path, struct window windows[], size_t count,
                            size_t *reports)
{
    lw_auto_free char *buffer = NULL;
    size_t capacity = 0;
    struct lw_saved_line line = {.number = 1};
    ssize_t length;

    for (errno = 0; (length = getline(&buffer, &capacity, stream)) >= 0; line.number++, errno = 0) {
        bool whole = length > 0 && buffer[length - 1] == '\n';
        line.text = buffer;
        line.length = (size_t)length - whole;
        /* a first line that is no JSON is that of another file, not of one being written */
        if (!whole && line.number > 1 && is_cut(&line, path))
            return NULL;
        lw_error *error = take_line(&line, path, windows, count, reports);
        if (error)
            return error;
    }
    if (!feof(stream) || ferror(stream))
        return lw_error_create(errno, "cannot read %s: %s", path, strerror(errno ? errno : EIO));
    return NULL;
}

/* Takes the wanted line out of the window. */
static lw_error *take_wanted(struct window *window, const char *path, size_t reports,
                             struct lw_saved_line *line)
{
    long number = window->number;

    if (reports == 0)
        return lw_error_create(EINVAL,
                               "%s has no report: what leakwatch --format=json has written is "
                               "compared",
                               path);
    if ((number < 0 ? (size_t)-number : (size_t)number) > reports)
        return lw_error_create(EINVAL, "%s has %zu report%s: there is no report %ld", path, reports,
                               reports == 1 ? "" : "s", number);
    *line = window->lines.items[0];
    window->lines.items[0].text = NULL;
    return NULL;
}

lw_error *lw_saved_lines_choose(FILE *stream, const char *path, const long numbers[], size_t count,
                                struct lw_saved_line lines[])
{
    struct window *windows = calloc(count, sizeof(*windows));
    size_t reports = 0;

    if (!windows)
        return no_memory();
    for (size_t i = 0; i < count; i++) {
        windows[i].number = numbers[i];
        lines[i] = (struct lw_saved_line){0};
    }
    lw_error *error = read_lines(stream, path, windows, count, &reports);
    for (size_t i = 0; i < count && !error; i++)
        error = take_wanted(&windows[i], path, reports, &lines[i]);
    for (size_t i = 0; i < count; i++) {
        window_deinit(&windows[i]);
        if (error)
            free(lw_take_pointer(lines[i].text));
    }
    free(windows);
    return error;
}
