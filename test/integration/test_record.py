# SPDX-License-Identifier: GPL-2.0-or-later
"""The record engine alone: nothing is traced while it watches, and nothing of it stays."""

import os
import shutil
import signal
import subprocess

import pytest

import harness
from harness import (Process, assert_code_is_the_file, assert_working, each_status, leaks_of,
                     read_status, recorder_mappings, run_leakwatch, settled_leaks, wait_until)

pytestmark = pytest.mark.skipif("record" not in harness.ENGINES,
                                reason="LEAKWATCH_ENGINES has no record")
SAMPLE = 4096  # bytes


@pytest.fixture
def record(healthy_watch):
    """healthy_watch by the record engine."""
    def start(pid, *options):
        watch = healthy_watch(pid, "--engine=record", *options)
        attach = watch.of("attach")[0]
        assert (attach["engine"], attach["engine_reason"]) == ("record", "")
        return watch
    return start


def assert_events_come(watch):
    """More allocations are seen."""
    before = watch.report()["events"]["allocs"]
    wait_until(lambda: watch.report()["events"]["allocs"] > before, "more allocations")


def tracers(pid):
    return {status["TracerPid"] for status in each_status(pid).values()}


def test_nothing_is_traced_while_watched(target, record):
    storm = target("storm", 8, "run")
    watch = record(storm.pid, "-i", "1h")
    for _ in range(20):
        assert tracers(storm.pid) == {"0"}
        assert_events_come(watch)
    watch.detach()
    assert_working(storm)


def test_nothing_stays_after_the_detach(target, record):
    """While watched, the code is patched and the recorder mapped: the checks would see it."""
    storm = target("storm", 2, "run")
    watch = record(storm.pid, "-i", "1h")
    assert recorder_mappings(storm.pid)
    with pytest.raises(AssertionError, match="changed bytes"):
        assert_code_is_the_file(storm.pid)
    watch.detach()
    assert not recorder_mappings(storm.pid)
    assert_code_is_the_file(storm.pid)
    assert_working(storm)


def test_auto_records_where_it_can(target, healthy_watch):
    storm = target("storm", 2, "run")
    attach = healthy_watch(storm.pid).of("attach")[0]
    assert (attach["engine"], attach["engine_reason"]) == ("record", "")
    text = run_leakwatch("-d", "100ms", "-p", target("storm", 1).pid)
    assert "\nengine       record (inside the target; no stops)" in text.stdout


def installed(program):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    return program


def test_strace_attaches_meanwhile(target, started, record, tmp_path):
    storm = target("storm", 2, "run")
    watch = record(storm.pid, "-i", "1h")
    strace = Process([installed("strace"), "-f", "-o", str(tmp_path / "log"), "-p", str(storm.pid)],
                     stdin=subprocess.DEVNULL)
    started.append(strace)
    wait_until(lambda: read_status(storm.pid, storm.pid)["TracerPid"] == str(strace.pid) or
               not strace.alive(), "strace attached")
    assert strace.alive(), strace.stderr()
    assert_events_come(watch)
    assert_working(storm)
    strace.send_signal(signal.SIGINT)
    strace.wait()
    assert (tmp_path / "log").stat().st_size > 0
    assert tracers(storm.pid) == {"0"}
    assert_events_come(watch)
    watch.detach()
    assert_working(storm)


def test_gdb_attaches_meanwhile(target, record):
    storm = target("storm", 2, "run")
    watch = record(storm.pid, "-i", "1h")
    command = [installed("gdb"), "-nx", "-batch", "-iex", "set debuginfod enabled off",
               "-ex", "thread apply all backtrace 3", "-p", str(storm.pid)]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            timeout=2 * harness.LIMIT, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("Thread ") >= 3, result.stdout
    assert tracers(storm.pid) == {"0"}
    assert_events_come(watch)
    watch.detach()
    assert_working(storm)


def test_samples_estimate_with_errors(target, record):
    """20 000 calls of 4 threads: the estimate is within six standard errors of what has leaked."""
    storm = target("storm", 4)
    watch = record(storm.pid, "-e", "300ms", "-i", "1h", f"--sample={SAMPLE}")
    storm.ask("begin 20000")
    plan = storm.ask("wait", limit=120)
    report = watch.settled_report()
    leaked = sum(leak["bytes"] for leak in plan["leaks"].values())
    assert report["sample_bytes"] == SAMPLE
    assert 0 < report["expired"]["error_bytes"] < leaked
    assert abs(report["expired"]["bytes"] - leaked) <= 6 * report["expired"]["error_bytes"]
    for stack in report["stacks"]:
        assert 0 < stack["expired_error_bytes"] and 0 < stack["live_error_bytes"]
    assert set(leaks_of(report)) <= set(plan["leaks"])
    assert plan["corrupt"] == 0


def test_sampling_by_itself(target, record):
    """As few samples as a hundredth of the time permits: the storm, which does little else than
    allocate, is not watched whole."""
    storm = target("storm", 2, "run")
    watch = record(storm.pid, "-i", "1h", "--sample=auto", "--max-overhead=1")
    wait_until(lambda: watch.report()["sample_bytes"] > 0, "sampling")
    assert "error_bytes" in watch.report()["live"]
    assert_working(storm)


def test_two_engines_tell_the_same(target, healthy_watch):
    """One program, one plan, each engine in turn: the same leaks, to the byte."""
    for engine in harness.ENGINES:
        each = target("each_function")
        watch = healthy_watch(each.pid, f"--engine={engine}", "-e", "100ms", "-i", "1h")
        plan = each.ask("begin")["leaks"]
        assert settled_leaks(watch, plan) == plan
        assert os.path.basename(watch.of("attach")[0]["exe"]) == "each_function"


def shared_memory(pid):
    """What the recorder costs the target, in bytes: nothing else here is shared."""
    return int(read_status(pid, pid)["RssShmem"].split()[0]) * 1024


@pytest.mark.parametrize("size", (16, 24, 100, 504, 1000, 4080, 5000))
def test_memory_of_a_million_blocks(target, record, size):
    """Of each size that lies differently in pages; 4080 and more are a page apart."""
    count = 1000000 if size <= 1000 else 300000
    bigheap = target("bigheap", size)
    watch = record(bigheap.pid, "-i", "1h")
    assert shared_memory(bigheap.pid) < 4 << 20
    bigheap.ask(f"begin {count}")
    used = shared_memory(bigheap.pid)
    print(f"size {size}: {used / count:.1f} bytes a block")
    assert used <= 64 * count
    assert watch.report()["live"]["blocks"] == count


def test_memory_of_a_small_process(target, record):
    """What a program of ordinary size, of many threads and stacks, is given."""
    storm = target("storm", 8, "run")
    watch = record(storm.pid, "-i", "1h")
    wait_until(lambda: watch.report()["events"]["allocs"] > 1000000, "a million allocations")
    print(f"storm: {shared_memory(storm.pid) >> 10} KiB")
    assert shared_memory(storm.pid) < 4 << 20
