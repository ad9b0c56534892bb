# SPDX-License-Identifier: GPL-2.0-or-later
"""Every number is exact: bytes and blocks of each leaking function, whatever else goes on."""

import pytest

from harness import (assert_working, counted, by_leak, leak_name, leaks_of, settled_leaks,
                     stack_text)

pytestmark = pytest.mark.usefixtures("engine")


def assert_nothing_lost(report):
    assert set(report["losses"].values()) == {0}, report["losses"]
    assert report["events"]["missed_frees"] == 0


@pytest.mark.parametrize("busy", ["idle", "run"])
def test_storm_leaks_are_exact(target, healthy_watch, busy):
    """8 threads x 20 000 random calls; `run`: they allocate while leakwatch attaches, too."""
    storm = target("storm", 8, busy)
    watch = healthy_watch(storm.pid, "-e", "500ms", "-i", "1h")
    storm.ask("begin 20000")
    plan = storm.ask("wait", limit=120)
    report = watch.settled_report()
    assert plan["corrupt"] == 0
    assert by_leak(report) == plan["leaks"]
    assert report["expired"]["bytes"] == sum(leak["bytes"] for leak in plan["leaks"].values())
    assert report["expired"]["blocks"] == sum(leak["blocks"] for leak in plan["leaks"].values())
    assert_nothing_lost(report)
    if busy == "idle":
        assert report["events"]["unknown_frees"] == 0
    storm.ask("run")
    watch.detach()
    assert_working(storm)


def test_storm_leaks_stay_exact_when_it_goes_on(target, healthy_watch):
    """The leaks are still told exactly while other blocks come and go, and after that."""
    storm = target("storm", 4, "run")
    watch = healthy_watch(storm.pid, "-e", "300ms", "-i", "1h")
    storm.ask("begin 2000")
    plan = storm.ask("wait")
    storm.ask("run")
    assert settled_leaks(watch, plan["leaks"]) == plan["leaks"]
    assert_working(storm)
    assert_nothing_lost(watch.report())
    watch.detach()
    assert leaks_of(watch.summary()) == plan["leaks"]


@pytest.mark.parametrize("rate", [100, 0])
def test_threads_that_come_and_go(target, healthy_watch, rate):
    churn = target("threads_churn", rate)
    watch = healthy_watch(churn.pid, "-e", "500ms", "-i", "1h")
    churn.ask("begin 200")
    plan = churn.ask("wait")
    assert plan["corrupt"] == 0
    assert settled_leaks(watch, plan["leaks"]) == plan["leaks"]
    assert_nothing_lost(watch.report())
    watch.detach()
    assert_working(churn)


@pytest.mark.parametrize("program", ["each_function", "each_operator"])
def test_each_function_leaks_30000_bytes(target, healthy_watch, program):
    each = target(program)
    watch = healthy_watch(each.pid, "-e", "300ms", "-i", "1h")
    plan = each.ask("begin")["leaks"]
    assert {total["bytes"] for total in plan.values()} == {30000}
    report = watch.settled_report()
    assert by_leak(report) == plan
    assert_nothing_lost(report)
    assert report["events"]["unknown_frees"] == 0


@pytest.mark.parametrize("program", ["each_function", "each_operator"])
def test_late_frees_are_counted_and_are_no_leak(target, healthy_watch, program):
    each = target(program)
    watch = healthy_watch(each.pid, "-e", "200ms", "-i", "1h")
    plan = each.ask("begin")["leaks"]
    watch.settled_report()
    each.ask("free")
    report = watch.report()
    assert counted(report["live"]) == {"bytes": 0, "blocks": 0}
    assert counted(report["expired"]) == {"bytes": 0, "blocks": 0}
    watch.detach()
    late = {}
    for stack in watch.summary()["stacks"]:
        name = leak_name(stack)
        late[name] = late.get(name, 0) + stack["late_frees"]
    late = {name: count for name, count in late.items() if count}
    assert late == {name: total["blocks"] for name, total in plan.items()}


def test_summary_tells_lifetimes(target, healthy_watch):
    """Per stack: allocations, frees, late frees, lifetimes of the freed, ages of the rest."""
    each = target("each_function")
    watch = healthy_watch(each.pid, "-e", "100ms", "-i", "1h")
    each.ask("begin")
    watch.settled_report()
    each.ask("free")
    each.ask("begin")
    watch.settled_report()
    watch.detach()
    stacks = [stack for stack in watch.summary()["stacks"] if leak_name(stack) == "leak_malloc"]
    assert len(stacks) == 1, [stack_text(stack) for stack in stacks]
    stack = stacks[0]
    assert (stack["allocs"], stack["alloc_bytes"]) == (60, 60000)
    assert (stack["frees"], stack["late_frees"]) == (30, 30)
    assert (stack["live_blocks"], stack["live_bytes"]) == (30, 30000)
    lifetime = stack["lifetime_s"]
    assert 0.1 <= lifetime["min"] <= lifetime["mean"] <= lifetime["max"]
    assert 0.1 <= stack["age_s"]["min"] <= stack["age_s"]["max"]


def test_growth_is_the_change_since_the_last_report(target, healthy_watch):
    each = target("each_function")
    watch = healthy_watch(each.pid, "-e", "100ms", "-i", "1h")
    each.ask("begin")
    first = watch.settled_report()
    each.ask("begin")
    second = watch.settled_report()
    assert second["expired"]["bytes"] == 2 * first["expired"]["bytes"]
    growth = sum(stack["delta_bytes"] for report in watch.of("report")
                 for stack in report["stacks"])
    assert growth == second["expired"]["bytes"]


def test_failed_allocations_and_exceptions(target, healthy_watch):
    """operator new that throws leaves no pending call behind: what follows is exact."""
    each = target("each_operator")
    watch = healthy_watch(each.pid, "-e", "200ms", "-i", "1h")
    assert each.ask("throw 200")["caught"] == 200
    plan = each.ask("begin")["leaks"]
    report = watch.settled_report()
    assert by_leak(report) == plan
    assert report["events"]["unknown_frees"] == 0


def test_deep_recursion_keeps_the_innermost_frames(target, healthy_watch):
    recursion = target("recursion")
    watch = healthy_watch(recursion.pid, "-e", "200ms", "-i", "1h", "-l", "20")
    plan = recursion.ask("begin 5000")["leaks"]
    report = watch.settled_report()
    assert by_leak(report) == plan
    depths = [len(stack["frames"]) for stack in report["stacks"]]
    assert max(depths) <= 20
    assert "descend" in stack_text(report["stacks"][0])
