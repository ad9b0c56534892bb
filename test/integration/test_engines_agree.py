# SPDX-License-Identifier: GPL-2.0-or-later
"""Both engines see the same program make the same allocations by the same stacks: the record
engine's are those of the trap engine, whose unwinding is compared with libunwind's elsewhere."""

import os
import subprocess
import time

import pytest

import harness
from harness import Daemon, read_status, wait_until

pytestmark = pytest.mark.skipif(set(harness.ENGINES) != {"record", "trap"},
                                reason="LEAKWATCH_ENGINES has not both")

# One line is read, and one written when the work is done.
PYTHON = """
import sys
def generate(n):
    if n:
        yield [n]
        yield from generate(n - 1)
def fail(depth):
    if depth == 0:
        raise ValueError([depth])
    try:
        fail(depth - 1)
    finally:
        str(depth)
def suspended():
    generator = generate(12)
    return [generator, [next(generator) for _ in range(9)]]
def failed():
    try:
        fail(30)
    except ValueError as error:
        return error
def work():
    import argparse, ast, functools, json, re, string
    parser = argparse.ArgumentParser()
    parser.add_argument("--option", choices=["a", "b"])
    return [suspended(), failed(), parser,
            json.loads(json.dumps([{"a": [i, str(i), {"b": None}]} for i in range(20)])),
            re.compile("(a+|b?c[d-f]){2,3}(?=x)"), string.Template("$a"), ast.parse(source),
            sorted("hello", key=functools.cmp_to_key(lambda a, b: [a] < [b]))]
source = "def f(a, *b):\\n  return [g(c + 1, d=2) for c in b if a[c:3]]\\n" * 5
print("ready", flush=True)
sys.stdin.readline()
kept = work()
print("done", flush=True)
sys.stdin.readline()
"""


def frame_key(frame):
    return (os.path.basename(frame["module"] or ""), frame["offset"], frame["function"])


def stacks_of(report):
    """{frames: (allocations, bytes)}; inlined functions are their frame's."""
    stacks = {}
    for stack in report["stacks"]:
        frames = tuple(frame_key(frame) for frame in stack["frames"] if not frame["inlined"])
        assert frames not in stacks, "one stack listed twice"
        stacks[frames] = (stack["allocs"], stack["alloc_bytes"])
    return stacks


def text(frames):
    return " < ".join(f"{function}@{module}+{offset:#x}" for module, offset, function in frames)


def assert_equal(by_engine):
    record, trap = by_engine["record"], by_engine["trap"]
    for frames in sorted(set(record) ^ set(trap)):
        print("record" if frames in record else "trap", "only:", text(frames))
    assert set(record) == set(trap)
    assert record == trap


def watched(watch, engine, pid, work):
    """The stacks of what happens during work(). Nothing has expired: all stacks are told."""
    begun = watch(pid, f"--engine={engine}", "-l", "1024", "-e", "1h", "-i", "1h")
    work()
    begun.detach()
    summary = begun.summary()
    assert summary["losses"] == {"truncated_stacks": 0, "dropped_blocks": 0, "missed_returns": 0,
                                 "folded_blocks": 0}
    return stacks_of(summary)


def test_each_function(target, watch):
    found = {}
    for engine in harness.ENGINES:
        program = target("each_function")
        found[engine] = watched(watch, engine, program.pid, lambda: program.ask("begin"))
    assert len(found["trap"]) >= 9
    assert_equal(found)


def test_storm(target, watch):
    """The same random numbers: the same calls."""
    found = {}
    for engine in harness.ENGINES:
        storm = target("storm", 4)

        def work():
            storm.ask("begin 5000")
            storm.ask("wait", limit=120)
        found[engine] = watched(watch, engine, storm.pid, work)
    assert len(found["trap"]) == 4
    assert_equal(found)


def sleeps(pid):
    """It waits for its next line, and has done so for a while."""
    states = []
    for _ in range(5):
        states.append(read_status(pid, pid)["State"][0])
        time.sleep(0.02)
    return states == ["S"] * 5


def test_python(started, watch):
    """Without randomness: where things lie decides over what the interpreter has in its caches."""
    found = {}
    for engine in harness.ENGINES:
        environment = {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"}
        python = Daemon(["setarch", "-R", "/usr/bin/python3", "-S", "-c", PYTHON],
                        env=environment, stdin=subprocess.PIPE)
        started.append(python)
        assert python.line() == "ready"
        wait_until(lambda: sleeps(python.pid), "python waits")

        def work():
            python.tell("go")
            assert python.line(120) == "done"
            wait_until(lambda: sleeps(python.pid), "python waits")
        found[engine] = watched(watch, engine, python.pid, work)
    print(len(found["trap"]), "stacks")
    assert len(found["trap"]) >= 500
    assert_equal(found)
