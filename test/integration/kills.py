# SPDX-License-Identifier: GPL-2.0-or-later
"""Leakwatches that are to die, at random moments or at exactly their Nth system call."""

import contextlib
import os
import shutil
import signal
import subprocess
import time

import harness
from harness import LIMIT, wait_until

GUARDIAN = "leakwatch-guard"
# The calls by which leakwatch changes the target: between any two of them it may be killed.
CALLS = ["ptrace", "pwrite64", "process_vm_writev"]


class Victim:
    """A leakwatch that is to die; of its output, no more than `attach` is read."""

    def __init__(self, pid, prefix=()):
        argv = [*prefix, harness.LEAKWATCH, "--format=json", "-T", "0", *harness.engine_options(),
                "-p", str(pid)]
        self.popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE)
        self.pid = self.popen.pid

    def armed(self):
        line = self.popen.stdout.readline()
        assert b'"attach"' in line, self.popen.stderr.read()

    def guardians(self):
        with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="ascii") as children:
            return [int(child) for child in children.read().split()
                    if harness.read_status(int(child), int(child))["Name"] == GUARDIAN]

    def kill(self, number=signal.SIGKILL, with_guardian=False):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # the watch is over already
            for guardian in self.guardians() if with_guardian else []:
                os.kill(guardian, signal.SIGKILL)
        self.popen.send_signal(number)
        return self.wait()

    def wait(self):
        code = self.popen.wait(LIMIT)
        self.popen.stdout.close()
        self.popen.stderr.close()
        return code

    def stop(self):
        if self.popen.poll() is None:
            self.kill()


def await_health(health, limit=10):
    """The guardian takes everything out by itself, soon."""
    def healthy():
        try:
            health.assert_same()
        except (AssertionError, OSError) as fault:
            faults.append(fault)
            return False
        return True
    faults = []
    deadline = time.monotonic() + limit
    while not healthy():
        assert time.monotonic() < deadline, faults[-1]
        time.sleep(0.02)


# ---- at exactly the Nth call of a kind -----------------------------------------------------------

def can_count_calls():
    return shutil.which("strace") is not None


def strace_that_kills(call, number, *rest):
    """Each thread counts its own calls; the first to begin its Nth kills its process, and does not make
    that call any more. The same for a guardian that is started meanwhile."""
    return subprocess.Popen(
        ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}",
         "-e", f"inject={call}:signal=KILL:when={number}", *map(str, rest)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def await_strace(strace):
    """It ends when leakwatch and its guardian have, killed or not."""
    try:
        _, errors = strace.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        strace.kill()
        strace.communicate()
        raise AssertionError(f"leakwatch or its guardian still runs after {LIMIT} s") from None
    return errors.decode(errors="replace")


def kill_while_attaching(pid, call, number):
    """From the first call of leakwatch's; False when it has ended before its Nth."""
    strace = strace_that_kills(call, number, harness.LEAKWATCH, *harness.engine_options(), "-q", "-o",
                               "/dev/null", "-d", "1ms", "-p", pid)
    errors = await_strace(strace)
    assert strace.returncode in (0, -signal.SIGKILL), errors
    return strace.returncode != 0


def is_traced_by(pid, tracer):
    return all(status["TracerPid"] == str(tracer) for status in harness.each_status(pid).values())


def kill_while_detaching(pid, call, number):
    """From the first call after it was armed; False when it has ended before its Nth. The guardian
    lives, and clears up."""
    victim = Victim(pid)
    try:
        victim.armed()
        strace = strace_that_kills(call, number, "-p", victim.pid)
        wait_until(lambda: strace.poll() is not None or is_traced_by(victim.pid, strace.pid),
                   "strace attached")
        victim.popen.send_signal(signal.SIGINT)
        await_strace(strace)
        code = victim.wait()
    finally:
        victim.stop()
    assert code in (0, -signal.SIGKILL), code
    return code != 0


WHEN = {"attach": kill_while_attaching, "detach": kill_while_detaching}


def kill_and_judge(storm, health, when, call, number, resting):
    """Kills one that attaches to or detaches from a storm, which must not mind; the next one must find
    nothing in its way, and leave nothing. False when leakwatch had ended before its Nth call."""
    if resting:
        storm.ask("rest")
    killed = WHEN[when](storm.pid, call, number)
    storm.ask("run")
    harness.assert_working(storm)
    watch = harness.run_leakwatch(*harness.engine_options(), "--format=json", "-d", "1ms", "-p",
                                  storm.pid)
    assert watch.returncode == 0 and '"code_verified":true' in watch.stdout, watch
    await_health(health)  # the guardian of the dead one may come to look once more
    harness.assert_working(storm)
    return killed
