# SPDX-License-Identifier: GPL-2.0-or-later
"""Options from a file and from the environment, in real watches."""

import json

from harness import Health, assert_working, run_leakwatch


def test_a_watch_by_file_and_environment(target, tmp_path, monkeypatch):
    storm = target("storm", 2, "run")
    monkeypatch.setenv("LEAKWATCH_OPTIONS", "-n 3 --expire=7 --sort age")
    config = tmp_path / "servers.conf"
    config.write_text(f"""# a server of ours
interval = 50ms
expire 1h   # nothing gets so old
--format json:'{tmp_path}/a file.json'
format = text
""")
    health = Health(storm.pid)
    result = run_leakwatch("--config", config, "-n", 2, storm.pid)
    health.assert_same()
    assert (result.returncode, result.stderr) == (0, "")
    assert "Report 2 of PID" in result.stdout and "Report 3" not in result.stdout
    objects = [json.loads(line) for line in (tmp_path / "a file.json").read_text().splitlines()]
    reports = [each for each in objects if each["type"] == "report"]
    assert [each["expire_s"] for each in reports] == [3600, 3600]
    assert_working(storm)


def test_a_bad_line_is_refused_before_the_process_is_touched(target, tmp_path):
    storm = target("storm", 2, "run")
    health = Health(storm.pid)
    config = tmp_path / "servers.conf"
    config.write_text("expire = 5m\ninterval = often\n")
    result = run_leakwatch(f"--config={config}", storm.pid)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[0] == \
        f"leakwatch: {config}:2: --interval 'often' is not a time such as 500ms, 30, 30s or 5m"
    health.assert_same()


def test_a_command_has_its_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("LEAKWATCH_OPTIONS", f"-o {tmp_path}/log")
    result = run_leakwatch("--", "/usr/bin/env")
    assert result.returncode == 0
    assert f"LEAKWATCH_OPTIONS=-o {tmp_path}/log" in result.stdout.splitlines()
    assert "Summary" in (tmp_path / "log").read_text()
