# SPDX-License-Identifier: GPL-2.0-or-later
"""What suppressions hide, that they hide nothing else, and that they are told."""

import json
import os
import re
import subprocess
import time

import pytest

from harness import (LEAKWATCH, Health, by_leak, engine_options, leaks_of, run_leakwatch,
                     stack_text, target_path)

# What each_function leaks, 30000 bytes in 30 blocks each.
LEAKS = {"leak_malloc", "leak_calloc", "leak_realloc", "leak_reallocarray", "leak_memalign",
         "leak_aligned_alloc", "leak_posix_memalign", "leak_valloc", "leak_pvalloc"}

MIXED = """# calloc's own function is in front
leak:^leak_malloc$
{
   by its callers
   Memcheck:Leak
   match-leak-kinds: reachable
   fun:?alloc
   fun:leak_valloc
   ...
   obj:*/each_function
   obj:*/libc.so.6
}
{
   the innermost come first
   Memcheck:Leak
   fun:leak_calloc
   fun:calloc
}
race:other
"""


def command(*options, program=("each_function", "100")):
    """Runs a command to its end; the result, and the summary."""
    result = run_leakwatch(*engine_options(), "--format=json", "-T", "0", "-e", "1ms", *options, "--",
                           target_path(program[0]), *program[1:])
    summaries = [each for each in map(json.loads, (line for line in result.stdout.splitlines()
                                                   if line.startswith("{")))
                 if each["type"] == "summary"]
    assert len(summaries) == 1, (result.stdout, result.stderr)
    return result, summaries[0]


def used(summary):
    return {each["name"]: each for each in summary["suppressions"] if each["stacks"]}


def leaking(summary):
    return set(leaks_of(summary))


@pytest.mark.usefixtures("engine")
def test_both_syntaxes(tmp_path):
    file = tmp_path / "my.supp"
    file.write_text(MIXED, encoding="utf-8")
    result, summary = command(f"--suppressions={file}", "-v", "--error-exitcode=9")
    assert LEAKS - leaking(summary) == {"leak_malloc", "leak_valloc"}
    assert summary["expired"] == {"bytes": 270000, "blocks": 270, "stacks": 9}
    assert summary["suppressed"] == {"bytes": 60000, "blocks": 60, "stacks": 2}
    assert summary["suppressions"] == [
        {"name": "leak:^leak_malloc$", "file": str(file), "line": 2,
         "bytes": 30000, "blocks": 30, "stacks": 1},
        {"name": "by its callers", "file": str(file), "line": 3,
         "bytes": 30000, "blocks": 30, "stacks": 1},
        {"name": "the innermost come first", "file": str(file), "line": 13,
         "bytes": 0, "blocks": 0, "stacks": 0}]
    assert "1 suppressions of other kinds than leaks are passed over" in result.stderr
    assert result.returncode == 9


def test_every_format_leaves_them_out(tmp_path):
    file = tmp_path / "my.supp"
    file.write_text("leak:^leak_mall", encoding="utf-8")
    formats = ["folded", "svg", "html", "heap", "massif", "pprof"]
    _, summary = command(f"--suppressions={file}",
                         *(f"--format={name}:{tmp_path}/{name}" for name in formats))
    folded = (tmp_path / "folded").read_text(encoding="utf-8")
    assert sum(int(line.rsplit(" ", 1)[1]) for line in folded.splitlines()) == 240000
    for name in ("folded", "svg", "html", "massif"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "leak_calloc" in text and "leak_malloc" not in text, name
    assert re.match(r"heap profile: +240: +240000 \[", (tmp_path / "heap").read_text("utf-8"))
    assert "mem_heap_B=240000" in (tmp_path / "massif").read_text(encoding="utf-8")
    profile = subprocess.run(["zcat", "-f"], stdin=(tmp_path / "pprof").open("rb"),
                             capture_output=True, check=True, timeout=10).stdout
    assert b"leak_calloc" in profile and b"leak_malloc" not in profile
    assert summary["suppressed"]["stacks"] == 1


def test_generated_ones_hide_what_they_were_made_of(tmp_path):
    file = tmp_path / "made.supp"
    _, before = command(f"--generate-suppressions={file}")
    assert leaking(before) == LEAKS and before["suppressed"]["stacks"] == 0
    result, after = command(f"--suppressions={file}", "--error-exitcode=9")
    assert after["stacks"] == [] and result.returncode == 0
    assert after["suppressed"] == after["expired"] == before["expired"]
    assert all(each["stacks"] for each in after["suppressions"])


def test_generated_ones_for_mangled_names(target, watch, tmp_path):
    file = tmp_path / "made.supp"
    for option in (f"--generate-suppressions={file}", f"--suppressions={file}"):
        each = target("each_operator")
        watching = watch(each.pid, "-e", "1ms", "-i", "1h", option)
        plan = each.ask("begin")["leaks"]
        time.sleep(0.1)  # so that the blocks expire
        watching.detach()
        summary = watching.summary()
        assert leaks_of(summary) == (plan if option.startswith("--gen") else {})
        assert summary["expired"]["blocks"] >= sum(total["blocks"] for total in plan.values())
    # as valgrind's stacks, which begin with the operator that calls malloc
    assert "   Memcheck:Leak\n   fun:_Znwm\n   fun:_ZN" in file.read_text(encoding="utf-8")


def test_a_generated_one_hides_its_stack_alone(tmp_path):
    file = tmp_path / "made.supp"
    command(f"--generate-suppressions={file}")
    entries = re.findall(r"^\{$.*?^\}$", file.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(entries) == 9
    chosen = next(entry for entry in entries if "fun:leak_memalign\n" in entry)
    file.write_text(chosen, encoding="utf-8")
    _, summary = command(f"--suppressions={file}")
    assert LEAKS - leaking(summary) == {"leak_memalign"}


def test_valgrind_reads_generated_ones(tmp_path):
    """And hides the same: its stacks, too, begin with the allocator's function and end with main."""
    file = tmp_path / "made.supp"
    command(f"--generate-suppressions={file}")

    def leaks(*options):
        """Of the functions that valgrind replaces under the same names."""
        shown = subprocess.run(
            ["valgrind", "--leak-check=full", "--show-leak-kinds=all", *options,
             target_path("each_function"), "1"],
            capture_output=True, text=True, timeout=60, check=False).stderr
        return {name for name in re.findall(r": (leak_\w+) \(", shown)} & \
            {"leak_malloc", "leak_calloc", "leak_realloc"}
    assert leaks() == {"leak_malloc", "leak_calloc", "leak_realloc"}
    assert leaks(f"--suppressions={file}") == set()


def test_the_text_tells_them(tmp_path):
    file = tmp_path / "my.supp"
    file.write_text("leak:^leak_malloc$\nleak:unheard_of\n", encoding="utf-8")
    result = run_leakwatch(f"--suppressions={file}", "-e", "1ms", "--",
                           target_path("each_function"), "100")
    assert "1 stack with 29.3 KiB in 30 expired blocks is suppressed.\n" in result.stdout
    assert re.search(r"\n +30 +30,000 +1  leak:\^leak_malloc\$  \(\S+my.supp:1\)\n", result.stdout)
    assert re.search(r"\nunused suppressions:\n    leak:unheard_of  \(\S+my.supp:2\)\n",
                     result.stdout)


@pytest.mark.parametrize("text, reason", [
    (b"leak:a\nleek:b\n", ":2: 'leek:b' is neither leak:PATTERN nor the {"),
    (b"{\n name\n Memcheck:Leak\n fun:a\n", ":4: the suppression that begins in line 1 has no }"),
    (b"leak:\x1b[31m\n\x1b[31m\n", ":2: '\\x1b[31m' is neither"),
    (b"\x7fELF\0\0", " has a NUL byte in it: this is no suppressions file"),
])
def test_a_bad_file_is_refused_before_the_target_is_touched(target, tmp_path, text, reason):
    file = tmp_path / "bad.supp"
    file.write_bytes(text)
    each = target("each_function")
    health = Health(each.pid)
    result = run_leakwatch(f"--suppressions={file}", each.pid)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"leakwatch: {file}{reason}"), result.stderr
    assert len(result.stderr.splitlines()) == 1
    health.assert_same()


def test_a_file_that_is_not_there_is_refused():
    for path in ("/nowhere/at/all", "/dev"):
        result = run_leakwatch(f"--suppressions={path}", 1)
        assert result.returncode == 2 and path in result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.usefixtures("engine")
def test_the_default_set_hides_what_libraries_keep_and_nothing_of_the_programs():
    """Leaks that come through dlopen, a constructor, pthread_once, strdup and fopen stay."""
    program = ("once", target_path("constructed.so"), "100")
    _, bare = command("--no-default-suppressions", program=program)
    assert bare["suppressed"]["stacks"] == 0 and bare["suppressions"] == []
    texts = [stack_text(stack) for stack in bare["stacks"]]
    assert any("setlocale" in text for text in texts) and any("puts" in text for text in texts)

    _, summary = command(program=program)
    texts = [stack_text(stack) for stack in summary["stacks"]]
    assert not any("setlocale" in text or "puts" in text for text in texts), texts
    assert {"glibc: locale data", "ld.so: library"} <= set(used(summary))
    assert any(name.startswith("stdio: buffer of ") for name in used(summary))
    assert all(each["file"] == "default.supp" for each in summary["suppressions"])
    assert summary["expired"] == bare["expired"]
    leaks = by_leak(summary)
    del leaks["leak_stream"]  # a FILE and its buffer, whose sizes are the C library's
    assert leaks_of(bare)["leak_stream"] == leaks_of(summary)["leak_stream"]
    assert {name: total for name, total in leaks.items() if name} == {
        "leak_constructor": {"bytes": 306, "blocks": 2},
        "leak_once": {"bytes": 200, "blocks": 1},
        "leak_strdup": {"bytes": 25, "blocks": 5}}


def test_the_default_set_is_installed_as_it_is_built_in():
    path = os.path.join(os.path.dirname(__file__), "../../src/report/default.supp")
    with open(path, "rb") as file, open(LEAKWATCH, "rb") as program:
        assert file.read() + b"\0" in program.read()
