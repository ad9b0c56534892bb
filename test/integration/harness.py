# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts targets and leakwatch, talks to both, and judges the health of what was watched."""

import json
import os
import queue
import re
import signal
import socket
import subprocess
import threading
import time

LEAKWATCH = os.environ.get("LEAKWATCH", "build/release/leakwatch")
TARGETS = os.environ.get("TARGETS", "build/release/test/targets")
# The engines that the tests of both run with, in turn; and the one that the fixture has chosen
# (None: the program's own default).
ENGINES = os.environ.get("LEAKWATCH_ENGINES", "trap,record").split(",")
ENGINE = None
LIMIT = 30  # seconds; a limit for every wait, never an expectation


def target_path(name):
    return os.path.join(TARGETS, name)


def engine_options():
    return [f"--engine={ENGINE}"] if ENGINE else []


def wait_until(condition, what, limit=LIMIT):
    """The first true value of condition(), polled; fails when there is none within the limit."""
    deadline = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit} s: {what}")
        time.sleep(0.02)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A process that was started here: its lines of output as they come, and its end."""

    def __init__(self, argv, env=None, stdin=subprocess.PIPE, **options):
        self.argv = argv
        self.popen = subprocess.Popen(
            argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})}, **options)
        self.pid = self.popen.pid
        self.lines = queue.Queue()
        self.errors = []
        self._readers = [
            threading.Thread(target=self._read, args=(self.popen.stdout, self.lines.put), daemon=True),
            threading.Thread(target=self._read, args=(self.popen.stderr, self.errors.append),
                             daemon=True)]
        for reader in self._readers:
            reader.start()

    def _read(self, stream, put):
        for line in stream:
            put(line.decode(errors="replace").rstrip("\n"))
        if stream is self.popen.stdout:
            put(None)

    def line(self, limit=LIMIT):
        """The next line of output; None at its end."""
        try:
            return self.lines.get(timeout=limit)
        except queue.Empty:
            raise AssertionError(f"{self.argv}: no output within {limit} s; "
                                 f"stderr: {self.stderr()}") from None

    def stderr(self):
        return "\n".join(self.errors)

    def tell(self, text):
        self.popen.stdin.write(text.encode() + b"\n")
        self.popen.stdin.flush()

    def send_signal(self, number):
        self.popen.send_signal(number)

    def wait(self, limit=LIMIT):
        try:
            code = self.popen.wait(limit)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.argv}: still runs after {limit} s; "
                                 f"stderr: {self.stderr()}") from None
        for reader in self._readers:
            reader.join(5)
        return code

    def alive(self):
        return self.popen.poll() is None

    def stop(self):
        if self.alive():
            self.popen.kill()
        self.popen.wait(LIMIT)
        if self.popen.stdin:
            try:
                self.popen.stdin.close()
            except OSError:
                pass


class Daemon(Process):
    """A server, which ends its own workers when it is asked to end."""

    def stop(self):
        if self.alive():
            self.popen.terminate()
            try:
                self.popen.wait(10)
            except subprocess.TimeoutExpired:
                pass
        super().stop()


class Target(Process):
    """A program of test/targets: one line asked, one JSON object answered."""

    def __init__(self, name, *arguments, interpreter=(), path=None, **options):
        super().__init__([*interpreter, path or target_path(name), *map(str, arguments)], **options)
        self.greeting = self.answer()

    def answer(self, limit=LIMIT):
        line = self.line(limit)
        assert line is not None, f"{self.argv}: ended with {self.popen.wait(LIMIT)}; {self.stderr()}"
        return json.loads(line)

    def ask(self, text, limit=LIMIT):
        self.tell(text)
        return self.answer(limit)

    def progress(self):
        return self.ask("count")["progress"]


class Watch(Process):
    """A leakwatch with JSON output. Objects are kept in `objects` as they are read."""

    def __init__(self, pid, *options, **popen_options):
        self.objects = []
        self.target_pid = pid
        argv = [LEAKWATCH, "--format=json", "-T", "0", *engine_options(), *map(str, options)]
        if pid is not None:
            argv += ["-p", str(pid)]
        super().__init__(argv, stdin=subprocess.DEVNULL, **popen_options)

    def next(self, kind=None, limit=LIMIT):
        """The next object, or the next one of a kind."""
        while True:
            line = self.line(limit)
            assert line is not None, \
                f"leakwatch ended ({self.popen.wait(LIMIT)}) before {kind}: {self.stderr()}"
            self.objects.append(json.loads(line))
            if kind is None or self.objects[-1]["type"] == kind:
                return self.objects[-1]

    def armed(self):
        return self.next("attach")

    def report(self):
        """A report of now."""
        self.send_signal(signal.SIGUSR1)
        return self.next("report")

    def settled_report(self):
        """A report in which every live block has expired, once the target rests."""
        def settled():
            report = self.report()
            return report if counted(report["live"]) == counted(report["expired"]) else None
        return wait_until(settled, "every live block expired")

    def finish(self, limit=LIMIT):
        """Reads what is left, and waits for the end; the exit code."""
        while (line := self.line(limit)) is not None:
            self.objects.append(json.loads(line))
        return self.wait(limit)

    def detach(self, number=signal.SIGINT):
        """Ends the watch by a signal; the receipt."""
        self.send_signal(number)
        code = self.finish()
        assert code == 0, f"exit code {code}: {self.stderr()}"
        return self.receipt()

    def of(self, kind):
        return [each for each in self.objects if each["type"] == kind]

    def receipt(self):
        assert self.objects and self.objects[-1]["type"] == "detach", self.objects[-1:]
        receipt = self.objects[-1]
        assert receipt["pid"] == self.target_pid
        assert receipt["code_verified"] is True
        return receipt

    def summary(self):
        summaries = self.of("summary")
        assert len(summaries) == 1, f"{len(summaries)} summaries"
        return summaries[0]


def counted(total):
    return {"bytes": total["bytes"], "blocks": total["blocks"]}


LEAK = re.compile(r"\b(leak_\w+)")


def leak_name(stack):
    """The target's own leak_ function in the stack; None when there is none."""
    for frame in stack["frames"]:
        found = LEAK.search(frame.get("function") or "")
        if found:
            return found.group(1)
    return None


def by_leak(report, kind="expired"):
    """{function: {"bytes", "blocks"}} of the expired (or "live") blocks, by the target's leak_
    function (None: those of no such function)."""
    sums = {}
    for stack in report["stacks"]:
        if stack[f"{kind}_blocks"]:
            total = sums.setdefault(leak_name(stack), {"bytes": 0, "blocks": 0})
            total["bytes"] += stack[f"{kind}_bytes"]
            total["blocks"] += stack[f"{kind}_blocks"]
    return sums


def leaks_of(report, kind="expired"):
    """The same without the blocks of the target's that merely happen to live."""
    return {name: total for name, total in by_leak(report, kind).items() if name}


def settled_leaks(watch, plan):
    """leaks_of the first report that has as many expired blocks of leak_ functions as were planned
    (or more), while the target goes on allocating."""
    planned = sum(total["blocks"] for total in plan.values())

    def leaks():
        found = leaks_of(watch.report())
        return found if sum(each["blocks"] for each in found.values()) >= planned else None
    return wait_until(leaks, f"{planned} expired blocks")


def nonzero(leaks):
    return {name: total for name, total in leaks.items() if total["blocks"]}


def stack_text(stack):
    return " < ".join((frame.get("function") or "?") for frame in stack["frames"])


# ---- health -----------------------------------------------------------------------------------

def read_status(pid, tid):
    with open(f"/proc/{pid}/task/{tid}/status", encoding="utf-8", errors="replace") as status:
        return dict(line.rstrip("\n").split(":\t", 1) for line in status if ":\t" in line)


def threads(pid):
    return sorted(int(tid) for tid in os.listdir(f"/proc/{pid}/task"))


def each_status(pid):
    """{tid: status}, of the threads that do not end meanwhile."""
    statuses = {}
    for tid in threads(pid):
        try:
            statuses[tid] = read_status(pid, tid)
        except (FileNotFoundError, ProcessLookupError):
            pass
    return statuses


class Mapping:
    def __init__(self, line):
        fields = line.split(None, 5)
        self.start, self.end = (int(part, 16) for part in fields[0].split("-"))
        self.permissions = fields[1]
        self.offset = int(fields[2], 16)
        self.inode = int(fields[4])
        self.path = fields[5].rstrip("\n") if len(fields) > 5 else ""


def mappings(pid):
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
        return [Mapping(line) for line in maps]


def executable_mappings(pid):
    return [mapping for mapping in mappings(pid) if "x" in mapping.permissions]


def recorder_mappings(pid):
    """What the record engine has mapped: a name with leakwatch in it, of whatever directory."""
    return [mapping for mapping in mappings(pid) if "leakwatch" in os.path.basename(mapping.path)]


def is_watched(pid):
    """Threads are let go one after the other."""
    return any(status["TracerPid"] != "0" for status in each_status(pid).values()) or \
        bool(recorder_mappings(pid))


def assert_code_is_the_file(pid):
    """Every executable mapping of a file holds what the file holds."""
    compared = 0
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for mapping in executable_mappings(pid):
            if mapping.inode == 0:
                continue
            size = mapping.end - mapping.start
            with open(f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}", "rb") as file:
                file.seek(mapping.offset)
                expected = file.read(size)
            memory.seek(mapping.start)
            found = memory.read(len(expected))
            different = [i for i in range(len(expected)) if found[i] != expected[i]] \
                if found != expected else []
            assert not different, \
                f"{mapping.path}: {len(different)} changed bytes, first at {different[0]:#x}"
            compared += len(expected)
    assert compared > 0


def await_left(pid):
    """For a leakwatch whose receipt cannot be read: the padding is restored when the last thread has
    been let go."""
    def is_left():
        try:
            assert_code_is_the_file(pid)
        except AssertionError:
            return False
        return not is_watched(pid)
    wait_until(is_left, "detached, and with its own code")


def foreign_mappings(pid):
    """Executable mappings of no file: there must be no more of them than before."""
    return {(mapping.start, mapping.end, mapping.path) for mapping in executable_mappings(pid)
            if mapping.inode == 0}


EVERY_SIGNAL = "fffffffffffbfeff"  # but SIGKILL and SIGSTOP


class Health:
    """What a process was like before it was watched, to be compared with afterwards."""

    STOPPED = "T"

    def __init__(self, pid):
        self.pid = pid
        self.stopped = self.is_stopped()
        self.signals = self.settled_signal_sets()
        self.foreign = foreign_mappings(pid)

    def is_stopped(self):
        return read_status(self.pid, self.pid)["State"].startswith(self.STOPPED)

    def states(self):
        return {status["State"][0] for status in each_status(self.pid).values()}

    def signal_sets(self):
        return {tid: (status["SigBlk"], status["SigIgn"], status["SigCgt"])
                for tid, status in each_status(self.pid).items()}

    def assert_same(self):
        """Alive, untraced, in its old state, with its own code, mappings and signal masks."""
        for tid, status in each_status(self.pid).items():
            assert status["TracerPid"] == "0", f"thread {tid} is traced by {status['TracerPid']}"
        # one that ends, or was let go but has no processor yet, shows another state for a moment
        wait_until(lambda: self.states() <= set("RSDT"), "threads that run, sleep or are stopped", 5)
        wait_until(lambda: self.is_stopped() == self.stopped, f"stopped: {self.stopped}", 5)
        assert_code_is_the_file(self.pid)
        assert foreign_mappings(self.pid) <= self.foreign
        assert [mapping.path for mapping in recorder_mappings(self.pid)] == []
        # a thread may block signals for a moment by itself (pthread_create does)
        wait_until(self.same_signals, f"signal sets {self.signals}", 5)

    def settled_signal_sets(self):
        """A thread that begins, or creates another, blocks all signals for a moment, those of the C
        library's own too, which programs cannot block."""
        def settled():
            sets = self.signal_sets()
            time.sleep(0.02)
            beginning = any(blocked == EVERY_SIGNAL for blocked, _, _ in sets.values())
            return sets if not beginning and sets == self.signal_sets() else None
        return wait_until(settled, "signal sets that stay")

    def same_signals(self):
        now = self.signal_sets()
        return all(now[tid] == old for tid, old in self.signals.items() if tid in now)


def assert_working(target):
    """The target goes on doing what it does, and found nothing wrong with its memory."""
    before = target.ask("count")
    wait_until(lambda: target.ask("count")["progress"] > before["progress"], "progress")
    assert target.ask("count").get("corrupt", 0) == 0


def run_leakwatch(*arguments, limit=LIMIT, argv=None, **options):
    """Runs leakwatch to its end."""
    argv = argv or [LEAKWATCH, *map(str, arguments)]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=limit, check=False, **options)
