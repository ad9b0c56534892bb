# SPDX-License-Identifier: GPL-2.0-or-later
"""The checking build of the agent unwinds every remembered or merged stack once more: programs of
all kinds give millions of them, and never another stack."""

import os
import re
import shutil
import subprocess
import time

import pytest

import harness
from harness import Daemon, Health, assert_working, free_port, target_path, wait_until
from test_unwinding import PERL, listens

CHECKING = os.environ.get("LEAKWATCH_CHECKING", "build/release/test/integration/leakwatch_checking")
WATCH_S = 60  # at most; each watch ends when it has seen enough

pytestmark = pytest.mark.skipif("record" not in harness.ENGINES,
                                reason="LEAKWATCH_ENGINES has no record")
STATISTICS = re.compile(
    r"recorder: (?P<calls>\d+) calls, (?P<unwound>\d+) stacks unwound, (?P<merged>\d+) of them "
    r"merged, (?P<frames>\d+) frames, (?P<truncated>\d+) truncated, (?P<mismatches>\d+) mismatches")

PYTHON = """
import functools, json, random, re
def wander(depth):
    # Through C code in many ways: calls of Python by Python leave no frame there.
    if depth == 0:
        return [str(random.random())]
    deeper = lambda *_: wander(depth - 1)
    way = random.randrange(5)
    if way == 0:
        return list(map(deeper, "a"))
    if way == 1:
        return sorted("b", key=deeper)
    if way == 2:
        return functools.reduce(deeper, "cd")
    if way == 3:
        return json.dumps(object(), default=lambda _: str(deeper()))
    return re.sub("e", lambda _: str(deeper())[:2], "ef")
def generate(n):
    if n:
        yield from generate(n - 1)
        yield [n, str(n)]
def fail(depth):
    if depth == 0:
        raise ValueError([depth])
    try:
        fail(depth - 1)
    finally:
        str(depth)
while True:
    json.loads(json.dumps([{"a": [i, str(i), {"b": None}]} for i in range(50)]))
    re.sub("(a+)(b?)", lambda match: match.group(1) * 2, "aaabab" * 20)
    list(generate(12))
    for i in range(300):
        wander(i % 6)
    try:
        fail(30)
    except ValueError:
        pass
    sorted((str(i) for i in range(50)), key=lambda each: [each])
"""
LUA = """
local words = {}
for i = 1, 60 do words[i] = KEYS[1] .. string.rep('x', i % 17) .. i end
table.sort(words, function(a, b) return #a < #b or #a == #b and a < b end)
local function deep(n) if n == 0 then return {1, 2, 3} end local t = deep(n - 1); t[#t + 1] = n; return t end
redis.call('set', KEYS[1], cjson.encode({words, deep(20)}))
pcall(function() error({words}) end)
return #redis.call('get', KEYS[1])
"""


@pytest.fixture
def run(started):
    """run(argv) starts a program, and skips the test when it is not installed."""
    def start(*argv, **options):
        if shutil.which(argv[0]) is None:
            pytest.skip(f"{argv[0]} is not installed")
        started.append(Daemon([str(word) for word in argv], stdin=subprocess.DEVNULL, **options))
        return started[-1]
    return start


@pytest.fixture
def checked(watch, monkeypatch):
    """checked(pid) watches until so many stacks were found, and returns what was counted."""
    monkeypatch.setattr(harness, "LEAKWATCH", CHECKING)

    def start(pid, allocs=1000000):
        health = Health(pid)
        begun = watch(pid, "--engine=record", "-vv", "-i", "1h")
        deadline = time.monotonic() + WATCH_S
        while (report := begun.report())["events"]["allocs"] < allocs:
            assert time.monotonic() < deadline, f"not {allocs} allocations: {report['events']}"
            time.sleep(0.5)
        begun.detach()
        health.assert_same()
        counts = {name: int(number)
                  for name, number in STATISTICS.search(begun.stderr()).groupdict().items()}
        counts["remembered"] = counts["calls"] - counts["unwound"]
        counts["told truncated"] = begun.summary()["losses"]["truncated_stacks"]
        print(os.path.basename(begun.of("attach")[0]["exe"]), counts)
        assert counts["mismatches"] == 0
        return counts
    return start


def test_python(run, checked):
    python = run("/usr/bin/python3", "-c", PYTHON, env={"PYTHONMALLOC": "malloc"})
    counts = checked(python.pid, 3000000)
    assert counts["remembered"] > 1000000
    assert counts["merged"] > 500000
    assert counts["truncated"] < counts["calls"] / 1000


def test_redis(run, checked, tmp_path):
    port = free_port()
    server = run("redis-server", "--port", port, "--save", "", "--dir", tmp_path)
    wait_until(lambda: listens(port), "redis listens")
    run("redis-benchmark", "-p", port, "-q", "-l", "-n", 100000, "-r", 10000, "-P", 16,
        "-t", "set,get,lpush,hset,zadd,lrange_100,spop")
    run("redis-benchmark", "-p", port, "-q", "-l", "-n", 1000000, "-r", 10000,
        "eval", LUA, 1, "key:__rand_int__")
    counts = checked(server.pid, 3000000)
    assert counts["remembered"] > 1000000
    assert counts["merged"] > 500
    assert counts["truncated"] < counts["calls"] / 1000


def test_perl(run, checked):
    counts = checked(run("perl", "-e", PERL).pid, 2000000)
    assert counts["remembered"] > 1000000
    assert counts["truncated"] < counts["calls"] / 1000


def test_odd_stacks(run, checked):
    """Exceptions, realigned frames, signal handlers on a stack of their own, lazy binding."""
    counts = checked(run(target_path("unwound"), 20).pid)
    assert counts["remembered"] > 10000
    assert counts["truncated"] < counts["calls"] / 1000


def test_deep_recursion(run, checked):
    """Deeper than what is kept of a stack: those are truncated, and so it is said."""
    counts = checked(run(target_path("unwound"), 400).pid, 300000)
    assert counts["truncated"] > counts["calls"] / 100
    assert abs(counts["told truncated"] - counts["truncated"]) < counts["calls"] / 100


def test_storm(target, checked):
    storm = target("storm", 8, "run")
    counts = checked(storm.pid, 3000000)
    assert counts["remembered"] > 1000000
    assert counts["truncated"] < counts["calls"] / 1000
    assert_working(storm)
