# SPDX-License-Identifier: GPL-2.0-or-later
"""Blocks that are allocated in a window are followed, to the block, until they are freed."""

import json
import signal

import jsonschema
import pytest

from harness import leak_name, wait_until
from test_schema import PATH

pytestmark = pytest.mark.usefixtures("engine")


def closed(watch):
    """The first report after the window has ended."""
    def report():
        told = watch.report()
        return None if told["mark"]["open"] else told
    return wait_until(report, "the window has ended")


def marked(report):
    """(allocated, live, {stack: (allocated, live)}), all in blocks; of 100 bytes each."""
    mark = report["mark"]
    for total in (mark["allocated"], mark["live"]):
        assert total["bytes"] == 100 * total["blocks"]
    return (mark["allocated"]["blocks"], mark["live"]["blocks"],
            {leak_name(stack): (stack["allocated"]["blocks"], stack["live"]["blocks"])
             for stack in mark["stacks"]})


def drain_two_windows(target, watch):
    """The watch at its end; None when the machine was too slow for the windows."""
    kinds = target("kinds")
    watching = watch(kinds.pid, "-e", "1h", "-i", "1h", "--mark=150ms")
    kinds.ask("mark 100 100")
    kinds.ask("drop 30")  # within the window
    first = watching.report()
    if not first["mark"]["open"]:
        return None
    assert marked(first) == (100, 70, {"leak_marked": (100, 70)})
    assert marked(closed(watching)) == (100, 70, {"leak_marked": (100, 70)})
    kinds.ask("mark 50 100")  # too late
    kinds.ask("drop 60")
    assert marked(watching.report()) == (100, 10, {"leak_marked": (100, 10)})

    watching.send_signal(signal.SIGUSR2)  # handled before the report that is asked for then
    second = wait_until(lambda: (report := watching.report())["mark"]["number"] == 2 and report,
                        "the second window")
    assert second["mark"]["drain"] == [] and marked(second) == (0, 0, {})
    kinds.ask("mark 20 100")
    second = watching.report()
    if not second["mark"]["open"]:
        return None
    assert marked(second) == (20, 20, {"leak_marked": (20, 20)})
    assert marked(closed(watching)) == (20, 20, {"leak_marked": (20, 20)})
    kinds.ask("drop 75")  # 10 of the first window, 50 of none, 15 of this one
    assert marked(watching.report()) == (20, 5, {"leak_marked": (20, 5)})
    watching.detach()
    return watching


def test_cohorts_drain_to_the_block(target, watch):
    watching = next(filter(None, (drain_two_windows(target, watch) for _ in range(5))))
    summary = watching.summary()
    assert marked(summary) == (20, 5, {"leak_marked": (20, 5)})
    assert [point["bytes"] for point in summary["mark"]["drain"]] == [2000, 500]
    with open(PATH, encoding="utf-8") as file:
        schema = jsonschema.Draft202012Validator(json.load(file))
    for each in watching.objects:
        schema.validate(each)


def test_a_target_that_ends_is_told_of_as_well(target, watch):
    kinds = target("kinds")
    watching = watch(kinds.pid, "-i", "1h", "--mark=1h")
    kinds.ask("mark 9 100")
    kinds.popen.stdin.close()
    assert watching.finish() == 0
    assert marked(watching.summary()) == (9, 9, {"leak_marked": (9, 9)})
    assert watching.summary()["mark"]["open"]


def test_a_signal_means_nothing_where_nothing_is_marked(target, watch):
    watching = watch(target("kinds").pid, "-i", "1h")
    watching.send_signal(signal.SIGUSR2)
    assert "mark" not in watching.report()
    watching.detach()
