# SPDX-License-Identifier: GPL-2.0-or-later
"""Threads, modules, children, exec and exit: each at any instant, none to the target's harm."""

import os
import signal

import pytest

import harness
from harness import (Health, assert_code_is_the_file, assert_working, leaks_of, read_status,
                     settled_leaks, stack_text, target_path, threads, wait_until)

pytestmark = pytest.mark.usefixtures("engine")


def test_new_threads_are_watched(target, healthy_watch):
    churn = target("threads_churn", 0)
    watch = healthy_watch(churn.pid, "-e", "200ms", "-i", "1h")
    plan = churn.ask("begin 80")
    plan = churn.ask("wait")["leaks"]
    assert settled_leaks(watch, plan) == plan


def test_children_run_untouched(target, healthy_watch):
    """fork, nested fork, fork+exec, vfork+exec, vfork, posix_spawn: each child succeeds."""
    forker = target("forker", 100)
    watch = healthy_watch(forker.pid, "-e", "300ms", "-i", "1h")
    before = forker.ask("count")["progress"]
    plan = forker.ask("leak")["leaks"]
    wait_until(lambda: forker.ask("count")["progress"] >= before + 60, "60 children")
    assert settled_leaks(watch, plan) == plan
    watch.detach()
    assert_working(forker)
    count = forker.ask("count")
    assert count["failures"] == 0, f"wait status {count['last_failure']:#x}"


def test_children_of_every_moment_run_untouched(target, watch):
    """Forks that are under way while breakpoints come and go: no child takes one along."""
    forker = target("forker", 300)
    health = Health(forker.pid)
    for _ in range(40):
        watch(forker.pid, "-i", "1h").detach()
    health.assert_same()
    assert_working(forker)
    count = forker.ask("count")
    assert count["failures"] == 0, f"wait status {count['last_failure']:#x}"
    assert count["patched"] == 0


def test_a_storm_of_children(target, healthy_watch):
    """Hundreds a second, of all kinds, by threads of which one forks while others share memory with
    a child: each finds its work right, and itself untraced and without breakpoints."""
    forker = target("forker", 200, 3)
    watch = healthy_watch(forker.pid, "-e", "300ms", "-i", "1h")
    before = forker.ask("count")["progress"]
    plan = forker.ask("leak")["leaks"]
    wait_until(lambda: forker.ask("count")["progress"] >= before + 300, "300 children")
    assert settled_leaks(watch, plan) == plan
    watch.detach()
    assert_working(forker)
    count = forker.ask("count")
    assert count["failures"] == 0, f"wait status {count['last_failure']:#x}"
    assert count["patched"] == 0


def test_a_living_child_is_untraced_and_clean(target, healthy_watch, engine):
    """A child has no breakpoints. It keeps what the record engine had mapped, switched off, and the
    jumps to it: what it computes is unharmed, which it checks itself."""
    forker = target("forker", 20)
    watch = healthy_watch(forker.pid, "-i", "1h")
    child = forker.ask("linger")["pid"]
    wait_until(lambda: read_status(child, child)["TracerPid"] == "0", "child untraced")
    if engine == "trap":
        assert_code_is_the_file(child)
    watch.detach()
    if engine == "trap":
        assert_code_is_the_file(child)
    assert read_status(child, child)["State"][0] in "RSD"


def test_modules_that_come_and_go(target, healthy_watch):
    """One stack however often the plugin is loaded, with its name after it was unloaded."""
    dlopener = target("dlopener", target_path("plugin.so"), target_path("own_allocator.so"))
    watch = healthy_watch(dlopener.pid, "-e", "200ms", "-i", "1h")
    plan = dlopener.ask("cycle 20")["leaks"]
    assert settled_leaks(watch, plan) == plan
    stacks = [stack for stack in watch.report()["stacks"] if "leak_plugin" in stack_text(stack)]
    assert len(stacks) == 1
    module = next(frame["module"] for frame in stacks[0]["frames"]
                  if frame["function"] == "leak_plugin")
    assert os.path.basename(module) == "plugin.so"


def test_an_allocator_that_is_loaded_later_is_watched(target, healthy_watch):
    """free, cfree, free_sized and free_aligned_sized of the module's own end its blocks."""
    dlopener = target("dlopener", target_path("plugin.so"), target_path("own_allocator.so"))
    watch = healthy_watch(dlopener.pid, "-e", "200ms", "-i", "1h")
    plan = dlopener.ask("own 10")["leaks"]
    assert settled_leaks(watch, plan) == plan
    report = watch.settled_report()
    own = [stack for stack in report["stacks"] if "own_leak" in stack_text(stack)]
    assert sum(stack["expired_blocks"] for stack in own) == 40
    assert report["events"]["missed_frees"] == 0


def test_an_allocator_that_was_loaded_before_is_watched(target, healthy_watch):
    dlopener = target("dlopener", target_path("plugin.so"), target_path("own_allocator.so"))
    dlopener.ask("own 1")
    watch = healthy_watch(dlopener.pid, "-e", "200ms", "-i", "1h")
    modules = {os.path.basename(each["module"]): each
               for each in watch.of("attach")[0]["allocators"]}
    assert {"cfree", "free_sized", "free_aligned_sized"} <= \
        set(modules["own_allocator.so"]["functions"])
    plan = dlopener.ask("own 10")["leaks"]
    assert settled_leaks(watch, plan) == plan


@pytest.mark.parametrize("thread", ["exec", "thread"])
def test_exec_ends_the_watch_and_spares_the_new_image(target, watch, thread):
    execer = target("execer")
    executable = os.readlink(f"/proc/{execer.pid}/exe")
    watching = watch(execer.pid, "-i", "1h")
    again = execer.ask(thread)
    assert (again["ready"], again["image"]) == (execer.pid, "anew")
    code = watching.finish()
    assert code == 0, watching.stderr()
    events = watching.of("exec")
    assert [event["pid"] for event in events] == [execer.pid]
    assert events[0]["exe"] == executable
    assert len(watching.of("summary")) == 1
    Health(execer.pid).assert_same()
    assert_working(execer)


def assert_watch_tells_end(watching, **end):
    assert watching.finish() == 0, watching.stderr()
    exits = watching.of("exit")
    assert len(exits) == 1, watching.objects
    for key, value in end.items():
        assert exits[0][key] == value, exits[0]
    assert len(watching.of("summary")) == 1


ENDS = {"exit": 5, "_exit": 6, "thread": 5, "leader": 5, "abort": -signal.SIGABRT,
        "segv": -signal.SIGSEGV, "kill": -signal.SIGKILL}


@pytest.mark.parametrize("way", ENDS)
def test_the_targets_end_at_any_instant(target, watch, way):
    for delay in (0, 3, 17):
        exiter = target("exiter", way, 3)
        watching = watch(exiter.pid, "-i", "1h")
        exiter.tell(f"go {delay}")
        assert_watch_tells_end(watching, pid=exiter.pid)
        assert exiter.wait() == ENDS[way]


def test_sigkill_from_outside(target, watch):
    storm = target("storm", 8, "run")
    watching = watch(storm.pid, "-i", "1h")
    assert_working(storm)
    os.kill(storm.pid, signal.SIGKILL)
    assert_watch_tells_end(watching, pid=storm.pid)
    assert storm.wait() == -signal.SIGKILL


def test_killed_while_stopped(target, watch):
    """By SIGSTOP, or by us as far as that can be told: the end is told, and nobody waits for ever."""
    storm = target("storm", 4, "run")
    watching = watch(storm.pid, "-i", "1h")
    os.kill(storm.pid, signal.SIGSTOP)
    wait_until(lambda: read_status(storm.pid, storm.pid)["State"].startswith(("T", "t")), "stopped")
    os.kill(storm.pid, signal.SIGKILL)
    assert_watch_tells_end(watching, pid=storm.pid)
    assert storm.wait() == -signal.SIGKILL


def test_the_leader_may_end_before_its_threads(target, watch):
    """The process lives on, and is watched, when only its first thread has ended."""
    exiter = target("exiter", "leader", 2)
    watching = watch(exiter.pid, "-i", "1h")
    exiter.tell("go 3000")
    wait_until(lambda: read_status(exiter.pid, exiter.pid)["State"].startswith("Z"), "leader gone")
    first = watching.report()["events"]["allocs"]
    wait_until(lambda: watching.report()["events"]["allocs"] > first, "more calls")
    assert len(threads(exiter.pid)) >= 2
    assert_watch_tells_end(watching, pid=exiter.pid)
    assert exiter.wait() == 5


def test_leaks_before_the_attach_are_not_told(target, healthy_watch):
    each = target("each_function")
    each.ask("begin")
    watch = healthy_watch(each.pid, "-e", "100ms", "-i", "1h")
    assert leaks_of(watch.report()) == {}
    each.ask("free")
    report = watch.report()
    assert report["events"]["unknown_frees"] == 9 * 30


def test_memory_where_a_closed_library_was_is_not_touched(target, watch):
    remapper = target("remapper", harness.target_path("own_allocator.so"))
    watching = watch(remapper.pid, "-i", "1h")
    assert remapper.ask("remap")["pages"] > 0
    watching.detach()
    assert remapper.ask("check")["changed"] == 0
