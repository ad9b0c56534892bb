# SPDX-License-Identifier: GPL-2.0-or-later
"""Threads that end inside an allocator function: nobody is harmed, and the accounts go on."""

import os

import pytest

from harness import Health, assert_working, settled_leaks, wait_until

pytestmark = pytest.mark.usefixtures("engine")


def test_threads_end_in_the_allocator(target, healthy_watch):
    """By pthread_exit, in a signal handler, by asynchronous cancellation; in malloc and in free."""
    quitter = target("quitter")
    watch = healthy_watch(quitter.pid, "-e", "200ms", "-i", "1h")
    for way in ("exit", "signal", "cancel"):
        assert quitter.ask(f"{way} 10")["wrong"] == 0
    plan = quitter.ask("leak 100")["leaks"]
    assert settled_leaks(watch, plan) == plan
    watch.detach()
    assert_working(quitter)


def test_attaching_while_threads_end_in_the_allocator(target, healthy_watch):
    quitter = target("quitter")
    for way in ("exit", "signal", "cancel"):
        quitter.tell(f"{way} 20")
        healthy_watch(quitter.pid, "-i", "1h").detach()
        assert quitter.answer()["wrong"] == 0
    assert_working(quitter)


def test_exec_while_threads_are_in_the_allocator(target, watch):
    quitter = target("quitter")
    watching = watch(quitter.pid, "-i", "1h")
    assert quitter.ask("exec")["image"] == "anew"
    assert watching.finish() == 0, watching.stderr()
    assert [event["pid"] for event in watching.of("exec")] == [quitter.pid]
    Health(quitter.pid).assert_same()
    assert_working(quitter)


def test_the_process_ends_while_threads_are_in_the_allocator(target, watch):
    quitter = target("quitter")
    watching = watch(quitter.pid, "-i", "1h")
    quitter.tell("end")
    assert watching.finish() == 0, watching.stderr()
    assert len(watching.of("exit")) == 1
    assert quitter.wait() == 6
    wait_until(lambda: not os.path.exists(f"/proc/{quitter.pid}"), "the process is gone")
