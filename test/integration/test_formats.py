# SPDX-License-Identifier: GPL-2.0-or-later
"""The formats that other programs read: one watch writes all of them, and what each says is compared
with the JSON of the same watch."""

import gzip
import json
import os
import pty
import re
import signal
import subprocess
import time

import pytest

import harness
from harness import Health, counted, run_leakwatch, stack_text, target_path, wait_until
from written import FORMATS


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
    assert sorted(os.listdir(written.directory)) == sorted(f"out.{name}" for name in FORMATS)


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


PROTO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../src/report")


def decoded(data):
    """A profile as protoc prints it: {field: [value or nested message]}."""
    argv = ["protoc", f"--proto_path={PROTO}", "--decode=leakwatch.Profile", "profile.proto"]
    text = subprocess.run(argv, input=gzip.decompress(data), capture_output=True, check=True,
                          timeout=harness.LIMIT).stdout.decode()
    messages = [{}]
    for line in text.splitlines():
        field, value = re.fullmatch(r" *(\w*):? ?(.*)", line).groups()
        if value == "{":
            messages.append({})
            messages[-2].setdefault(field, []).append(messages[-1])
        elif not field:
            messages.pop()
        else:
            messages[-1].setdefault(field, []).append(json.loads(value))
    assert len(messages) == 1
    return messages[0]


class Profile:
    """A decoded profile, with its references resolved."""

    def __init__(self, data):
        self.message = decoded(data)
        self.functions, self.locations, self.mappings = (
            {each["id"][0]: each for each in self.message[kind]}
            for kind in ("function", "location", "mapping"))
        self.types = [self.text(each, "type") for each in self.message["sample_type"]]

    def text(self, message, field):
        return self.message["string_table"][message.get(field, [0])[0]]

    def lines(self, sample):
        """(function, file, line) of the sample, innermost first."""
        for number in sample["location_id"]:
            location = self.locations[number]
            for line in location.get("line", [{"function_id": [0]}]):
                function = self.functions.get(line["function_id"][0], {})
                yield (self.text(function, "name") or None, self.text(function, "filename") or None,
                       line.get("line", [0])[0])

    def stacks(self):
        """[(lines, {type: value}, {label: number or text})]"""
        for sample in self.message["sample"]:
            labels = {self.text(label, "key"):
                      label["num"][0] if "num" in label else self.text(label, "str")
                      for label in sample["label"]}
            yield (list(self.lines(sample)), dict(zip(self.types, sample["value"])), labels)


def test_pprof_has_the_sums_of_each_stack(written):
    profile = Profile(written.read("pprof"))
    assert profile.types == ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space",
                             "expired_objects", "expired_space"]
    found = {labels["stack"]: (lines, values) for lines, values, labels in profile.stacks()}
    sums = {kind: sum(values[kind] for _, values in found.values()) for kind in profile.types}
    summary = written.summary
    assert sums["expired_space"] == summary["expired"]["bytes"]
    assert sums["expired_objects"] == summary["expired"]["blocks"]
    assert sums["inuse_space"] == summary["live"]["bytes"]
    assert sums["inuse_objects"] == summary["live"]["blocks"]
    assert sums["alloc_objects"] == summary["events"]["allocs"]
    for stack in summary["stacks"]:
        lines, values = found[stack["id"]]
        assert lines == [(frame["function"], frame["file"], frame["line"])
                         for frame in stack["frames"]]
        assert values == {"alloc_objects": stack["allocs"], "alloc_space": stack["alloc_bytes"],
                          "inuse_objects": stack["live_blocks"], "inuse_space": stack["live_bytes"],
                          "expired_objects": stack["expired_blocks"],
                          "expired_space": stack["expired_bytes"]}


def test_pprof_maps_addresses_to_files(written):
    profile = Profile(written.read("pprof"))
    first = profile.text(profile.message["mapping"][0], "filename")
    assert first == os.path.realpath(target_path("each_function"))
    for mapping in profile.mappings.values():
        path = profile.text(mapping, "filename")
        if os.path.exists(path):
            notes = subprocess.run(["readelf", "-n", path], capture_output=True, text=True,
                                   check=True, timeout=harness.LIMIT).stdout
            assert f"Build ID: {profile.text(mapping, 'build_id')}\n" in notes
    for location in profile.locations.values():
        mapping = profile.mappings[location["mapping_id"][0]]
        assert mapping["memory_start"][0] <= location["address"][0] < mapping["memory_limit"][0]


LEAKS = {f"leak_{name}" for name in ("malloc", "calloc", "realloc", "reallocarray", "memalign",
                                     "aligned_alloc", "posix_memalign", "valloc", "pvalloc")}


def render(program, *options, path):
    """What google-pprof or jeprof make of a heap profile."""
    argv = [program, *options, target_path("each_function"), path]
    return subprocess.run(argv, capture_output=True, text=True, check=True,
                          timeout=harness.LIMIT).stdout


@pytest.mark.parametrize("program", ["google-pprof", "jeprof"])
def test_heap_profile_renders(written, program):
    text = render(program, "--text", "--cum", "--show_bytes", "--lines", path=written.path("heap"))
    assert re.match(rf"Total: {written.summary['expired']['bytes']} B\n", text)
    sums = {}
    for line in text.splitlines()[1:]:
        _, _, _, cumulated, _, function = line.split(None, 5)
        if found := re.match(r"(leak_\w+) .*/each_function\.c:\d+", function):
            sums[found.group(1)] = sums.get(found.group(1), 0) + int(cumulated)
    assert {name: total for name, total in sums.items() if name != "leak_all"} \
        == dict.fromkeys(LEAKS, 30000)
    graph = render(program, "--dot", "--inuse_objects", path=written.path("heap"))
    assert graph.startswith("digraph")
    blocks = written.summary["expired"]["blocks"]
    assert f"Total objects: {blocks}" in graph
    assert set(re.findall(r'label="(leak_\w+)\\n', graph)) >= LEAKS


def test_heap_profile_has_what_was_allocated(written):
    header, *stacks = written.read("heap").decode().partition("\n\n")[0].splitlines()
    figures = re.compile(r"(?:heap profile:)?\s*(\d+):\s*(\d+) \[\s*(\d+):\s*(\d+)\] @")
    sums = [sum(column) for column in
            zip(*(map(int, figures.match(stack).groups()) for stack in stacks))]
    assert sums == [int(number) for number in figures.match(header).groups()]
    assert sums[2] == written.summary["events"]["allocs"]


def test_massif_renders(written):
    text = subprocess.run(["ms_print", "--threshold=0", written.path("massif")],
                          capture_output=True, text=True, check=True, timeout=harness.LIMIT).stdout
    expired = f"{written.summary['expired']['bytes']:,}"
    assert re.search(rf"^100\.00% \({expired}B\) \(blocks older than", text, re.MULTILINE)
    found = {name: size.replace(",", "") for size, name in re.findall(
        r"->\d\d\.\d\d% \(([\d,]+)B\) 0x[0-9A-F]+: (leak_\w+) \(each_function\.c:\d+\)", text)
        if name != "leak_all"}
    assert found == dict.fromkeys(LEAKS, "30000")
    # the attach, each report, and the summary, which has the tree
    last = len(written.reports) + 1
    assert f"Number of snapshots: {last + 1}" in text and f"Detailed snapshots: [{last}]" in text
    rows = re.findall(r"^ +(\d+) +([\d,]+) +([\d,]+) +([\d,]+) ", text, re.MULTILINE)
    assert [row[2].replace(",", "") for row in rows] == [
        "0", *(str(each["expired"]["bytes"]) for each in [*written.reports, written.summary])]


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


def test_a_binary_format_is_not_written_to_a_terminal(target):
    storm = target("storm", 1)
    master, slave = pty.openpty()
    try:
        result = subprocess.run([harness.LEAKWATCH, "--format=pprof", "-n", "1", str(storm.pid)],
                                stdin=subprocess.DEVNULL, stdout=slave, stderr=subprocess.PIPE,
                                text=True, timeout=harness.LIMIT, check=False)
    finally:
        os.close(slave)
        os.close(master)
    assert result.returncode == 1
    assert "pprof is not for a terminal" in result.stderr and "--format=pprof:FILE" in result.stderr
    assert not harness.is_watched(storm.pid)


def full_pipe(path):
    """A named pipe with a reader that does not read."""
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        while True:
            os.write(pipe, b"x" * 4096)
    except BlockingIOError:
        return pipe


def test_one_signal_ends_a_watch_all_of_whose_readers_have_stalled(target, tmp_path):
    storm = target("storm", 1, "run")
    health = Health(storm.pid)
    names = [tmp_path / name for name in ("text", "json", "folded")]
    pipes = [full_pipe(name) for name in names]
    options = [f"--format={name.name}:{name}" for name in names]
    watch = subprocess.Popen([harness.LEAKWATCH, *options, "-e", "1ms", "-i", "1h", "-p",
                              str(storm.pid)], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: harness.is_watched(storm.pid), "watched")
        time.sleep(0.5)  # now it writes the first lines, which nobody reads
        watch.send_signal(signal.SIGTERM)
        harness.await_left(storm.pid)
        health.assert_same()
        harness.assert_working(storm)
    finally:
        for pipe in pipes:
            os.close(pipe)
        assert watch.wait(harness.LIMIT) == 1
