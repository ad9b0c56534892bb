/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Suppressions: which stacks reports are not to list, in the syntaxes of valgrind's memcheck and of
 * LeakSanitizer. */
#ifndef LEAKWATCH_REPORT_SUPPRESSION_H
#define LEAKWATCH_REPORT_SUPPRESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "leakwatch/base/error.h"

/* Suppressions in the order in which they were read; of several that match, the first takes the
 * stack. Knows no process: what a stack's frames are called is told to it. */
struct lw_suppressions;

struct lw_suppression {
    const char *name; /* valgrind's name of it, or the whole "leak:PATTERN" */
    const char *file; /* as given, or that of the default set */
    unsigned line;
    bool is_default;
};

/* NULL: out of memory. */
struct lw_suppressions *lw_suppressions_create(void);
void lw_suppressions_destroy(struct lw_suppressions *set);

/* Adds those of a file; a line that makes no sense is an error that names file and line. After an
 * error the set can only be destroyed. */
lw_error *lw_suppressions_read(struct lw_suppressions *set, const char *path);
/* Adds the default set, which is part of the program. */
lw_error *lw_suppressions_add_defaults(struct lw_suppressions *set);
/* Adds those of a text, which needs no terminating NUL; `file` is what to call it, and outlives the
 * set. */
lw_error *lw_suppressions_parse(struct lw_suppressions *set, const char *file, bool is_default,
                                const char *text, size_t length);

size_t lw_suppressions_count(const struct lw_suppressions *set);
const struct lw_suppression *lw_suppressions_get(const struct lw_suppressions *set, size_t index);
/* Entries for other kinds of errors, or other tools, that were passed over. */
size_t lw_suppressions_skipped(const struct lw_suppressions *set);

/* What patterns are compared with; NULL where it is not known. */
struct lw_frame_names {
    const char *function, *linkage_name; /* demangled, and as the linker has it */
    const char *file;
    int line;
    const char *module_path;
};

/* What lw_marked_stack.operator_new is about: operator new and operator new[]. */
bool lw_linkage_name_is_new(const char *linkage_name);

/* 64-bit words that a frame's marks take: a bit for each pattern of the set. */
size_t lw_suppressions_mark_words(const struct lw_suppressions *set);
/* Fills in which patterns match the frame. Stacks share frames: so each is compared once. */
void lw_suppressions_mark(const struct lw_suppressions *set, const struct lw_frame_names *names,
                          uint64_t *marks);

enum lw_suppression_verdict {
    LW_SUPPRESSION_NONE,
    LW_SUPPRESSION_FOUND,
    LW_SUPPRESSION_NEEDS_MORE, /* frames, to decide */
};
/* The marks of a stack's frames, innermost first. */
struct lw_marked_stack {
    const uint64_t *const *frames;
    size_t count;
    bool complete; /* else there are more frames further out */
    /* The operator new that calls malloc for the program: valgrind's stacks begin there, and a
     * suppression may. 0: there is none. */
    size_t operator_new;
    uint64_t *marks; /* room for the search to note what is in any of the frames */
};
/* Looks for the first suppression that matches the stack. */
enum lw_suppression_verdict lw_suppressions_find(const struct lw_suppressions *set,
                                                 const struct lw_marked_stack *stack,
                                                 size_t *index);

#endif
