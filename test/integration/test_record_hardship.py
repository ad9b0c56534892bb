# SPDX-License-Identifier: GPL-2.0-or-later
"""The record engine in targets that are unlike others: none of them must come to harm."""

import os
import signal
import time

import pytest

import harness
from harness import (ENGINES, Health, assert_code_is_the_file, assert_working, leaks_of,
                     recorder_mappings, settled_leaks)

pytestmark = pytest.mark.skipif("record" not in harness.ENGINES,
                                reason="LEAKWATCH_ENGINES has no record")


def test_no_long_pause(target, watch):
    """Of a thread that runs all the time, each cycle has to stop it in the allocator."""
    busy = target("pauses")
    for _ in range(10):
        watched = watch(busy.pid, "--engine=record", "-i", "1h")
        watched.detach()
    pause = busy.ask("count")["longest_ms"]
    print(f"longest pause: {pause} ms")
    assert pause < 2000  # a crowded machine may keep it waiting, too
    assert_working(busy)


def test_detach_waits_for_a_handler_on_another_stack(target, watch):
    """A thread that is inside malloc runs a signal handler, whose stack tells nothing of that."""
    interrupted = target("in_malloc", "alternate")
    health = Health(interrupted.pid)
    watched = watch(interrupted.pid, "--engine=record", "-i", "1h")
    interrupted.ask("begin")
    watched.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert watched.alive() and recorder_mappings(interrupted.pid)
    interrupted.ask("end")
    assert watched.finish() == 0
    watched.receipt()
    health.assert_same()
    assert_working(interrupted)


def assert_refused(watched, reason):
    attach = watched.of("attach")[0]
    assert attach["engine"] == "trap"
    assert reason in attach["engine_reason"]


def test_no_address_space_is_taken_from_who_has_little(target, healthy_watch):
    limited = target("limited", "address-space", 8)
    watched = healthy_watch(limited.pid, "-i", "1h")
    assert_refused(watched, "RLIMIT_AS")
    assert limited.ask("big 6000")["had"]
    watched.detach()
    assert_working(limited)


def test_no_table_is_locked(target, healthy_watch):
    """What is mapped into a process that locks its memory is made at once: gigabytes of it."""
    limited = target("limited", "lock")
    if not limited.greeting["limited"]:
        pytest.skip("not permitted to lock memory")
    watched = healthy_watch(limited.pid, "-i", "1h")
    assert_refused(watched, "mlockall")
    assert watched.of("attach")[0]["pause_us"] < 500000
    watched.detach()
    assert_working(limited)


@pytest.mark.parametrize("with_engine", ENGINES)
def test_who_filters_system_calls_makes_none_for_us(target, watch, with_engine):
    """The best thread to borrow, since it sleeps, would be killed for it."""
    sandboxer = target("sandboxer", "worker")
    health = Health(sandboxer.pid)
    for _ in range(3):
        watch(sandboxer.pid, f"--engine={with_engine}", "-i", "1h").detach()
    health.assert_same()
    assert_working(sandboxer)


def test_breakpoints_where_all_filter_system_calls(target, watch):
    """Before the attach, nobody has to make any. Since: the handler for SIGTRAP stays, as is told."""
    sandboxer = target("sandboxer")
    watched = watch(sandboxer.pid, "--engine=trap", "-i", "1h")
    sandboxer.ask("filter")
    assert_working(sandboxer)
    watched.send_signal(signal.SIGINT)
    assert watched.finish() == 1
    assert "the breakpoints are out, but a handler for SIGTRAP stays" in watched.stderr()
    assert_working(sandboxer)
    filtered = target("sandboxer")
    filtered.ask("filter")
    health = Health(filtered.pid)
    watch(filtered.pid, "--engine=trap", "-i", "1h").detach()
    health.assert_same()
    assert_working(filtered)


def test_memory_stays_where_all_filter_system_calls(target, watch):
    """Since the attach: nothing but the recorder's memory is left, and that is told."""
    sandboxer = target("sandboxer")
    watched = watch(sandboxer.pid, "--engine=record", "-i", "1h")
    sandboxer.ask("filter")
    watched.detach()
    assert "memory stays mapped" in watched.stderr()
    assert_code_is_the_file(sandboxer.pid)
    assert_working(sandboxer)
    watched = watch(sandboxer.pid, "-i", "1h")
    assert_refused(watched, "cannot be removed")
    watched.detach()
    assert_working(sandboxer)


@pytest.mark.parametrize("library", ("", "libjemalloc.so.2", "libtcmalloc_minimal.so.4"))
def test_a_new_handler_is_called_as_ever(target, started, library):
    """Once, and what it throws comes through. (Set for an instant each millisecond: an attach at such
    an instant is refused, and tried again.)"""
    path = f"/usr/lib/x86_64-linux-gnu/{library}"
    if not os.path.exists(path):
        pytest.skip(f"{library} is not installed")
    exhausted = target("new_handler", env={"LD_PRELOAD": path} if library else {})
    for _ in range(20):
        watched = harness.Watch(exhausted.pid, "--engine=record", "-i", "1h")
        started.append(watched)
        try:
            watched.armed()
            break
        except AssertionError:
            assert "has a new-handler" in watched.stderr()
    assert_working(exhausted)
    watched.detach()
    assert_working(exhausted)


def test_more_threads_than_places(target, watch):
    """What cannot be recorded is told; what such a thread frees is not taken for a leak."""
    crowd = target("crowd", 2300)
    watched = watch(crowd.pid, "--engine=record", "-e", "100ms", "-i", "1h")
    crowd.ask("begin", limit=120)
    report = watched.settled_report()
    assert report["events"]["allocs"] > 10000
    assert report["losses"]["dropped_blocks"] > 0
    assert leaks_of(report) == {}
    watched.detach()
    assert_working(crowd)


@pytest.mark.parametrize("stack", ("alternate", "same"))
def test_handlers_allocate_within_malloc(target, watch, stack):
    """From the module of the allocator, as malloc itself might."""
    interrupted = target("in_malloc", stack)
    watched = watch(interrupted.pid, "--engine=record", "-e", "100ms", "-i", "1h")
    interrupted.ask("begin")
    interrupted.ask("end")
    assert_working(interrupted)
    assert settled_leaks(watched, {"leak_in_handler": {"bytes": 200, "blocks": 1}}) == \
        {"leak_in_handler": {"bytes": 200, "blocks": 1}}
    watched.detach()
    assert_working(interrupted)


@pytest.mark.parametrize("sample", ((), ("--sample=1k",)), ids=("exact", "sampled"))
def test_a_handler_forks_within_malloc(target, watch, sample):
    """The child finishes the call that it has inherited, without what was shared."""
    interrupted = target("in_malloc", "same")
    watched = watch(interrupted.pid, "--engine=record", "-i", "1h", *sample)
    for _ in range(20):
        assert interrupted.ask("fork")["status"] == 0
    watched.detach()
    assert interrupted.ask("fork")["status"] == 0
    assert_working(interrupted)
