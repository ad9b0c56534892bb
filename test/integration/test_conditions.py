# SPDX-License-Identifier: GPL-2.0-or-later
"""leakwatch where memory, stacks or files are not as they should be: true, bounded, and alive."""

import pytest

from harness import assert_working, read_status

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
        assert losses["folded_blocks"] == 0
        assert losses["dropped_blocks"] > count / 5
        assert live["blocks"] + losses["dropped_blocks"] == allocs
        assert int(read_status(bigheap.pid, bigheap.pid)["RssShmem"].split()[0]) < 4096  # KiB
    watch.detach()
    assert_working(bigheap)
