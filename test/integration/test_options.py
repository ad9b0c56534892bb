# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: when to report, what to print, where to, and when to stop."""

import json
import os
import pty
import re
import select
import signal
import socket
import stat
import subprocess

import pytest

import harness
from harness import (Health, Process, assert_working, by_leak, counted, leak_name, leaks_of,
                     run_leakwatch, settled_leaks, wait_until)

REPORT_KEYS = {"type", "time", "pid", "elapsed_s", "expire_s", "rss_bytes", "sample_bytes", "live",
               "expired", "suppressed", "events", "losses", "stacks", "modules"}
STACK_KEYS = {"id", "expired_bytes", "expired_blocks", "delta_bytes", "live_bytes", "live_blocks",
              "allocs", "alloc_bytes", "frees", "late_frees", "age_s", "lifetime_s", "truncated",
              "verdict", "reason", "growth_bytes_per_minute", "suggested_expire_s", "frames"}
FRAME_KEYS = {"function", "module", "module_index", "offset", "address", "file", "line", "inlined"}
# aligned_alloc is memalign by another name in glibc, and told all the same
C_FUNCTIONS = {"malloc", "calloc", "realloc", "reallocarray", "free", "memalign", "aligned_alloc",
               "posix_memalign", "valloc", "pvalloc"}


def types(objects):
    return [each["type"] for each in objects]


def read_objects(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_json_has_exactly_the_keys_of_the_design(target, healthy_watch):
    each = target("each_function")
    watch = healthy_watch(each.pid, "-e", "100ms", "-i", "1h")
    each.ask("begin")
    watch.settled_report()
    watch.detach()
    attach, detach = watch.objects[0], watch.objects[-1]
    assert set(attach) == {"type", "pid", "exe", "engine", "engine_reason", "threads", "pause_us",
                           "allocators"}
    assert set(attach["allocators"][0]) == {"module", "build_id", "functions"}
    assert set(detach) == {"type", "pid", "threads", "probes_removed", "code_verified",
                           "target_state", "pause_us"}
    for report in watch.of("report") + watch.of("summary"):
        extra = {"suppressions"} if report["type"] == "summary" else set()
        assert set(report) == REPORT_KEYS | extra
        assert report["sample_bytes"] == 0  # exact: nothing has an error
        assert set(report["live"]) == {"bytes", "blocks"}
        assert set(report["expired"]) == {"bytes", "blocks", "stacks"}
        assert set(report["events"]) == {"allocs", "frees", "reallocs", "failed_allocs",
                                         "unknown_frees", "missed_frees"}
        assert set(report["losses"]) == {"truncated_stacks", "dropped_blocks", "missed_returns",
                                         "folded_blocks"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
                            report["time"])
        for stack in report["stacks"]:
            assert set(stack) == STACK_KEYS
            assert set(stack["age_s"]) == {"min", "max"}
            assert set(stack["lifetime_s"]) == {"min", "mean", "max"}
            assert stack["frames"]
            for frame in stack["frames"]:
                assert set(frame) == FRAME_KEYS
                module = report["modules"][frame["module_index"]]
                assert set(module) == {"path", "build_id", "executable"}
                assert os.path.basename(module["path"]) == os.path.basename(frame["module"])
        programs = [module["path"] for module in report["modules"] if module["executable"]]
        assert not report["stacks"] or programs == [attach["exe"]]


def test_the_attach_object(target, healthy_watch):
    storm = target("storm", 5)
    attach = healthy_watch(storm.pid).of("attach")[0]
    assert attach["pid"] == storm.pid
    assert attach["exe"] == os.path.realpath(harness.target_path("storm"))
    assert attach["threads"] == 6
    libc = [each for each in attach["allocators"] if "libc.so" in each["module"]]
    assert len(libc) == 1
    functions = libc[0]["functions"]
    assert C_FUNCTIONS <= set(functions)
    assert len(functions) == len(set(functions))
    assert functions.index("memalign") < functions.index("aligned_alloc") < \
        functions.index("posix_memalign")
    assert re.fullmatch("[0-9a-f]{8,}", libc[0]["build_id"])


def test_the_trap_engine_can_be_forced(target, healthy_watch):
    storm = target("storm", 2, "run")
    watch = healthy_watch(storm.pid, "--engine=trap")
    attach = watch.of("attach")[0]
    assert (attach["engine"], attach["engine_reason"]) == ("trap", "")
    tracers = {int(status["TracerPid"]) for status in harness.each_status(storm.pid).values()}
    assert len(tracers) == 1 and tracers <= set(harness.threads(watch.pid))
    assert_working(storm)


def test_frames_name_file_line_and_module(target, healthy_watch):
    each = target("each_function")
    watch = healthy_watch(each.pid, "-e", "100ms", "-i", "1h")
    each.ask("begin")
    report = watch.settled_report()
    stack = next(stack for stack in report["stacks"] if leak_name(stack) == "leak_pvalloc")
    frames = [frame for frame in stack["frames"]
              if os.path.basename(frame["module"]) == "each_function"]
    assert [frame["function"] for frame in frames] == ["leak_pvalloc", "leak_all", "main", "_start"]
    with open(os.path.join(os.path.dirname(__file__), "../targets/each_function.c"),
              encoding="utf-8") as source:
        text = source.read().splitlines()
    assert os.path.basename(frames[0]["file"]) == "each_function.c"
    assert "pvalloc(size)" in text[frames[0]["line"] - 1]


def test_inlined_functions_are_marked(started, healthy_watch):
    """leakd copies a name in a function that is always inlined."""
    started.append(Process([harness.target_path("leakd")]))
    port = int(started[-1].line().rpartition(":")[2])
    watch = healthy_watch(started[-1].pid, "-e", "100ms", "-i", "1h")
    with socket.create_connection(("127.0.0.1", port), timeout=harness.LIMIT) as client:
        client.sendall(b"LOGIN somebody\n")
        assert client.recv(100).startswith(b"TOKEN")
        report = wait_until(lambda: (found := watch.report())["expired"]["blocks"] >= 2 and found,
                            "an expired session")
    frames = [frame for stack in report["stacks"] for frame in stack["frames"]]
    inlined = {frame["function"]: frame["inlined"] for frame in frames}
    assert inlined["copy_string"] is True
    assert inlined["session_open"] is False


@pytest.mark.parametrize("form", [["-p"], ["--pid"], []], ids=["-p", "--pid", "bare"])
def test_count_ends_the_watch(target, form):
    storm = target("storm", 2, "run")
    health = Health(storm.pid)
    result = run_leakwatch("--format=json", "-i", "100ms", "-n", "3", *form, storm.pid)
    assert result.returncode == 0, result.stderr
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert types(objects) == ["attach", "report", "report", "report", "summary", "detach"]
    health.assert_same()
    assert_working(storm)


def test_duration_ends_the_watch(target):
    storm = target("storm", 2, "run")
    result = run_leakwatch("--format=json", "-d", "300ms", "-p", storm.pid)
    assert result.returncode == 0, result.stderr
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert types(objects) == ["attach", "summary", "detach"]
    assert_working(storm)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
                         ids=lambda number: number.name)
def test_signals_end_the_watch(target, healthy_watch, number):
    storm = target("storm", 2, "run")
    watch = healthy_watch(storm.pid)
    watch.detach(number)
    assert types(watch.objects) == ["attach", "summary", "detach"]
    assert_working(storm)


def test_the_target_ends(target, watch):
    storm = target("storm", 2, "run")
    watching = watch(storm.pid)
    storm.popen.stdin.close()
    assert watching.finish() == 0
    assert types(watching.objects)[-1] == "exit"
    assert watching.objects[-1]["pid"] == storm.pid
    # only the tracer is told the status by every kernel
    assert watching.objects[-1]["status"] == 0 or \
        (watching.objects[0]["engine"], watching.objects[-1]["status"]) == ("record", None)
    assert storm.wait() == 0


def test_error_exitcode(target):
    each = target("each_function")
    clean = run_leakwatch("--error-exitcode=9", "-d", "200ms", "-p", each.pid)
    assert clean.returncode == 0, clean.stderr
    process = Process([harness.LEAKWATCH, "--error-exitcode=9", "--format=json", "-e", "50ms",
                       "-i", "100ms", "-p", str(each.pid)], stdin=subprocess.DEVNULL)
    try:
        assert json.loads(process.line())["type"] == "attach"
        each.ask("begin")
        wait_until(lambda: json.loads(process.line())["expired"]["blocks"] > 0, "expired blocks")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 9, process.stderr()
    finally:
        process.stop()
    assert_working(each)


def test_output_file_rotates_on_sighup(target, watch, tmp_path):
    each = target("each_function")
    health = Health(each.pid)
    argv = [harness.LEAKWATCH, "--format=json", "-i", "1h", "-e", "50ms", "-o",
            str(tmp_path / "log.%p"), "-p", str(each.pid)]
    process = Process(argv, stdin=subprocess.DEVNULL)
    log, old = tmp_path / f"log.{each.pid}", tmp_path / "old"
    try:
        wait_until(lambda: log.exists() and "attach" in types(read_objects(log)), "attach")
        if os.geteuid() == 0:
            assert stat.S_IMODE(log.stat().st_mode) == 0o600
        log.rename(old)
        process.send_signal(signal.SIGHUP)
        wait_until(log.exists, "the new file")
        process.send_signal(signal.SIGUSR1)
        wait_until(lambda: "report" in types(read_objects(log)), "a report in the new file")
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0, process.stderr()
    finally:
        process.stop()
    assert types(read_objects(old)) == ["attach"]
    assert types(read_objects(log)) == ["report", "summary", "detach"]
    assert process.line() is None  # nothing on standard output
    health.assert_same()


def test_an_output_file_is_appended_to(target, tmp_path):
    storm = target("storm", 1)
    log = tmp_path / "log"
    log.write_text("kept\n", encoding="utf-8")
    assert run_leakwatch("-d", "100ms", "-o", log, "-p", storm.pid).returncode == 0
    text = log.read_text(encoding="utf-8")
    assert text.startswith("kept\n") and str(storm.pid) in text


def test_sizes(target, healthy_watch):
    """Blocks outside the sizes are no part of any figure, and their frees no surprise."""
    storm = target("storm", 2)
    watch = healthy_watch(storm.pid, "-e", "100ms", "-i", "1h", "-z", "200", "-Z", "300")
    storm.ask("begin 2000")
    storm.ask("wait")
    report = watch.settled_report()
    total = by_leak(report)
    assert None not in total
    for each in total.values():
        assert 200 <= each["bytes"] / each["blocks"] <= 300
    assert report["events"]["unknown_frees"] == 0


@pytest.mark.parametrize("key", ["bytes", "blocks", "age", "growth"])
def test_sort(target, healthy_watch, key):
    storm = target("storm", 2)
    watch = healthy_watch(storm.pid, "-e", "100ms", "-i", "1h", f"--sort={key}")
    storm.ask("begin 2000")
    storm.ask("wait")
    stacks = watch.settled_report()["stacks"]
    values = {"bytes": lambda stack: stack["expired_bytes"],
              "blocks": lambda stack: stack["expired_blocks"],
              "age": lambda stack: stack["age_s"]["max"],
              "growth": lambda stack: stack["delta_bytes"]}
    order = [values[key](stack) for stack in stacks]
    assert len(order) >= 4
    assert order == sorted(order, reverse=True)


def test_top(target, started):
    storm = target("storm", 2)
    process = Process([harness.LEAKWATCH, "--format=json", "-T", "2", "-e", "50ms", "-i", "1h",
                       "-p", str(storm.pid)], stdin=subprocess.DEVNULL)
    started.append(process)
    assert json.loads(process.line())["type"] == "attach"
    storm.ask("begin 500")
    plan = storm.ask("wait")["leaks"]

    def all_expired():
        process.send_signal(signal.SIGUSR1)
        report = json.loads(process.line())
        return report if counted(report["expired"]) == report["live"] else None
    report = wait_until(all_expired, "all expired")
    assert len(report["stacks"]) == 2
    assert report["expired"]["blocks"] == sum(each["blocks"] for each in plan.values())


def run_text(each, *options, stdout=subprocess.PIPE):
    """A text report of everything that each_function leaks, as text."""
    process = Process([harness.LEAKWATCH, "-e", "50ms", "-i", "200ms", "-n", "3", *options, "-p",
                       str(each.pid)], stdin=subprocess.DEVNULL)
    lines = []
    try:
        first = process.line()
        each.ask("begin")
        lines.append(first)
        while (line := process.line()) is not None:
            lines.append(line)
        assert process.wait() == 0, process.stderr()
    finally:
        process.stop()
    assert process.stderr() == ""  # no status line: not a terminal
    return "\n".join(lines)


def test_text_report(target):
    each = target("each_function")
    health = Health(each.pid)
    text = run_text(each, "-T", "0")
    for words in (harness.target_path("each_function"), f"PID {each.pid}", "1 thread", "libc.so.6",
                  "posix_memalign", "aligned_alloc", "before the attach", "50ms", "200ms", "RSS",
                  "leak_malloc", "each_function.c:", "Summary"):
        assert words in text, words
    assert "\033" not in text
    assert re.search("no thread was stopped to attach|the attach held the process up for [1-9]",
                     text)
    receipt = text[text.index("Summary"):]
    assert re.search("breakpoint|probe", receipt) and re.search("thread", receipt)
    assert "code" in receipt
    health.assert_same()


def test_text_lists_blocks_on_demand(target):
    each = target("each_function")
    text = run_text(each, "-a", "-T", "0")
    summary = text[text.index("Summary"):]
    blocks = re.findall(r"block\s+(0x[0-9a-f]+)\s+1,?000 bytes", summary)
    assert len(set(blocks)) == 9 * 30


@pytest.mark.parametrize("when, colored", [("always", True), ("never", False), ("auto", False)])
def test_color(target, when, colored):
    text = run_text(target("each_function"), f"--color={when}")
    assert ("\033[" in text) == colored


def run_on_terminal(storm, *options):
    """What leakwatch writes to a terminal."""
    master, slave = pty.openpty()
    with subprocess.Popen([harness.LEAKWATCH, "-d", "1500ms", "-i", "1s", *options, "-p",
                           str(storm.pid)], stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        output = b""
        try:
            while chunk := os.read(master, 65536):
                output += chunk
        except OSError:  # EIO: the last writer has gone
            pass
        assert process.wait(harness.LIMIT) == 0
    os.close(master)
    return output.decode()


def test_status_line_on_a_terminal(target):
    storm = target("storm", 2, "run")
    output = run_on_terminal(storm)
    redrawn = re.findall(r"\r[^\r\n]*/s[^\r\n]*", output)
    assert len(redrawn) >= 2, output
    assert "Summary" in output
    assert_working(storm)


def test_quiet_has_no_status_line(target):
    storm = target("storm", 2, "run")
    output = run_on_terminal(storm, "-q")
    assert not re.findall(r"\r[^\r\n]*/s[^\r\n]*", output)


def test_a_closed_pipe_ends_the_watch_without_harm(target):
    storm = target("storm", 2, "run")
    health = Health(storm.pid)
    command = f'"{harness.LEAKWATCH}" -i 100ms -p {storm.pid} | head -n 1'
    result = run_leakwatch(argv=["/bin/sh", "-c", command])
    assert result.returncode == 0
    harness.await_left(storm.pid)
    health.assert_same()
    assert_working(storm)


def test_a_full_disk_ends_the_watch_without_harm(target):
    storm = target("storm", 2, "run")
    health = Health(storm.pid)
    result = run_leakwatch("-i", "100ms", "-n", "5", "-o", "/dev/full", "-p", storm.pid)
    assert result.returncode == 1
    assert "/dev/full" in result.stderr
    health.assert_same()
    assert_working(storm)


def test_a_reader_that_stalls_holds_up_neither_the_target_nor_the_end(target):
    storm = target("storm", 2, "run")
    health = Health(storm.pid)
    reading, writing = os.pipe()
    watch = subprocess.Popen([harness.LEAKWATCH, "--format=json", "-T", "0", "-e", "1ms", "-i", "20ms",
                              "-p", str(storm.pid)], stdout=writing, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: not select.select([], [writing], [], 0)[1], "the pipe is full")
        assert_working(storm)
        watch.send_signal(signal.SIGTERM)
        harness.await_left(storm.pid)
        health.assert_same()
        assert_working(storm)
    finally:
        os.close(reading)
        os.close(writing)
        assert watch.wait(harness.LIMIT) == 1


def test_help_and_version():
    helped = run_leakwatch("--help")
    assert helped.returncode == 0 and helped.stderr == ""
    assert max(map(len, helped.stdout.splitlines())) <= 80
    assert "[OPTION...] diff" not in helped.stdout  # with an option before it, it is a command
    version = run_leakwatch("--version")
    assert version.returncode == 0 and re.fullmatch(r"leakwatch \d+\.\d+\.\d+\n", version.stdout)
    with open(os.path.join(os.path.dirname(__file__), "../../src/leakwatch.1"),
              encoding="utf-8") as page:
        manual = page.read().replace("\\-", "-")
    options = set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", helped.stdout))
    assert {"pid", "expire", "interval", "count", "duration", "top", "depth", "min-size",
            "max-size", "show-blocks", "output", "format", "sort", "error-exitcode", "quiet",
            "verbose", "color", "engine", "sample", "max-overhead", "help", "version"} <= options
    assert [option for option in options if f"--{option}" not in manual] == []


def test_expire_units(target, healthy_watch):
    storm = target("storm", 1)
    for text, seconds in (("500ms", 0.5), ("30", 30), ("5m", 300)):
        watch = healthy_watch(storm.pid, "-e", text)
        assert watch.report()["expire_s"] == seconds
        watch.detach()


def test_reports_come_by_interval(target, healthy_watch):
    each = target("each_function")
    watch = healthy_watch(each.pid, "-e", "50ms", "-i", "100ms")
    plan = each.ask("begin")["leaks"]
    report = wait_until(lambda: leaks_of(found := watch.next("report")) == plan and found, "leaks")
    assert report["elapsed_s"] > 0
    assert settled_leaks(watch, plan) == plan
