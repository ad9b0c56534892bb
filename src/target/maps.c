/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads and parses /proc/PID/maps. */
#include "leakwatch/target/maps.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/text.h"

/* A number in the base, ended by `stop`; moves *text past that. */
static bool parse_number(const char **text, int base, char stop, uint64_t *value)
{
    /* strtoull would also take blanks, a sign and a line's end. */
    if (!isxdigit((unsigned char)**text))
        return false;
    char *end;
    errno = 0;
    *value = strtoull(*text, &end, base);
    if (errno != 0 || *end != stop)
        return false;
    *text = end + 1;
    return true;
}

static bool parse_permissions(const char **text, struct lw_mapping *mapping)
{
    const char *p = *text;
    for (size_t i = 0; i < 4; i++) {
        if (p[i] != "rwxs"[i] && p[i] != (i == 3 ? 'p' : '-'))
            return false;
    }
    if (p[4] != ' ')
        return false;
    mapping->readable = p[0] == 'r';
    mapping->writable = p[1] == 'w';
    mapping->executable = p[2] == 'x';
    mapping->shared = p[3] == 's';
    *text = p + 5;
    return true;
}

/* Newline is the only character that the kernel escapes here, and a backslash is not escaped: any
 * other octal sequence is part of the name. */
static void unescape_newlines(char *path)
{
    char *out = path;
    for (const char *in = path; *in != '\0'; out++) {
        if (strncmp(in, "\\012", 4) == 0) {
            *out = '\n';
            in += 4;
        } else {
            *out = *in++;
        }
    }
    *out = '\0';
}

static char *parse_path(const char *text, size_t length, bool *deleted)
{
    static const char suffix[] = " (deleted)";
    const size_t suffix_length = sizeof(suffix) - 1;
    *deleted =
        length > suffix_length && memcmp(text + length - suffix_length, suffix, suffix_length) == 0;
    if (*deleted)
        length -= suffix_length;
    char *path = strndup(text, length);
    if (path != NULL)
        unescape_newlines(path);
    return path;
}

/* One line of `length` bytes; its path is the caller's to free. */
static int parse_line(const char *line, size_t length, struct lw_mapping *mapping)
{
    const char *p = line;
    uint64_t major, minor;
    *mapping = (struct lw_mapping){0};
    if (!parse_number(&p, 16, '-', &mapping->start) || !parse_number(&p, 16, ' ', &mapping->end) ||
        !parse_permissions(&p, mapping) || !parse_number(&p, 16, ' ', &mapping->offset) ||
        !parse_number(&p, 16, ':', &major) || !parse_number(&p, 16, ' ', &minor))
        return -EINVAL;
    if (major > UINT32_MAX || minor > UINT32_MAX || mapping->start >= mapping->end)
        return -EINVAL;
    mapping->dev_major = (uint32_t)major;
    mapping->dev_minor = (uint32_t)minor;

    /* Old kernels end the line of an anonymous mapping right after the inode. */
    size_t digits = strspn(p, "0123456789");
    const char *end = line + length;
    if (digits == 0 || digits > 20 || (p + digits < end && p[digits] != ' '))
        return -EINVAL;
    mapping->inode = strtoull(p, NULL, 10);
    p += digits;
    while (p < end && *p == ' ')
        p++;
    mapping->path = parse_path(p, (size_t)(end - p), &mapping->deleted);
    return mapping->path != NULL ? 0 : -ENOMEM;
}

static void clear(struct lw_maps *maps)
{
    lw_vector_for_each (mapping, &maps->list)
        free(mapping->path);
    lw_vector_clear(&maps->list);
}

/* The kernel hands the file out a page at a time and lets the process change its mappings in
 * between; a mapping that has merged with the one before it then comes again with a lower start. */
static bool cut_overlap(const struct lw_maps *maps, struct lw_mapping *mapping)
{
    if (maps->list.count == 0)
        return true;
    uint64_t covered = maps->list.items[maps->list.count - 1].end;
    if (mapping->end <= covered)
        return false;
    if (mapping->start < covered) {
        mapping->offset += covered - mapping->start;
        mapping->start = covered;
    }
    return true;
}

static int append_line(struct lw_maps *maps, const char *line, size_t length)
{
    struct lw_mapping mapping;
    int result = parse_line(line, length, &mapping);
    if (result != 0)
        return result;
    bool wanted = cut_overlap(maps, &mapping);
    if (wanted)
        result = lw_vector_push(&maps->list, mapping);
    if (!wanted || result != 0)
        free(mapping.path);
    return result;
}

int lw_maps_parse(struct lw_maps *maps, const char *text)
{
    clear(maps);
    while (*text != '\0') {
        const char *end = strchrnul(text, '\n');
        int result = append_line(maps, text, (size_t)(end - text));
        if (result != 0) {
            clear(maps);
            return result;
        }
        text = *end == '\n' ? end + 1 : end;
    }
    return 0;
}

int lw_maps_read(struct lw_maps *maps, pid_t pid)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
    lw_auto_free char *text = lw_text_read_file(path, NULL);
    if (text == NULL) {
        int code = errno;
        clear(maps);
        return code == ENOENT ? -ESRCH : -code;
    }
    return lw_maps_parse(maps, text);
}

void lw_maps_deinit(struct lw_maps *maps)
{
    clear(maps);
    lw_vector_deinit(&maps->list);
}

const struct lw_mapping *lw_maps_find(const struct lw_maps *maps, uint64_t address)
{
    size_t low = 0, high = maps->list.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (maps->list.items[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == maps->list.count || maps->list.items[low].start > address)
        return NULL;
    return &maps->list.items[low];
}
