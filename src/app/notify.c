/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Datagrams for the service manager. libsystemd does no more than this. */
#include "notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "leakwatch/base/cleanup.h"
#include "leakwatch/base/clock.h"
#include "leakwatch/base/log.h"
#include "leakwatch/base/text.h"
#include "leakwatch/base/units.h"

/* The socket's name is a path, or abstract behind an @. 0 or a negative errno. */
static int connect_to(int fd, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);

    if (name[0] != '/' && name[0] != '@')
        return -EAFNOSUPPORT;
    if (length >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, name, length);
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    length += offsetof(struct sockaddr_un, sun_path);
    return connect(fd, (const struct sockaddr *)&address, (socklen_t)length) == 0 ? 0 : -errno;
}

/* A descriptor, or a negative errno. Connected while privileges are there that it may take. */
static int open_socket(const char *name)
{
    const struct timeval limit = {.tv_sec = 1};
    lw_auto_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0)
        return -errno;
    int result = connect_to(fd, name);
    if (result != 0)
        return result;
    result = fd;
    fd = -1;
    return result;
}

/* Half of the time after which leakwatch is taken for dead; 0: never, or it is not leakwatch that
 * is meant. */
static uint64_t watchdog_interval(const char *usec, const char *pid)
{
    if (!usec || (pid && strtol(pid, NULL, 10) != getpid()))
        return 0;
    unsigned long long value = strtoull(usec, NULL, 10);
    return value < UINT64_MAX / LW_NS_PER_US ? value * LW_NS_PER_US / 2 : 0;
}

void lw_notify_open(struct lw_notify *notify)
{
    const char *name = getenv("NOTIFY_SOCKET");

    *notify = (struct lw_notify){.socket = -1};
    int result = name ? open_socket(name) : -1;
    if (result >= 0) {
        notify->socket = result;
        notify->watchdog_ns = watchdog_interval(getenv("WATCHDOG_USEC"), getenv("WATCHDOG_PID"));
    } else if (name) {
        lw_warn("cannot tell the service manager of the watch: NOTIFY_SOCKET is '%s': %s", name,
                strerror(-result));
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void lw_notify_close(struct lw_notify *notify)
{
    if (notify->socket >= 0)
        close(notify->socket);
    notify->socket = -1;
}

/* What a manager that has gone, or is slow, does not learn, does not matter to the watch. */
static void send_message(const struct lw_notify *notify, const char *message)
{
    if (send(notify->socket, message, strlen(message), MSG_NOSIGNAL) < 0)
        lw_info("cannot tell the service manager: %m");
}

void lw_notify_tell(const struct lw_notify *notify, const char *state, const char *format, ...)
{
    lw_auto_free char *status = NULL;
    lw_auto_free char *message = NULL;
    va_list arguments;

    if (notify->socket < 0)
        return;
    va_start(arguments, format);
    if (vasprintf(&status, format, arguments) < 0)
        status = NULL;
    va_end(arguments);
    /* a name of the process's must not begin a line of its own */
    lw_auto_free char *escaped = status ? lw_text_escape(status) : NULL;
    if (!escaped || asprintf(&message, "%s\nSTATUS=%s", state, escaped) < 0) {
        message = NULL;
        return;
    }
    send_message(notify, message[0] == '\n' ? message + 1 : message);
}

void lw_notify_report(const struct lw_notify *notify, const struct lw_report *report)
{
    char size[LW_UNITS_MAX], blocks[LW_UNITS_MAX], elapsed[LW_UNITS_MAX];

    lw_notify_tell(notify, "", "PID %d (%s): %s expired in %s blocks, %s into the watch",
                   (int)report->context.pid, report->context.name,
                   lw_format_size(report->totals.expired_bytes, size),
                   lw_format_count(report->totals.expired_blocks, blocks),
                   lw_format_duration(report->context.elapsed_ns, elapsed));
}

uint64_t lw_notify_feed(struct lw_notify *notify, struct lw_watch *watch, uint64_t now)
{
    struct lw_ledger_totals totals;
    struct lw_event_counts events;

    if (notify->watchdog_ns == 0)
        return LW_NEVER;
    if (now >= notify->next_ns) {
        lw_watch_totals(watch, &totals, &events); /* all is well if that returns */
        send_message(notify, "WATCHDOG=1");
        notify->next_ns = now + notify->watchdog_ns;
    }
    return notify->next_ns;
}
