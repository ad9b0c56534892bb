# SPDX-License-Identifier: GPL-2.0-or-later
"""Targets that filter their system calls (seccomp), as most services of systemd's do: a call that a
filter does not allow may kill them."""

import ctypes
import os
import shutil
import signal
import time

import pytest

import harness
from harness import Health, assert_working, recorder_mappings, run_leakwatch
from kills import Victim, await_health

CAP_SYS_ADMIN = 1 << 21
OWN = harness.read_status(os.getpid(), os.getpid())
pytestmark = pytest.mark.skipif(
    not int(OWN["CapEff"], 16) & CAP_SYS_ADMIN or OWN["Seccomp"] != "0",
    reason="needs CAP_SYS_ADMIN, and no filters of its own, to look at others'")


def test_hardened_targets_are_watched_like_others(engine, target, watch):
    sandboxer = target("sandboxer", "hardened")
    health = Health(sandboxer.pid)
    for _ in range(3):
        watched = watch(sandboxer.pid, "-e", "1ms", "-i", "1h")
        attach = watched.of("attach")[0]
        assert (attach["engine"], attach.get("engine_reason", "")) == (engine, "")
        assert_working(sandboxer)
        watched.detach()
        assert "stays mapped" not in watched.stderr()
    health.assert_same()
    assert_working(sandboxer)


def test_hardened_while_watched(engine, target, watch):
    sandboxer = target("sandboxer")
    health = Health(sandboxer.pid)
    watched = watch(sandboxer.pid, "-i", "1h")
    sandboxer.ask("harden")
    watched.detach()
    assert "stays mapped" not in watched.stderr()
    health.assert_same()
    assert_working(sandboxer)


@pytest.mark.parametrize("with_guardian", [False, True], ids=["alone", "with-guardian"])
def test_hardened_targets_survive_kills(engine, target, watch, with_guardian):
    sandboxer = target("sandboxer", "hardened")
    health = Health(sandboxer.pid)
    for _ in range(3):
        victim = Victim(sandboxer.pid)
        victim.armed()
        victim.kill(with_guardian=with_guardian)
        assert_working(sandboxer)
        if with_guardian:
            watch(sandboxer.pid, "-i", "1h").detach()
        await_health(health)
    assert_working(sandboxer)


def test_no_call_is_made_that_filters_do_not_allow(target, watch):
    sandboxer = target("sandboxer", "filtered")
    health = Health(sandboxer.pid)
    refused = run_leakwatch("--engine=record", "-d", "1ms", "-p", sandboxer.pid)
    assert refused.returncode == 1
    assert "filters (seccomp) do not allow" in refused.stderr
    watched = watch(sandboxer.pid, "-i", "1h")
    attach = watched.of("attach")[0]
    assert attach["engine"] == "trap"
    assert "filters (seccomp) do not allow" in attach["engine_reason"]
    watched.detach()
    health.assert_same()
    assert_working(sandboxer)
    assert not recorder_mappings(sandboxer.pid)


def test_sleep_is_resumed_without_a_call_that_filters_do_not_allow(target, watch):
    """Whichever thread stops, the kernel would have it make restart_syscall."""
    sandboxer = target("sandboxer", "asleep")
    health = Health(sandboxer.pid)
    for engine in ("record", "auto", "trap"):
        run_leakwatch(f"--engine={engine}", "-d", "1ms", "-p", sandboxer.pid)
        assert_working(sandboxer)
    watched = watch(sandboxer.pid, "--engine=trap", "-i", "1h")
    for task in os.listdir(f"/proc/{sandboxer.pid}/task"):
        for _ in range(5):
            ctypes.CDLL(None).tgkill(sandboxer.pid, int(task), signal.SIGWINCH)  # ignored
            time.sleep(0.03)
    watched.detach()
    health.assert_same()
    assert_working(sandboxer)


@pytest.mark.skipif(not shutil.which("setpriv"), reason="no setpriv")
def test_who_cannot_see_filters_asks_for_no_calls(target):
    sandboxer = target("sandboxer", "hardened")
    health = Health(sandboxer.pid)
    result = run_leakwatch(argv=["setpriv", "--bounding-set=-sys_admin", harness.LEAKWATCH, "-d",
                                 "300ms", "-p", str(sandboxer.pid)])
    assert result.returncode == 0, result.stderr
    assert "CAP_SYS_ADMIN" in result.stdout and "engine       trap" in result.stdout
    health.assert_same()
    assert_working(sandboxer)
