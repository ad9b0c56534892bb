# SPDX-License-Identifier: GPL-2.0-or-later
"""Metrics as Prometheus gets them: node_exporter serves the file, promtool judges it and the example
alerts."""

import os
import re
import shutil
import subprocess
import urllib.request

import pytest

from harness import (Daemon, LIMIT, free_port, run_leakwatch, settled_leaks, target_path,
                     wait_until)

HERE = os.path.dirname(os.path.abspath(__file__))
RULES = os.path.join(HERE, "../../src/leakwatch.rules.yml")


def promtool(*arguments, data=None):
    result = subprocess.run(["promtool", *arguments], input=data, capture_output=True, text=True,
                            timeout=LIMIT, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def metrics(text):
    """{name: {frozenset of the labels but pid and comm: value}}"""
    found = {}
    for name, labels, value in re.findall(r"^(leakwatch_\w+)\{(.*)\} (\S+)$", text, re.MULTILINE):
        pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)
        key = frozenset((label, text) for label, text in pairs if label not in ("pid", "comm"))
        assert key not in found.setdefault(name, {}), (name, labels)
        found[name][key] = float(value)
    return found


def stacks(found, kind):
    """{stack: (function, value)}"""
    return {dict(key)["stack"]: (dict(key).get("function", ""), value)
            for key, value in found[f"leakwatch_stack_expired_{kind}"].items()}


def plain(found, name):
    return found[f"leakwatch_{name}"][frozenset()]


@pytest.fixture
def scrape(started, tmp_path):
    """scrape() is what node_exporter serves of the files in tmp_path."""
    port = free_port()
    started.append(Daemon(["prometheus-node-exporter", "--collector.disable-defaults",
                           "--collector.textfile", f"--collector.textfile.directory={tmp_path}",
                           f"--web.listen-address=127.0.0.1:{port}"]))

    def get():
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LIMIT) as page:
                return page.read().decode()
        except ConnectionRefusedError:
            return None
        except urllib.error.URLError as error:
            assert isinstance(error.reason, ConnectionRefusedError), error
            return None
    wait_until(get, "node_exporter answers")
    return get


def test_node_exporter_serves_them(scrape, target, healthy_watch, tmp_path):
    """While it is watched and afterwards, the figures are those of the JSON of the same watch."""
    process = target("each_function")
    watch = healthy_watch(process.pid, f"--metrics-file={tmp_path}/lw.%p.prom", "-e", "50ms",
                          "-i", "1h", preexec_fn=lambda: os.umask(0o077))
    path = tmp_path / f"lw.{process.pid}.prom"
    wait_until(path.exists, "a first file")
    assert path.stat().st_mode & 0o777 == 0o644
    served = metrics(wait_until(lambda: "leakwatch_" in scrape() and scrape(), "it is served"))
    assert plain(served, "watching") == 1 and "leakwatch_live_bytes" not in served
    plan = process.ask("begin")["leaks"]
    assert settled_leaks(watch, plan)
    watch.report()  # JSON comes first: now the metrics of the report before are written too
    page = scrape()
    assert "node_textfile_scrape_error 0" in page
    served = metrics(page)
    assert plain(served, "watching") == 1
    judge(served, watch.of("report")[-2:])
    watch.detach()
    served = metrics(scrape())
    assert plain(served, "watching") == 0
    judge(served, [watch.summary()])
    assert promtool("check", "metrics", data=path.read_text(encoding="utf-8")) == ""
    assert path.stat().st_mode & 0o777 == 0o644


def judge(served, reports):
    """The figures are those of one of the reports, and of its stacks."""
    report = next(each for each in reports
                  if each["events"]["allocs"] == plain(served, "allocations_total"))
    assert plain(served, "live_bytes") == report["live"]["bytes"]
    assert plain(served, "expired_bytes") == report["expired"]["bytes"] > 0
    assert plain(served, "expired_blocks") == report["expired"]["blocks"]
    assert plain(served, "frees_total") == report["events"]["frees"]
    for kind in ("bytes", "blocks"):
        found = stacks(served, kind)
        assert sum(value for _, value in found.values()) == report["expired"][kind]
        listed = [value for key, (_, value) in found.items() if key != "other"]
        assert sorted(listed) == sorted(each[f"expired_{kind}"] for each in report["stacks"]
                                        if each["expired_blocks"])
    functions = [function for function, _ in stacks(served, "bytes").values()]
    assert functions.count("leak_all") == 9  # who calls what looks like the program's allocators


def test_stacks_keep_their_names(tmp_path):
    """Another process of the same program has the same stacks, wherever it is loaded."""
    seen = []
    for number in range(2):
        path = tmp_path / f"{number}.prom"
        result = run_leakwatch(f"--metrics-file={path}", "-e", "1ms", "-T", "0", "-q", "--",
                               target_path("each_function"), "10")
        assert result.stdout.startswith("watching"), "and text goes to standard output"
        seen.append(stacks(metrics(path.read_text(encoding="utf-8")), "blocks"))
    named = [{key: value for key, value in each.items() if value[0].startswith("leak_")}
             for each in seen]
    assert len(named[0]) >= 9
    assert named[0] == named[1]


def test_alerts(tmp_path):
    shutil.copy(RULES, tmp_path / "rules.yml")
    shutil.copy(os.path.join(HERE, "leakwatch.rules.test.yml"), tmp_path / "test.yml")
    promtool("check", "rules", str(tmp_path / "rules.yml"))
    promtool("test", "rules", str(tmp_path / "test.yml"))
