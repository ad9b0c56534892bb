/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The watch: which engine it takes, what it tells of that, and how it ends. */
#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "leakwatch/app/watch.h"
#include "leakwatch/base/clock.h"

/* An engine that watches nothing: attach and run answer what the test has planned. */
struct fake {
    struct lw_engine engine;
    sem_t woken;
};

/* What happens to the first and the second engine of the list. */
static struct plan {
    int code;            /* of attach's error; 0: it succeeds */
    const char *message; /* of that error */
    bool cannot_be_made;
    enum lw_engine_end end; /* what `run` returns at once, unless LW_ENGINE_RUNS */
    unsigned made, attached, launched, stopped, destroyed;
    uint64_t sample_bytes; /* seen in the options */
} plans[2];

static struct lw_snapshot_request requested; /* of the latest snapshot */

static struct plan *plan_of(const struct lw_engine *engine)
{
    return &plans[strcmp(engine->ops->name, "second") == 0];
}

static lw_error *begin(struct lw_engine *engine)
{
    const struct plan *plan = plan_of(engine);
    if (plan->code != 0)
        return lw_error_create(plan->code, "%s", plan->message);
    engine->attachment.pid = getpid();
    engine->armed = true;
    return NULL;
}

static lw_error *fake_attach(struct lw_engine *engine, pid_t pid)
{
    assert_int_equal(pid, getpid());
    plan_of(engine)->attached++;
    return begin(engine);
}

static lw_error *fake_launch(struct lw_engine *engine, char *const argv[], const sigset_t *mask)
{
    assert_string_equal(argv[0], "command");
    assert_true(sigismember(mask, SIGUSR2));
    plan_of(engine)->launched++;
    return begin(engine);
}

static struct lw_engine_outcome fake_run(struct lw_engine *engine, uint64_t deadline)
{
    assert_true(deadline == LW_NEVER);
    struct lw_engine_outcome outcome = {.end = plan_of(engine)->end};
    if (outcome.end == LW_ENGINE_RUNS)
        sem_wait(&((struct fake *)engine)->woken);
    return outcome;
}

static void fake_stop(struct lw_engine *engine, struct lw_engine_detachment *detachment)
{
    plan_of(engine)->stopped++;
    *detachment = (struct lw_engine_detachment){.threads = 7, .restored = true};
}

static bool fake_verify(struct lw_engine *engine, uint64_t *bytes)
{
    (void)engine;
    *bytes = 99;
    return true;
}

static void fake_wake(struct lw_engine *engine)
{
    sem_post(&((struct fake *)engine)->woken);
}

static struct lw_snapshot *fake_snapshot(struct lw_engine *engine,
                                         const struct lw_snapshot_request *request)
{
    (void)engine;
    requested = *request;
    return calloc(1, sizeof(struct lw_snapshot));
}

static void fake_totals(struct lw_engine *engine, struct lw_ledger_totals *totals,
                        struct lw_event_counts *events)
{
    (void)engine;
    *totals = (struct lw_ledger_totals){0};
    *events = (struct lw_event_counts){0};
}

static void fake_destroy(struct lw_engine *engine)
{
    plan_of(engine)->destroyed++;
    sem_destroy(&((struct fake *)engine)->woken);
    free(engine);
}

#define FAKE_OPS(text)                                                                             \
    {                                                                                              \
        .name = (text), .attach = fake_attach, .launch = fake_launch, .run = fake_run,             \
        .stop = fake_stop, .verify = fake_verify, .wake = fake_wake, .snapshot = fake_snapshot,    \
        .totals = fake_totals, .destroy = fake_destroy                                             \
    }
static const struct lw_engine_ops ops[2] = {FAKE_OPS("first"), FAKE_OPS("second")};

static struct lw_engine *make(size_t index, const struct lw_engine_options *options)
{
    if (plans[index].cannot_be_made)
        return NULL;
    struct fake *fake = calloc(1, sizeof(*fake));
    assert_non_null(fake);
    fake->engine.ops = &ops[index];
    fake->engine.options = *options;
    sem_init(&fake->woken, 0, 0);
    plans[index].made++;
    plans[index].sample_bytes = options->sample_bytes;
    return &fake->engine;
}

static struct lw_engine *make_first(const struct lw_engine_options *options)
{
    return make(0, options);
}

static struct lw_engine *make_second(const struct lw_engine_options *options)
{
    return make(1, options);
}

static lw_engine_create *const both[] = {make_first, make_second, NULL};
static lw_engine_create *const only_first[] = {make_first, NULL};

static int reset(void **state)
{
    (void)state;
    memset(plans, 0, sizeof(plans));
    return 0;
}

static struct lw_watch *start(lw_engine_create *const engines[])
{
    const struct lw_engine_options options = {.depth = 1, .sample_bytes = 4096};
    sigset_t mask;
    sigemptyset(&mask);
    struct lw_watch *watch = lw_watch_start(engines, &options, getpid(), NULL, &mask);
    assert_non_null(watch);
    return watch;
}

/* Waits until the watch is armed or has ended. */
static enum lw_watch_phase await(struct lw_watch *watch)
{
    enum lw_watch_phase phase = LW_WATCH_STARTING;
    for (int i = 0; i < 20000 && phase < LW_WATCH_ARMED; i++) {
        phase = lw_watch_phase(watch);
        usleep(1000);
    }
    return phase;
}

static void expect_failure(lw_engine_create *const engines[], int code, const char *message)
{
    struct lw_watch_result result;
    struct lw_watch *watch = start(engines);
    assert_int_equal(await(watch), LW_WATCH_ENDED);
    assert_false(lw_watch_was_armed(watch));
    lw_watch_stop(watch, &result);
    assert_non_null(result.error);
    assert_int_equal(lw_error_code(result.error), code);
    assert_string_equal(lw_error_message(result.error), message);
    assert_null(result.snapshot);
    lw_error_destroy(result.error);
    lw_watch_destroy(watch);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(plans[i].stopped, plans[i].made);
        assert_int_equal(plans[i].destroyed, plans[i].made);
    }
}

/* Starts, expects the engine that watches and why, ends. */
static void expect_engine(lw_engine_create *const engines[], const char *name, const char *reason)
{
    struct lw_watch_result result;
    struct lw_watch *watch = start(engines);
    assert_int_equal(await(watch), LW_WATCH_ARMED);
    assert_string_equal(lw_watch_engine(watch), name);
    assert_string_equal(lw_watch_attachment(watch)->reason, reason);
    lw_watch_expect(watch, &(struct lw_snapshot_request){.with_blocks = true});
    struct lw_snapshot *snapshot =
        lw_watch_snapshot(watch, &(struct lw_snapshot_request){.cut = true});
    assert_non_null(snapshot);
    assert_true(requested.cut && !requested.with_blocks);
    lw_snapshot_destroy(snapshot);
    lw_watch_stop(watch, &result);
    assert_true(!requested.cut && requested.with_blocks); /* as expected of the last */
    assert_null(result.error);
    assert_true(result.detached);
    assert_true(result.released);
    assert_true(result.code_verified);
    assert_int_equal(result.detachment.threads, 7);
    assert_int_equal(result.verified_bytes, 99);
    lw_snapshot_destroy(result.snapshot);
    lw_watch_destroy(watch);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(plans[i].stopped, plans[i].made);
        assert_int_equal(plans[i].destroyed, plans[i].made);
    }
}

static void test_the_first_engine_is_taken(void **state)
{
    (void)state;
    expect_engine(both, "first", "");
    assert_int_equal(plans[0].attached, 1);
    assert_int_equal(plans[0].sample_bytes, 4096);
    assert_int_equal(plans[1].made, 0);
}

static void test_the_next_where_that_is_not_possible(void **state)
{
    (void)state;
    plans[0].code = ENOTSUP;
    plans[0].message = "the target forbids new mappings";
    expect_engine(both, "second", "the target forbids new mappings");
    assert_int_equal(plans[0].made, 1);
    assert_int_equal(plans[1].attached, 1);
    assert_int_equal(plans[1].sample_bytes, 4096);
}

static void test_a_long_reason_is_cut(void **state)
{
    char message[400], reason[200];

    (void)state;
    memset(message, 'x', sizeof(message) - 1);
    message[sizeof(message) - 1] = '\0';
    plans[0].code = ENOTSUP;
    plans[0].message = message;
    memset(reason, 'x', sizeof(reason) - 1);
    reason[sizeof(reason) - 1] = '\0';
    expect_engine(both, "second", reason);
}

static void test_other_errors_are_final(void **state)
{
    (void)state;
    plans[0].code = EPERM;
    plans[0].message = "not permitted";
    expect_failure(both, EPERM, "not permitted");
    assert_int_equal(plans[1].made, 0);
}

static void test_the_last_refusal_is_told(void **state)
{
    (void)state;
    plans[0] = plans[1] = (struct plan){.code = ENOTSUP, .message = "one"};
    plans[1].message = "two";
    expect_failure(both, ENOTSUP, "two");
    assert_int_equal(plans[1].made, 1);
    reset(NULL);
    plans[0] = (struct plan){.code = ENOTSUP, .message = "one"};
    expect_failure(only_first, ENOTSUP, "one");
}

static void test_an_engine_that_cannot_be_made(void **state)
{
    (void)state;
    plans[0].cannot_be_made = true;
    expect_failure(both, ENOMEM, "out of memory");
    reset(NULL);
    plans[0] = (struct plan){.code = ENOTSUP, .message = "one"};
    plans[1].cannot_be_made = true;
    expect_failure(both, ENOMEM, "out of memory");
}

static void test_a_command_is_launched_by_the_engine_that_can(void **state)
{
    char *argv[] = {(char[]){"command"}, NULL};
    const struct lw_engine_options options = {.depth = 1};
    struct lw_watch_result result;
    sigset_t mask;

    (void)state;
    plans[0] = (struct plan){.code = ENOTSUP, .message = "one"};
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    struct lw_watch *watch = lw_watch_start(both, &options, 0, argv, &mask);
    assert_int_equal(await(watch), LW_WATCH_ARMED);
    assert_int_equal(lw_watch_pid(watch), getpid());
    lw_watch_stop(watch, &result);
    assert_null(result.error);
    lw_snapshot_destroy(result.snapshot);
    lw_watch_destroy(watch);
    assert_int_equal(plans[0].launched, 1);
    assert_int_equal(plans[1].launched, 1);
    assert_int_equal(plans[0].attached + plans[1].attached, 0);
}

static void expect_end(enum lw_engine_end end, bool detached)
{
    struct lw_watch_result result;

    reset(NULL);
    plans[0].end = end;
    struct lw_watch *watch = start(both);
    assert_int_equal(await(watch), LW_WATCH_ENDED);
    assert_true(lw_watch_was_armed(watch));
    lw_watch_stop(watch, &result);
    assert_null(result.error);
    assert_int_equal(result.outcome.end, end);
    assert_int_equal(result.detached, detached);
    assert_non_null(result.snapshot);
    assert_int_equal(result.exe != NULL, end == LW_ENGINE_EXEC);
    free(result.exe);
    lw_snapshot_destroy(result.snapshot);
    lw_watch_destroy(watch);
}

static void test_ends(void **state)
{
    (void)state;
    expect_end(LW_ENGINE_EXITED, false);
    expect_end(LW_ENGINE_KILLED, false);
    expect_end(LW_ENGINE_EXEC, false);
    expect_end(LW_ENGINE_LAPSED, true); /* the target lives on */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_the_first_engine_is_taken, reset),
        cmocka_unit_test_setup(test_the_next_where_that_is_not_possible, reset),
        cmocka_unit_test_setup(test_a_long_reason_is_cut, reset),
        cmocka_unit_test_setup(test_other_errors_are_final, reset),
        cmocka_unit_test_setup(test_the_last_refusal_is_told, reset),
        cmocka_unit_test_setup(test_an_engine_that_cannot_be_made, reset),
        cmocka_unit_test_setup(test_a_command_is_launched_by_the_engine_that_can, reset),
        cmocka_unit_test_setup(test_ends, reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
