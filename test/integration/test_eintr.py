# SPDX-License-Identifier: GPL-2.0-or-later
"""Blocking system calls return what they would untraced, when they would: no EINTR of our making."""

import ctypes
import os
import signal
import time

import pytest

from harness import Health, assert_working, each_status, read_status, threads, wait_until

pytestmark = pytest.mark.usefixtures("engine")

LIBC = ctypes.CDLL(None, use_errno=True)
SYS_TGKILL = 234
# What is ignored by default (SIGCONT where nothing has stopped), and what the target ignores.
IGNORED = (signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG, signal.SIGCONT, signal.SIGHUP,
           signal.SIGIO)
SLACK_MS = 3000  # for a crowded machine; far less than what is added up by restarted calls


def wait_until_asleep(pid):
    """Every thread sleeps, with no signal to be taken."""
    def asleep():
        return all(status["State"][0] == "S" and status["SigPnd"] == status["ShdPnd"] == "0" * 16
                   for status in each_status(pid).values())
    wait_until(asleep, "all asleep")


def start(target, *arguments):
    blocked = target("blocked", *arguments)
    wait_until_asleep(blocked.pid)
    assert_quiet(blocked)
    return blocked


def disturbed(calls):
    """What a call has seen that it should not: {name: (errors, errno, early)}."""
    return {name: (call["errors"], call["errno"], call["early"])
            for name, call in calls.items() if call["errors"] or call["early"]}


def assert_quiet(blocked):
    """No call has failed, none came back too soon or much too late."""
    calls = blocked.ask("count")["calls"]
    assert disturbed(calls) == {}
    assert {name: call["late_ms"] for name, call in calls.items()
            if call["late_ms"] > SLACK_MS} == {}
    return calls


def failures(blocked):
    """{name: (errors, errno)} once they have not changed for a moment."""
    def settled():
        before = blocked.ask("count")["calls"]
        time.sleep(0.2)
        wait_until_asleep(blocked.pid)
        return before if blocked.ask("count")["calls"] == before else None
    calls = wait_until(settled, "counts that stay")
    return {name: (call["errors"], call["errno"]) for name, call in calls.items()}


def test_20_attaches_and_detaches_disturb_no_call(target, watch):
    blocked = start(target, 300)
    began = time.monotonic()
    cycles = 0
    # long enough that a call that is made anew each time cannot be in time
    while cycles < 20 or time.monotonic() - began < 2 * SLACK_MS / 1000:
        watch(blocked.pid, "-i", "1h").detach()
        cycles += 1
    calls = assert_quiet(blocked)
    assert [name for name, call in calls.items() if name.endswith("/short") and
            not call["returns"]] == []
    assert_working(blocked)


def test_sleeping_threads_sleep_on(target, watch):
    """Neither end of a watch wakes more than the few threads that are borrowed, although the
    stacks are full of what the watched calls have left there."""
    blocked = start(target, 600000)

    def sleeps():
        wait_until_asleep(blocked.pid)
        return {tid: status["voluntary_ctxt_switches"]
                for tid, status in each_status(blocked.pid).items()}

    woken = []
    for round_number in range(1, 6):
        before = sleeps()
        watching = watch(blocked.pid, "-i", "1h")
        attached = sleeps()
        sent = blocked.ask(f"interrupt {int(signal.SIGUSR2)}")["sent"]  # each allocates
        wait_until(lambda: blocked.ask("count")["handled"] == sent * round_number, "handled")
        watched = sleeps()
        watching.detach()
        after = sleeps()
        for earlier, later in ((before, attached), (watched, after)):
            # beside the main thread and the one that allocates
            woken.append(sum(earlier[tid] != later[tid] for tid in earlier) - 2)
    assert max(woken) <= 3, woken


def test_ignored_signals_disturb_no_call(target, healthy_watch):
    blocked = start(target)
    healthy_watch(blocked.pid, "-i", "1h")
    for number in IGNORED * 3:
        os.kill(blocked.pid, number)
        wait_until_asleep(blocked.pid)
    for tid in threads(blocked.pid):
        for number in IGNORED:
            LIBC.syscall(SYS_TGKILL, blocked.pid, tid, number)
    wait_until_asleep(blocked.pid)
    assert_quiet(blocked)
    assert_working(blocked)


def test_bursts_of_ignored_signals_disturb_no_call(target, healthy_watch):
    blocked = start(target)
    healthy_watch(blocked.pid, "-i", "1h")
    for _ in range(300):
        for number in IGNORED:
            os.kill(blocked.pid, number)
    wait_until_asleep(blocked.pid)
    assert_quiet(blocked)
    assert_working(blocked)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2], ids=["restarting", "plain"])
def test_caught_signals_interrupt_as_untraced(target, watch, number):
    """Of a restarting handler, and of one that is not."""
    found = []
    for watched in (False, True):
        blocked = start(target, 600000)
        if watched:
            watch(blocked.pid, "-i", "1h")
        for round_number in (1, 2):
            sent = blocked.ask(f"interrupt {int(number)}")["sent"]
            wait_until(lambda: blocked.ask("count")["handled"] == sent * round_number, "handled")
            wait_until_asleep(blocked.pid)
        found.append(failures(blocked))
        blocked.stop()
    assert found[0] == found[1]
    assert found[0]["epoll_wait"] == (2, 4)


def test_a_stop_interrupts_as_untraced(target, watch):
    """Some calls fail with EINTR after SIGCONT, traced or not (signal(7))."""
    found = []
    for watched in (False, True):
        blocked = start(target, 600000)
        if watched:
            watch(blocked.pid, "-i", "1h")
        os.kill(blocked.pid, signal.SIGSTOP)
        wait_until(lambda: read_status(blocked.pid, blocked.pid)["State"][0] in "Tt", "stopped")
        time.sleep(0.1)
        os.kill(blocked.pid, signal.SIGCONT)
        found.append(failures(blocked))
        blocked.stop()
    assert found[0] == found[1]
