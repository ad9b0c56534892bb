# SPDX-License-Identifier: GPL-2.0-or-later
"""What a process under watch may choose leads leakwatch nowhere; what it runs with is no more than it
needs."""

import os
import shutil
import signal
import subprocess
import tempfile

import pytest

import harness
from harness import (Target, Watch, assert_working, leaks_of, read_status, run_leakwatch,
                     settled_leaks, target_path, threads, wait_until)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
CAPABILITIES = {1: "DAC_OVERRIDE", 19: "SYS_PTRACE", 21: "SYS_ADMIN", 23: "SYS_NICE",
                40: "CHECKPOINT_RESTORE"}
ENGINES = {"DAC_OVERRIDE", "SYS_PTRACE", "SYS_ADMIN", "SYS_NICE", "CHECKPOINT_RESTORE"}
NOBODY = 65534

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


UGLY = b"big\x1b]0;owned\x07\n\x9b31m\xc2\x9b1m\xffheap"


@pytest.fixture
def ugly_target(started):
    """A program whose file, process and functions have names that would take over a terminal."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory.encode(), UGLY)
        plain = os.path.join(directory, "plain")
        objcopy("--strip-debug", "--redefine-sym", "leak_big=leak_\x1b[31m\x07red",
                target_path("bigheap"), plain)
        os.rename(plain, path)
        started.append(Target(os.fsdecode(path)))
        yield started[-1]


def assert_printable(raw):
    for line in raw.split(b"\n"):
        text = line.decode()  # and valid UTF-8
        assert not [each for each in text if ord(each) < 32 or 127 <= ord(each) < 160], text


@pytest.mark.parametrize("form", ("text", "json"))
def test_names_are_escaped(engine, ugly_target, form):
    argv = [harness.LEAKWATCH, f"--engine={engine}", f"--format={form}", "-vv", "-e", "100ms",
            "-i", "500ms", "-n", "3", "-p", str(ugly_target.pid)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watch:
        first = watch.stdout.readline()  # it watches
        ugly_target.ask(f"begin {BLOCKS}")
        output, errors = watch.communicate(timeout=harness.LIMIT)
    assert watch.returncode == 0
    assert_printable(first + output)
    assert_printable(errors)
    assert b"owned" in first + output and b"red" in output


def test_names_in_refusals_are_escaped(ugly_target, started):
    started.append(Target("tracer", ugly_target.pid))
    result = subprocess.run([harness.LEAKWATCH, "-p", str(ugly_target.pid)], check=False,
                            capture_output=True, timeout=harness.LIMIT)
    assert result.returncode == 1
    assert b"traced" in result.stderr and b"big" in result.stderr
    assert_printable(result.stderr)


def capabilities(pid, tid, field):
    """The names of those in a set; a number for what has no name here."""
    bits = int(read_status(pid, tid)[field], 16)
    return {CAPABILITIES.get(bit, bit) for bit in range(64) if bits >> bit & 1}


def assert_unprivileged(pid, tid, permitted, effective):
    status = read_status(pid, tid)
    assert status["NoNewPrivs"] == "1"
    assert capabilities(pid, tid, "CapPrm") <= permitted
    assert capabilities(pid, tid, "CapEff") <= effective
    assert capabilities(pid, tid, "CapInh") == capabilities(pid, tid, "CapAmb") == set()


@needs_root
def test_a_process_cannot_shorten_what_leakwatch_reads(target, healthy_watch, monkeypatch):
    """The end of the shared memory would be the end of leakwatch (SIGBUS)."""
    monkeypatch.setattr(harness, "ENGINE", "record")
    storm = target("storm", 1, "run")
    watching = healthy_watch(storm.pid, "-i", "200ms")
    with open(f"/proc/{storm.pid}/maps", encoding="utf-8") as maps:
        ranges = [line.split()[0] for line in maps
                  if "memfd:leakwatch" in line and line.split()[1][3] == "s"]
    assert ranges
    file = os.open(f"/proc/{storm.pid}/map_files/{ranges[0]}", os.O_RDWR)
    try:
        with pytest.raises(PermissionError):
            os.ftruncate(file, 4096)
    finally:
        os.close(file)
    watching.report()
    watching.detach()


@needs_root
def test_privileges_are_dropped(engine, target, healthy_watch, tmp_path):
    """The thread that reads symbols has none; where the output may have to be opened again, one that is
    out of use until then."""
    storm = target("storm", 2, "run")
    directory = tmp_path / "nobodys"
    directory.mkdir(mode=0o700)
    os.chown(directory, NOBODY, NOBODY)
    output = directory / "out"
    first = healthy_watch(storm.pid, "-i", "1h")
    first.report()
    assert_unprivileged(first.pid, first.pid, set(), set())
    for tid in threads(first.pid)[1:]:
        assert_unprivileged(first.pid, tid, ENGINES, ENGINES)
    with open(f"/proc/{first.pid}/task/{first.pid}/children", encoding="ascii") as children:
        guardian = int(children.read().split()[0])
    assert_unprivileged(guardian, guardian, ENGINES, ENGINES)
    first.detach()

    second = Watch(storm.pid, "-i", "100ms", "-o", output)
    try:
        wait_until(lambda: output.exists() and output.read_text().count("report") > 1, "reports")
        assert_unprivileged(second.pid, second.pid, {"DAC_OVERRIDE"}, set())
        assert output.stat().st_mode & 0o777 == 0o600
        output.unlink()
        second.send_signal(signal.SIGHUP)
        wait_until(output.exists, "the file again")
        assert_unprivileged(second.pid, second.pid, {"DAC_OVERRIDE"}, set())
        second.send_signal(signal.SIGINT)
        assert second.wait() == 0, second.stderr()
        assert '"code_verified":true' in output.read_text()
    finally:
        second.stop()
    assert_working(storm)


@pytest.fixture
def leakwatch_for_all():
    """A copy where other users can run it."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield shutil.copy(harness.LEAKWATCH, directory)


def as_nobody(*capability):
    added = ",".join("+" + each for each in capability) or "-all"
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
            f"--inh-caps={added}", f"--ambient-caps={added}"]


def short_watch(leakwatch, pid, engine, *before):
    return run_leakwatch(argv=[*before, leakwatch, f"--engine={engine}", "-d", "300ms",
                               "--format=json", "-p", str(pid)])


@pytest.fixture
def capable_target(tmp_path, started):
    """A target of nobody's with a capability that nobody has: to trace it takes one, too."""
    script = tmp_path / "capable"
    script.write_text("#!/bin/sh\nexec " + " ".join(as_nobody("net_raw")) +
                      f" '{os.path.abspath(target_path('storm'))}' 2 run\n")
    script.chmod(0o755)
    started.append(Target(str(script)))
    return started[-1]


@needs_root
def test_cap_sys_ptrace_alone(engine, capable_target, leakwatch_for_all):
    """Handed down, and as a capability of the file."""
    storm = capable_target
    health = harness.Health(storm.pid)
    result = short_watch(leakwatch_for_all, storm.pid, engine, *as_nobody())
    assert result.returncode == 1 and "sudo" in result.stderr
    result = short_watch(leakwatch_for_all, storm.pid, engine, *as_nobody("sys_ptrace"))
    assert result.returncode == 0, result.stderr
    subprocess.run(["setcap", "cap_sys_ptrace+ep", leakwatch_for_all], check=True)
    result = short_watch(leakwatch_for_all, storm.pid, engine, *as_nobody())
    assert result.returncode == 0, result.stderr
    assert f'"engine":"{engine}"' in result.stdout and '"code_verified":true' in result.stdout
    health.assert_same()
    assert_working(storm)


@needs_root
def test_another_users_process_takes_one_capability_more(engine, target, leakwatch_for_all):
    storm = target("storm", 2, "run")
    result = short_watch(leakwatch_for_all, storm.pid, engine, *as_nobody("sys_ptrace"))
    assert result.returncode == 1 and "CAP_DAC_OVERRIDE too" in result.stderr
    result = short_watch(leakwatch_for_all, storm.pid, engine,
                         *as_nobody("sys_ptrace", "dac_override"))
    assert result.returncode == 0, result.stderr
    assert f'"engine":"{engine}"' in result.stdout and '"code_verified":true' in result.stdout
    assert_working(storm)
