# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts programs, talks to them, ends them by their PID, and reads what /proc tells of them."""

import collections
import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import tempfile
import threading
import time

LIMIT = 30  # seconds; for every wait, never an expectation
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Skip(Exception):
    """What was to be measured cannot be, and why."""


def wait_until(condition, what, limit=LIMIT):
    """The first true value of condition(), polled."""
    deadline = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Skip(f"not within {limit} s: {what}")
        time.sleep(0.02)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A program with its own session, so that no terminal is shared with it: its lines of output
    as they come, what it said on stderr, its end."""

    def __init__(self, argv, environment=None):
        self.name = os.path.basename(argv[0])
        self._errors = tempfile.TemporaryFile()  # pylint: disable=consider-using-with
        self.popen = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=self._errors, start_new_session=True,
                                      env={**os.environ, **(environment or {})})
        self.pid = self.popen.pid
        self._lines = queue.Queue()
        self._heard = collections.deque(maxlen=1000)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.popen.stdout:
            self._lines.put(line.decode(errors="replace").rstrip("\n"))
        self._lines.put(None)

    def alive(self):
        return self.popen.poll() is None

    def errors(self):
        self._errors.seek(0)
        return [line.strip() for line in self._errors.read().decode(errors="replace").splitlines()
                if line.strip()]

    def end_told(self):
        """How it ended, in words."""
        code = self.popen.poll()
        if code is None:
            return f"{self.name} still runs"
        told = (f"was killed by {signal.Signals(-code).name}" if code < 0
                else f"ended with status {code}")
        last = (self.errors() or [""])[-1]
        return f"{self.name} {told}" + (f": {last}" if last else "")

    def _next_line(self, deadline):
        """None at the end of the output, or at the deadline: also when there is more to read."""
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        try:
            return self._lines.get(timeout=left)
        except queue.Empty:
            return None

    def line_with(self, text, limit=LIMIT):
        """The next line of output that has the text in it."""
        deadline = time.monotonic() + limit
        line = self._next_line(deadline)
        while line is not None:
            self._heard.append(line)
            if text in line:
                return line
            line = self._next_line(deadline)
        if time.monotonic() >= deadline:
            raise Skip(f"{self.name} did not answer within {limit} s")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(LIMIT)
        raise Skip(self.end_told())

    def ask(self, question, limit=LIMIT):
        """The JSON object that answers the question (None: that it begins with)."""
        if question is not None:
            try:
                self.popen.stdin.write(question.encode() + b"\n")
                self.popen.stdin.flush()
            except BrokenPipeError:
                pass  # its end is told below
        return json.loads(self.line_with('{"', limit))

    def lines(self):
        """All the output of a process that has ended."""
        self._reader.join(LIMIT)
        with contextlib.suppress(queue.Empty):
            while True:
                self._heard.append(self._lines.get_nowait())
        return [line for line in self._heard if line is not None]

    def wait(self, limit):
        try:
            self.popen.wait(limit)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, number=signal.SIGTERM, limit=10):
        """Ends it, gently at first; then it and what it has started."""
        if self.alive():
            self.popen.send_signal(number)
        if not self.wait(limit):
            for pid in [*descendants(self.pid), self.pid]:
                kill(pid)
            self.wait(LIMIT)
        with contextlib.suppress(BrokenPipeError):  # a question that nobody reads any more
            self.popen.stdin.close()


def kill(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _stat(pid):
    """The fields of /proc/PID/stat behind the name, the state first; none when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()
    except OSError:
        return []


def descendants(pid):
    children = {}
    for entry in os.listdir("/proc"):
        fields = _stat(entry) if entry.isdigit() else []
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry))
    found = list(children.get(pid, []))
    for each in found:
        found.extend(children.get(each, []))
    return found


def cpu_seconds(pid):
    """Processor time, user and system, that the process has used."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND if fields else 0.0


def status_number(pid, key):
    """A number of /proc/PID/status; 0 when it is gone."""
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/status", encoding="utf-8") as status:
            for line in status:
                if line.startswith(key + ":"):
                    return int(line.split()[1])
    return 0


def allocator_of(pid):
    """The file of the library whose malloc the process calls, the libc's or another."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        files = [line.split(maxsplit=5)[5].strip() for line in maps
                 if "r-xp" in line and "/" in line]
    for part in ("jemalloc", "/libc.so", "/libc-"):
        for file in files:
            if part in file:
                return file
    raise Skip("it has no allocator that is known here")
