/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Durations and sizes as people write and read them. */
#include "leakwatch/base/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "leakwatch/base/clock.h"

/* Digits of a fraction that are kept: more than a day in nanoseconds can tell apart. */
enum { FRACTION_DIGITS = 15 };
#define FRACTION_SCALE 1000000000000000ull

/* A number without sign or exponent, exactly; what strtod reads ("inf", "0x1p3", a decimal comma in
 * some locales) is not what an option means. */
struct decimal {
    uint64_t whole;
    uint64_t fraction; /* in units of 1 / FRACTION_SCALE */
    bool has_fraction;
};

struct unit {
    const char *name;
    uint64_t factor;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Moves *text behind the number; 0, -EINVAL or -ERANGE. */
static int parse_decimal(const char **text, struct decimal *number)
{
    const char *at = *text;
    bool out_of_range = false;
    *number = (struct decimal){0};
    if (!is_digit(*at))
        return -EINVAL;
    for (; is_digit(*at); at++) {
        if (__builtin_mul_overflow(number->whole, 10, &number->whole) ||
            __builtin_add_overflow(number->whole, *at - '0', &number->whole))
            out_of_range = true;
    }
    if (*at == '.') {
        number->has_fraction = true;
        if (!is_digit(*++at))
            return -EINVAL;
        uint64_t scale = FRACTION_SCALE;
        for (; is_digit(*at); at++) {
            scale /= 10;
            number->fraction += scale * (uint64_t)(*at - '0');
        }
    }
    *text = at;
    return out_of_range ? -ERANGE : 0;
}

/* The factor of the unit that is all of `text`, or 0. */
static uint64_t find_unit(const struct unit *units, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(units[i].name, text) == 0)
            return units[i].factor;
    }
    return 0;
}

static int parse_quantity(const char *text, const struct unit *units, size_t count, bool fractions,
                          uint64_t *value)
{
    struct decimal number;
    int result = parse_decimal(&text, &number);
    if (result == -EINVAL)
        return result;
    uint64_t factor = find_unit(units, count, text);
    if (factor == 0 || (number.has_fraction && !fractions))
        return -EINVAL;
    unsigned __int128 product = (unsigned __int128)number.whole * factor +
                                (unsigned __int128)number.fraction * factor / FRACTION_SCALE;
    if (result < 0 || product > UINT64_MAX)
        return -ERANGE;
    *value = (uint64_t)product;
    return 0;
}

int lw_parse_duration(const char *text, uint64_t *ns)
{
    static const struct unit units[] = {
        {"", LW_NS_PER_SECOND},         {"ms", LW_NS_PER_MS},
        {"s", LW_NS_PER_SECOND},        {"m", 60 * LW_NS_PER_SECOND},
        {"h", 3600 * LW_NS_PER_SECOND}, {"d", 86400 * LW_NS_PER_SECOND},
    };
    return parse_quantity(text, units, sizeof(units) / sizeof(units[0]), true, ns);
}

int lw_parse_size(const char *text, uint64_t *bytes)
{
    static const struct unit units[] = {
        {"", 1},
        {"B", 1},
        {"k", 1ull << 10},
        {"K", 1ull << 10},
        {"KiB", 1ull << 10},
        {"m", 1ull << 20},
        {"M", 1ull << 20},
        {"MiB", 1ull << 20},
        {"g", 1ull << 30},
        {"G", 1ull << 30},
        {"GiB", 1ull << 30},
    };
    return parse_quantity(text, units, sizeof(units) / sizeof(units[0]), false, bytes);
}

int lw_parse_percent(const char *text, double *percent)
{
    struct decimal number;
    int result = parse_decimal(&text, &number);
    if (result)
        return -EINVAL;
    if (strcmp(text, "") != 0 && strcmp(text, "%") != 0)
        return -EINVAL;
    *percent = (double)number.whole + (double)number.fraction / (double)FRACTION_SCALE;
    return 0;
}

static void write_size(uint64_t bytes, const char *sign, char *buffer)
{
    static const char *const names[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(buffer, LW_UNITS_MAX, "%s%" PRIu64 " B", sign, bytes);
        return;
    }
    double value = (double)bytes / 1024;
    size_t unit = 0;
    /* What would be rounded up to 1024 of one unit is 1.00 of the next. */
    while (value >= 1023.5 && unit + 1 < sizeof(names) / sizeof(names[0])) {
        value /= 1024;
        unit++;
    }
    int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    snprintf(buffer, LW_UNITS_MAX, "%s%.*f %s", sign, decimals, value, names[unit]);
}

const char *lw_format_size(uint64_t bytes, char buffer[LW_UNITS_MAX])
{
    write_size(bytes, "", buffer);
    return buffer;
}

const char *lw_format_size_delta(int64_t bytes, char buffer[LW_UNITS_MAX])
{
    /* Negated as unsigned: INT64_MIN has no positive counterpart. */
    uint64_t magnitude = bytes < 0 ? -(uint64_t)bytes : (uint64_t)bytes;
    write_size(magnitude, bytes < 0 ? "-" : "+", buffer);
    return buffer;
}

/* Cut, not rounded, so that 59.99 seconds never reads as 60.0. */
const char *lw_format_duration(uint64_t ns, char buffer[LW_UNITS_MAX])
{
    uint64_t seconds = ns / LW_NS_PER_SECOND;
    uint64_t minutes = seconds / 60, hours = minutes / 60, days = hours / 24;
    if (minutes == 0)
        snprintf(buffer, LW_UNITS_MAX, "%" PRIu64 ".%us", seconds,
                 (unsigned)(ns % LW_NS_PER_SECOND / (LW_NS_PER_SECOND / 10)));
    else if (hours == 0)
        snprintf(buffer, LW_UNITS_MAX, "%" PRIu64 "m %02us", minutes, (unsigned)(seconds % 60));
    else if (days == 0)
        snprintf(buffer, LW_UNITS_MAX, "%" PRIu64 "h %02um", hours, (unsigned)(minutes % 60));
    else
        snprintf(buffer, LW_UNITS_MAX, "%" PRIu64 "d %02uh", days, (unsigned)(hours % 24));
    return buffer;
}

const char *lw_format_count(uint64_t count, char buffer[LW_UNITS_MAX])
{
    char digits[LW_UNITS_MAX];
    size_t length = (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, count);
    char *out = buffer;
    for (size_t i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            *out++ = ',';
        *out++ = digits[i];
    }
    *out = '\0';
    return buffer;
}
