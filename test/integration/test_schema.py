# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines of JSON of every kind are what the schema says, and the schema says it strictly."""

import copy
import json
import os
import signal

import jsonschema
import pytest

from harness import Watch, run_leakwatch, settled_leaks, target_path

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                    "../../src/report/leakwatch.schema.json")


@pytest.fixture(scope="module")
def schema():
    with open(PATH, encoding="utf-8") as file:
        loaded = json.load(file)
    jsonschema.Draft202012Validator.check_schema(loaded)
    return jsonschema.Draft202012Validator(loaded)


@pytest.fixture(scope="module")
def summary():
    result = run_leakwatch("--format=json", "-e", "1ms", "--", target_path("each_function"), "100")
    return json.loads(result.stdout.splitlines()[-2])


def check(schema, objects, *kinds):
    for each in objects:
        schema.validate(each)
    assert set(kinds) <= {each["type"] for each in objects}


@pytest.mark.usefixtures("engine")
def test_a_watch(schema, target, watch):
    each = target("each_function")
    watching = watch(each.pid, "-e", "50ms", "-i", "100ms")
    settled_leaks(watching, each.ask("begin")["leaks"])
    watching.detach()
    check(schema, watching.objects, "attach", "report", "summary", "detach")
    assert any(frame["line"] for stack in watching.summary()["stacks"] for frame in stack["frames"])


def test_the_end_of_a_command(schema, engine):
    result = run_leakwatch(f"--engine={engine}", "--format=json", "-e", "1ms", "--",
                           target_path("each_function"), "100")
    check(schema, [json.loads(line) for line in result.stdout.splitlines()],
          "attach", "summary", "exit")


@pytest.mark.usefixtures("engine")
def test_the_end_by_a_signal_and_by_exec(schema, target, started):
    storm = target("storm", 1)
    watch = Watch(storm.pid, "-i", "1h")
    started.append(watch)
    watch.armed()
    storm.send_signal(signal.SIGKILL)
    watch.finish()
    execer = target("execer")
    other = Watch(execer.pid, "-i", "1h")
    started.append(other)
    other.armed()
    execer.ask("exec")
    other.finish()
    check(schema, watch.objects + other.objects, "summary", "exit", "exec")


def test_samples(schema, target, watch):
    each = target("each_function")
    watching = watch(each.pid, "-e", "1ms", "--sample=1k")
    each.ask("begin")
    watching.detach()
    assert watching.summary()["stacks"]
    check(schema, watching.objects, "summary")


@pytest.mark.parametrize("change", [
    lambda report: report.pop("rss_bytes"),
    lambda report: report.update(unheard_of=1),
    lambda report: report.update(type="repot"),
    lambda report: report.update(time="2026-11-21 16:00:00"),
    lambda report: report.update(elapsed_s="1.5"),
    lambda report: report["live"].update(bytes=-1),
    lambda report: report["live"].update(error_bytes=1),
    lambda report: report.update(sample_bytes=1024),
    lambda report: report.pop("suppressions"),
    lambda report: report["suppressed"].update(unheard_of=1),
    lambda report: report.update(suppressions=[{"bytes": 0, "blocks": 0, "stacks": 0}]),
    lambda report: report["stacks"][0].pop("late_frees"),
    lambda report: report["stacks"][0].update(live_error_bytes=0),
    lambda report: report["stacks"][0]["frames"][0].update(function=7),
    lambda report: report["stacks"][0]["frames"][0].update(colour="red"),
    lambda report: report["stacks"][0]["frames"][0].update(module_index=-1),
    lambda report: report["modules"][0].update(build_id="ABC"),
    lambda report: report.pop("modules"),
])
def test_what_is_no_report_is_refused(schema, summary, change):
    changed = copy.deepcopy(summary)
    assert schema.is_valid(changed)
    change(changed)
    assert not schema.is_valid(changed)
