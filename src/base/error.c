/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Errors that a person will read. */
#include "leakwatch/base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct lw_error {
    int code;
    char message[];
};

/* What is left to say when an error cannot be allocated. Shared by everyone, so never freed, and
 * never written: callers see it only through const accessors. */
static const lw_error out_of_memory = {.code = ENOMEM, .message = "out of memory"};

lw_error *lw_error_create(int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    lw_error *error = length < 0 ? NULL : malloc(sizeof(*error) + (size_t)length + 1);
    if (!error)
        return (lw_error *)&out_of_memory;
    error->code = code;
    va_start(arguments, format);
    vsnprintf(error->message, (size_t)length + 1, format, arguments);
    va_end(arguments);
    while (length > 0 && error->message[length - 1] == '\n')
        error->message[--length] = '\0';
    return error;
}

void lw_error_destroy(lw_error *error)
{
    if (error != &out_of_memory)
        free(error);
}

const char *lw_error_message(const lw_error *error)
{
    return error->message;
}

int lw_error_code(const lw_error *error)
{
    return error->code;
}
