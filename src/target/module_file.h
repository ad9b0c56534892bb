/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opens the file behind a mapping of another process. */
#ifndef LEAKWATCH_TARGET_MODULE_FILE_H
#define LEAKWATCH_TARGET_MODULE_FILE_H

#include <stdbool.h>
#include <sys/types.h>

#include "leakwatch/target/maps.h"

/* A descriptor of the regular file that is mapped, even when it was deleted, replaced or is in
 * another mount namespace; -1 when it cannot be had. */
int lw_module_file_open(pid_t pid, const struct lw_mapping *mapping);

/* The mapping is of the process's own executable. */
bool lw_module_file_is_executable(pid_t pid, const struct lw_mapping *mapping);

#endif
