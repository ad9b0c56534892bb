# SPDX-License-Identifier: GPL-2.0-or-later
"""leakwatch as a service: what it tells the service manager and the journal, and its unit."""

import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

import harness
from harness import LIMIT, run_leakwatch, wait_until

UNIT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../src/leakwatch@.service")
NO_PROCESS = "1073741823"


class Manager:
    """Stands for systemd: a socket for notifications."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(LIMIT)

    def next(self):
        return self.socket.recv(4096).decode().split("\n")


@pytest.fixture
def manager(tmp_path):
    manager = Manager(tmp_path)
    yield manager
    manager.socket.close()


@pytest.mark.usefixtures("engine")
def test_what_the_manager_is_told(manager, target, healthy_watch):
    process = target("each_function")
    watch = healthy_watch(process.pid, "-i", "1h", env={
        "NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "40000"})
    state, status = manager.next()
    assert state == "READY=1"
    assert status.startswith(f"STATUS=Watching PID {process.pid} (each_function), engine "), status
    for _ in range(3):  # without any report
        assert manager.next() == ["WATCHDOG=1"]
    watch.report()
    wait_until(lambda: manager.next()[0].startswith(f"STATUS=PID {process.pid} (each_function): "),
               "the status with the report")
    watch.send_signal(signal.SIGTERM)
    wait_until(lambda: manager.next()[0] == "STOPPING=1", "the end of the watch")
    assert watch.finish() == 0


def test_what_failed_is_told(manager):
    result = run_leakwatch("-p", NO_PROCESS, env={**os.environ, "NOTIFY_SOCKET": manager.path})
    assert result.returncode == 1
    message = result.stderr.strip().removeprefix("leakwatch: ")
    assert manager.next() == [f"STATUS={message}"]


def test_a_command_does_not_speak_for_leakwatch(manager):
    result = run_leakwatch("-q", "--format=json:/dev/null", "--", "/usr/bin/env", env={
        **os.environ, "NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "10000000"})
    assert result.returncode == 0 and "PATH=" in result.stdout
    assert not re.search("NOTIFY_SOCKET|WATCHDOG", result.stdout)


def test_the_journal_gets_priorities(tmp_path):
    with open(tmp_path / "stderr", "w+", encoding="utf-8") as errors:
        status = os.fstat(errors.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        subprocess.run([harness.LEAKWATCH, "-p", NO_PROCESS], stderr=errors, env=environment,
                       timeout=LIMIT, check=False)
        errors.seek(0)
        assert errors.read().startswith("<3>leakwatch: ")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit_is_valid(tmp_path):
    """As an instance: that of a service which is there. It only reads files."""
    shutil.copy(UNIT, tmp_path / "leakwatch@watched.service")
    (tmp_path / "watched.service").write_text("[Service]\nExecStart=/bin/true\n", encoding="ascii")
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "leakwatch@watched.service"],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"}, capture_output=True, text=True,
        timeout=LIMIT, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_unit_can_see_filters():
    """The kernel shows them to nobody who has some: the settings by which systemd installs them."""
    with open(UNIT, encoding="utf-8") as unit:
        settings = [line.split("=")[0] for line in unit if re.match("[A-Z][A-Za-z]+=", line)]
    assert "CapabilityBoundingSet" in settings
    filtering = [name for name in settings
                 if re.match("SystemCall|Restrict|LockPersonality|MemoryDeny|PrivateDevices|"
                             "Protect(Kernel|Clock|Hostname)", name)]
    assert not filtering
