# SPDX-License-Identifier: GPL-2.0-or-later
"""leakwatch where memory, stacks or files are not as they should be: true, bounded, and alive."""

import resource

import pytest

from harness import assert_working, read_status, settled_leaks, wait_until

pytestmark = pytest.mark.usefixtures("engine")


def test_memory_limit(target, healthy_watch, engine):
    """More blocks than may be known one by one: all are counted, and it is told which are not."""
    count = 20000 if engine == "trap" else 100000
    bigheap = target("bigheap")
    watch = healthy_watch(bigheap.pid, "-e", "100ms", "-i", "1h", "--max-memory=1M")
    plan = bigheap.ask(f"begin {count}", limit=60)["leaks"]["leak_big"]
    report = watch.settled_report()
    losses, live, allocs = report["losses"], report["live"], report["events"]["allocs"]
    assert allocs >= count
    if engine == "trap":
        assert losses["dropped_blocks"] == 0
        assert count - 8192 <= losses["folded_blocks"] < count
        assert plan["blocks"] <= live["blocks"] < plan["blocks"] + 20
        assert live["bytes"] >= plan["bytes"]
        assert report["expired"] == {**live, "stacks": report["expired"]["stacks"]}
    else:
        assert losses["dropped_blocks"] > count / 5
        assert live["blocks"] + losses["dropped_blocks"] == allocs
        assert int(read_status(bigheap.pid, bigheap.pid)["RssShmem"].split()[0]) < 4096  # KiB
    watch.detach()
    assert_working(bigheap)


def test_folding_while_blocks_are_freed(target, healthy_watch, engine):
    """Eight threads free what is folded at that moment: each block is the one or the other, and the
    figures are exact to the block."""
    holder = target("holder", 8, 10000)
    watch = healthy_watch(holder.pid, "-e", "100ms", "-i", "1h", "--max-memory=1M")
    done = holder.ask(f"begin {1500 if engine == 'trap' else 7000}", limit=60)
    report = watch.settled_report()
    losses, events, live = report["losses"], report["events"], report["live"]
    assert losses["folded_blocks"] > 1000
    assert events["allocs"] == done["allocs"]
    assert events["frees"] + events["unknown_frees"] == done["frees"]
    assert live["blocks"] + losses["dropped_blocks"] == events["allocs"] - events["frees"]
    assert events["missed_frees"] == 0
    watch.detach()
    assert_working(holder)


# What, how often with which engine, and whether stacks are whole. (glibc lets a coroutine return to
# the first instruction of a function, before which, where a call would be, there is nothing.)
ODD = (("alternate", {"trap": 500, "record": 2000}, True),
       ("coroutine", {"trap": 500, "record": 2000}, False),
       ("jit", {"trap": 500, "record": 2000}, False),
       ("corrupt", {"trap": 1000, "record": 30000}, False))


@pytest.mark.parametrize("what, counts, whole", ODD, ids=[each[0] for each in ODD])
def test_odd_stacks(target, healthy_watch, engine, what, counts, whole):
    """Blocks are exact, and stacks that could not be followed are told."""
    odd = target("odd_stacks")
    watch = healthy_watch(odd.pid, "-e", "100ms", "-i", "1h")
    plan = odd.ask(f"{what} {counts[engine]}", limit=60)["leaks"]
    assert settled_leaks(watch, plan) == plan
    truncated = watch.report()["losses"]["truncated_stacks"]
    assert truncated == 0 if whole else truncated > counts[engine] / 10
    watch.detach()
    assert_working(odd)


def test_many_stacks(target, healthy_watch, engine):
    """100,000 with the engine that has the time for it."""
    count = {"trap": 5000, "record": 100000}[engine]
    odd = target("odd_stacks")
    watch = healthy_watch(odd.pid, "-e", "100ms", "-i", "1h", "--top=3")
    plan = odd.ask(f"distinct {count}", limit=60)["leaks"]["leak_distinct"]
    report = wait_until(lambda: full(watch.report(), plan["blocks"]), "all expired")
    assert report["losses"] == dict.fromkeys(report["losses"], 0)
    assert count <= report["expired"]["stacks"] <= count + 10
    assert plan["bytes"] <= report["expired"]["bytes"] <= plan["bytes"] + 100000
    watch.detach()
    assert_working(odd)


def full(report, blocks):
    return report if report["expired"]["blocks"] >= blocks else None


def test_deep_recursion(target, healthy_watch):
    """The innermost frames are kept; that there are more is told."""
    recursion = target("recursion")
    watch = healthy_watch(recursion.pid, "-e", "100ms", "-i", "1h")
    plan = recursion.ask("begin 100000")["leaks"]
    assert settled_leaks(watch, plan) == plan
    report = watch.report()
    assert max(len(stack["frames"]) for stack in report["stacks"]) == 64
    assert report["losses"]["truncated_stacks"] >= 10
    watch.detach()
    assert_working(recursion)


def test_many_modules(target, watch):
    """As many as files may be open, up to 10,000. (It is leakwatch that compares the code here.)"""
    count = min(10000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 1000)
    odd = target("odd_stacks")
    odd.ask(f"modules {count}")
    watched = watch(odd.pid, "-e", "100ms", "-i", "1h")
    plan = odd.ask("alternate 10")["leaks"]
    assert settled_leaks(watched, plan) == plan
    assert watched.report()["losses"]["truncated_stacks"] == 0
    watched.detach()
    assert_working(odd)
