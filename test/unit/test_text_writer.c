/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The text that a person reads. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#include "report_sample.h"

static const struct lw_writer_options plain;

/* What a writer's function has written; the caller frees it. */
#define WRITTEN(function, options, what)                                                           \
    ({                                                                                             \
        char *text_ = NULL;                                                                        \
        size_t size_;                                                                              \
        FILE *stream_ = open_memstream(&text_, &size_);                                            \
        assert_non_null(stream_);                                                                  \
        assert_int_equal(lw_text_writer.function(stream_, (options), (what)), 0);                  \
        fclose(stream_);                                                                           \
        text_;                                                                                     \
    })

static void expect(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("missing: %s\nin:\n%s", part, text);
}

static void expect_not(const char *text, const char *part)
{
    if (strstr(text, part))
        fail_msg("present: %s\nin:\n%s", part, text);
}

static void test_report(void **state)
{
    struct sample sample;

    (void)state;
    setenv("TZ", "UTC", 1);
    sample_init(&sample);
    char *text = WRITTEN(report, &plain, &sample.report);
    assert_string_equal(
        text, "Report 3 of PID 4711 at 2023-11-14 22:13:20 +0000, 1m 20s into the watch\n"
              "  live     3.42 KiB (3,500 bytes) in 3 blocks, +100 B since the last report\n"
              "  expired  2.93 KiB (3,000 bytes) in 2 blocks from 1 stack, -512 B and -1 block\n"
              "  RSS      4.00 MiB, +1.00 MiB a minute\n"
              "\n"
              "#1  2.93 KiB (3,000 bytes) in 2 blocks, +1.50 KiB a minute, -512 B since the last "
              "report\n"
              "    growing: grew in 5 of 7 reports; of 3 blocks that outlived 10s, 1 was freed\n"
              "    12.5s to 1m 15s old; 1 late free; stack 17\n"
              "    malloc+0x1a  (libc.so.6)\n"
              "  > keep [inlined]  src/app.c:42  (app)\n"
              "    serve+0x31  src/app.c:99  (app)\n"
              "    0x7f1234567777  (libx.so+0x777)\n"
              "\n");
    free(text);
}

static void test_on_a_terminal(void **state)
{
    const struct lw_writer_options narrow = {.columns = 40};
    struct sample sample;

    (void)state;
    sample_init(&sample);
    sample.frames[1].file = "/build/here/src/app.c";
    char *text = WRITTEN(report, &narrow, &sample.report);
    expect(text, "\n  expired  2.93 KiB (3,000 bytes) in 2\n"
                 "           blocks from 1 stack,\n"
                 "           -512 B and -1 block\n");
    expect(text, "\n  > keep [inlined]  src/app.c:42  (app)\n");
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        assert_true(strlen(line) <= 40);
    free(text);
}

static void test_sizes_are_below_each_other(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    sample.report.totals.expired_bytes = 7;
    char *text = WRITTEN(report, &plain, &sample.report);
    expect(text, "  live     3.42 KiB (3,500 bytes) in 3 blocks");
    expect(text, "  expired       7 B in 2 blocks");
    expect(text, "  RSS      4.00 MiB, ");
    free(text);
}

static void test_summary(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    sample.report.context.summary = true;
    sample.report.has_previous = false;
    char *text = WRITTEN(report, &plain, &sample.report);
    expect(text, "Summary of PID 4711 at ");
    expect(text, "  RSS      4.00 MiB; +1.00 MiB a minute up to the last report\n");
    expect(text, "#1  2.93 KiB (3,000 bytes) in 2 blocks outlived 10s, +1.50 KiB a minute\n"
                 "    growing: grew in 5 of 7 reports; of 3 blocks that outlived 10s, 1 was freed\n"
                 "    10 allocations (8.79 KiB), 7 frees, 1 late free; stack 17\n"
                 "    freed blocks lived 2ms min, 2.0s mean, 11.0s max\n"
                 "    3 blocks (3.42 KiB) still live, 300ms to 1m 15s old\n");
    expect_not(text, "since the last report");
    free(text);

    sample.stack.facts.stats = (struct lw_stack_stats){.allocs = 1, .frees = 0, .live_blocks = 1};
    sample.stack.verdict = (struct lw_verdict){0};
    text = WRITTEN(report, &plain, &sample.report);
    expect(text, "#1  no block outlived 10s\n"
                 "    1 allocation (0 B), 0 frees"); /* of nothing, there is no verdict */
    expect_not(text, "freed blocks lived");          /* none was: no mean of nothing */
    free(text);
}

static void test_marked(void **state)
{
    struct sample sample;
    struct sample_cohort with;

    (void)state;
    sample_init(&sample);
    sample_add_cohort(&sample, &with);
    char *text = WRITTEN(report, &plain, &sample.report);
    expect(text,
           "\n  marked   3.91 KiB (4,000 bytes) in 5 blocks allocated in the first 10.0s of the "
           "watch\n"
           "           2.93 KiB (3,000 bytes) in 3 blocks still live, 75%\n"
           "           it was 100%, 87.5% at the reports before\n");
    expect(text, "\nMarked and still live:\n"
                 "    2.93 KiB (3,000 bytes) in 3 of 4 blocks; stack 17, #1 above\n"
                 "\n    1 more stack; --top=0 lists all.\n");
    expect_not(text, "suppressed");
    free(text);
    sample.report.cohort.suppressed = 2;
    text = WRITTEN(report, &plain, &sample.report);
    expect(text, "; --top=0 lists all.\n\n    2 more stacks are suppressed.\n");
    free(text);
    sample.report.cohort.suppressed = 0;
    with.stack.id = 18; /* not among those that are listed */
    with.cohort.number = 2;
    with.cohort.began_ns = 8 * LW_NS_PER_SECOND;
    sample.report.sample_bytes = 1024;
    sample.report.context.summary = true;
    text = WRITTEN(report, &plain, &sample.report);
    expect(text, "  marked   3.91 KiB in 5 blocks allocated from 8.0s to 10.0s into the watch\n");
    expect(text, "  2.93 KiB ± 99 B in 3 blocks still live, 75%\n"
                 "           it was 100%, 87.5%, 75% at the reports before\n");
    expect(text, "    2.93 KiB ± 0 B in 3 of 4 blocks; stack 18\n    malloc+0x1a  (libc.so.6)\n");
    free(text);
}

static void test_open_window(void **state)
{
    struct sample sample;
    struct sample_cohort with;

    (void)state;
    sample_init(&sample);
    sample_add_cohort(&sample, &with);
    with.cohort.open = true;
    with.cohort.drain.count = 0;
    with.cohort.window_ns = 90 * LW_NS_PER_SECOND;
    sample.report.cohort.stack_total = 0;
    char *text = WRITTEN(report, &plain, &sample.report);
    expect(text, "allocated in the first 1m 20s of the watch; the window is open for 9.5s more\n");
    expect_not(text, "it was");
    expect_not(text, "Marked and");
    free(text);
    sample.report.context.summary = true;
    text = WRITTEN(report, &plain, &sample.report);
    expect(text, "in the first 1m 20s of the watch; the window is still open\n");
    free(text);
}

static void test_estimates(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    sample.report.sample_bytes = 512 << 10;
    sample.report.live_bytes_error = 1100;
    sample.report.expired_bytes_error = 1024;
    sample.stack.facts.live_bytes_error = 100;
    sample.stack.facts.expired_bytes_error = 0;
    char *text = WRITTEN(report, &plain, &sample.report);
    expect(text,
           " into the watch\n"
           "  sampled  one allocation in 512 KiB on average: bytes and blocks are estimates, ± "
           "their standard error\n"
           "  live     3.42 KiB ± 1.07 KiB in 3 blocks, +100 B since the last report\n"
           "  expired  2.93 KiB ± 1.00 KiB in 2 blocks from 1 stack, -512 B and -1 block\n");
    expect(text,
           "\n#1  2.93 KiB ± 0 B in 2 blocks, +1.50 KiB a minute, -512 B since the last report\n");
    expect_not(text, " bytes)"); /* no figure to the byte */
    free(text);

    sample.report.context.summary = true;
    sample.report.has_previous = false;
    text = WRITTEN(report, &plain, &sample.report);
    expect(text, "  sampled  one allocation in 512 KiB");
    expect(text, "#1  2.93 KiB ± 0 B in 2 blocks outlived 10s, +1.50 KiB a minute\n");
    expect(text, "    3 blocks (3.42 KiB ± 100 B) still live, ");
    free(text);

    sample.report.sample_bytes = 0;
    text = WRITTEN(report, &plain, &sample.report);
    expect_not(text, "±");
    expect_not(text, "sampled");
    free(text);
}

static void expect_threshold(struct sample *sample, uint64_t expire_ns, const char *shown)
{
    char line[64];

    sample->report.expire_ns = expire_ns;
    snprintf(line, sizeof(line), "\nNo block has outlived %s.\n", shown);
    char *text = WRITTEN(report, &plain, &sample->report);
    expect(text, line);
    free(text);
}

static void test_nothing_expired(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    sample.report.stack_count = sample.report.stack_total = 0;
    sample.report.totals.expired_blocks = 0;
    char *text = WRITTEN(report, &plain, &sample.report);
    expect(text, "\nNo block has outlived 10s.\n");
    expect_not(text, "#1");
    free(text);
    expect_threshold(&sample, 1250 * LW_NS_PER_MS, "1.25s");
    expect_threshold(&sample, 500 * LW_NS_PER_MS, "500ms");
    expect_threshold(&sample, 300 * LW_NS_PER_SECOND, "5m 00s");
    expect_threshold(&sample, 90500 * LW_NS_PER_MS, "90.5s"); /* exact, not "1m 30s" */
    expect_threshold(&sample, 7260 * LW_NS_PER_SECOND, "2h 01m");
    expect_threshold(&sample, 7261 * LW_NS_PER_SECOND, "7261s");
}

static void test_first_report_compares_with_nothing(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    sample.report.has_previous = sample.report.has_rss_trend = false;
    sample.report.context.rss_bytes = 0;
    char *text = WRITTEN(report, &plain, &sample.report);
    expect_not(text, "since the last report");
    expect_not(text, "RSS");
    free(text);
}

static void test_confidence(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    char *text = WRITTEN(report, &plain, &sample.report);
    expect_not(text, "confidence");
    expect_not(text, "failed");
    free(text);

    sample.report.losses.dropped_blocks = 1;
    text = WRITTEN(report, &plain, &sample.report);
    expect(text, "\nconfidence: 10 allocations, 7 frees and 2 reallocs seen; 1 dropped block (no "
                 "room for them: see --max-memory)\n");
    free(text);

    sample.report.events.unknown_frees = 12;
    sample.report.events.missed_frees = 13;
    sample.report.events.failed_allocs = 14;
    sample.report.losses = (struct lw_loss_counts){15, 16, 17, 18};
    text = WRITTEN(report, &plain, &sample.report);
    expect(text, "; 12 unknown frees (of blocks from before the attach), 13 missed frees, 17 "
                 "missed returns, 15 truncated stacks, 16 dropped blocks (no room for them: see "
                 "--max-memory), 18 folded blocks (at --max-memory: live in these figures, and "
                 "their frees are unknown ones)\n");
    expect(text, "  failed   14 allocations");
    free(text);
}

static void test_cut_and_truncated(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    sample.report.stack_total = 4;
    sample.report.cut_bytes = 2048;
    sample.report.cut_blocks = 9;
    sample.raw.truncated = true;
    char *text = WRITTEN(report, &plain, &sample.report);
    expect(text, "3 more stacks with 2.00 KiB in 9 expired blocks; --top=0 lists all.\n");
    expect(text, "(cut short: the outer frames are not known)\n");
    free(text);
    sample.stack.frame_count = 0;
    text = WRITTEN(report, &plain, &sample.report);
    expect(text, "no frame could be read\n");
    free(text);
}

static void test_blocks(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    sample.stack.blocks = sample.blocks;
    sample.stack.block_count = 2;
    char *text = WRITTEN(report, &plain, &sample.report);
    expect(text, "    block 0x000055550000  2,000 bytes  1m 15s old\n"
                 "    block 0x000055551000  1,000 bytes  12.5s old\n");
    free(text);
}

static void test_verbose_and_color(void **state)
{
    const struct lw_writer_options verbose = {.verbose = true}, color = {.color = true};
    struct sample sample;

    (void)state;
    sample_init(&sample);
    char *text = WRITTEN(report, &verbose, &sample.report);
    expect(text, "    0x7f000009a01a  malloc+0x1a  (/lib/libc.so.6+0x9a01a)\n");
    expect_not(text, "\033");
    free(text);
    text = WRITTEN(report, &color, &sample.report);
    expect(text, "#1  \033[1m2.93 KiB\033[0m");
    expect(text, "\033[2m    malloc+0x1a  (libc.so.6)\033[0m\n");
    expect(text, "\033[1;35m  > \033[0m\033[1;35mkeep\033[0m [inlined]  src/app.c:42");
    expect(text, "\033[2m(app)\033[0m\n");
    expect(text, ", \033[1;31m+100 B\033[0m since"); /* what grew, and what did not */
    expect(text, ", \033[1m-512 B\033[0m since");
    expect(text, "    \033[1;33mgrowing\033[0m: grew in 5 of 7 reports");
    free(text);
    sample.stack.verdict.kind = LW_VERDICT_LEAK;
    text = WRITTEN(report, &color, &sample.report);
    expect(text, "    \033[1;31mleak\033[0m: ");
    free(text);
}

static void test_names_are_escaped(void **state)
{
    struct sample sample;

    (void)state;
    sample_init(&sample);
    sample.frames[0].function = "evil\033[2J";
    sample.frames[1].file = "line\nbreak.c";
    sample.frames[2].module = "bad\xff";
    char *text = WRITTEN(report, &plain, &sample.report);
    expect(text, "evil\\x1b[2J+0x1a");
    expect(text, "line\\x0abreak.c:42");
    expect(text, "(bad\\xff)");
    expect_not(text, "\033");
    free(text);
}

static void test_attach(void **state)
{
    struct lw_report_attach attach = sample_attach();

    (void)state;
    char *text = WRITTEN(attach, &plain, &attach);
    assert_string_equal(
        text, "watching     /bin/app, PID 4711, 5 threads\n"
              "allocator    /lib/libc.so.6, version 2.36, build-id abc123\n"
              "             malloc calloc free\n"
              "reporting    blocks that outlive 10s, every 1.5s\n"
              "note         blocks allocated before the attach are not seen\n"
              "engine       trap (breakpoints); the attach held the process up for 1.8ms\n"
              "\n");
    free(text);

    attach.name = "app-server";
    text = WRITTEN(attach, &plain, &attach);
    expect(text, "watching     /bin/app (app-server), PID 4711, 5 threads\n");
    free(text);

    attach.exe = "/bin/a-name-of-more-than-15-bytes";
    attach.name = "a-name-of-more-"; /* the kernel cuts it */
    text = WRITTEN(attach, &plain, &attach);
    expect(text, "watching     /bin/a-name-of-more-than-15-bytes, PID 4711");
    free(text);

    attach.pause_ns = 0;
    text = WRITTEN(attach, &plain, &attach);
    expect(text, "engine       trap (breakpoints); no thread was stopped to attach\n\n");
    expect_not(text, "0us");
    free(text);

    attach.from_start = attach.stopped = true;
    attach.min_size = 4096;
    attach.max_size = 8192;
    attach.threads = 1;
    text = WRITTEN(attach, &plain, &attach);
    expect(text, "1 thread, from its start; it is stopped and stays so\n");
    expect(text, "of 4,096 bytes or more, of 8,192 bytes or fewer\n");
    expect_not(text, "not seen");
    expect(text, "engine       trap (breakpoints)\n\n");
    free(text);
}

static void test_engine(void **state)
{
    struct lw_report_attach attach = sample_attach();

    (void)state;
    attach.engine_reason = "the target forbids new mappings (\033seccomp)";
    char *text = WRITTEN(attach, &plain, &attach);
    expect(text, "\nengine       trap (breakpoints); not record: the target forbids new mappings "
                 "(\\x1bseccomp); the attach held the process up for 1.8ms\n\n");
    free(text);
    attach.engine = "record";
    attach.engine_reason = "";
    text = WRITTEN(attach, &plain, &attach);
    expect(text,
           "\nengine       record (inside the target; no stops); the attach held the process up "
           "for 1.8ms\n\n");
    free(text);
}

static void test_sampling(void **state)
{
    struct lw_report_attach attach = sample_attach();

    (void)state;
    attach.max_overhead = 5; /* is nothing without sample_auto */
    char *text = WRITTEN(attach, &plain, &attach);
    expect_not(text, "sampling");
    free(text);
    attach.sample_bytes = 64 << 10;
    text = WRITTEN(attach, &plain, &attach);
    expect(text, "\nsampling     one allocation in 64.0 KiB on average: figures are estimates\n");
    free(text);
    attach.sample_bytes = 0;
    attach.sample_auto = true;
    attach.max_overhead = 0.5;
    text = WRITTEN(attach, &plain, &attach);
    expect(text, "\nsampling     as few allocations as keep the cost within 0.5%; ");
    free(text);
}

static void test_long_function_lists_wrap(void **state)
{
    const char *functions[40];
    struct lw_report_allocator allocator = {"m", "", "", functions, 40};
    struct lw_report_attach attach = sample_attach();

    (void)state;
    for (size_t i = 0; i < 40; i++)
        functions[i] = "posix_memalign";
    attach.allocators = &allocator;
    char *text = WRITTEN(attach, &plain, &attach);
    size_t words = 0;
    for (char *at = text; (at = strstr(at, "posix_memalign")); at++)
        words++;
    assert_int_equal(words, 40);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        assert_true(strlen(line) <= 96);
    free(text);
}

static void test_ends(void **state)
{
    struct lw_report_end end = {.pid = 5, .kind = LW_END_EXIT, .status = 3, .exe = ""};

    (void)state;
    char *text = WRITTEN(end, &plain, &end);
    assert_string_equal(text, "PID 5 exited with status 3.\n");
    free(text);
    end.status = -1;
    text = WRITTEN(end, &plain, &end);
    assert_string_equal(text, "PID 5 ended (status unknown).\n");
    free(text);
    end.kind = LW_END_SIGNAL;
    end.status = SIGSEGV;
    text = WRITTEN(end, &plain, &end);
    assert_string_equal(text, "PID 5 was killed by SIGSEGV.\n");
    free(text);
    end.status = 40;
    text = WRITTEN(end, &plain, &end);
    assert_string_equal(text, "PID 5 was killed by signal 40.\n");
    free(text);
    end.kind = LW_END_EXEC;
    end.exe = "/bin/other";
    text = WRITTEN(end, &plain, &end);
    assert_string_equal(text, "PID 5 executed /bin/other: the watch of the old image ends.\n");
    free(text);
}

static void test_detach(void **state)
{
    struct lw_report_detach detach = {.pid = 5,
                                      .threads = 2,
                                      .probes_removed = 30,
                                      .code_verified = true,
                                      .target_state = "sleeping",
                                      .pause_ns = 412 * LW_NS_PER_US,
                                      .verified_bytes = 30};

    (void)state;
    char *text = WRITTEN(detach, &plain, &detach);
    assert_string_equal(text, "Detached from PID 5: 2 threads released, 30 probes removed,\n"
                              "  its code equals the file (30 bytes compared),\n"
                              "  the process is sleeping; it was "
                              "held up for 412us.\n");
    free(text);
    detach.pause_ns = 999999999;
    text = WRITTEN(detach, &plain, &detach);
    expect(text, "held up for 999ms.\n");
    free(text);
    detach.pause_ns = 0;
    text = WRITTEN(detach, &plain, &detach);
    expect(text, "the process is sleeping; no thread was stopped to detach.\n");
    expect_not(text, "0us");
    free(text);
    detach.code_verified = false;
    text = WRITTEN(detach, &plain, &detach);
    expect(text, "DIFFERS");
    free(text);
    detach.verified_bytes = 0;
    text = WRITTEN(detach, &plain, &detach);
    expect(text, "was not compared");
    free(text);
}

static void test_failed_writes_are_told(void **state)
{
    struct sample sample;
    int ends[2];

    (void)state;
    sample_init(&sample);
    FILE *full = fopen("/dev/full", "w");
    assert_non_null(full);
    assert_int_equal(lw_text_writer.report(full, &plain, &sample.report), -ENOSPC);
    fclose(full);

    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    FILE *broken = fdopen(ends[1], "w");
    assert_int_equal(lw_text_writer.report(broken, &plain, &sample.report), -EPIPE);
    fclose(broken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_on_a_terminal),
        cmocka_unit_test(test_sizes_are_below_each_other),
        cmocka_unit_test(test_summary),
        cmocka_unit_test(test_marked),
        cmocka_unit_test(test_open_window),
        cmocka_unit_test(test_estimates),
        cmocka_unit_test(test_nothing_expired),
        cmocka_unit_test(test_first_report_compares_with_nothing),
        cmocka_unit_test(test_confidence),
        cmocka_unit_test(test_cut_and_truncated),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_verbose_and_color),
        cmocka_unit_test(test_names_are_escaped),
        cmocka_unit_test(test_attach),
        cmocka_unit_test(test_engine),
        cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_long_function_lists_wrap),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_detach),
        cmocka_unit_test(test_failed_writes_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
