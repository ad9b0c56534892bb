# SPDX-License-Identifier: GPL-2.0-or-later
"""What the figures must show: leakwatch against its peers and against the unwatched program, in
the same run. A peer that could not run leaves a goal unjudged; leakwatch that could not misses it.

Engines and peers that work inside the program are judged by the processor time of its threads,
which other processes disturb little; those that stop it by the clock."""

import os

from . import ways
from .results import number
from .workloads import Memory, Pairs, Pause, Redis

HEAPTRACK_TIMES = 8
UPROBES_TIMES = 400
LTRACE_TIMES = 5
MOST_SLOWDOWN = 1.25
MOST_BYTES_A_BLOCK = 64
MOST_TRACER_MIB = 160
MOST_PAUSE_US = 1000


def _goal(what, met, told):
    """`met` is None when it cannot be judged."""
    return {"goal": what, "met": met, "told": told}


def _absent(results, workload, what, *needed):
    """The goal when one of the ways was not measured; None when all were."""
    for way in needed:
        if not results.figures.get(workload, {}).get(way.name):
            ours = isinstance(way, ways.Leakwatch)
            return _goal(what, False if ours else None,
                         f"{way.name} could not be measured: {results.reason(workload, way)}")
    return None


def _times_cheaper(results, peer, ours, times, kind, cells):
    """Our overhead of a pair is at most that part of the peer's, in each of the cells."""
    what = f"{ours.name} costs a pair at most 1/{times} of what {peer.name} does"
    absent = _absent(results, Pairs.name, what, ways.UNTRACED, peer, ours)
    if absent:
        return absent
    told, met = [], True
    for frames, threads in cells:
        column = Pairs.column(frames, threads, kind)
        untraced = results.value(Pairs.name, ways.UNTRACED, column)
        own = results.value(Pairs.name, ours, column) - untraced
        other = results.value(Pairs.name, peer, column) - untraced
        met = met and own * times <= other
        factor = f"1/{number(other / own)}" if own > 0 else "nothing"
        told.append(f"{frames} frames, {threads} thread{'s' if threads > 1 else ''}: {factor} "
                    f"({number(own)} ns of {number(other)})")
    return _goal(what, met, "; ".join(told))


def _slowdown(results, workload, ours, columns, what):
    """Ours takes at most MOST_SLOWDOWN times what the unwatched program does, in each column."""
    absent = _absent(results, workload, what, ways.UNTRACED, ours)
    if absent:
        return absent
    times = {column: results.value(workload, ours, column) /
             results.value(workload, ways.UNTRACED, column) for column in columns}
    return _goal(what, all(each <= MOST_SLOWDOWN for each in times.values()),
                 "; ".join(f"{column}: {each:.2f}x" for column, each in times.items()))


def _pairs(results):
    yield _times_cheaper(results, ways.HEAPTRACK, ways.RECORD, HEAPTRACK_TIMES, "cpu", Pairs.cells)
    for peer in (ways.MEMLEAK, ways.BPFTRACE):
        yield _times_cheaper(results, peer, ways.RECORD, UPROBES_TIMES, "cpu", Pairs.cells)
    yield _slowdown(results, Pairs.name, ways.SAMPLED,
                    [Pairs.column(*cell, "cpu") for cell in Pairs.cells],
                    f"{ways.SAMPLED.name} slows a pair at most {MOST_SLOWDOWN} times")
    yield _times_cheaper(results, ways.LTRACE, ways.TRAP, LTRACE_TIMES, "clock", [(6, 1)])


def _redis(results):
    yield _slowdown(results, Redis.name, ways.RECORD, ["server us/request"],
                    f"redis needs at most {MOST_SLOWDOWN} times the processor time under record")


def _at_most(results, workload, ours, column, most, what):
    absent = _absent(results, workload, what, ours)
    if absent:
        return absent
    value = results.value(workload, ours, column)
    return _goal(what, value <= most, f"{column}: {number(value)}")


def _memory(results, quick):
    if quick:
        return  # fewer blocks, among which what is there from the start counts for too much
    yield _at_most(results, Memory.name, ways.RECORD, "bytes/block", MOST_BYTES_A_BLOCK,
                   f"record adds at most {MOST_BYTES_A_BLOCK} bytes to the program for a block")
    for way in (ways.RECORD, ways.TRAP):
        yield _at_most(results, Memory.name, way, "watcher MiB", MOST_TRACER_MIB,
                       f"leakwatch ({way.name}) holds a million blocks in at most "
                       f"{MOST_TRACER_MIB} MiB")


def _pause(results):
    for column, state in Pause.columns.items():
        goal = _at_most(results, Pause.name, ways.RECORD, column, MOST_PAUSE_US,
                        f"record stops {column.removesuffix(' us')} for at most {MOST_PAUSE_US} us")
        measured = results.figures.get(Pause.name, {}).get(ways.RECORD.name)
        if measured and state == "run" and not goal["met"] and os.cpu_count() <= Pause.threads:
            goal["met"] = None
            goal["told"] += (f"; the {Pause.threads} share {os.cpu_count()} processors, and wait for "
                             "each other, stopped or not")
        yield goal


def judge(results, quick):
    """The goals of the workloads that were asked for."""
    goals = []
    for name, found in ((Pairs.name, _pairs(results)), (Redis.name, _redis(results)),
                        (Memory.name, _memory(results, quick)), (Pause.name, _pause(results))):
        if name in results.skipped:
            if "" in results.skipped[name]:
                goals.append(_goal(f"those of {name}", None, results.skipped[name][""]))
            else:
                goals.extend(found)
    return goals


def told(goal):
    words = {True: "met", False: "MISSED", None: "not judged"}
    return f"  {words[goal['met']]:11}{goal['goal']}\n{'':13}{goal['told']}"
