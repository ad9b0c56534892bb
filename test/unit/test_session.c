/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A session from beginning to end, with an engine that watches nothing: how each end is told. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../src/app/engine_choice.h"
#include "leakwatch/app/session.h"
#include "leakwatch/base/clock.h"

/* What `run` returns at once. */
static struct lw_engine_outcome outcome;
static enum lw_engine_choice chosen;
static struct lw_engine_options seen;

static lw_error *fake_attach(struct lw_engine *engine, pid_t pid)
{
    engine->attachment.pid = pid;
    engine->attachment.threads = 1;
    engine->armed = true;
    return NULL;
}

static struct lw_engine_outcome fake_run(struct lw_engine *engine, uint64_t deadline)
{
    (void)engine;
    (void)deadline;
    return outcome;
}

static void fake_stop(struct lw_engine *engine, struct lw_engine_detachment *detachment)
{
    (void)engine;
    *detachment =
        (struct lw_engine_detachment){.threads = 1, .probes_removed = 3, .restored = true};
}

static bool fake_verify(struct lw_engine *engine, uint64_t *bytes)
{
    (void)engine;
    *bytes = 15;
    return true;
}

static struct lw_snapshot *fake_snapshot(struct lw_engine *engine,
                                         const struct lw_snapshot_request *request)
{
    struct lw_snapshot *snapshot = calloc(1, sizeof(*snapshot));
    (void)engine;
    (void)request;
    if (snapshot)
        *snapshot = (struct lw_snapshot){.taken_ns = lw_clock_now(), .expire_ns = 1};
    return snapshot;
}

static void fake_wake(struct lw_engine *engine)
{
    (void)engine;
}

static void fake_destroy(struct lw_engine *engine)
{
    free(engine);
}

static struct lw_engine *fake_create(const struct lw_engine_options *options)
{
    static const struct lw_engine_ops ops = {.name = "fake",
                                             .attach = fake_attach,
                                             .run = fake_run,
                                             .stop = fake_stop,
                                             .verify = fake_verify,
                                             .wake = fake_wake,
                                             .snapshot = fake_snapshot,
                                             .destroy = fake_destroy};
    struct lw_engine *engine = calloc(1, sizeof(*engine));
    if (!engine)
        return NULL;
    engine->ops = &ops;
    engine->options = *options;
    seen = *options;
    return engine;
}

/* Being defined here, it keeps the real one and its engines out of this program. */
lw_error *lw_engine_choice_clear(pid_t pid)
{
    (void)pid;
    return NULL;
}

lw_engine_create *const *lw_engine_choice_list(enum lw_engine_choice choice)
{
    static lw_engine_create *const engines[] = {fake_create, NULL};
    chosen = choice;
    return engines;
}

struct result {
    int code;
    char errors[4096], output[16384];
};

static void read_all(int fd, char *text, size_t size)
{
    ssize_t count = pread(fd, text, size - 1, 0);
    assert_true(count >= 0);
    text[count] = '\0';
    close(fd);
}

static int temporary(char *path)
{
    strcpy(path, "/tmp/test_session.XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    return fd;
}

/* In a child, which loses its signal mask and its stderr to the session. */
static void run_child(const struct lw_options *options, int errors)
{
    dup2(errors, STDERR_FILENO);
    int code = lw_session_run(options);
    if (chosen != options->engine || seen.sample_bytes != options->sample_bytes ||
        seen.sample_auto != options->sample_auto || seen.max_overhead != options->max_overhead)
        code = 98;
    _exit(code);
}

/* A session that watches a process which does nothing, until the engine says that it is over. */
static struct result run_session(struct lw_engine_outcome end, const struct lw_writer *writer)
{
    struct result result;
    char output[64], errors[64];
    int output_fd = temporary(output), errors_fd = temporary(errors), status;
    pid_t target = fork();
    assert_true(target >= 0);
    if (target == 0)
        for (;;)
            pause();
    outcome = end;
    const struct lw_options options = {
        .pid = target,
        .expire_ns = LW_NS_PER_SECOND,
        .interval_ns = LW_NS_PER_SECOND,
        .duration_ns = LW_NEVER,
        .depth = 8,
        .engine = LW_ENGINE_RECORD,
        .sample_auto = true,
        .max_overhead = 2.5,
        .outputs = {{writer, output}},
        .output_count = 1,
    };
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        run_child(&options, errors_fd);
    assert_int_equal(waitpid(child, &status, 0), child);
    kill(target, SIGKILL);
    waitpid(target, NULL, 0);
    assert_true(WIFEXITED(status));
    result.code = WEXITSTATUS(status);
    read_all(output_fd, result.output, sizeof(result.output));
    read_all(errors_fd, result.errors, sizeof(result.errors));
    unlink(output);
    unlink(errors);
    return result;
}

static void expect(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("missing: %s\nin:\n%s", part, text);
}

static void test_an_exit_whose_status_is_known(void **state)
{
    (void)state;
    struct result result = run_session(
        (struct lw_engine_outcome){.end = LW_ENGINE_EXITED, .status = 3}, &lw_json_writer);
    assert_int_equal(result.code, LW_EXIT_DONE);
    assert_string_equal(result.errors, "");
    expect(result.output, "\"engine\":\"fake\",\"engine_reason\":\"\"");
    expect(result.output, "{\"type\":\"summary\"");
    expect(result.output, "\"status\":3,\"signal\":null}");
}

static void test_an_end_of_which_nothing_is_known(void **state)
{
    const struct lw_engine_outcome end = {.end = LW_ENGINE_EXITED, .status = -1, .signal = -1};

    (void)state;
    struct result result = run_session(end, &lw_json_writer);
    assert_int_equal(result.code, LW_EXIT_DONE);
    assert_string_equal(result.errors, "");
    expect(result.output, "\"status\":null,\"signal\":null}");
    result = run_session(end, &lw_text_writer);
    assert_int_equal(result.code, LW_EXIT_DONE);
    expect(result.output, " ended (status unknown).\n");
}

static void test_a_lapsed_recorder_ends_the_watch(void **state)
{
    const struct lw_engine_outcome end = {.end = LW_ENGINE_LAPSED};

    (void)state;
    struct result result = run_session(end, &lw_json_writer);
    assert_int_equal(result.code, LW_EXIT_FAILED);
    expect(result.errors, "leakwatch was held up for so long");
    assert_ptr_equal(strchr(result.errors, '\n'), result.errors + strlen(result.errors) - 1);
    expect(result.output, "{\"type\":\"summary\""); /* the last report */
    expect(result.output, "{\"type\":\"detach\"");
    expect(result.output, "\"probes_removed\":3,\"code_verified\":true");
    assert_null(strstr(result.output, "{\"type\":\"exit\""));
    assert_null(strstr(result.output, "{\"type\":\"exec\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_exit_whose_status_is_known),
        cmocka_unit_test(test_an_end_of_which_nothing_is_known),
        cmocka_unit_test(test_a_lapsed_recorder_ends_the_watch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
