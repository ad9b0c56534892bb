# SPDX-License-Identifier: GPL-2.0-or-later
"""Allocators other than glibc's: the same figures, to the byte."""

import ctypes.util
import os

import pytest

from harness import assert_working, by_leak, leaks_of, settled_leaks

pytestmark = pytest.mark.usefixtures("engine")

LIBRARIES = ["jemalloc", "tcmalloc_minimal", "tcmalloc", "mimalloc"]


@pytest.fixture(params=LIBRARIES)
def preload(request):
    library = ctypes.util.find_library(request.param)
    if library is None:
        pytest.skip(f"lib{request.param} is not installed")
    return {"LD_PRELOAD": library}


def allocator_modules(watch):
    return [os.path.basename(each["module"]) for each in watch.of("attach")[0]["allocators"]]


def test_storm(target, healthy_watch, preload):
    storm = target("storm", 4, "run", env=preload)
    watch = healthy_watch(storm.pid, "-e", "300ms", "-i", "1h")
    assert any(preload["LD_PRELOAD"].split(".")[0] in module for module in allocator_modules(watch))
    storm.ask("begin 4000")
    plan = storm.ask("wait")
    assert plan["corrupt"] == 0
    assert settled_leaks(watch, plan["leaks"]) == plan["leaks"]
    report = watch.report()
    assert report["events"]["missed_frees"] == 0
    assert report["losses"]["missed_returns"] == 0 and report["losses"]["dropped_blocks"] == 0
    storm.ask("run")
    watch.detach()
    assert_working(storm)


@pytest.mark.parametrize("program", ["each_function", "each_operator"])
def test_each_function_leaks_30000_bytes(target, healthy_watch, preload, program):
    each = target(program, env=preload)
    watch = healthy_watch(each.pid, "-e", "300ms", "-i", "1h")
    plan = each.ask("begin")["leaks"]
    assert settled_leaks(watch, plan) == plan
    report = watch.settled_report()
    assert leaks_of(report) == plan
    assert None not in by_leak(report)


def test_what_defines_malloc_is_told_first(target, healthy_watch, preload):
    each = target("each_operator", env=preload)
    attach = healthy_watch(each.pid, "-i", "1h").of("attach")[0]
    defines_malloc = ["malloc" in allocator["functions"] for allocator in attach["allocators"]]
    assert defines_malloc == sorted(defines_malloc, reverse=True)
    assert "libstdc++" in attach["allocators"][-1]["module"]


def test_operators_free_what_they_made(target, healthy_watch, preload):
    each = target("each_operator", env=preload)
    watch = healthy_watch(each.pid, "-e", "1h", "-i", "1h")
    each.ask("begin")
    each.ask("free")
    report = watch.report()
    assert report["live"]["blocks"] == 0
    assert report["events"]["unknown_frees"] == 0
