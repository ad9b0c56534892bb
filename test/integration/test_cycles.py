# SPDX-License-Identifier: GPL-2.0-or-later
"""Attach and detach again and again on a busy target: no block lost, none invented, no harm."""

import signal

import pytest

from harness import Health, Watch, assert_working, leaks_of, nonzero

pytestmark = pytest.mark.usefixtures("engine")

CYCLES = 50


def one_cycle(storm, started):
    """Attaches to the running storm, accounts for a known set of leaks, leaves it running."""
    watch = Watch(storm.pid, "-e", "1h", "-i", "1h")
    started.append(watch)
    watch.armed()
    storm.ask("begin 200")
    plan = storm.ask("wait")
    assert plan["corrupt"] == 0
    report = watch.report()
    # the threads rest, and have freed all but their leaks: what is live is exactly the plan
    assert report["live"] == {
        "bytes": sum(leak["bytes"] for leak in plan["leaks"].values()),
        "blocks": sum(leak["blocks"] for leak in plan["leaks"].values())}
    assert report["events"]["missed_frees"] == 0
    assert set(report["losses"].values()) == {0}, report["losses"]
    storm.ask("run")
    watch.detach()
    assert leaks_of(watch.summary(), "live") == nonzero(plan["leaks"])


def test_50_attaches_and_detaches_on_a_busy_target(target, started):
    storm = target("storm", 4, "run")
    health = Health(storm.pid)
    for _ in range(CYCLES):
        one_cycle(storm, started)
        health.assert_same()
        started.pop().stop()
    assert_working(storm)


def test_a_target_that_frees_everything_has_nothing_expired(target, healthy_watch):
    storm = target("storm", 2, "idle")
    watch = healthy_watch(storm.pid, "-e", "100ms", "-i", "1h")
    storm.ask("run")
    assert_working(storm)
    storm.ask("rest")
    report = watch.report()
    assert report["live"] == {"bytes": 0, "blocks": 0}
    assert report["expired"]["blocks"] == 0
    assert report["stacks"] == []
    events = report["events"]
    assert events["unknown_frees"] == 0 and events["missed_frees"] == 0
    assert events["allocs"] > 0


def test_attach_and_detach_at_once(target, started):
    """A watch that is told to end as soon as it has begun."""
    storm = target("storm", 4, "run")
    health = Health(storm.pid)
    for _ in range(20):
        watch = Watch(storm.pid)
        started.append(watch)
        watch.armed()
        watch.send_signal(signal.SIGTERM)
        assert watch.finish() == 0
        watch.receipt()
        health.assert_same()
        started.pop().stop()
    assert_working(storm)
