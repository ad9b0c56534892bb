# SPDX-License-Identifier: GPL-2.0-or-later
"""Each kind of stack gets its verdict, and the threshold that is suggested makes the slow one
vanish."""

import re

import pytest

from harness import Watch, leak_name

pytestmark = pytest.mark.usefixtures("engine")

VERDICTS = {"leak_steadily": "leak", "leak_cached": "cache", "leak_slowly": "slow",
            "leak_partly": "growing"}


def by_name(report):
    return {leak_name(stack): stack for stack in report["stacks"] if leak_name(stack)}


def watch_kinds(pid, started, *options, begin=lambda: None):
    watch = Watch(pid, *options)
    started.append(watch)
    watch.armed()
    begin()
    assert watch.finish() == 0, watch.stderr()
    return watch


def verdicts(report):
    return {name: stack["verdict"] for name, stack in by_name(report).items()}


def judge_kinds(target, started, text):
    """The program and its watch, once the verdicts are right: on a machine that pauses, what is steady
    is not."""
    for _ in range(3):
        kinds = target("kinds")
        watch = watch_kinds(kinds.pid, started, "-e", "150ms", "-i", "200ms", "-n", "8",
                            f"--format=text:{text}", begin=lambda: kinds.ask("work"))
        if verdicts(watch.of("report")[-1]) == verdicts(watch.summary()) == VERDICTS:
            return kinds, watch
        kinds.stop()
    raise AssertionError({name: stack["reason"] for name, stack in by_name(watch.summary()).items()})


def test_each_kind_is_told(target, started, tmp_path):
    text = tmp_path / "text"
    kinds, watch = judge_kinds(target, started, text)
    first, last = (by_name(watch.of("report")[number]) for number in (1, -1))
    assert {stack["verdict"] for stack in first.values()} == {"unclear"}
    assert re.fullmatch(r"grew in \d of \d reports; none of \d+ blocks was freed",
                        last["leak_steadily"]["reason"])
    assert last["leak_steadily"]["growth_bytes_per_minute"] > 0
    written = text.read_text()
    for stack in last.values():
        assert f"    {stack['verdict']}: {stack['reason']}\n" in written
        assert (stack["suggested_expire_s"] is not None) == (stack["verdict"] == "slow")

    suggested = last["leak_slowly"]["suggested_expire_s"]
    assert f"try -e {suggested * 1000:.0f}ms" in last["leak_slowly"]["reason"] or suggested >= 1

    def vanishes():  # a machine that pauses makes blocks older than they were
        seconds = f"{suggested}s"
        watch = watch_kinds(kinds.pid, started, "-e", seconds, "-d", f"{suggested + 0.2}s")
        stacks = by_name(watch.summary())
        assert stacks["leak_steadily"]["expired_blocks"] > 0
        return stacks["leak_slowly"]["expired_blocks"] == stacks["leak_slowly"]["late_frees"] == 0
    assert vanishes() or vanishes() or vanishes()
