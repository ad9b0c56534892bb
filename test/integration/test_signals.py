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
    signaller.ask("queue 100000", 120)
    got = wait_until(lambda: (answer := signaller.ask("received"))["received"] >= 100000 and answer,
                     "100 000 signals")
    assert got == {"received": 100000, "wrong": 0}
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


TRAPS = {"handler": ["send 20", "raise 20", "int3 20", "send 5", "raise 1"],
         "ignored": ["send 20", "raise 20", "send 5"],
         "default": ["send 20"]}


@pytest.mark.parametrize("action", TRAPS)
def test_sigtrap_while_a_thread_blocks_it(target, healthy_watch, action):
    """Both allocate: the one that blocks it keeps it blocked, gets all that is sent to it, and the
    program's action for the others stays, although the kernel takes it away at a trap of ours."""
    untraced, watched = target("trapper", action), target("trapper", action)
    watching = healthy_watch(watched.pid, "-i", "1h")
    wait_until(lambda: watching.report()["events"]["allocs"] > 100, "allocations seen")
    untraced.ask("begin")
    watched.ask("begin")
    for command in TRAPS[action]:
        assert watched.ask(command) == untraced.ask(command), command
    assert_working(watched)
    watching.detach()
    for command in TRAPS[action]:
        assert watched.ask(command) == untraced.ask(command), command
    assert watched.ask("count")["wrong_mask"] == 0
    assert_working(watched)


def test_a_sigtrap_that_nobody_handles_ends_the_target(target, watch):
    trapper = target("trapper", "default")
    watching = watch(trapper.pid, "-i", "1h")
    trapper.tell("raise 1")
    assert trapper.wait() == -signal.SIGTRAP
    assert watching.finish() == 0
    assert watching.of("exit")[0]["signal"] == signal.SIGTRAP


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
    Health(storm.pid)  # waits until its threads have begun; stopped before, they never would
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
