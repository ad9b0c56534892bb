# SPDX-License-Identifier: GPL-2.0-or-later
"""Signals reach the target as they would untraced; job control goes on working."""

import os
import signal
import subprocess
import time

import pytest

import harness
from harness import Health, assert_working, read_status, settled_leaks, wait_until

pytestmark = pytest.mark.usefixtures("engine")


def is_stopped(pid):
    return read_status(pid, pid)["State"].startswith("T")


def wait_for_told_stop(pid):
    """The parent is told of the stop, as a shell would be."""
    told = wait_until(lambda: os.waitpid(pid, os.WNOHANG | os.WUNTRACED)[1], "a stop")
    assert os.WIFSTOPPED(told) and os.WSTOPSIG(told) == signal.SIGSTOP


def test_queued_signals_arrive_complete_in_order_with_their_payload(target, healthy_watch):
    signaller = target("signaller")
    healthy_watch(signaller.pid, "-i", "1h")
    signaller.ask("queue 10000")
    got = wait_until(lambda: (answer := signaller.ask("received"))["received"] >= 10000 and answer,
                     "10 000 signals")
    assert got == {"received": 10000, "wrong": 0}
    assert_working(signaller)


def test_signals_pending_across_attach_and_detach(target, watch):
    """Sent at every moment of many attaches and detaches: none lost, none twice."""
    signaller = target("signaller")
    for i in range(10):
        signaller.tell("queue 1000")
        watching = watch(signaller.pid, "-i", "1h")
        watching.detach()
        assert signaller.answer() == {"queued": 1000}
    got = wait_until(lambda: (answer := signaller.ask("received"))["received"] >= 10000 and answer,
                     "10 000 signals")
    assert got == {"received": 10000, "wrong": 0}


def test_allocations_in_a_handler_on_another_stack(target, healthy_watch):
    signaller = target("signaller")
    watch = healthy_watch(signaller.pid, "-e", "200ms", "-i", "1h")
    plan = signaller.ask("handler 100")["leaks"]
    assert settled_leaks(watch, plan) == plan


def test_jumps_out_of_handlers(target, healthy_watch):
    signaller = target("signaller")
    watch = healthy_watch(signaller.pid, "-e", "200ms", "-i", "1h")
    plan = signaller.ask("jump 200")["leaks"]
    assert settled_leaks(watch, plan) == plan


def test_the_targets_own_sigtrap(target, healthy_watch):
    signaller = target("signaller")
    healthy_watch(signaller.pid, "-i", "1h")
    assert signaller.ask("own-trap 200")["traps"] == 200
    assert_working(signaller)


def test_stop_and_continue_while_watched(target, healthy_watch):
    storm = target("storm", 3, "run")
    watch = healthy_watch(storm.pid, "-i", "1h")
    for _ in range(5):
        os.kill(storm.pid, signal.SIGSTOP)
        wait_for_told_stop(storm.pid)
        wait_until(lambda: watch.report()["events"] == watch.report()["events"], "no more calls")
        os.kill(storm.pid, signal.SIGCONT)
        assert_working(storm)


def test_a_stopped_target_stays_stopped(target, watch):
    storm = target("storm", 2, "run")
    os.kill(storm.pid, signal.SIGSTOP)
    wait_until(lambda: is_stopped(storm.pid), "stopped")
    health = Health(storm.pid)
    watching = watch(storm.pid, "-i", "1h")
    assert watching.report()["events"]["allocs"] == 0
    assert watching.detach()["target_state"] == "stopped"
    assert health.stopped
    health.assert_same()
    os.kill(storm.pid, signal.SIGCONT)
    assert_working(storm)


def test_stopped_while_watched_stays_stopped_after_detach(target, watch):
    storm = target("storm", 2, "run")
    watching = watch(storm.pid, "-i", "1h")
    os.kill(storm.pid, signal.SIGSTOP)
    wait_for_told_stop(storm.pid)
    assert watching.detach()["target_state"] == "stopped"
    wait_until(lambda: is_stopped(storm.pid), "still stopped", 5)
    os.kill(storm.pid, signal.SIGCONT)
    assert_working(storm)


def test_continued_while_watched_goes_on(target, watch):
    storm = target("storm", 2, "run")
    os.kill(storm.pid, signal.SIGSTOP)
    wait_until(lambda: is_stopped(storm.pid), "stopped")
    watching = watch(storm.pid, "-i", "1h")
    os.kill(storm.pid, signal.SIGCONT)
    assert_working(storm)
    wait_until(lambda: watching.report()["events"]["allocs"] > 0, "allocations seen")
    watching.detach()
    assert not is_stopped(storm.pid)
    assert_working(storm)


def test_an_inherited_ignored_sigchld_does_not_make_us_deaf(target, healthy_watch):
    """A supervisor that ignores SIGCHLD hands that down, and the tracer waits for this signal."""
    storm = target("storm", 2, "run")
    watching = healthy_watch(
        storm.pid, "-i", "1h", preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert_working(storm)
    wait_until(lambda: watching.report()["events"]["allocs"] > 0, "allocations seen")


def test_ended_at_any_moment_of_the_start(target):
    storm = target("storm", 2, "run")
    health = Health(storm.pid)
    for delay_ms in range(25):
        early = subprocess.Popen([harness.LEAKWATCH, *harness.engine_options(), "-q", "-i", "1h",
                                  "-p", str(storm.pid)],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay_ms / 1000)
        early.terminate()
        assert early.wait(harness.LIMIT) in (0, -signal.SIGTERM)
    health.assert_same()
    assert_working(storm)
