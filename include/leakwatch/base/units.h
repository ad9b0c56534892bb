/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Durations and sizes as people write and read them. */
#ifndef LEAKWATCH_BASE_UNITS_H
#define LEAKWATCH_BASE_UNITS_H

#include <stddef.h>
#include <stdint.h>

/* "30" (seconds), "500ms", "1.5s", "5m", "2h", "1d" -> nanoseconds; 0 or -EINVAL (malformed,
 * negative, trailing text) or -ERANGE. */
int lw_parse_duration(const char *text, uint64_t *ns);

/* "4096", "4k", "16M", "1G", also "KiB", "MiB", "GiB" (all powers of 1024) -> bytes; 0, -EINVAL or
 * -ERANGE. */
int lw_parse_size(const char *text, uint64_t *bytes);

/* "5", "0.5", "2.5%" -> percent; 0 or -EINVAL. Whether the value makes sense is the caller's to
 * say. */
int lw_parse_percent(const char *text, double *percent);

/* Room enough for anything the functions below write. */
#define LW_UNITS_MAX 32

/* "0 B", "512 B", "1.50 KiB", "12.3 MiB", "512 MiB", "3.20 GiB": three significant digits. Returns
 * `buffer`. */
const char *lw_format_size(uint64_t bytes, char buffer[LW_UNITS_MAX]);

/* As lw_format_size with a sign always: "+1.50 KiB", "-12 B", "+0 B". */
const char *lw_format_size_delta(int64_t bytes, char buffer[LW_UNITS_MAX]);

/* "0.4s", "12.3s", "4m 05s", "2h 10m", "3d 04h". Returns `buffer`. */
const char *lw_format_duration(uint64_t ns, char buffer[LW_UNITS_MAX]);

/* "1 234 567" -> with thousands separated by commas: "1,234,567". Returns `buffer`. */
const char *lw_format_count(uint64_t count, char buffer[LW_UNITS_MAX]);

#endif
