/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the programs under test share: talking to the test without touching the allocator. */
#ifndef TARGET_H
#define TARGET_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A function that has a frame of its own in every stack, under its plain name. */
#define WATCHED __attribute__((noipa))
/* Makes the compiler believe that the pointer is used, so that no allocation is optimised away and
 * no call before it becomes a tail call. */
#define KEEP(pointer) __asm__ volatile("" : : "r"(pointer) : "memory")

/* Keeps the call before it from becoming a tail call. */
#define STAY() __asm__ volatile("" : : : "memory")

/* One line to the test: write(2), since stdio would allocate a buffer. */
__attribute__((format(printf, 1, 2))) static inline void say(const char *format, ...)
{
    char line[4096];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length > sizeof line - 2)
        _exit(99);
    line[length++] = '\n';
    if (write(STDOUT_FILENO, line, (size_t)length) != length)
        _exit(99);
}

/* The next line from the test, without its newline; false at the end of input. */
static inline bool hear(char *line, size_t size)
{
    size_t length = 0;
    char c;
    while (read(STDIN_FILENO, &c, 1) == 1) {
        if (c == '\n') {
            line[length] = '\0';
            return true;
        }
        if (length + 1 < size)
            line[length++] = c;
    }
    return false;
}

/* True when `line` is the command `name`, and then *argument is the number behind it (or fallback).
 */
static inline bool is_command(const char *line, const char *name, long fallback, long *argument)
{
    size_t length = strlen(name);
    if (strncmp(line, name, length) != 0 || (line[length] != '\0' && line[length] != ' '))
        return false;
    *argument = line[length] == ' ' ? strtol(line + length + 1, NULL, 10) : fallback;
    return true;
}

static inline long argument_or(int argc, char **argv, int index, long fallback)
{
    return index < argc ? strtol(argv[index], NULL, 10) : fallback;
}

static inline void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&time, &time) != 0)
        ;
}

static inline double now_s(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

#endif
