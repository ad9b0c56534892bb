# SPDX-License-Identifier: GPL-2.0-or-later
"""A real shell's job control, on a real terminal, goes on working with a job that is watched."""

import os
import pty
import re
import select
import signal
import time

import pytest

from harness import (LIMIT, Health, assert_working, each_status, target_path, wait_until)

STOP, INTERRUPT = b"\x1a", b"\x03"  # Ctrl-Z, Ctrl-C


class Shell:
    """An interactive bash on a terminal of its own."""

    def __init__(self):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            environment = {**os.environ, "PS1": "prompt> ", "LC_ALL": "C"}
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"], environment)
        self.text = ""
        self.type("stty -echo; unset PROMPT_COMMAND; echo rea''dy\n")
        self.expect("ready")

    def type(self, keys):
        os.write(self.master, keys if isinstance(keys, bytes) else keys.encode())

    def expect(self, pattern):
        """Waits for output that matches, and forgets what came before it."""
        deadline = time.monotonic() + LIMIT
        while not (found := re.search(pattern, self.text)):
            ready, _, _ = select.select([self.master], [], [], deadline - time.monotonic())
            assert ready, f"no {pattern!r} within {LIMIT} s, but {self.text!r}"
            self.text += os.read(self.master, 4096).decode(errors="replace")
        self.text = self.text[found.end():]
        return found

    def stop(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.master)


class Job:
    """A target that was started in the shell's foreground, and reads the terminal."""

    def __init__(self, shell, name, *arguments):
        self.shell = shell
        shell.type(" ".join([target_path(name), *map(str, arguments)]) + "\n")
        self.pid = int(shell.expect(r'"ready":(\d+)').group(1))

    def ask(self, text):
        self.shell.type(text + "\n")
        answer = self.shell.expect(r'"progress":(\d+),"corrupt":(\d+)')
        return {"progress": int(answer.group(1)), "corrupt": int(answer.group(2))}

    def wait_for_stop(self):
        # "t" is how a stopped thread shows that is traced
        wait_until(lambda: all(status["State"][0] in "Tt"
                               for status in each_status(self.pid).values()), "all stopped")

    def stop(self):
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


@pytest.fixture
def shell(started):
    started.append(Shell())
    return started[-1]


@pytest.fixture
def job(shell, started):
    # it reads the terminal with its own threads at work
    started.append(Job(shell, "signaller"))
    return started[-1]


def suspend(shell, job):
    shell.type(STOP)
    shell.expect("Stopped")
    job.wait_for_stop()


def resume(shell, job):
    shell.type("fg\n")
    shell.expect("signaller")
    assert_working(job)


def send_to_background(shell, job):
    """It reads the terminal, so the terminal stops it (SIGTTIN), and the shell is told."""
    shell.type("bg\n")
    shell.expect("signaller &")
    wait_until(lambda: shell_is_told(shell), "stopped by the terminal")
    job.wait_for_stop()


def shell_is_told(shell):
    shell.type("jobs\n")
    return shell.expect(r"(Stopped|Running) .*signaller").group(1) == "Stopped"


def interrupt(shell):
    shell.type(INTERRUPT)
    shell.expect("prompt> ")
    shell.type("echo status=$?.\n")
    assert shell.expect(r"status=(\d+)\.").group(1) == str(128 + signal.SIGINT)


def test_a_watched_job_is_stopped_and_continued(shell, job, engine, watch):
    assert_working(job)
    health = Health(job.pid)
    watching = watch(job.pid, "-i", "1h")
    for _ in range(3):
        suspend(shell, job)
        resume(shell, job)
    suspend(shell, job)
    send_to_background(shell, job)
    resume(shell, job)
    watching.detach()
    health.assert_same()
    suspend(shell, job)
    resume(shell, job)
    interrupt(shell)


def test_a_watch_begins_and_ends_while_the_job_is_stopped(shell, job, engine, watch):
    health = Health(job.pid)
    suspend(shell, job)
    stopped = Health(job.pid)
    watching = watch(job.pid, "-i", "1h")
    job.wait_for_stop()
    assert watching.detach()["target_state"] == "stopped"
    stopped.assert_same()
    watching = watch(job.pid, "-i", "1h")
    resume(shell, job)
    suspend(shell, job)
    assert watching.detach()["target_state"] == "stopped"
    # a thread that was stopped inside the recorder keeps it in memory, until the next leakwatch
    stays = "stays mapped" in watching.stderr()
    if not stays:
        stopped.assert_same()
    resume(shell, job)
    if stays:
        watch(job.pid, "-i", "1h").detach()
    health.assert_same()
    interrupt(shell)


def test_a_watched_job_is_interrupted(shell, job, engine, watch):
    watching = watch(job.pid, "-i", "1h")
    suspend(shell, job)
    resume(shell, job)
    interrupt(shell)
    assert watching.finish() == 0
    assert len(watching.of("exit")) == 1
