/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What reports leave out because it is suppressed, what they say of it, and the suppressions that
 * are made of what they list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "leakwatch/report/report.h"
#include "report_sample.h"

/* Stand-ins for the layers below: what is at offset N is called as names[N]. */
static struct lw_module fake_module = {.id = 1, .path = "/bin/app", .name = "app"};
static unsigned resolved;

const struct lw_module *lw_module_table_get(struct lw_module_table *table, uint32_t id)
{
    (void)table;
    return id == 1 ? &fake_module : NULL;
}

size_t lw_symbolizer_resolve(struct lw_symbolizer *symbolizer, uint32_t module, uint64_t offset,
                             bool is_return, const struct lw_symbol **symbols)
{
    static const struct lw_symbol names[] = {
        {.function = "malloc", .linkage_name = "malloc"},
        {.function = "T::keep()", .linkage_name = "_ZN1T4keepEv"},
        {.function = "lose", .linkage_name = "lose"},
        {.function = "main", .linkage_name = "main"},
    };

    (void)symbolizer;
    (void)module;
    (void)is_return;
    resolved++;
    *symbols = &names[offset];
    return 1;
}

#define FAKE(type) ((type *)&fake_module) /* any address: the stand-ins do not look */
#define DEPTH      12

struct picture {
    struct lw_snapshot snapshot;
    struct lw_snapshot_stack stacks[3];
    struct lw_stack *raw[3];
};

/* malloc < `caller` < main < main ... */
static void add_stack(struct picture *picture, uint32_t id, uint64_t caller, uint64_t live,
                      uint64_t expired)
{
    size_t index = picture->snapshot.stack_count++;
    struct lw_stack *raw = calloc(1, sizeof(*raw) + DEPTH * sizeof(raw->frames[0]));

    raw->id = id;
    raw->depth = DEPTH;
    for (size_t i = 0; i < DEPTH; i++)
        raw->frames[i] = (struct lw_frame){.offset = i == 0 ? 0 : i == 1 ? caller : 3, .module = 1};
    picture->raw[index] = raw;
    picture->stacks[index] = (struct lw_snapshot_stack){
        .stack = raw,
        .stats = {.live_bytes = live * 100,
                  .live_blocks = live,
                  .expired_bytes = expired * 100,
                  .expired_blocks = expired},
    };
    picture->snapshot.stacks = picture->stacks;
    picture->snapshot.totals.live_bytes += live * 100;
    picture->snapshot.totals.live_blocks += live;
    picture->snapshot.totals.expired_bytes += expired * 100;
    picture->snapshot.totals.expired_blocks += expired;
    picture->snapshot.totals.expired_stacks += expired > 0;
}

/* Three blocks kept, two of them expired; two lost, and expired; one in main that is merely live.
 */
static void picture_init(struct picture *picture)
{
    *picture = (struct picture){0};
    add_stack(picture, 1, 1, 3, 2);
    add_stack(picture, 2, 2, 2, 2);
    add_stack(picture, 3, 3, 1, 0);
}

static void picture_deinit(struct picture *picture)
{
    for (size_t i = 0; i < 3; i++)
        free(picture->raw[i]);
}

struct scene {
    struct lw_suppressions *set;
    struct lw_report_builder *builder;
    struct picture picture;
};

static void scene_init(struct scene *scene, const char *text, bool every_stack)
{
    struct lw_report_options options = {.every_stack = every_stack};

    picture_init(&scene->picture);
    options.suppressions = scene->set = lw_suppressions_create();
    assert_null(lw_suppressions_parse(scene->set, "my.supp", false, text, strlen(text)));
    scene->builder = lw_report_builder_create(&options, FAKE(struct lw_symbolizer),
                                              FAKE(struct lw_module_table));
    assert_non_null(scene->builder);
}

static void scene_deinit(struct scene *scene)
{
    lw_report_builder_destroy(scene->builder);
    lw_suppressions_destroy(scene->set);
    picture_deinit(&scene->picture);
}

static struct lw_report *build(struct scene *scene, bool summary)
{
    struct lw_report_context context = {.pid = 1, .exe = "", .summary = summary};
    struct lw_report *report = lw_report_build(scene->builder, &scene->picture.snapshot, &context);

    assert_non_null(report);
    return report;
}

static void test_suppressed_stacks_are_not_listed(void **state)
{
    struct scene scene;

    (void)state;
    scene_init(&scene, "leak:unheard_of\nleak:T::keep\nleak:malloc_not", true);
    struct lw_report *report = build(&scene, false);
    assert_int_equal(report->stack_total, 1);
    assert_int_equal(report->every_count, 2);
    assert_int_equal(report->stacks[0].id, 2);
    assert_int_equal(report->stacks[1].id, 3);
    /* the totals are still the whole truth */
    assert_int_equal(report->totals.expired_bytes, 400);
    assert_int_equal(report->suppressed.stacks, 1);
    assert_int_equal(report->suppressed.expired_bytes, 200);
    assert_int_equal(report->suppressed.expired_blocks, 2);
    assert_int_equal(report->suppressed.live_bytes, 300);
    assert_int_equal(report->suppression_count, 3);
    assert_int_equal(report->suppressions[0].hidden.stacks, 0);
    assert_int_equal(report->suppressions[1].hidden.stacks, 1);
    assert_int_equal(report->suppressions[1].hidden.expired_bytes, 200);
    assert_string_equal(report->suppressions[1].suppression->name, "leak:T::keep");
    assert_int_equal(report->history[0].suppressed_expired_bytes, 200);
    assert_int_equal(report->history[0].suppressed_live_bytes, 300);
    assert_true(lw_report_has_leaks(report));
    lw_report_destroy(report);
    scene_deinit(&scene);
}

/* Nor with what a window has left; its sums are the whole truth, too. */
static void test_suppressed_stacks_of_a_cohort(void **state)
{
    struct scene scene;
    struct lw_cohort cohort = {0};
    struct lw_report_context context = {.pid = 1, .exe = "", .cohort = &cohort};

    (void)state;
    scene_init(&scene, "leak:T::keep", false);
    lw_cohort_init(&cohort, 1);
    for (size_t i = 0; i < 2; i++) {
        scene.picture.stacks[i].marked_blocks = 1;
        scene.picture.stacks[i].marked_bytes = 100;
    }
    struct lw_report *report = lw_report_build(scene.builder, &scene.picture.snapshot, &context);
    assert_non_null(report);
    assert_int_equal(report->cohort.live.bytes, 200);
    assert_int_equal(report->cohort.stack_total, 1);
    assert_int_equal(report->cohort.stacks[0].id, 2);
    assert_int_equal(report->cohort.suppressed, 1);
    assert_int_equal(report->suppressed.stacks, 1); /* counted once */
    lw_report_destroy(report);
    lw_cohort_deinit(&cohort);
    scene_deinit(&scene);
}

/* Nor those that have nothing to say, which are part of a whole. */
static void test_suppressed_stacks_are_no_part_of_the_whole(void **state)
{
    struct scene scene;

    (void)state;
    scene_init(&scene, "{\nx\nMemcheck:Leak\nfun:malloc\nfun:main\n}", true);
    struct lw_report *report = build(&scene, false);
    assert_int_equal(report->every_count, 2);
    assert_int_equal(report->suppressed.stacks, 0); /* that would have been listed */
    assert_int_equal(report->suppressed.live_bytes, 100);
    lw_report_destroy(report);
    scene_deinit(&scene);
}

static void test_what_is_suppressed_is_no_leak(void **state)
{
    struct scene scene;

    (void)state;
    scene_init(&scene, "{\nboth\nMemcheck:Leak\nfun:malloc\n...\nfun:main\n}", false);
    struct lw_report *report = build(&scene, true);
    assert_int_equal(report->stack_count, 0);
    assert_int_equal(report->suppressed.stacks, 3);
    assert_int_equal(report->suppressed.expired_blocks, 4);
    assert_false(lw_report_has_leaks(report));
    report->totals.expired_blocks++; /* of a stack that is not known */
    assert_true(lw_report_has_leaks(report));
    report->sample_bytes = 1024; /* nothing but the error of an estimate */
    assert_false(lw_report_has_leaks(report));
    lw_report_destroy(report);
    scene_deinit(&scene);
}

static void test_the_cut_ones_are_leaks(void **state)
{
    struct lw_report report = {.sample_bytes = 1024,
                               .totals.expired_blocks = 1,
                               .suppressed.expired_blocks = 1,
                               .cut_blocks = 1};

    (void)state;
    assert_true(lw_report_has_leaks(&report));
    report.cut_blocks = 0;
    assert_false(lw_report_has_leaks(&report));
    report.suppressed.expired_blocks = 0;
    assert_true(lw_report_has_leaks(&report));
}

/* Names are looked up as far as they are needed, and once for all reports. */
static void test_stacks_are_judged_once(void **state)
{
    struct scene scene;

    (void)state;
    scene_init(&scene, "{\nx\nMemcheck:Leak\nfun:*alloc\nfun:*keep*\n}", false);
    scene.picture.snapshot.stack_count = 1; /* suppressed: not named again to be listed */
    resolved = 0;
    lw_report_destroy(build(&scene, false));
    assert_in_range(resolved, 2, DEPTH - 1);
    lw_report_destroy(build(&scene, false));
    assert_in_range(resolved, 2, DEPTH - 1);
    scene_deinit(&scene);
}

static void test_outer_frames_are_named_when_they_matter(void **state)
{
    struct scene scene;

    (void)state;
    scene_init(&scene, "leak:no such name", false);
    scene.picture.snapshot.stack_count = 1;
    resolved = 0;
    lw_report_destroy(build(&scene, false));
    assert_true(resolved >= 2 * DEPTH); /* judged, and named */
    scene_deinit(&scene);
}

static char *write_with(const struct lw_writer *writer, const struct lw_report *report,
                        bool verbose)
{
    struct lw_writer_options options = {.verbose = verbose};
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);

    assert_int_equal(writer->report(stream, &options, report), 0);
    fclose(stream);
    return text;
}

static void expect_in(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no '%s' in:\n%s", part, text);
}

static void test_text(void **state)
{
    struct scene scene;

    (void)state;
    scene_init(&scene, "leak:T::keep\nleak:\033[1m\nleak:unused", false);
    struct lw_report *report = build(&scene, false);
    char *text = write_with(&lw_text_writer, report, false);
    expect_in(text, "\n1 stack with 200 B in 2 expired blocks is suppressed.\n");
    assert_null(strstr(text, "my.supp"));
    assert_null(strstr(text, "keep"));
    free(text);
    lw_report_destroy(report);
    report = build(&scene, true);
    text = write_with(&lw_text_writer, report, false);
    expect_in(text, "\n    blocks         bytes  stacks  used suppressions\n"
                    "         2           200       1  leak:T::keep  (my.supp:1)\n"
                    "\nunused suppressions:\n"
                    "    leak:\\x1b[1m  (my.supp:2)\n"
                    "    leak:unused  (my.supp:3)\n");
    free(text);
    lw_report_destroy(report);
    scene_deinit(&scene);
}

static void test_unused_defaults_are_for_the_curious(void **state)
{
    struct scene scene;
    const char more[] = "leak:a default";

    (void)state;
    scene_init(&scene, "", false);
    assert_null(lw_suppressions_parse(scene.set, "d.supp", true, more, strlen(more)));
    struct lw_report *report = build(&scene, true);
    char *text = write_with(&lw_text_writer, report, false);
    assert_null(strstr(text, "suppress"));
    free(text);
    text = write_with(&lw_text_writer, report, true);
    expect_in(text, "\nunused suppressions:\n    leak:a default  (d.supp:1)\n");
    free(text);
    text = write_with(&lw_json_writer, report, true);
    expect_in(text, "\"suppressions\":[]");
    free(text);
    lw_report_destroy(report);
    scene_deinit(&scene);
}

static void test_json(void **state)
{
    struct scene scene;

    (void)state;
    scene_init(&scene, "leak:T::keep\nleak:unused", false);
    struct lw_report *report = build(&scene, true);
    char *text = write_with(&lw_json_writer, report, false);
    expect_in(text, "\"suppressed\":{\"bytes\":200,\"blocks\":2,\"stacks\":1},\"suppressions\":["
                    "{\"bytes\":200,\"blocks\":2,\"stacks\":1,\"name\":\"leak:T::keep\","
                    "\"file\":\"my.supp\",\"line\":1},"
                    "{\"bytes\":0,\"blocks\":0,\"stacks\":0,\"name\":\"leak:unused\","
                    "\"file\":\"my.supp\",\"line\":2}]");
    free(text);
    lw_report_destroy(report);
    scene_deinit(&scene);
}

/* What is written of a report hides all that it has listed, and nothing else. */
static void test_generated_suppressions(void **state)
{
    struct scene scene, again;

    (void)state;
    scene_init(&scene, "leak:lose", true);
    struct lw_report *report = build(&scene, false);
    char *text = write_with(&lw_suppressions_writer, report, false);
    assert_string_equal(text, "# Made by leakwatch from PID 1, for its --suppressions or "
                              "valgrind's.\n"
                              "# expired: 200 bytes in 2 blocks\n"
                              "{\n"
                              "   T::keep() < main < main, stack 1\n"
                              "   Memcheck:Leak\n"
                              "   fun:malloc\n"
                              "   fun:_ZN1T4keepEv\n"
                              "   fun:main\n"
                              "}\n");
    lw_report_destroy(report);
    scene_init(&again, text, false);
    report = build(&again, false);
    assert_int_equal(report->stack_total, 1);
    assert_int_equal(report->stacks[0].id, 2);
    assert_int_equal(report->suppressions[0].hidden.stacks, 1);
    lw_report_destroy(report);
    free(text);
    scene_deinit(&again);
    scene_deinit(&scene);
}

/* Names from the target cannot break out of their line, and match themselves nevertheless. */
static void test_odd_names_are_generated(void **state)
{
    struct sample sample;
    struct lw_report_stack twice[2];

    (void)state;
    sample_init(&sample);
    sample.frames[1].function = " a\n}\n\033\xc3\xa4 b* ";
    sample.frames[2].function = NULL;
    sample.frames[3].module_path = NULL;
    twice[0] = twice[1] = sample.stack; /* the same calls, elsewhere in the same functions */
    sample.report.stacks = twice;
    sample.report.every_count = 2;
    char *text = write_with(&lw_suppressions_writer, &sample.report, false);
    assert_string_equal(text, "# Made by leakwatch from PID 4711, for its --suppressions or "
                              "valgrind's.\n"
                              "# expired: 3,000 bytes in 2 blocks\n"
                              "{\n"
                              "   ?a?}???? b*? < app < libx.so, stack 17\n"
                              "   Memcheck:Leak\n"
                              "   fun:malloc\n"
                              "   fun:?a?}???? b*?\n"
                              "   obj:/bin/app\n"
                              "   obj:*\n"
                              "}\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suppressed_stacks_are_not_listed),
        cmocka_unit_test(test_suppressed_stacks_of_a_cohort),
        cmocka_unit_test(test_suppressed_stacks_are_no_part_of_the_whole),
        cmocka_unit_test(test_what_is_suppressed_is_no_leak),
        cmocka_unit_test(test_the_cut_ones_are_leaks),
        cmocka_unit_test(test_stacks_are_judged_once),
        cmocka_unit_test(test_outer_frames_are_named_when_they_matter),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_unused_defaults_are_for_the_curious),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_generated_suppressions),
        cmocka_unit_test(test_odd_names_are_generated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
