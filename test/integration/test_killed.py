# SPDX-License-Identifier: GPL-2.0-or-later
"""leakwatch dies at random moments: the target lives, works, and has nothing left over in it."""

import os
import pty
import random
import signal
import sys
import time

import pytest

import harness
import kills
import loads
import servers
from control_groups import ControlGroup
from harness import Health, Process, assert_working, wait_until
from kills import Victim, await_health

pytestmark = pytest.mark.usefixtures("engine")

KILLS = 9  # of each kind; 54 with each engine
PHASES = ["attach", "watch", "detach"]


def kill_in(phase, pid, chance, with_guardian):
    """Starts a leakwatch on the process, and kills it at some moment of the phase."""
    victim = Victim(pid)
    if phase == "attach":
        time.sleep(chance.uniform(0, 0.030))
    else:
        victim.armed()
        time.sleep(chance.uniform(0, 0.010))
    if phase == "detach":
        victim.popen.send_signal(signal.SIGINT)
        time.sleep(chance.uniform(0, 0.012))
    victim.kill(with_guardian=with_guardian)


def rate(target, seconds=0.2):
    """Calls a second."""
    before, start = target.progress(), time.monotonic()
    time.sleep(seconds)
    return (target.progress() - before) / (time.monotonic() - start)


def assert_can_be_watched(pid, watch, health):
    """A new leakwatch clears what the dead one has left, watches, and leaves nothing; it may be that
    the guardian looks once more for what to clear."""
    watch(pid).detach()
    await_health(health)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("threads", [2, 8])
def test_storm_survives_kills(target, watch, phase, threads):
    """By turns, the guardian clears up, a new leakwatch does because the guardian was killed too,
    and a new one comes before the guardian is done."""
    storm = target("storm", threads, "run")
    health = Health(storm.pid)
    speed = rate(storm)
    chance = random.Random(threads)
    for number in range(KILLS):
        kill_in(phase, storm.pid, chance, with_guardian=number % 3 == 1)
        assert_working(storm)
        if number % 3 == 0:
            await_health(health)
        else:
            assert_can_be_watched(storm.pid, watch, health)
    wait_until(lambda: rate(storm) > speed / 2, f"{speed} calls a second", 5)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT], ids=["SIGSEGV", "SIGABRT"])
def test_crashes_of_leakwatch(target, number):
    storm = target("storm", 2, "run")
    health = Health(storm.pid)
    victim = Victim(storm.pid)
    victim.armed()
    victim.kill(number)
    assert_working(storm)
    await_health(health)


# Takes memory that is no process's own, so that who is to be killed for it is not settled by that.
HOG = """
import os
file = os.memfd_create("hog")
while True:
    os.write(file, bytes(1 << 20))
"""


def test_out_of_memory(target, watch, started):
    """The kernel kills leakwatch for want of memory in its control group, then who took it all, and
    perhaps the guardian, which is in it too."""
    group = ControlGroup("memory.max", "memory.limit_in_bytes")
    started.append(group)
    group.set(96 << 20)
    storm = target("storm", 2, "run")
    health = Health(storm.pid)
    victim = Victim(storm.pid, prefix=["/bin/sh", "-c", group.shell_prefix(), "sh"])
    started.append(victim)
    victim.armed()
    with open(f"/proc/{victim.pid}/oom_score_adj", "w", encoding="ascii") as score:
        score.write("1000")
    hog = Process(["/bin/sh", "-c", group.shell_prefix(), "sh", sys.executable, "-c", HOG])
    started.append(hog)
    assert hog.wait() == -signal.SIGKILL
    assert victim.wait() == -signal.SIGKILL
    assert_working(storm)
    assert_can_be_watched(storm.pid, watch, health)


@pytest.mark.parametrize("vanishes", ["terminal", "leader"])
def test_the_session_vanishes(target, vanishes):
    """The terminal is closed, or its shell is killed: the shell's foreground job gets SIGHUP."""
    storm = target("storm", 2, "run")
    health = Health(storm.pid)
    command = " ".join([harness.LEAKWATCH, *harness.engine_options(), "-i", "10ms", "-p",
                        str(storm.pid)])
    shell, terminal = pty.fork()
    if shell == 0:
        os.execv("/bin/sh", ["sh", "-c", f"{command}; exit 0"])
    try:
        wait_until(lambda: os.read(terminal, 4096) and harness.is_watched(storm.pid), "watched")
    finally:
        if vanishes == "leader":
            os.kill(shell, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(shell, 0)
    await_health(health)
    assert_working(storm)


@pytest.mark.skipif(not kills.can_count_calls(), reason="strace is not installed")
@pytest.mark.parametrize("when", kills.WHEN)
def test_storm_survives_kills_at_any_call(target, when):
    """A few of those that scripts/stress tries; with what changes the target just about to be done."""
    storm = target("storm", 2, "run")
    health = Health(storm.pid)
    killed = [kills.kill_and_judge(storm, health, when, call, number, resting=when == "detach")
              for call, step in (("ptrace", 29), ("pwrite64", 13)) for number in range(2, 60, step)]
    assert any(killed)


@pytest.mark.parametrize("with_guardian", [False, True], ids=["alone", "with-guardian"])
def test_back_to_speed_within_a_second(target, watch, with_guardian):
    """The recorder lets every call through by then; breakpoints need the guardian."""
    storm = target("storm", 2, "run")
    speed = rate(storm, 1)
    victim = Victim(storm.pid)
    victim.armed()
    victim.kill(with_guardian=with_guardian)
    if with_guardian and harness.ENGINE == "trap":
        assert_working(storm)
        watch(storm.pid).detach()
    time.sleep(1)
    wait_until(lambda: rate(storm, 0.5) > speed / 2, f"{speed} calls a second", 5)


@pytest.mark.parametrize("with_guardian", [False, True], ids=["alone", "with-guardian"])
def test_children_survive(target, watch, with_guardian):
    """Those forked before the kill, while nobody traces, and after."""
    forker = target("forker", 50)
    health = Health(forker.pid)
    for _ in range(3):
        victim = Victim(forker.pid)
        victim.armed()
        time.sleep(0.1)
        victim.kill(with_guardian=with_guardian)
        time.sleep(0.1)
        assert_working(forker)
        if with_guardian:
            assert_can_be_watched(forker.pid, watch, health)
        else:
            await_health(health)
    assert forker.ask("count")["failures"] == 0


def test_own_sigtraps_arrive(target, watch):
    """The program's handler for SIGTRAP gets what is sent, and is the same after all."""
    signaller = target("signaller")
    health = Health(signaller.pid)
    assert signaller.ask("own-trap 50")["traps"] == 50
    victim = Victim(signaller.pid)
    victim.armed()
    assert signaller.ask("own-trap 50")["traps"] == 50
    victim.kill(with_guardian=True)
    assert signaller.ask("own-trap 50")["traps"] == 50
    assert_working(signaller)
    assert_can_be_watched(signaller.pid, watch, health)
    assert signaller.ask("own-trap 50")["traps"] == 50


def test_redis_serves_on(started, watch, tmp_path):
    def run(*argv, **options):
        started.append(servers.run(*argv, **options))
        return started[-1]
    try:
        pid, port = servers.start_redis(run, tmp_path)
    except servers.Missing as missing:
        pytest.skip(str(missing))
    load = loads.Load(port, loads.redis_exchange)
    started.append(load)
    health = Health(pid)
    chance = random.Random(1)
    for phase in PHASES:
        for with_guardian in (False, True):
            kill_in(phase, pid, chance, with_guardian)
            load.assert_served()
            if with_guardian:
                assert_can_be_watched(pid, watch, health)
            else:
                await_health(health)
    load.assert_served()
