# SPDX-License-Identifier: GPL-2.0-or-later
"""leakwatch -- COMMAND: a program watched from its first instruction."""

import json

import pytest

from harness import engine_options, leaks_of, run_leakwatch, target_path

pytestmark = pytest.mark.usefixtures("engine")

LEAK_NAMES = {"leak_malloc", "leak_calloc", "leak_realloc", "leak_reallocarray", "leak_memalign",
              "leak_aligned_alloc", "leak_posix_memalign", "leak_valloc", "leak_pvalloc"}


def test_a_command_is_watched_from_its_start(tmp_path):
    log = tmp_path / "log"
    result = run_leakwatch(*engine_options(), "--format=json", "-T", "0", "-e", "100ms", "-o", log,
                           "--", target_path("each_function"), "600")
    objects = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    kinds = [each["type"] for each in objects]
    assert kinds[0] == "attach" and kinds[-2:] == ["summary", "exit"], (kinds, result.stderr)
    summary, end = objects[-2:]
    assert (end["pid"], end["status"]) == (objects[0]["pid"], 7)
    assert leaks_of(summary) == {name: {"bytes": 30000, "blocks": 30} for name in LEAK_NAMES}
    assert summary["events"]["unknown_frees"] == 0


def test_options_after_the_command_are_its_own(tmp_path):
    log = tmp_path / "log"
    result = run_leakwatch(*engine_options(), "-o", log, "/bin/echo", "-n", "-p", "hello")
    assert result.stdout.startswith("-p hello") or result.stdout == "-p hello"


def test_a_command_that_does_not_exist():
    result = run_leakwatch(*engine_options(), "--", "/nowhere/at/all")
    assert result.returncode != 0
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and "/nowhere/at/all" in result.stderr
