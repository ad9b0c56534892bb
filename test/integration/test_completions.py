# SPDX-License-Identifier: GPL-2.0-or-later
"""Completions as bash, zsh and fish themselves work them out."""

import os
import re
import subprocess

import pytest

import harness

SOURCE = os.path.join(os.path.dirname(__file__), "../..")
BASH = r"""
. /usr/share/bash-completion/bash_completion
. "$1"
compopt() { :; }  # only while a real completion is under way
while IFS= read -r COMP_LINE; do
    mapfile -t COMP_WORDS < <(grep -oE '[:=]+|[^ :=]+' <<<"$COMP_LINE")
    [[ $COMP_LINE != *[\ :=] ]] || COMP_WORDS+=('')
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_POINT=${#COMP_LINE} COMP_TYPE=9 COMPREPLY=()
    _leakwatch leakwatch "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    printf '%s\n' "${COMPREPLY[@]}" END
done
"""
FISH = r"""
source $argv[1]
while read line
    complete -C "$line"
    echo END
end
"""
# A shell in a terminal of its own: each line as it is after a tab goes to file $2.
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "fpath=(${1:h} \$fpath); autoload -Uz compinit; compinit -u -D
show() { print -r -- \$BUFFER >>$2; BUFFER=; print SHO''WN }; zle -N show
bindkey '^I' complete-word; bindkey '^G' show; print REA''DY"
zpty -r shell output '*READY*'
while IFS= read -r line; do
    zpty -w -n shell "$line"$'\t\C-g'
    zpty -r shell output '*SHOWN*'
done
zpty -d shell
"""


def completion(shell, build=None):
    name = {"bash": "leakwatch", "zsh": "_leakwatch", "fish": "leakwatch.fish"}[shell]
    return os.path.join(build or os.path.dirname(harness.LEAKWATCH), "completions", shell, name)


def run(argv, lines, home):
    environment = {**os.environ, "HOME": str(home), "TERM": "dumb"}
    result = subprocess.run(argv, input="".join(line + "\n" for line in lines), env=environment,
                            cwd=home, capture_output=True, text=True, timeout=harness.LIMIT,
                            check=True)
    assert result.stderr == ""
    return result.stdout


def offered(shell, lines, home, script=None):
    """{line: what is offered for its last word, sorted}; fish's descriptions are left out."""
    script = script or completion(shell)
    argv = {"bash": ["bash", "--norc", "-c", BASH, "bash", script],
            "fish": ["fish", "--private", "-c", FISH, script]}[shell]
    answers = run(argv, lines, home).split("END\n")
    return {line: sorted({each.split("\t")[0] for each in answer.splitlines() if each})
            for line, answer in zip(lines, answers, strict=False)}


def completed(lines, home, script=None):
    """{line: the line that zsh makes of it}"""
    run(["zsh", "-f", "-c", ZSH, "zsh", script or completion("zsh"), str(home / "shown")], lines, home)
    return dict(zip(lines, (home / "shown").read_text().splitlines(), strict=True))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    directory = tmp_path_factory.mktemp("home")
    (directory / "servers.conf").touch()
    return directory


@pytest.fixture(scope="module")
def options():
    """{option: its value in the help}"""
    text = subprocess.run([harness.LEAKWATCH, "--help"], capture_output=True, text=True, check=True,
                          timeout=harness.LIMIT, env={**os.environ, "ARGP_HELP_FMT": "rmargin=9999"})
    found = dict(re.findall(r"(?m)^ {2,6}(?:-., )?(--[a-z-]+)(\S*)", text.stdout))
    assert len(found) > 20
    return found


def test_bash(home, options):
    me = str(os.getpid())
    lines = ["leakwatch --", "leakwatch --expi", "leakwatch --sort=", "leakwatch --sort g",
             "leakwatch --engine ", "leakwatch --color=a", "leakwatch --format ",
             "leakwatch --format=json:serv", "leakwatch --config serv", "leakwatch -qo serv",
             "leakwatch -e ", f"leakwatch -p {me}", f"leakwatch -e 5m {me}", "leakwatch 4711 --expi",
             "leakwatch -- cat --show-al", "leakwatch -qe 5m cat serv",
             "leakwatch -e 5m dpkg-shlibd", "leakwatch -- dpkg-shlibd"]
    got = offered("bash", lines, home)
    every = {name + ("=" if value.startswith("=") else "") for name, value in options.items()}
    assert set(got["leakwatch --"]) == every | {"--color="}
    assert got["leakwatch --expi"] == got["leakwatch 4711 --expi"] == ["--expire="]
    assert got["leakwatch --sort="] == ["age", "blocks", "bytes", "growth"]
    assert got["leakwatch --sort g"] == ["growth"]
    assert got["leakwatch --engine "] == ["auto", "record", "trap"]
    assert got["leakwatch --color=a"] == ["always", "auto"]
    assert {"text", "json", "pprof", "html"} <= set(got["leakwatch --format "])
    for line in ("leakwatch --format=json:serv", "leakwatch --config serv", "leakwatch -qo serv",
                 "leakwatch -qe 5m cat serv"):
        assert got[line] == ["servers.conf"], line
    assert got["leakwatch -e "] == []
    assert got[f"leakwatch -p {me}"][0].split()[0] == me
    assert me in [each.split()[0] for each in got[f"leakwatch -e 5m {me}"]]
    assert got["leakwatch -- cat --show-al"] == ["--show-all"]
    assert got["leakwatch -e 5m dpkg-shlibd"] == got["leakwatch -- dpkg-shlibd"] == ["dpkg-shlibdeps"]


def test_fish(home, options):
    me = str(os.getpid())
    lines = ["leakwatch --", "leakwatch --expi", "leakwatch --sort ", "leakwatch --color=a",
             "leakwatch --format=js", "leakwatch --format json:serv", "leakwatch -qo serv",
             "leakwatch --config=serv", f"leakwatch -p {me}", "leakwatch 4711 --expi",
             "leakwatch -- cat --show-al", "leakwatch -qe 5m cat serv",
             "leakwatch -e 5m dpkg-shlibd", "leakwatch -- dpkg-shlibd"]
    got = offered("fish", lines, home)
    assert set(got["leakwatch --"]) == set(options) | {"--color="}
    assert got["leakwatch --expi"] == got["leakwatch 4711 --expi"] == ["--expire"]
    assert got["leakwatch --sort "] == ["age", "blocks", "bytes", "growth"]
    assert got["leakwatch --color=a"] == ["--color=always", "--color=auto"]
    assert got["leakwatch --format=js"] == ["--format=json"]
    assert got["leakwatch --format json:serv"] == ["json:servers.conf"]
    assert got["leakwatch -qo serv"] == got["leakwatch -qe 5m cat serv"] == ["servers.conf"]
    assert got["leakwatch --config=serv"] == ["--config=servers.conf"]
    assert me in got[f"leakwatch -p {me}"]
    assert got["leakwatch -- cat --show-al"] == ["--show-all"]
    assert got["leakwatch -e 5m dpkg-shlibd"] == got["leakwatch -- dpkg-shlibd"] == ["dpkg-shlibdeps"]


def test_zsh(home):
    wanted = {"leakwatch --expi": "leakwatch --expire=",
              "leakwatch 4711 --expi": "leakwatch 4711 --expire=",
              "leakwatch --sort=g": "leakwatch --sort=growth ",
              "leakwatch --engine rec": "leakwatch --engine record ",
              "leakwatch --color=al": "leakwatch --color=always ",
              "leakwatch --format=js": "leakwatch --format=json ",
              "leakwatch --format=json:serv": "leakwatch --format=json:servers.conf ",
              "leakwatch -qo serv": "leakwatch -qo servers.conf ",
              "leakwatch --config serv": "leakwatch --config servers.conf ",
              "leakwatch dpkg-shlibd": "leakwatch dpkg-shlibdeps ",
              "leakwatch -- dpkg-shlibd": "leakwatch -- dpkg-shlibdeps ",
              "leakwatch cat serv": "leakwatch cat servers.conf ",
              "leakwatch -qe 5m -- cat serv": "leakwatch -qe 5m -- cat servers.conf ",
              "leakwatch -- cat --expi": "leakwatch -- cat --expi"}
    assert completed(wanted, home) == wanted


def test_a_program_with_a_subcommand(home, tmp_path):
    """The options are those of the program that is asked, whatever it has."""
    program = tmp_path / "program"
    program.write_text("""#!/bin/sh
case "$*" in
"diff --by=?") echo "leakwatch: --by '?' is not one of address, function" >&2; exit 2 ;;
"diff --help") printf '%s\\n' 'Usage: leakwatch [OPTION...] FILE' '  -b, --by=KEY    What counts' ;;
--help) printf '%s\\n' 'Usage: leakwatch [OPTION...] PID' \\
        "  -q, --quiet    It's [quiet]" '      --made=FILE    Where to' '  leakwatch diff --help  more' ;;
esac
""")
    program.chmod(0o755)
    scripts = {}
    for shell in ("bash", "zsh", "fish"):
        scripts[shell] = completion(shell, tmp_path)
        os.makedirs(os.path.dirname(scripts[shell]))
        with open(scripts[shell], "w", encoding="utf-8") as file:
            subprocess.run([f"{SOURCE}/scripts/completions", program,
                            f"{SOURCE}/src/completions/leakwatch.{shell}.in"],
                           stdout=file, timeout=harness.LIMIT, check=True)
    lines = ["leakwatch --", "leakwatch diff --", "leakwatch diff -b f", "leakwatch diff serv",
             "leakwatch --made serv", "leakwatch diff -b address serv"]
    for shell, equals in (("bash", "="), ("fish", "")):
        assert offered(shell, lines, home, scripts[shell]) == dict(zip(lines, [
            [f"--made{equals}", "--quiet"], [f"--by{equals}"], ["function"], ["servers.conf"],
            ["servers.conf"], ["servers.conf"]], strict=True)), shell
    wanted = {"leakwatch --qu": "leakwatch --quiet ", "leakwatch diff --b": "leakwatch diff --by=",
              "leakwatch diff -b f": "leakwatch diff -b function ",
              "leakwatch diff serv": "leakwatch diff servers.conf "}
    (home / "shown").unlink(missing_ok=True)
    assert completed(wanted, home, scripts["zsh"]) == wanted
