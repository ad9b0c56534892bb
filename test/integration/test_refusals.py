# SPDX-License-Identifier: GPL-2.0-or-later
"""What cannot be watched is refused in one line, with the reason and the remedy, and unharmed."""

import os
import shutil
import subprocess
import tempfile

import pytest

import harness
from harness import Health, Process, assert_working, run_leakwatch, wait_until

NOBODY = {"user": "nobody", "group": "nogroup", "extra_groups": []}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


def assert_refused(result, *words):
    assert result.returncode == 1, result
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("leakwatch: ")
    for word in words:
        assert word in lines[0], lines[0]


def test_no_such_process():
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as limit:
        pid = int(limit.read())  # PIDs are below it
    assert_refused(run_leakwatch("-p", pid), str(pid), "no process")


def test_a_zombie():
    with subprocess.Popen(["/bin/true"]) as ended:
        wait_until(lambda: harness.read_status(ended.pid, ended.pid)["State"].startswith("Z"),
                   "a zombie")
        assert_refused(run_leakwatch("-p", ended.pid), str(ended.pid), "zombie")


def test_a_kernel_thread():
    def is_kernel_thread(pid):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
                return int(stat.read().rpartition(")")[2].split()[6]) & 0x00200000  # PF_KTHREAD
        except OSError:
            return False
    pids = [pid for pid in os.listdir("/proc") if pid.isdigit() and is_kernel_thread(pid)]
    if not pids:
        pytest.skip("no kernel thread is visible here")
    assert_refused(run_leakwatch("-p", pids[0]), pids[0], "kernel thread")


def test_itself():
    shell = ["/bin/sh", "-c", f'exec "{harness.LEAKWATCH}" -p $$']
    assert_refused(run_leakwatch(argv=shell), "itself")


def test_a_thread(target):
    storm = target("storm", 2)
    tid = harness.threads(storm.pid)[-1]
    assert_refused(run_leakwatch("-p", tid), str(tid), str(storm.pid), "thread")


def test_already_traced(target):
    storm = target("storm", 2, "run")
    tracer = target("tracer", storm.pid)
    assert_refused(run_leakwatch("-p", storm.pid), "traced", "tracer", str(tracer.pid))
    assert harness.read_status(storm.pid, storm.pid)["TracerPid"] == str(tracer.pid)
    assert_working(storm)


def test_two_watches_of_one_target(target, healthy_watch):
    storm = target("storm", 2, "run")
    first = healthy_watch(storm.pid)
    assert_refused(run_leakwatch("-p", storm.pid), "leakwatch", str(first.pid))
    assert first.report()["events"]["allocs"] > 0
    assert_working(storm)


def test_a_32_bit_program(started):
    started.append(Process([harness.target_path("bare32")]))
    line = started[-1].line()
    if line is None:
        pytest.skip("this kernel runs no 32-bit programs")
    assert_refused(run_leakwatch("-p", started[-1].pid), "32-bit")
    assert started[-1].alive()


def test_no_allocator(started):
    started.append(Process([harness.target_path("bare64")]))
    started[-1].line()
    health = Health(started[-1].pid)
    assert_refused(run_leakwatch("-p", started[-1].pid), "malloc")
    health.assert_same()
    assert started[-1].alive()


@pytest.fixture
def leakwatch_for_nobody():
    """A copy where other users can run it."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        path = shutil.copy(harness.LEAKWATCH, directory)
        os.chmod(path, 0o755)
        yield path


@needs_root
def test_another_users_process(target, leakwatch_for_nobody):
    storm = target("storm", 2, "run")
    result = run_leakwatch(argv=[leakwatch_for_nobody, "-p", str(storm.pid)], **NOBODY)
    assert_refused(result, "user", "root", "sudo")
    Health(storm.pid).assert_same()
    assert_working(storm)


@needs_root
def test_a_process_that_is_not_dumpable(target, leakwatch_for_nobody):
    hidden = target("undumpable", **NOBODY)
    result = run_leakwatch(argv=[leakwatch_for_nobody, "-p", str(hidden.pid)], **NOBODY)
    assert_refused(result, "dumpable", "sudo")
    assert hidden.alive()


@needs_root
def test_ones_own_process_needs_no_root(target, leakwatch_for_nobody):
    if os.path.exists("/proc/sys/kernel/yama/ptrace_scope"):
        with open("/proc/sys/kernel/yama/ptrace_scope", encoding="ascii") as scope:
            if scope.read().strip() != "0":
                pytest.skip("Yama forbids it")
    storm = target("storm", 2, "run", **NOBODY)
    health = Health(storm.pid)
    result = run_leakwatch(
        argv=[leakwatch_for_nobody, "-d", "300ms", "--format=json", "-p", str(storm.pid)], **NOBODY)
    assert result.returncode == 0, result.stderr
    assert '"code_verified":true' in result.stdout
    health.assert_same()
    assert_working(storm)


@needs_root
def test_root_without_the_capability(target):
    storm = target("storm", 2, "run")
    argv = ["setpriv", "--bounding-set=-sys_ptrace", harness.LEAKWATCH, "-p", str(storm.pid)]
    assert_refused(run_leakwatch(argv=argv), "CAP_SYS_PTRACE")
    Health(storm.pid).assert_same()


def test_yama():
    if not os.path.exists("/proc/sys/kernel/yama/ptrace_scope"):
        pytest.skip("this kernel has no Yama; its words are tested in test/unit")
    with open("/proc/sys/kernel/yama/ptrace_scope", encoding="ascii") as scope:
        if scope.read().strip() != "3":
            pytest.skip("ptrace_scope does not forbid root anything")
    assert_refused(run_leakwatch("-p", os.getppid()), "ptrace_scope")


NONSENSE = [
    [], ["-p"], ["-p", "abc"], ["-p", "0"], ["-p", "-4"], ["-p", "1", "-p", "2"], ["1", "2"],
    ["-e", "0", "1"], ["-e", "-5", "1"], ["-e", "soon", "1"], ["-e", "5 parsecs", "1"],
    ["-i", "0", "1"], ["-n", "0", "1"], ["-n", "many", "1"], ["-d", "0", "1"], ["-T", "-1", "1"],
    ["-l", "0", "1"], ["-l", "1000000", "1"], ["-z", "10", "-Z", "5", "1"], ["-z", "big", "1"],
    ["--format=xml", "1"], ["--sort=colour", "1"], ["--color=sometimes", "1"], ["-o", "", "1"],
    ["--error-exitcode=300", "1"], ["--error-exitcode=-1", "1"], ["--nonsense", "1"],
    ["-p", "1", "--", "true"], ["-q", "-v", "1"], ["--engine=ebpf", "1"], ["--sample=0", "1"],
    ["--sample=64k", "--engine=trap", "1"], ["--max-overhead=5", "1"],
    ["--sample=auto", "--max-overhead=0", "1"],
]


@pytest.mark.parametrize("arguments", NONSENSE, ids=" ".join)
def test_nonsense_options(arguments):
    result = run_leakwatch(*arguments)
    assert result.returncode == 2, result
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].split(": ")[0].endswith("leakwatch")
    assert "--help" in result.stderr
    assert len(lines) <= 2, result.stderr


def test_an_output_file_that_cannot_be_opened_harms_nothing(target):
    storm = target("storm", 2, "run")
    assert_refused(run_leakwatch("-o", "/nowhere/at/all", "-p", storm.pid), "/nowhere/at/all")
    Health(storm.pid).assert_same()
    assert_working(storm)
