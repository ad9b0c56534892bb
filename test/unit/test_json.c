/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The JSON that programs read: keys, their order, and values that stay valid whatever the names
 * are. */
#include <errno.h>
#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "report_sample.h"

static const struct lw_writer_options options;

#define WRITTEN(function, what)                                                                    \
    ({                                                                                             \
        char *text_ = NULL;                                                                        \
        size_t size_;                                                                              \
        FILE *stream_ = open_memstream(&text_, &size_);                                            \
        assert_non_null(stream_);                                                                  \
        assert_int_equal(lw_json_writer.function(stream_, &options, (what)), 0);                   \
        fclose(stream_);                                                                           \
        text_;                                                                                     \
    })

static void test_report_is_exactly_this(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    char *text = WRITTEN(report, &sample.report);
    assert_string_equal(
        text,
        "{\"type\":\"report\",\"time\":\"2023-11-14T22:13:20.007Z\",\"pid\":4711,"
        "\"elapsed_s\":80.500,\"expire_s\":10.000,\"rss_bytes\":4194304,\"sample_bytes\":0,"
        "\"live\":{\"bytes\":3500,\"blocks\":3},"
        "\"expired\":{\"bytes\":3000,\"blocks\":2,\"stacks\":1},"
        "\"suppressed\":{\"bytes\":0,\"blocks\":0,\"stacks\":0},"
        "\"events\":{\"allocs\":10,\"frees\":7,\"reallocs\":2,\"failed_allocs\":0,"
        "\"unknown_frees\":0,\"missed_frees\":0},"
        "\"losses\":{\"truncated_stacks\":0,\"dropped_blocks\":0,\"missed_returns\":0,\"folded_"
        "blocks\":0},"
        "\"stacks\":[{\"id\":17,\"expired_bytes\":3000,\"expired_blocks\":2,\"delta_bytes\":-512,"
        "\"live_bytes\":3500,\"live_blocks\":3,\"allocs\":10,\"alloc_bytes\":9000,\"frees\":7,"
        "\"late_frees\":1,\"age_s\":{\"min\":12.500,\"max\":75.000},"
        "\"lifetime_s\":{\"min\":0.002,\"mean\":2.000,\"max\":11.000},"
        "\"truncated\":false,"
        "\"verdict\":\"growing\",\"reason\":\"grew in 5 of 7 reports; of 3 blocks that outlived "
        "10s, "
        "1 was freed\",\"growth_bytes_per_minute\":1536,\"suggested_expire_s\":null,"
        "\"frames\":["
        "{\"function\":\"malloc\",\"module\":\"libc.so.6\",\"module_index\":0,\"offset\":630810,"
        "\"address\":139637977358362,\"file\":null,\"line\":0,\"inlined\":false},"
        "{\"function\":\"keep\",\"module\":\"app\",\"module_index\":1,\"offset\":4609,\"address\":"
        "89133569,"
        "\"file\":\"src/app.c\",\"line\":42,\"inlined\":true},"
        "{\"function\":\"serve\",\"module\":\"app\",\"module_index\":1,\"offset\":4609,\"address\":"
        "89133569,"
        "\"file\":\"src/app.c\",\"line\":99,\"inlined\":false},"
        "{\"function\":null,\"module\":\"libx.so\",\"module_index\":2,\"offset\":1911,\"address\":"
        "139716164220791,"
        "\"file\":null,\"line\":0,\"inlined\":false}]}],"
        "\"modules\":[{\"path\":\"/lib/libc.so.6\",\"build_id\":\"abc123\",\"executable\":false},"
        "{\"path\":\"/bin/app\",\"build_id\":\"\",\"executable\":true},"
        "{\"path\":\"/lib/libx.so\",\"build_id\":\"fed\",\"executable\":false}]}\n");
    free(text);
}

static void test_marked(void **state)
{
    struct sample sample;
    struct sample_cohort with;

    (void)state;
    sample_init(&sample);
    sample_add_cohort(&sample, &with);
    with.stack.frame_count = 0;
    char *text = WRITTEN(report, &sample.report);
    assert_non_null(strstr(
        text,
        ",\"mark\":{\"number\":1,\"open\":false,\"from_s\":0.000,\"to_s\":10.000,"
        "\"allocated\":{\"bytes\":4000,\"blocks\":5},\"live\":{\"bytes\":3000,\"blocks\":3},"
        "\"drain\":[{\"elapsed_s\":20.500,\"bytes\":4000},{\"elapsed_s\":40.000,\"bytes\":3500},"
        "{\"elapsed_s\":80.500,\"bytes\":3000}],"
        "\"stacks\":[{\"id\":17,\"allocated\":{\"bytes\":3200,\"blocks\":4},"
        "\"live\":{\"bytes\":3000,\"blocks\":3},\"frames\":[]}]},\"stacks\":[{"));
    free(text);
    sample.report.sample_bytes = 1024;
    with.cohort.open = true;
    text = WRITTEN(report, &sample.report);
    assert_non_null(strstr(text, "\"open\":true,\"from_s\":0.000,\"to_s\":80.500,"));
    assert_non_null(strstr(text, "\"blocks\":3,\"error_bytes\":99},\"drain\""));
    free(text);
}

static void test_summary_has_the_same_keys(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    char *report = WRITTEN(report, &sample.report);
    sample.report.context.summary = true;
    char *summary = WRITTEN(report, &sample.report);
    assert_non_null(strstr(summary, "{\"type\":\"summary\",\"time\""));
    /* the age of the rest, that is of all live blocks */
    assert_non_null(strstr(summary, "\"age_s\":{\"min\":0.300,\"max\":75.000}"));
    struct json_object *a = json_tokener_parse(report), *b = json_tokener_parse(summary);
    assert_non_null(a);
    assert_non_null(b);
    json_object_object_foreach(a, key, value)
    {
        (void)value;
        assert_true(json_object_object_get_ex(b, key, NULL));
    }
    assert_true(json_object_object_get_ex(b, "suppressions", NULL)); /* and this one */
    assert_int_equal(json_object_object_length(a) + 1, json_object_object_length(b));
    json_object_put(a);
    json_object_put(b);
    free(report);
    free(summary);
}

static void test_code_in_no_module(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    sample.raw.truncated = true;
    sample.frames[3].module = NULL;
    sample.frames[3].module_number = 0;
    char *text = WRITTEN(report, &sample.report);
    assert_non_null(strstr(text, "{\"function\":null,\"module\":null,\"module_index\":null,"));
    assert_non_null(strstr(text, "\"truncated\":true,\"verdict\":"));
    free(text);
}

static void test_estimates_have_errors(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    /* errors without sampling are nobody's business */
    sample.report.live_bytes_error = 900;
    sample.report.expired_bytes_error = 800;
    sample.stack.facts.live_bytes_error = 700;
    sample.stack.facts.expired_bytes_error = 600;
    char *text = WRITTEN(report, &sample.report);
    assert_non_null(strstr(text, "\"sample_bytes\":0,"));
    assert_null(strstr(text, "error"));
    free(text);

    sample.report.sample_bytes = 524288;
    for (int summary = 0; summary < 2; summary++) {
        sample.report.context.summary = summary;
        text = WRITTEN(report, &sample.report);
        assert_non_null(strstr(text, "\"rss_bytes\":4194304,\"sample_bytes\":524288,\"live\":"));
        assert_non_null(
            strstr(text, "\"live\":{\"bytes\":3500,\"blocks\":3,\"error_bytes\":900},"));
        assert_non_null(strstr(text, "\"expired\":{\"bytes\":3000,\"blocks\":2,\"stacks\":1,"
                                     "\"error_bytes\":800},"));
        assert_non_null(strstr(text, "\"live_blocks\":3,\"expired_error_bytes\":600,"
                                     "\"live_error_bytes\":700,\"allocs\":10,"));
        free(text);
    }
}

static void test_values_beyond_int64(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    sample.frames[3].address = 0xffffffffff600000ull; /* the vsyscall page */
    sample.stack.facts.stats.frees = 0;               /* no mean of nothing */
    char *text = WRITTEN(report, &sample.report);
    assert_non_null(strstr(text, "\"address\":18446744073699065856"));
    assert_non_null(strstr(text, "\"mean\":0.000"));
    free(text);
}

static void test_any_name_is_valid_json(void **state)
{
    static const char *const names[] = {
        "quote\" back\\slash /slash",
        "ctrl\n\t\x01",
        "\xff\xfe",
        "cut\xe2\x82",
        "\xc0\xaf",
        "\xed\xa0\x80",
        "\xf5\x80\x80\x80",
        "h\xc3\xa9",
        "\xf0\x9f\x98\x80",
        "",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct lw_report_end end = {.pid = 1, .kind = LW_END_EXEC, .exe = names[i]};
        struct json_tokener *tokener = json_tokener_new();
        json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
        char *text = WRITTEN(end, &end);
        struct json_object *parsed = json_tokener_parse_ex(tokener, text, (int)strlen(text) + 1);
        assert_non_null(parsed);
        const char *exe = json_object_get_string(json_object_object_get(parsed, "exe"));
        if (i <= 1 || i >= 7) /* what was valid arrives unchanged */
            assert_string_equal(exe, names[i]);
        else
            assert_non_null(strstr(exe, "\\x"));
        assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1); /* one line */
        json_object_put(parsed);
        json_tokener_free(tokener);
        free(text);
    }
}

static void test_attach(void **state)
{
    struct lw_report_attach attach = sample_attach();

    (void)state;
    char *text = WRITTEN(attach, &attach);
    assert_string_equal(text,
                        "{\"type\":\"attach\",\"pid\":4711,\"exe\":\"/bin/app\","
                        "\"engine\":\"trap\",\"engine_reason\":\"\",\"threads\":5,"
                        "\"pause_us\":1800,\"allocators\":[{\"module\":\"/lib/libc.so.6\","
                        "\"build_id\":\"abc123\",\"functions\":[\"malloc\",\"calloc\",\"free\"]}"
                        "]}\n");
    free(text);
}

static void test_ends(void **state)
{
    struct lw_report_end end = {.pid = 5, .kind = LW_END_EXIT, .status = 3, .exe = ""};

    (void)state;
    char *text = WRITTEN(end, &end);
    assert_string_equal(text, "{\"type\":\"exit\",\"pid\":5,\"status\":3,\"signal\":null}\n");
    free(text);
    end.status = -1;
    text = WRITTEN(end, &end);
    assert_string_equal(text, "{\"type\":\"exit\",\"pid\":5,\"status\":null,\"signal\":null}\n");
    free(text);
    end.kind = LW_END_SIGNAL;
    end.status = 9;
    text = WRITTEN(end, &end);
    assert_string_equal(text, "{\"type\":\"exit\",\"pid\":5,\"status\":137,\"signal\":9}\n");
    free(text);
    end.kind = LW_END_EXEC;
    end.exe = "/bin/true";
    text = WRITTEN(end, &end);
    assert_string_equal(text, "{\"type\":\"exec\",\"pid\":5,\"exe\":\"/bin/true\"}\n");
    free(text);
}

static void test_detach(void **state)
{
    struct lw_report_detach detach = {.pid = 5,
                                      .threads = 2,
                                      .probes_removed = 30,
                                      .code_verified = true,
                                      .target_state = "running",
                                      .pause_ns = 412999,
                                      .verified_bytes = 30};

    (void)state;
    char *text = WRITTEN(detach, &detach);
    assert_string_equal(text, "{\"type\":\"detach\",\"pid\":5,\"threads\":2,\"probes_removed\":30,"
                              "\"code_verified\":true,\"target_state\":\"running\","
                              "\"pause_us\":412}\n");
    free(text);
}

static void test_full_disk_is_told_and_then_forgotten(void **state)
{
    struct lw_report_end end = {.pid = 5, .kind = LW_END_EXIT, .exe = ""};

    (void)state;
    FILE *full = fopen("/dev/full", "w");
    assert_non_null(full);
    assert_int_equal(lw_json_writer.end(full, &options, &end), -ENOSPC);
    assert_int_equal(ferror(full), 0);
    fclose(full);
}

static void test_find(void **state)
{
    (void)state;
    assert_ptr_equal(lw_writer_find("json", 4), &lw_json_writer);
    assert_ptr_equal(lw_writer_find("text:of json", 4), &lw_text_writer);
    assert_null(lw_writer_find("text", 3));
    assert_null(lw_writer_find("text:", 5));
    assert_null(lw_writer_find("xml", 3));
    assert_null(lw_writer_find("", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_report_is_exactly_this),
        cmocka_unit_test(test_marked),
        cmocka_unit_test(test_summary_has_the_same_keys),
        cmocka_unit_test(test_code_in_no_module),
        cmocka_unit_test(test_estimates_have_errors),
        cmocka_unit_test(test_values_beyond_int64),
        cmocka_unit_test(test_any_name_is_valid_json),
        cmocka_unit_test(test_attach),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_detach),
        cmocka_unit_test(test_full_disk_is_told_and_then_forgotten),
        cmocka_unit_test(test_find),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
