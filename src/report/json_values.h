/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the lines of JSON are put together from. */
#ifndef LEAKWATCH_SRC_REPORT_JSON_VALUES_H
#define LEAKWATCH_SRC_REPORT_JSON_VALUES_H

#include <errno.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/text.h"
#include "stream.h"

/*
 * json-c's constructors return NULL when memory has run out, which as a value means null: a number
 * must not silently become null. So every value goes through `put`, which remembers a failure, and
 * the line is then not written at all.
 */
struct json {
    struct json_object *object;
    bool failed;
};

static inline void json_release(struct json *json)
{
    json_object_put(json->object);
}

#define lw_auto_json LW_CLEANUP(json_release)

static inline void put(struct json *json, const char *key, struct json_object *value)
{
    if (json->failed || !value || json_object_object_add(json->object, key, value) != 0) {
        json_object_put(value);
        json->failed = true;
    }
}

/* An object whose first key is "type", unless that is NULL. */
static inline struct json json_begin(const char *type)
{
    struct json json = {json_object_new_object(), false};

    json.failed = !json.object;
    if (type)
        put(&json, "type", json_object_new_string(type));
    return json;
}

static inline void put_null(struct json *json, const char *key)
{
    if (!json->failed && json_object_object_add(json->object, key, NULL) != 0)
        json->failed = true;
}

/* Takes `inner` over. */
static inline void put_object(struct json *json, const char *key, struct json inner)
{
    json->failed |= inner.failed;
    put(json, key, inner.object);
}

static inline void put_unsigned(struct json *json, const char *key, uint64_t value)
{
    put(json, key, json_object_new_uint64(value));
}

static inline void put_signed(struct json *json, const char *key, int64_t value)
{
    put(json, key, json_object_new_int64(value));
}

static inline void put_bool(struct json *json, const char *key, bool value)
{
    put(json, key, json_object_new_boolean(value));
}

/* Written from integers: printf's %f would follow the locale's decimal point. */
static inline void put_seconds(struct json *json, const char *key, uint64_t ns)
{
    char text[32];

    snprintf(text, sizeof(text), "%llu.%03llu", ns / LW_NS_PER_SECOND,
             ns % LW_NS_PER_SECOND / LW_NS_PER_MS);
    put(json, key, json_object_new_double_s((double)ns / (double)LW_NS_PER_SECOND, text));
}

/* The length of the UTF-8 character at `s`, 0 when it is malformed, overlong or a surrogate. */
static inline size_t utf8_length(const unsigned char *s)
{
    size_t length = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

    if (length == 0 || s[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return length;
}

static inline bool is_utf8(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;

    while (*s) {
        size_t length = utf8_length(s);
        if (length == 0)
            return false;
        s += length;
    }
    return true;
}

/* json-c copies bytes as they are, but a file name may hold any. It escapes control characters
 * itself, so only what is not UTF-8 needs help. */
static inline struct json_object *new_text(const char *text)
{
    if (is_utf8(text))
        return json_object_new_string(text);
    lw_auto_free char *escaped = lw_text_escape(text);
    return escaped ? json_object_new_string(escaped) : NULL;
}

static inline void put_text(struct json *json, const char *key, const char *text)
{
    if (text)
        put(json, key, new_text(text));
    else
        put_null(json, key);
}

/* The array `key` of `json`, which owns it; NULL after a failure. */
static inline struct json_object *put_array(struct json *json, const char *key)
{
    struct json_object *array = json_object_new_array();

    put(json, key, array);
    return json->failed ? NULL : array;
}

/* Takes `value` over. */
static inline void append(struct json *json, struct json_object *array, struct json_object *value)
{
    if (!array || !value || json_object_array_add(array, value) != 0) {
        json_object_put(value);
        json->failed = true;
    }
}

static inline void append_object(struct json *json, struct json_object *array, struct json inner)
{
    json->failed |= inner.failed;
    append(json, array, inner.object);
}

static inline int write_line(FILE *stream, const struct json *json)
{
    const char *text = NULL;

    if (!json->failed)
        text = json_object_to_json_string_ext(json->object, JSON_C_TO_STRING_PLAIN |
                                                                JSON_C_TO_STRING_NOSLASHESCAPE);
    if (!text)
        return -ENOMEM;
    fputs(text, stream);
    putc('\n', stream);
    return lw_stream_flush(stream);
}

/* RFC 3339, in UTC. */
static inline void put_time(struct json *json, const char *key, uint64_t time_ns)
{
    time_t seconds = (time_t)(time_ns / LW_NS_PER_SECOND);
    struct tm tm;
    char day[64] = "", text[96];

    if (!gmtime_r(&seconds, &tm) || strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        json->failed = true;
    snprintf(text, sizeof(text), "%s.%03uZ", day,
             (unsigned)(time_ns % LW_NS_PER_SECOND / LW_NS_PER_MS));
    put_text(json, key, text);
}

#endif
