# SPDX-License-Identifier: GPL-2.0-or-later
"""The formats that other programs read: one watch writes all of them, and what each says is compared
with the JSON of the same watch."""

import json
import os

import pytest

import harness
from harness import Target, Watch, counted, run_leakwatch, settled_leaks, stack_text, target_path

FORMATS = ["folded"]


class Written:
    """One watch of a program that leaks through each allocator function, in every format."""

    def __init__(self, directory):
        self.directory = directory
        target = Target("each_function")
        options = [f"--format={name}:{self.path(name)}" for name in FORMATS]
        watch = Watch(target.pid, *options, "-e", "50ms", "-i", "1h")
        try:
            watch.armed()
            plan = target.ask("begin")["leaks"]
            assert settled_leaks(watch, plan) == plan
            self.meanwhile = {name: self.read(name) for name in FORMATS}
            watch.detach()
            self.summary = watch.summary()
            self.report = watch.of("report")[-1]
        finally:
            watch.stop()
            target.stop()

    def path(self, name):
        return os.path.join(self.directory, name)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return Written(tmp_path_factory.mktemp("formats"))


def folded(data):
    """{stack, innermost function first: weight}"""
    weights = {}
    for line in data.decode().splitlines():
        names, weight = line.rsplit(" ", 1)
        stack = " < ".join(reversed(names.split(";")))
        weights[stack] = weights.get(stack, 0) + int(weight)
    return weights


def expected_weights(report, key):
    weights = {}
    for stack in report["stacks"]:
        if stack[key]:
            weights[stack_text(stack)] = weights.get(stack_text(stack), 0) + stack[key]
    return weights


def test_all_are_written_at_each_report_and_nothing_else_stays(written):
    assert all(written.meanwhile.values())
    assert sorted(os.listdir(written.directory)) == sorted(FORMATS)


def test_folded(written):
    assert folded(written.meanwhile["folded"]) == expected_weights(written.report, "expired_bytes")
    weights = folded(written.read("folded"))
    assert weights == expected_weights(written.summary, "expired_bytes")
    assert sum(weights.values()) == written.summary["expired"]["bytes"] >= 9 * 30000


def test_folded_weights_and_top(tmp_path):
    """What is counted is chosen; that few stacks are listed elsewhere changes nothing."""
    log = tmp_path / "log"
    result = run_leakwatch("--format=folded", "--weight=live-blocks", f"--format=json:{log}", "-T",
                           "1", "-e", "1h", "--", target_path("each_function"), "10")
    summary = json.loads(log.read_text(encoding="utf-8").splitlines()[-2])
    assert len(summary["stacks"]) == 1
    assert sum(folded(result.stdout.encode()).values()) == counted(summary["live"])["blocks"] == 270


def test_standard_output_has_the_last_report_alone():
    result = run_leakwatch("--format=folded", "--weight=expired-blocks", "-e", "1ms", "-i", "100ms",
                           "--", target_path("each_function"), "600")
    assert result.returncode == 0
    assert sum(folded(result.stdout.encode()).values()) == 270


def test_a_file_that_cannot_be_made_harms_nobody(target, tmp_path):
    storm = target("storm", 1)
    result = run_leakwatch("--format=text", f"--format=folded:{tmp_path}/no/such", storm.pid)
    assert result.returncode == 1 and "no/such" in result.stderr and result.stdout == ""
    assert not harness.is_watched(storm.pid)


def test_a_full_disk_for_one_format_spares_the_others(tmp_path):
    log = tmp_path / "log"
    result = run_leakwatch("--format=folded:/dev/full", f"--format=json:{log}", "-e", "1ms", "--",
                           target_path("each_function"), "100")
    assert result.returncode == 1 and "/dev/full" in result.stderr
    kinds = [json.loads(line)["type"] for line in log.read_text(encoding="utf-8").splitlines()]
    assert kinds[-2:] == ["summary", "exit"]
