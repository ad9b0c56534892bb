/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is sent to a service manager, received by a socket that stands for one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "../../src/app/notify.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"

static char path[64];

static int bind_socket(const char *name)
{
    const struct timeval limit = {.tv_sec = 10};
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    memcpy(address.sun_path, name, strlen(name));
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    assert_int_equal(bind(fd, (const struct sockaddr *)&address,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
                     0);
    return fd;
}

static void expect_message(int fd, const char *expected)
{
    char message[512];
    ssize_t size = recv(fd, message, sizeof(message) - 1, 0);

    assert_true(size >= 0);
    message[size] = '\0';
    assert_string_equal(message, expected);
}

static void speak(const char *name)
{
    struct lw_notify notify;
    int manager = bind_socket(name);

    setenv("NOTIFY_SOCKET", name, 1);
    lw_notify_open(&notify);
    assert_null(getenv("NOTIFY_SOCKET"));
    assert_int_equal(notify.watchdog_ns, 0);
    lw_notify_tell(&notify, "READY=1", "Watching %d", 7);
    expect_message(manager, "READY=1\nSTATUS=Watching 7");
    lw_notify_tell(&notify, "", "a\nREADY=1 \x1b%s", "b"); /* as a process may be called */
    expect_message(manager, "STATUS=a\\x0aREADY=1 \\x1bb");
    close(manager);
    lw_notify_tell(&notify, "STOPPING=1", "nobody listens"); /* and nothing happens */
    assert_true(lw_notify_feed(&notify, NULL, 1) == LW_NEVER);
    lw_notify_close(&notify);
}

static void test_sockets(void **state)
{
    char abstract[64];

    (void)state;
    speak(path);
    unlink(path);
    snprintf(abstract, sizeof(abstract), "@leakwatch-test-%d", (int)getpid());
    speak(abstract);
}

static void test_report(void **state)
{
    struct lw_notify notify;
    int manager = bind_socket(path);
    const struct lw_report report = {
        .context = {.pid = 7, .name = "app", .elapsed_ns = 80 * LW_NS_PER_SECOND},
        .totals = {.expired_bytes = 3 << 20, .expired_blocks = 12345},
    };

    (void)state;
    setenv("NOTIFY_SOCKET", path, 1);
    lw_notify_open(&notify);
    lw_notify_report(&notify, &report);
    expect_message(manager,
                   "STATUS=PID 7 (app): 3.00 MiB expired in 12,345 blocks, 1m 20s into the watch");
    lw_notify_close(&notify);
    close(manager);
    unlink(path);
}

static uint64_t interval_for(const char *usec, const char *pid)
{
    struct lw_notify notify;

    setenv("NOTIFY_SOCKET", path, 1);
    setenv("WATCHDOG_USEC", usec, 1);
    if (pid)
        setenv("WATCHDOG_PID", pid, 1);
    lw_notify_open(&notify);
    assert_null(getenv("WATCHDOG_USEC"));
    assert_null(getenv("WATCHDOG_PID"));
    uint64_t interval = notify.watchdog_ns;
    lw_notify_close(&notify);
    return interval;
}

static void test_watchdog_interval(void **state)
{
    int manager = bind_socket(path);
    char self[16];

    (void)state;
    snprintf(self, sizeof(self), "%d", (int)getpid());
    assert_int_equal(interval_for("30000000", NULL), 15 * LW_NS_PER_SECOND);
    assert_int_equal(interval_for("30000000", self), 15 * LW_NS_PER_SECOND);
    assert_int_equal(interval_for("30000000", "1"), 0); /* another's */
    assert_int_equal(interval_for("nonsense", self), 0);
    assert_int_equal(interval_for("18446744073709551615", self), 0); /* never */
    close(manager);
    unlink(path);
}

/* The watch goes on without. */
static void expect_nobody(const char *name)
{
    struct lw_notify notify;

    if (name)
        setenv("NOTIFY_SOCKET", name, 1);
    setenv("WATCHDOG_USEC", "1000", 1);
    lw_notify_open(&notify);
    assert_int_equal(notify.socket, -1);
    assert_int_equal(notify.watchdog_ns, 0);
    lw_notify_tell(&notify, "READY=1", "%d", 7);
    lw_notify_close(&notify);
}

static void test_nobody_wants_to_know(void **state)
{
    char long_name[300] = "/";

    (void)state;
    expect_nobody(NULL);
    lw_log_set_level(LW_LOG_ERROR);
    expect_nobody("/nowhere/at/all");
    expect_nobody("vsock:2:1234");
    expect_nobody("");
    memset(long_name + 1, 'x', sizeof(long_name) - 2);
    expect_nobody(long_name);
    lw_log_set_level(LW_LOG_WARNING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sockets),
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_watchdog_interval),
        cmocka_unit_test(test_nobody_wants_to_know),
    };

    snprintf(path, sizeof(path), "/tmp/leakwatch-notify-%d", (int)getpid());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
