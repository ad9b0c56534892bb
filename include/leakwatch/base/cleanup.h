/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scope guards: a variable so marked releases what it owns when it leaves its scope. */
#ifndef LEAKWATCH_BASE_CLEANUP_H
#define LEAKWATCH_BASE_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LW_CLEANUP(function) __attribute__((cleanup(function)))

/* Defines the guard `name` for variables of `type`, which calls release(value) unless the value
 * equals `none`. */
#define LW_DEFINE_CLEANUP(name, type, release, none)                                               \
    static inline void name(type *value)                                                           \
    {                                                                                              \
        if (*value != (none))                                                                      \
            release(*value);                                                                       \
    }

static inline void lw_cleanup_free(void *pointer)
{
    free(*(void **)pointer);
}

LW_DEFINE_CLEANUP(lw_cleanup_close, int, close, -1)
LW_DEFINE_CLEANUP(lw_cleanup_fclose, FILE *, fclose, NULL)
LW_DEFINE_CLEANUP(lw_cleanup_closedir, DIR *, closedir, NULL)

#define lw_auto_free     LW_CLEANUP(lw_cleanup_free)
#define lw_auto_close    LW_CLEANUP(lw_cleanup_close)
#define lw_auto_fclose   LW_CLEANUP(lw_cleanup_fclose)
#define lw_auto_closedir LW_CLEANUP(lw_cleanup_closedir)

/* Takes the value out of a guarded pointer, so that the guard releases nothing. */
#define lw_take_pointer(pointer)                                                                   \
    ({                                                                                             \
        __typeof__(pointer) taken_ = (pointer);                                                    \
        (pointer) = NULL;                                                                          \
        taken_;                                                                                    \
    })

#endif
