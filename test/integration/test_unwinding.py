# SPDX-License-Identifier: GPL-2.0-or-later
"""Stacks unwound by rows are those that libunwind makes of the same stops, in half the time."""

import json
import os
import shutil
import socket
import subprocess

import pytest

from harness import LIMIT, TARGETS, Daemon, free_port, wait_until

COMPARE = os.path.join(TARGETS, "..", "unit", "compare_unwinding")
STOPS, STEPS = 200, 50
SIGNALS = """
import ctypes, functools, json, re, signal
signal.signal(signal.SIGVTALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_VIRTUAL, .003, .003)
ORDER = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.POINTER(ctypes.c_int)] * 2)
libc = ctypes.CDLL(None)
def fail(depth):
    if depth == 0:
        raise ValueError
    fail(depth - 1)
while True:
    json.loads(json.dumps([{"a": [i, str(i), {"b": None}]} for i in range(50)]))
    re.sub("(a+)(b?)", lambda match: match.group(1) * 2, "aaabab" * 20)
    sorted(range(100), key=functools.cmp_to_key(lambda a, b: b - a))
    try:
        fail(30)
    except ValueError:
        pass
    libc.qsort((ctypes.c_int * 20)(*range(20, 0, -1)), 20, 4, ORDER(lambda a, b: a[0] - b[0]))
"""
PERL = """
use Time::HiRes qw(setitimer ITIMER_VIRTUAL);
$SIG{VTALRM} = sub { $n++ };
setitimer(ITIMER_VIRTUAL, .003, .003);
sub deep { my $k = shift; return $k ? 1 + deep($k - 1) : 0 }
while (1) {
    my %h = map { $_ => [map { $_ * 2 } 1 .. 9] } 1 .. 100;
    (my $text = join ",", sort { $h{$a}[0] <=> $h{$b}[0] } keys %h) =~ s/(\\d)(\\d)/$2.$1/ge;
    eval { die "x" };
    deep(20);
}
"""


@pytest.fixture
def run(started):
    """run(argv) starts a program, and skips the test when it is not installed."""
    def start(*argv):
        if shutil.which(argv[0]) is None:
            pytest.skip(f"{argv[0]} is not installed")
        started.append(Daemon([str(word) for word in argv], stdin=subprocess.DEVNULL))
        return started[-1]
    return start


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_running(process):
    """It has used processor time of its own, so that start-up is (nearly) over."""
    with open(f"/proc/{process.pid}/stat", encoding="ascii") as stat:
        return int(stat.read().rpartition(")")[2].split()[11]) >= 10


def compare(process, depth=2):
    """The figures of a comparison; every stack must be the same."""
    result = subprocess.run([COMPARE, str(process.pid), str(STOPS), str(STEPS)], check=False,
                            capture_output=True, text=True, timeout=4 * LIMIT)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    print(result.stdout, result.stderr)
    assert figures["stops"] == STOPS
    assert figures["compared"] == STOPS * STEPS
    assert figures["different"] == 0, result.stderr
    # what libunwind itself has wrong, until it forgets what it remembered
    assert figures["stale"] <= figures["compared"] / 1000
    # otherwise this compares libunwind with itself
    assert figures["left_to_libunwind"] <= figures["compared"] / 20
    assert figures["deepest"] >= depth
    if figures["timed"]:
        assert figures["all"]["rows_us"] <= figures["all"]["libunwind_us"] / 2
    assert process.alive()
    return figures


def test_odd_stacks(run):
    target = run(os.path.join(TARGETS, "unwound"), 20)
    wait_until(lambda: is_running(target), "the target runs")
    assert compare(target)["signal_frames"] > 100


def test_deep_recursion(run):
    target = run(os.path.join(TARGETS, "unwound"), 400)
    wait_until(lambda: is_running(target), "the target runs")
    compare(target, depth=100)


def test_python(run):
    target = run("/usr/bin/python3", "-c", SIGNALS)
    wait_until(lambda: is_running(target), "python runs")
    assert compare(target, depth=20)["signal_frames"] > 100


def test_perl(run):
    target = run("perl", "-e", PERL)
    wait_until(lambda: is_running(target), "perl runs")
    compare(target, depth=8)


def test_redis(run, tmp_path):
    port = free_port()
    server = run("redis-server", "--port", port, "--save", "", "--dir", tmp_path)
    wait_until(lambda: listens(port), "redis listens")
    run("redis-benchmark", "-p", port, "-q", "-l", "-n", 100000, "-r", 10000,
        "-t", "set,get,lpush,hset,zadd,lrange_100,spop")
    wait_until(lambda: is_running(server), "redis is busy")
    compare(server, depth=6)
