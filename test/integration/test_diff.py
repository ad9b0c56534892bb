# SPDX-License-Identifier: GPL-2.0-or-later
"""leakwatch diff: what has grown between two reports, computed here once more."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from xml.etree import ElementTree

import jsonschema
import pytest

import harness
from harness import leak_name, run_leakwatch, settled_leaks, target_path

HERE = os.path.dirname(os.path.abspath(__file__))
# Debian's copy of flamegraph.pl
FLAMEGRAPH = "/usr/share/perl5/Devel/NYTProf/flamegraph.pl"


def write_lines(path, objects):
    with open(path, "w", encoding="utf-8") as file:
        for each in objects:
            file.write(json.dumps(each, separators=(",", ":")) + "\n")
    return path


def diff(*arguments, **options):
    return run_leakwatch("diff", *arguments, **options)


def diff_json(*arguments):
    result = diff("--format=json", "-T", "0", *arguments)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    with open(os.path.join(HERE, "../../src/report/leakwatch.schema.json"),
              encoding="utf-8") as file:
        jsonschema.Draft202012Validator(json.load(file)).validate(found)
    return found


def amounts(report, key):
    """{(build-id, offset) of each frame that is not inlined: amount}"""
    found = {}
    for stack in report["stacks"]:
        place = tuple((report["modules"][frame["module_index"]]["build_id"], frame["offset"])
                      for frame in stack["frames"] if not frame["inlined"])
        found[place] = found.get(place, 0) + stack[key]
    return found


def changes(before, after, key="expired_bytes"):
    """{place: change} of what has changed"""
    old, new = amounts(before, key), amounts(after, key)
    return {place: new.get(place, 0) - old.get(place, 0)
            for place in old.keys() | new.keys() if new.get(place, 0) != old.get(place, 0)}


def found_changes(found, key="change_bytes"):
    return {tuple((frame["build_id"], frame["offset"]) for frame in stack["frames"]
                  if not frame["inlined"]): stack[key] for stack in found["stacks"]}


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A watch of a program that leaks after the first report, and frees all before the last."""
    each = harness.Target("each_function")
    watch = harness.Watch(each.pid, "-e", "50ms", "-i", "1h")
    try:
        watch.armed()
        watch.report()
        plan = each.ask("begin")["leaks"]
        assert settled_leaks(watch, plan) == plan
        each.ask("free")
        watch.report()
        watch.detach()
    finally:
        watch.stop()
        each.stop()
    return watch.objects, str(write_lines(tmp_path_factory.mktemp("diff") / "lw.json",
                                          watch.objects))


def test_growth_within_a_watch(watched):
    objects, path = watched
    reports = [each for each in objects if each["type"] in ("report", "summary")]
    full = len(reports) - 2  # counted from 1: the last before all is freed
    before, after = reports[0], reports[full - 1]
    found = diff_json("--reports", f"1,{full}", path)
    assert found["same_watch"] is True and found["notes"] == []
    assert found["change"] in ("new", "grew")  # standard input's buffer may be in the first
    assert found_changes(found) == changes(before, after)
    assert found["change_bytes"] == after["expired"]["bytes"] - before["expired"]["bytes"]
    assert found["change_blocks"] == sum(stack["change_blocks"] for stack in found["stacks"])
    assert {stack["change"] for stack in found["stacks"]} == {"new"}
    leaks = {leak_name(stack) for stack in found["stacks"]} - {None}
    assert len(leaks) == 9
    gone = diff_json("--reports", f"{full},-2", path)
    assert found_changes(gone) == changes(after, reports[-2])
    assert {leak_name(stack) for stack in gone["stacks"] if stack["change"] == "gone"} == leaks
    text = diff("--reports", f"1,{full}", "-T", "1", path).stdout
    assert re.search(r"^#1  new: \+29.3 KiB and \+30 blocks", text, re.M), text
    assert "each_function.c:" in text and "--top=0 lists all" in text


def test_lines_fit_the_terminal(watched):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", 24, 60, 0, 0))
    with subprocess.Popen([harness.LEAKWATCH, "diff", "-T", "0", "--color=never", watched[1]],
                          stdout=slave) as process:
        os.close(slave)
        text = b""
        try:
            while chunk := os.read(master, 65536):
                text += chunk
        except OSError:  # EIO: the writer has gone
            pass
        assert process.wait(harness.LIMIT) == 0
    os.close(master)
    lines = text.decode().split("\r\n")
    assert lines[0].startswith("Change of") and max(map(len, lines)) <= 60, lines
    assert max(map(len, diff("-T", "0", watched[1]).stdout.splitlines())) > 60  # if they need not


def test_flame_graph(watched):
    """flamegraph.pl reads what is written, and draws growth (of leaves) in red."""
    objects, path = watched
    full = sum(each["type"] in ("report", "summary") for each in objects) - 2
    folded = diff("--format=folded", "--reports", f"1,{full}", path).stdout
    lines = [re.fullmatch(r"(.*) (\d+) (\d+)", line).groups() for line in folded.splitlines()]
    assert len({names for names, _, _ in lines}) == len(lines) >= 9
    assert sum(int(after) - int(before) for _, before, after in lines) >= 9 * 30000
    drawn = subprocess.run(["/usr/bin/perl", FLAMEGRAPH], input=folded, capture_output=True,
                           text=True, timeout=harness.LIMIT, check=True)
    assert drawn.stderr == ""  # no line was ignored
    found = re.search(r"<title>pvalloc [^<]*; \+1\d\.\d\d%\)</title>.*?fill=\"(.*?)\"",
                      drawn.stdout, re.S)
    assert found and re.fullmatch(r"rgb\(255,(\d+),\1\)", found[1]), drawn.stdout


def test_our_own_flame_graph(watched):
    objects, path = watched
    full = sum(each["type"] in ("report", "summary") for each in objects) - 2
    drawn = {}
    for numbers in (f"1,{full}", f"{full},-2"):
        root = ElementTree.fromstring(diff("--format=svg", "--reports", numbers, path).stdout)
        space = "{http://www.w3.org/2000/svg}"
        for frame in root.iter(f"{space}svg"):
            title = frame.find(f"{space}title")
            if title is not None and title.text.startswith("leak_pvalloc\n"):
                drawn[numbers] = (title.text.split("\n")[1].split(",")[0],
                                  frame.find(f"{space}rect").get("fill"))
    assert drawn == {f"1,{full}": ("+29.3 KiB: from 0 B to 29.3 KiB", "rgb(255,86,86)"),
                     f"{full},-2": ("-29.3 KiB: from 29.3 KiB to 0 B", "rgb(86,86,255)")}


def run_command(path, milliseconds, *options):
    result = run_leakwatch(f"--format=json:{path}", "-T", "0", "-e", "1ms", *options, "--",
                           target_path("each_function"), milliseconds)
    assert result.returncode == 0, result.stderr
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_two_processes_of_one_build(tmp_path):
    """Wherever they are loaded, their stacks are the same."""
    one, two = str(tmp_path / "1.json"), str(tmp_path / "2.json")
    first, second = run_command(one, 50), run_command(two, 50, "-z", "1k")
    assert not changes(first[-2], first[-2]) and second[-2]["type"] == "summary"
    found = diff_json(one, two)
    assert found["same_watch"] is False and found["notes"] == []
    assert found_changes(found) == changes(first[-2], second[-2])
    same = str(tmp_path / "3.json")
    run_command(same, 50)
    found = diff_json("--weight=live-blocks", one, same)
    assert found["stacks"] == [] and found["stack_counts"]["unchanged"] >= 9
    assert diff("--error-exitcode=9", one, same).returncode == 0


def test_a_report_that_is_cut(watched, tmp_path):
    """What a report does not list is not taken for growth."""
    objects, _ = watched
    full = json.loads(json.dumps([each for each in objects if each["type"] == "report"][-2]))
    cut = json.loads(json.dumps(full))
    cut["stacks"] = cut["stacks"][:3]
    one, two = (str(write_lines(tmp_path / name, [report]))
                for name, report in (("cut.json", cut), ("full.json", full)))
    found = diff_json(one, two)
    assert len(found["notes"]) == 1 and "--top=0" in found["notes"][0]
    assert found["before"]["unlisted"]["bytes"] == sum(
        stack["expired_bytes"] for stack in full["stacks"][3:])
    assert {stack["change"] for stack in found["stacks"]} == {"unclear"}
    assert all(stack["before"] is None for stack in found["stacks"])
    assert diff("--error-exitcode=9", one, two).returncode == 0
    folded = diff("--format=folded", one, two)
    assert "--top=0" in folded.stderr
    assert diff("-q", "--format=folded", one, two).stderr == ""


def test_standard_input_output_file_and_exit_code(watched, tmp_path):
    objects, path = watched
    reports = sum(each["type"] in ("report", "summary") for each in objects)
    out = tmp_path / "out"
    out.write_text("old", encoding="utf-8")
    with open(path, encoding="utf-8") as file:
        result = subprocess.run([harness.LEAKWATCH, "diff", "-", f"--reports=1,{reports - 2}",
                                 f"--format=json:{out}", "--error-exitcode=9"], stdin=file,
                                capture_output=True, timeout=harness.LIMIT, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (9, b"", b"")
    assert json.loads(out.read_text(encoding="utf-8"))["before"]["file"] == "standard input"
    assert os.listdir(tmp_path) == ["out"]
    assert diff(path, "--reports=-2,-1", "-o", "/dev/full").returncode == 1


@pytest.mark.parametrize("arguments, words", [
    ([], "nothing to compare"),
    (["a", "b", "c"], "more than two files"),
    (["-", "-"], "standard input is one file"),
    (["a", "--reports=1"], "--reports '1'"),
    (["a", "--reports=0,1"], "--reports '0,1'"),
    (["a", "--reports=1,2x"], "--reports '1,2x'"),
    (["a", "--reports= 1,2"], "--reports ' 1,2'"),
    (["a", "--weight=blocks"], "--weight 'blocks'"),
    (["a", "--by=name"], "--by 'name'"),
    (["a", "--top=-1"], "--top '-1'"),
    (["a", "--format=pprof"], "--format 'pprof' is not one of text, json, folded, svg"),
    (["a", "--format=json", "--format=text"], "more than one --format"),
    (["a", "--format=json:"], "needs the name of a file"),
    (["a", "--format=json:b", "-o", "c"], "both b and c"),
    (["a", "--error-exitcode=256"], "--error-exitcode '256'"),
    (["a", "-q", "-v"], "contradict"),
    (["a", "-p", "1"], "invalid option"),
])
def test_usage(arguments, words):
    result = diff(*arguments)
    assert result.returncode == 2 and result.stdout == ""
    assert words in result.stderr.splitlines()[0], result.stderr
    assert result.stderr.startswith("leakwatch diff: ")


def test_files_that_cannot_be_compared(watched, tmp_path):
    objects, path = watched
    one = str(write_lines(tmp_path / "one\x1b.json", [objects[0], objects[1]]))
    text = tmp_path / "text"
    text.write_text("Report 1 of PID 1\n", encoding="utf-8")
    for arguments, words in (([one], "one\\x1b.json:2: there is nothing to compare"),
                             ([text], f"{text}:1: not JSON"),
                             ([path, "/nowhere"], "cannot open /nowhere"),
                             ([path, "--reports=1,1000"], "there is no report 1000")):
        result = diff(*arguments)
        assert (result.returncode, result.stdout) == (1, "")
        assert words in result.stderr and result.stderr.count("\n") == 1, result.stderr


def test_a_command_that_is_called_diff():
    result = run_leakwatch("--format=json", "--", "diff", "/dev/null", "/dev/null")
    assert result.returncode == 0, result.stderr
    kinds = [json.loads(line)["type"] for line in result.stdout.splitlines()]
    assert kinds[0] == "attach" and "summary" in kinds and kinds[-1] == "exit"


def test_help_and_manual():
    helped = diff("--help")
    assert helped.returncode == 0 and helped.stderr == ""
    assert helped.stdout.startswith("Usage: leakwatch diff [OPTION...] FILE [FILE]\n")
    with open(os.path.join(HERE, "../../src/leakwatch-diff.1"), encoding="utf-8") as page:
        manual = page.read().replace("\\-", "-")
    options = set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", helped.stdout))
    assert {"reports", "weight", "by", "top", "format", "output", "error-exitcode"} <= options
    assert [option for option in options if f"--{option}" not in manual] == []
