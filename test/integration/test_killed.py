# SPDX-License-Identifier: GPL-2.0-or-later
"""leakwatch dies at random moments: the target lives, works, and has nothing left over in it."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time

import pytest

import harness
import loads
from harness import Daemon, Health, assert_working, free_port, wait_until

pytestmark = pytest.mark.usefixtures("engine")

KILLS = 9  # of each kind; 54 with each engine
PHASES = ["attach", "watch", "detach"]
GUARDIAN = "leakwatch-guard"


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Victim:
    """A leakwatch that is to die; of its output, no more than `attach` is read."""

    def __init__(self, pid):
        argv = [harness.LEAKWATCH, "--format=json", "-T", "0", *harness.engine_options(),
                "-p", str(pid)]
        self.popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE)

    def armed(self):
        line = self.popen.stdout.readline()
        assert b'"attach"' in line, self.popen.stderr.read()

    def guardians(self):
        pid = self.popen.pid
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
            return [int(child) for child in children.read().split()
                    if harness.read_status(int(child), int(child))["Name"] == GUARDIAN]

    def kill(self, number=signal.SIGKILL, with_guardian=False):
        for guardian in self.guardians() if with_guardian else []:
            os.kill(guardian, signal.SIGKILL)
        self.popen.send_signal(number)
        self.popen.wait(harness.LIMIT)
        self.popen.stdout.close()
        self.popen.stderr.close()


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


def await_health(health):
    """The guardian takes everything out by itself, soon."""
    def healthy():
        try:
            health.assert_same()
        except (AssertionError, OSError) as fault:
            faults.append(fault)
            return False
        return True
    faults = []
    deadline = time.monotonic() + 10
    while not healthy():
        assert time.monotonic() < deadline, faults[-1]
        time.sleep(0.02)


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
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    redis = Daemon(["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "",
                    "--appendonly", "no", "--dir", str(tmp_path)], stdin=subprocess.DEVNULL)
    started.append(redis)
    wait_until(lambda: listens(port), "redis listens")
    load = loads.Load(port, loads.redis_exchange)
    started.append(load)
    health = Health(redis.pid)
    chance = random.Random(1)
    for phase in PHASES:
        for with_guardian in (False, True):
            kill_in(phase, redis.pid, chance, with_guardian)
            load.assert_served()
            if with_guardian:
                assert_can_be_watched(redis.pid, watch, health)
            else:
                await_health(health)
    load.assert_served()
