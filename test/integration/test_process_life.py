# SPDX-License-Identifier: GPL-2.0-or-later
"""Processes that are unlike others, or become so while they are watched: none comes to harm."""

import os
import shutil
import signal
import time

import pytest

import harness
from control_groups import ControlGroup
from harness import (Health, assert_working, leak_name, nonzero, run_leakwatch, settled_leaks,
                     target_path, wait_until)

pytestmark = pytest.mark.usefixtures("engine")


# ---- rights ---------------------------------------------------------------------------------------

@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("change", ["user", "hide"])
def test_it_gives_up_rights(target, watch, change):
    """Before the watch and during it."""
    changeling = target("changeling")
    first = watch(changeling.pid, "-i", "1h")
    assert changeling.ask(change)["failed"] == 0
    assert_working(changeling)
    first.detach()
    health = Health(changeling.pid)
    watch(changeling.pid, "-i", "1h").detach()
    health.assert_same()
    assert_working(changeling)


def assert_strict_thread_works(changeling):
    before = changeling.ask("count")["small"]
    wait_until(lambda: changeling.ask("count")["small"] > before, "rounds of the strict thread")


def test_a_strict_thread_makes_no_call_for_us(target, watch):
    """It runs, all others sleep, and would be killed for it."""
    changeling = target("changeling", "strict")
    health = Health(changeling.pid)
    for _ in range(3):
        watch(changeling.pid, "-i", "1h").detach()
        assert_strict_thread_works(changeling)
    health.assert_same()
    assert_working(changeling)


def test_a_thread_becomes_strict(target, watch):
    changeling = target("changeling")
    watched = watch(changeling.pid, "-i", "1h")
    changeling.ask("strict")
    assert_strict_thread_works(changeling)
    watched.detach()
    Health(changeling.pid).assert_same()
    assert_strict_thread_works(changeling)
    assert_working(changeling)


def test_no_call_is_made_by_who_has_calls_dispatched(target, engine):
    """It would get SIGSYS for it. One thread, so there is no other: the recorder cannot be put in."""
    dispatcher = target("dispatcher")
    if not dispatcher.greeting["can"]:
        pytest.skip("this kernel has no syscall user dispatch")
    health = Health(dispatcher.pid)
    for _ in range(5):
        result = run_leakwatch(f"--engine={engine}", "-d", "50ms", "-p", dispatcher.pid)
        assert result.returncode == (1 if engine == "record" else 0), result.stderr
        assert dispatcher.ask("count")["foreign"] == 0
    health.assert_same()
    assert_working(dispatcher)


# ---- memory shared with other processes ------------------------------------------------------------

def assert_unharmed(changeling):
    end = changeling.ask("unclone")
    assert end["rounds"] > 0
    assert (end["status"], end["wrong"]) == (0, 0)


@pytest.mark.parametrize("kind", ["clone", "orphan"])
@pytest.mark.parametrize("begins", ["before", "meanwhile"])
def test_memory_is_shared_with_another_process(target, healthy_watch, kind, begins):
    changeling = target("changeling")
    for _ in range(2):
        if begins == "before":
            changeling.ask(kind)
        watched = healthy_watch(changeling.pid, "-i", "1h")
        if begins == "meanwhile":
            changeling.ask(kind)
        assert_working(changeling)
        if begins == "before":
            assert_unharmed(changeling)
            watched.detach()
        else:
            watched.detach()
            assert_working(changeling)
            assert_unharmed(changeling)


# ---- control groups --------------------------------------------------------------------------------

@pytest.fixture
def freezer(started):
    """freezer(True) freezes who is in the group."""
    group = ControlGroup("cgroup.freeze", "freezer.state")
    started.append(group)
    words = {"cgroup.freeze": "01", "freezer.state": ["THAWED", "FROZEN"]}[group.file]
    group.freeze = lambda frozen: group.set(words[frozen])
    yield group
    group.freeze(False)


def test_a_frozen_process_is_refused(target, freezer):
    storm = target("storm", 2, "run")
    health = Health(storm.pid)
    freezer.add(storm.pid)
    freezer.freeze(True)
    result = run_leakwatch(*harness.engine_options(), "-p", storm.pid)
    assert result.returncode == 1
    assert "frozen" in result.stderr
    freezer.freeze(False)
    health.assert_same()
    assert_working(storm)


def test_frozen_while_watched(target, watch, freezer):
    """It is left once it is thawed."""
    storm = target("storm", 2, "run")
    health = Health(storm.pid)
    watched = watch(storm.pid, "-i", "1h")
    freezer.add(storm.pid)
    freezer.freeze(True)
    watched.send_signal(signal.SIGINT)
    time.sleep(0.3)
    freezer.freeze(False)
    assert watched.finish() == 0
    watched.receipt()
    health.assert_same()
    assert_working(storm)


# ---- files -----------------------------------------------------------------------------------------

def assert_leaks_are_named(storm, watch):
    """To the byte, with the names of functions, which only the file has."""
    health = Health(storm.pid)
    watched = watch(storm.pid, "-e", "200ms", "-i", "1h")
    storm.ask("begin 2000")
    plan = storm.ask("wait")["leaks"]
    assert settled_leaks(watched, plan) == nonzero(plan)
    assert any("work" in harness.stack_text(stack) for stack in watched.report()["stacks"])
    watched.detach()
    health.assert_same()


@pytest.mark.parametrize("way", ["deleted", "replaced"])
def test_its_files_are_gone(target, watch, tmp_path, way):
    """As after an upgrade: the executable, and the C library with the allocator."""
    libraries = tmp_path / "lib"
    libraries.mkdir()
    files = [shutil.copy(target_path("storm"), tmp_path),
             shutil.copy("/lib/x86_64-linux-gnu/libc.so.6", libraries)]
    storm = target("storm", 2, path=files[0], env={"LD_LIBRARY_PATH": str(libraries)})
    assert str(libraries / "libc.so.6") in [each.path for each in harness.mappings(storm.pid)]
    for file in files:
        if way == "deleted":
            os.unlink(file)
        else:
            shutil.copy(target_path("forker"), tmp_path / "new")
            os.rename(tmp_path / "new", file)
    assert_leaks_are_named(storm, watch)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces")
def test_other_namespaces(target, watch, tmp_path):
    """It has the PID 1 there, and its file is seen by nobody here."""
    script = f'mount -t tmpfs none {tmp_path} && cp "$0" {tmp_path} && exec {tmp_path}/storm "$@"'
    shell = target("storm", 2, interpreter=[
        "unshare", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child", "sh", "-c", script])
    assert shell.greeting["ready"] == 1
    assert not (tmp_path / "storm").exists()
    with open(f"/proc/{shell.pid}/task/{shell.pid}/children", encoding="ascii") as children:
        shell.pid = int(children.read())
    assert_leaks_are_named(shell, watch)
    shell.ask("run")
    assert_working(shell)


# ---- foreign breakpoints ---------------------------------------------------------------------------

def test_who_is_patched_already_is_refused(target, watch):
    """By another tool, as eBPF's uprobes do it; at a malloc that is not called just then."""
    storm = target("storm", 2, "idle")
    watched = watch(storm.pid, "-i", "1h", "-e", "1ms")
    storm.ask("begin 100")
    storm.ask("wait")
    report = wait_until(lambda: (found := watched.report())["stacks"] and found, "stacks")
    frame = next(stack["frames"][0] for stack in report["stacks"]
                 if leak_name(stack) == "leak_malloc")
    watched.detach()
    health = Health(storm.pid)
    with open(f"/proc/{storm.pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(frame["address"])
        before = memory.read(1)
        memory.seek(frame["address"])
        memory.write(b"\xcc")
        result = run_leakwatch(*harness.engine_options(), "-p", storm.pid)
        memory.seek(frame["address"])
        assert memory.read(1) == b"\xcc"
        memory.seek(frame["address"])
        memory.write(before)
    assert result.returncode == 1
    assert "another" in result.stderr and "patched it" in result.stderr
    health.assert_same()
    storm.ask("run")
    assert_working(storm)
