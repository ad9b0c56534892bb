/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading and writing another process's memory. */
#ifndef LEAKWATCH_TARGET_MEMORY_H
#define LEAKWATCH_TARGET_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "leakwatch/base/error.h"

/*
 * An interface, so that readers of target memory can be tested on a byte array. It does not know
 * about breakpoints: who must see the bytes that the program has without them asks the breakpoint
 * table (trace/breakpoint.h) to mask what was read. A length or an address that came from the
 * target is never trusted by the callers: reads fail, they do not fault.
 */
struct lw_memory {
    /* Reads up to `size` bytes; returns how many could be read from the start (less at the edge of
     * a mapping), or a negative errno when none could. */
    ssize_t (*read)(struct lw_memory *memory, uint64_t address, void *buffer, size_t size);
    /* Writes all of it, also to read-only and executable pages (as a debugger does), or returns a
     * negative errno. */
    int (*write)(struct lw_memory *memory, uint64_t address, const void *buffer, size_t size);
};

/* The memory of a live process: process_vm_readv (which needs no stop) and /proc/PID/mem. */
struct lw_process_memory {
    struct lw_memory memory;
    pid_t pid;
    int fd; /* of /proc/PID/mem, open for reading and writing */
};

lw_error *lw_process_memory_init(struct lw_process_memory *memory, pid_t pid);
void lw_process_memory_deinit(struct lw_process_memory *memory);
/* The address space is no more: the process has ended, or become another program. What is read by
 * its id is the other program's then. */
bool lw_process_memory_is_gone(const struct lw_process_memory *memory);

/* Reads all `size` bytes or fails: 0, or a negative errno (-EFAULT when only a part was there). */
int lw_memory_read_all(struct lw_memory *memory, uint64_t address, void *buffer, size_t size);
int lw_memory_write(struct lw_memory *memory, uint64_t address, const void *buffer, size_t size);

#endif
