/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An error that a person will read: one line that says what is wrong and what to do about it. */
#ifndef LEAKWATCH_BASE_ERROR_H
#define LEAKWATCH_BASE_ERROR_H

/*
 * Functions whose failure reaches the user return `lw_error *`: NULL is success, anything else is
 * owned by the caller, who reports it and destroys it. Failures that only the program reads are
 * negative errno values instead. An error never holds a trailing newline.
 */
typedef struct lw_error lw_error;

/* `code` is a positive errno (0 where none fits). Never returns NULL: when memory has run out it
 * returns a static error that says so. */
lw_error *lw_error_create(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
void lw_error_destroy(lw_error *error);

const char *lw_error_message(const lw_error *error);
int lw_error_code(const lw_error *error);

#endif
