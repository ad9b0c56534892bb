# SPDX-License-Identifier: GPL-2.0-or-later
"""leakwatch is killed at random moments: the target lives, works, and can be watched again."""

import random
import signal
import subprocess
import time

import pytest

import harness
from harness import Health, assert_working, wait_until

KILLS = 9  # of each kind; 54 in all
PHASES = ["attach", "watch", "detach"]


class Victim:
    """A leakwatch that is to be killed; its output is read as far as `attach`, and no further."""

    def __init__(self, pid):
        argv = [harness.LEAKWATCH, "--format=json", "-T", "0", *harness.engine_options(),
                "-p", str(pid)]
        self.popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL)

    def armed(self):
        assert b'"attach"' in self.popen.stdout.readline()

    def kill(self, number=signal.SIGKILL):
        self.popen.send_signal(number)
        self.popen.wait(harness.LIMIT)
        self.popen.stdout.close()


def kill_in(phase, pid, chance):
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
    victim.kill()


def rate(target, seconds=0.2):
    """Calls a second."""
    before, start = target.progress(), time.monotonic()
    time.sleep(seconds)
    return (target.progress() - before) / (time.monotonic() - start)


def assert_can_be_watched(pid, watch, health):
    """A new leakwatch clears what the dead one has left, watches, and leaves nothing."""
    again = watch(pid)
    again.detach()
    health.assert_same()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("threads", [2, 8])
def test_storm_survives_kills(target, watch, engine, phase, threads):
    if engine != "record":
        pytest.skip("the trap engine does not survive yet")
    storm = target("storm", threads, "run")
    health = Health(storm.pid)
    speed = rate(storm)
    chance = random.Random(threads)
    for _ in range(KILLS):
        kill_in(phase, storm.pid, chance)
        assert_working(storm)
        assert_can_be_watched(storm.pid, watch, health)
    wait_until(lambda: rate(storm) > speed / 2, f"{speed} calls a second", 5)
