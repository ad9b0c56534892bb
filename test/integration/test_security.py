# SPDX-License-Identifier: GPL-2.0-or-later
"""What a process under watch may choose leads leakwatch nowhere; what it runs with is no more than it
needs."""

import os
import shutil
import subprocess

import pytest

from harness import Target, assert_working, leaks_of, settled_leaks, target_path

BLOCKS = 10


def objcopy(*arguments):
    subprocess.run(["objcopy", *map(str, arguments)], check=True)


@pytest.fixture
def copied(tmp_path, started):
    """copied(change) starts a copy of a target that change(its path) has changed before."""
    def start(change, name="bigheap"):
        path = tmp_path / name
        shutil.copy(target_path("bigheap"), path)
        change(path)
        started.append(Target(str(path)))
        return started[-1]
    return start


def watched_files(watch, target):
    """{function: file} of the frames of a leak."""
    plan = target.ask(f"begin {BLOCKS}")["leaks"]
    assert settled_leaks(watch, plan) == plan
    report = watch.report()
    assert leaks_of(report) == plan
    files = {frame["function"]: frame.get("file") for stack in report["stacks"]
             for frame in stack["frames"]}
    watch.detach()
    assert_working(target)
    return files


def link_debug_file(path):
    """Moves the debug information to a file beside the program; its path."""
    debug = path.with_suffix(".debug")
    objcopy("--only-keep-debug", path, debug)
    objcopy("--strip-debug", path)
    subprocess.run(["objcopy", f"--add-gnu-debuglink={debug.name}", path.name], cwd=path.parent,
                   check=True)
    return debug


def test_a_debug_file_beside_the_program(copied, healthy_watch):
    target = copied(link_debug_file)
    watch = healthy_watch(target.pid, "-e", "100ms", "-i", "1h")
    assert watched_files(watch, target)["leak_big"].endswith("bigheap.c")


def link_fifo(path):
    debug = link_debug_file(path)
    debug.unlink()
    os.mkfifo(debug)


def link_another_programs(path):
    shutil.copy(target_path("storm"), link_debug_file(path))


def link_supplementary_fifo(path):
    os.mkfifo(path.with_suffix(".alt"))
    section = path.with_suffix(".section")
    section.write_bytes(path.with_suffix(".alt").name.encode() + b"\0" + bytes(range(20)))
    objcopy(f"--add-section=.gnu_debugaltlink={section}", path)


@pytest.mark.parametrize("change", (link_fifo, link_another_programs, link_supplementary_fifo))
def test_a_program_cannot_lead_astray(copied, healthy_watch, change):
    """To open a FIFO would take for ever."""
    target = copied(change)
    watch = healthy_watch(target.pid, "-e", "100ms", "-i", "1h")
    assert watched_files(watch, target)["leak_big"] is None
