/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Durations and sizes, read and written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "leakwatch/base/units.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct good {
    const char *text;
    uint64_t value;
};

struct bad {
    const char *text;
    int result;
};

static void test_parse_duration(void **state)
{
    (void)state;
    static const struct good good[] = {
        {"30", 30000000000},
        {"0", 0},
        {"500ms", 500000000},
        {"1.5s", 1500000000},
        {"1.5", 1500000000},
        {"0.000000001", 1},
        {"0.0000000009", 0},
        {"5m", 300000000000},
        {"2h", 7200000000000},
        {"1d", 86400000000000},
        {"0.1s", 100000000},
        {"18446744073.709551615", UINT64_MAX},
        {"1.00000000000000000000000000000000000001s", 1000000000},
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        uint64_t ns = 42;
        assert_int_equal(lw_parse_duration(good[i].text, &ns), 0);
        assert_int_equal(ns, good[i].value);
    }
    static const struct bad bad[] = {
        {"", -EINVAL},
        {"s", -EINVAL},
        {"-1", -EINVAL},
        {"+1", -EINVAL},
        {" 1", -EINVAL},
        {"1 ", -EINVAL},
        {"1 s", -EINVAL},
        {"1x", -EINVAL},
        {"1.", -EINVAL},
        {".5", -EINVAL},
        {"1.2.3", -EINVAL},
        {"1e3", -EINVAL},
        {"0x10", -EINVAL},
        {"inf", -EINVAL},
        {"nan", -EINVAL},
        {"1,5s", -EINVAL},
        {"5mm", -EINVAL},
        {"5M", -EINVAL},
        {"300000d", -ERANGE},
        {"18446744074", -ERANGE},
        {"99999999999999999999999999", -ERANGE},
        {"99999999999999999999999999x", -EINVAL},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        uint64_t ns = 42;
        assert_int_equal(lw_parse_duration(bad[i].text, &ns), bad[i].result);
        assert_int_equal(ns, 42);
    }
}

static void test_parse_size(void **state)
{
    (void)state;
    static const struct good good[] = {
        {"4096", 4096},
        {"0", 0},
        {"12B", 12},
        {"4k", 4096},
        {"4K", 4096},
        {"4KiB", 4096},
        {"16M", 16777216},
        {"16m", 16777216},
        {"16MiB", 16777216},
        {"1G", 1073741824},
        {"2GiB", 2147483648},
        {"18446744073709551615", UINT64_MAX},
        {"17179869183G", UINT64_MAX - 1073741823},
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        uint64_t bytes = 42;
        assert_int_equal(lw_parse_size(good[i].text, &bytes), 0);
        assert_int_equal(bytes, good[i].value);
    }
    static const struct bad bad[] = {
        {"", -EINVAL},
        {"k", -EINVAL},
        {"-4k", -EINVAL},
        {"4kk", -EINVAL},
        {"4 k", -EINVAL},
        {"1.5k", -EINVAL},
        {"4KB", -EINVAL},
        {"4s", -EINVAL},
        {"0x1000", -EINVAL},
        {"18446744073709551616", -ERANGE},
        {"17179869184G", -ERANGE},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        uint64_t bytes = 42;
        assert_int_equal(lw_parse_size(bad[i].text, &bytes), bad[i].result);
        assert_int_equal(bytes, 42);
    }
}

static void test_format_size(void **state)
{
    (void)state;
    static const struct good good[] = {
        {"0 B", 0},
        {"512 B", 512},
        {"1023 B", 1023},
        {"1.00 KiB", 1024},
        {"1.50 KiB", 1536},
        {"9.99 KiB", 10229},
        {"10.0 KiB", 10239},
        {"12.3 MiB", 12897485},
        {"512 MiB", 512u << 20},
        {"1023 KiB", 1023u << 10},
        {"1.00 MiB", (1u << 20) - 1},
        {"3.20 GiB", 3435973837},
        {"1.00 TiB", 1ull << 40},
        {"16.0 EiB", UINT64_MAX},
    };
    char buffer[LW_UNITS_MAX];
    for (size_t i = 0; i < COUNT(good); i++) {
        assert_string_equal(lw_format_size(good[i].value, buffer), good[i].text);
        assert_ptr_equal(lw_format_size(good[i].value, buffer), buffer);
    }
}

static void test_format_size_delta(void **state)
{
    (void)state;
    char buffer[LW_UNITS_MAX];
    assert_string_equal(lw_format_size_delta(0, buffer), "+0 B");
    assert_string_equal(lw_format_size_delta(1536, buffer), "+1.50 KiB");
    assert_string_equal(lw_format_size_delta(-12, buffer), "-12 B");
    assert_string_equal(lw_format_size_delta(INT64_MIN, buffer), "-8.00 EiB");
    assert_string_equal(lw_format_size_delta(INT64_MAX, buffer), "+8.00 EiB");
}

static void test_format_duration(void **state)
{
    (void)state;
    static const struct good good[] = {
        {"0.0s", 0},
        {"0.0s", 99999999},
        {"0.4s", 400000000},
        {"12.3s", 12300000000},
        {"59.9s", 59999999999},
        {"1m 00s", 60000000000},
        {"4m 05s", 245000000000},
        {"59m 59s", 3599999999999},
        {"2h 10m", 7800000000000},
        {"23h 59m", 86399000000000},
        {"3d 04h", (3 * 24 + 4) * 3600000000000},
        {"213503d 23h", UINT64_MAX},
    };
    char buffer[LW_UNITS_MAX];
    for (size_t i = 0; i < COUNT(good); i++)
        assert_string_equal(lw_format_duration(good[i].value, buffer), good[i].text);
}

static void test_format_count(void **state)
{
    (void)state;
    static const struct good good[] = {
        {"0", 0},          {"999", 999},           {"1,000", 1000},
        {"12,345", 12345}, {"1,234,567", 1234567}, {"18,446,744,073,709,551,615", UINT64_MAX},
    };
    char buffer[LW_UNITS_MAX];
    for (size_t i = 0; i < COUNT(good); i++)
        assert_string_equal(lw_format_count(good[i].value, buffer), good[i].text);
}

static void test_parse_percent(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } right[] = {{"5", 5}, {"0", 0}, {"0.5", 0.5}, {"2.25%", 2.25}, {"100", 100}};
    static const char *const wrong[] = {"",    "%",   "-1",  "+1",  " 5",
                                        "5 ",  "5%%", "1e1", ".5",  "5.",
                                        "inf", "nan", "0x5", "5,5", "99999999999999999999999"};
    double percent = -1;
    for (size_t i = 0; i < COUNT(right); i++) {
        assert_int_equal(lw_parse_percent(right[i].text, &percent), 0);
        assert_true(percent == right[i].value);
    }
    for (size_t i = 0; i < COUNT(wrong); i++)
        assert_int_equal(lw_parse_percent(wrong[i], &percent), -EINVAL);
    assert_true(percent == 100); /* untouched by what is wrong */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_duration),  cmocka_unit_test(test_parse_size),
        cmocka_unit_test(test_format_size),     cmocka_unit_test(test_format_size_delta),
        cmocka_unit_test(test_format_duration), cmocka_unit_test(test_format_count),
        cmocka_unit_test(test_parse_percent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
