# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways in which a program can be watched: leakwatch's and those of its peers.

A way either changes the command that starts the program, or attaches to its PID. What is absent or
does not work raises Skip with the reason."""

import contextlib
import json
import os
import re
import shutil
import signal
import time

from .process import (LIMIT, Process, Skip, allocator_of, cpu_seconds, descendants, kill,
                      status_number, wait_until)

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
LEAKWATCH = os.environ.get("LEAKWATCH", os.path.join(TOP, "build/release/leakwatch"))
TARGETS = os.environ.get("TARGETS", os.path.join(TOP, "build/release/test/targets"))
SAMPLE = "512K"


class Way:
    """Not watched at all; what the others are measured against."""

    program = None  # that must be installed
    wraps = False   # True when it starts the program, instead of attaching to it
    threads = True  # False when programs that start threads do not survive it

    def __init__(self, name):
        self.name = name

    def missing(self):
        """Why it cannot be used at all, or None."""
        if self.program and shutil.which(self.program) is None:
            return f"{self.program} is not installed"
        return None

    def command(self, argv, _directory):
        return argv

    def start(self, _pid, _directory):
        """The Process that is going to attach, or None."""
        return None

    def wait(self, watcher, pid):
        """Returns when it has attached."""

    def leave(self, watcher, _target):
        """Ends the watcher; returns how much it saw, or None when it does not tell."""
        watcher.stop(signal.SIGINT)
        return None


class Leakwatch(Way):
    """Reads the attach object, whose keys are then in `attached`."""

    def __init__(self, name, engine, *options):
        super().__init__(name)
        self.engine, self.options = engine, options
        self.attached = None

    def start(self, pid, _directory):
        return Process([LEAKWATCH, f"--engine={self.engine}", "--format=json", "-i", "1h",
                        *self.options, "-p", str(pid)])

    def wait(self, watcher, _pid):
        self.attached = json.loads(watcher.line_with('"attach"'))
        engine = self.attached.get("engine")
        if engine != self.engine:
            raise Skip(f"leakwatch watches with {engine} instead: "
                       f"{self.attached.get('engine_reason') or 'it gives no reason'}")

    def leave(self, watcher, _target):
        watcher.stop(signal.SIGINT, LIMIT)
        for line in watcher.lines():
            if '"type":"summary"' in line.replace(" ", ""):
                return json.loads(line)["events"]["allocs"]
        raise Skip(f"leakwatch gave no summary: {watcher.end_told()}")


class Ltrace(Way):
    """A breakpoint for each call through the procedure linkage table."""

    program = "ltrace"
    threads = False

    def __init__(self, name):
        super().__init__(name)
        self._output = None

    def start(self, pid, directory):
        self._output = os.path.join(directory, f"ltrace.{pid}")
        return Process(["ltrace", "-f", "-e", "malloc+free", "-o", self._output, "-p", str(pid)])

    def wait(self, watcher, pid):
        wait_until(lambda: status_number(pid, "TracerPid") or not watcher.alive(),
                   "ltrace attached")

    def leave(self, watcher, _target):
        watcher.stop(signal.SIGINT)
        try:
            size = os.path.getsize(self._output)
            os.unlink(self._output)
        except FileNotFoundError:
            size = 0
        return size


class Valgrind(Way):
    """Memcheck, which interprets the program. The search for leaks at the end is left out."""

    program = "valgrind"
    wraps = True

    def command(self, argv, _directory):
        return ["valgrind", "-q", "--leak-check=no", *argv]


class HeaptrackRun(Way):
    """A preloaded library, from the start of the program on."""

    program = "heaptrack"
    wraps = True

    def command(self, argv, directory):
        return ["heaptrack", "-o", os.path.join(directory, "heaptrack"), *argv]


class HeaptrackAttached(Way):
    """The same, put into a running program by GDB. The data that it writes go with the program."""

    program = "heaptrack"

    def missing(self):
        if shutil.which("gdb") is None:
            return "gdb, which heaptrack attaches with, is not installed"
        return super().missing()

    def start(self, pid, directory):
        return Process(["heaptrack", "-o", os.path.join(directory, f"heaptrack.{pid}"),
                        "-p", str(pid)])

    def wait(self, watcher, _pid):
        watcher.line_with("injection finished")

    def leave(self, watcher, target):
        """Its script would call GDB again to stop the library: it does not when the target is
        gone, and that is quicker."""
        kill(target.pid)
        target.wait(LIMIT)
        self._end(watcher)
        counts = re.findall(r"\ballocations:\s+(\d+)", "\n".join(watcher.lines() +
                                                                 watcher.errors()))
        return int(counts[0]) if counts else 0

    @staticmethod
    def _end(watcher):
        if not watcher.wait(LIMIT):
            for pid in [*descendants(watcher.pid), watcher.pid]:
                kill(pid)
        watcher.stop()
        with contextlib.suppress(FileNotFoundError):  # when its script was killed
            os.unlink(f"/tmp/heaptrack_fifo{watcher.pid}")


class Memleak(Way):
    """bcc's script of uprobes, which is compiled with the kernel's headers."""

    program = "memleak-bpfcc"

    def start(self, pid, _directory):
        return Process(["memleak-bpfcc", "-O", allocator_of(pid), "-p", str(pid), "3600"],
                       {"PYTHONUNBUFFERED": "1"})

    def wait(self, watcher, _pid):
        try:
            watcher.line_with("Attaching to pid")
        except Skip as failure:
            watcher.stop(signal.SIGINT)
            headers = [line for line in watcher.errors() + watcher.lines() if "headers" in line]
            raise Skip(headers[0].split(". ")[0] if headers else str(failure)) from None
        time.sleep(1)  # it says so before it does so


class Bpftrace(Way):
    """uprobes.bt: the same uprobes, without the kernel's headers."""

    program = "bpftrace"

    def start(self, pid, directory):
        path = os.path.join(directory, f"uprobes.{pid}.bt")
        probes = os.path.join(os.path.dirname(__file__), "uprobes.bt")
        with open(probes, encoding="utf-8") as script:
            text = script.read().replace("ALLOCATOR", allocator_of(pid))
        with open(path, "w", encoding="utf-8") as script:
            script.write(text)
        return Process(["bpftrace", "-p", str(pid), path], {"BPFTRACE_MAP_KEYS_MAX": "1000000"})

    def wait(self, watcher, _pid):
        watcher.line_with("calls")

    def leave(self, watcher, _target):
        watcher.stop(signal.SIGINT)
        counts = [int(line.split()[1]) for line in watcher.lines() if line.startswith("calls ")]
        return max(counts, default=0)


UNTRACED = Way("untraced")
RECORD = Leakwatch("record", "record")
SAMPLED = Leakwatch("record sampled", "record", f"--sample={SAMPLE}")
TRAP = Leakwatch("trap", "trap")
LTRACE = Ltrace("ltrace")
VALGRIND = Valgrind("valgrind")
HEAPTRACK_RUN = HeaptrackRun("heaptrack run")
HEAPTRACK = HeaptrackAttached("heaptrack attached")
MEMLEAK = Memleak("memleak-bpfcc")
BPFTRACE = Bpftrace("bpftrace uprobes")
ALL = [UNTRACED, RECORD, SAMPLED, TRAP, LTRACE, VALGRIND, HEAPTRACK_RUN, HEAPTRACK, MEMLEAK,
       BPFTRACE]


class Watched:
    """A program that runs, and what watches it."""

    def __init__(self, way, target, directory):
        self.way, self.target, self.directory = way, target, directory
        self.pid = None  # of the program itself; it tells it when it is ready
        self.watcher = None
        self.may_be_idle = False  # True when the program need not have allocated

    def ready(self, pid):
        """The program is ready, and its PID is this: it may be watched now."""
        self.pid = pid
        self.watcher = self.way.start(pid, self.directory)
        if self.watcher:
            self.way.wait(self.watcher, pid)
        time.sleep(0.2)

    def check(self):
        """Raises when it was not watched to this moment, or did not survive that."""
        for process in (self.target, self.watcher):
            if process and not process.alive():
                raise Skip(process.end_told())

    def watchers(self):
        """The processes that watching takes."""
        first = self.watcher or (self.target if self.way.wraps else None)
        pids = {first.pid, *descendants(first.pid)} if first else set()
        return pids - {self.pid}

    def watchers_cpu_seconds(self):
        return sum(cpu_seconds(pid) for pid in self.watchers())

    def watchers_peak_kib(self):
        return sum(status_number(pid, "VmHWM") for pid in self.watchers())

    def end(self):
        """Ends both. Raises when the watcher saw nothing, since that is no measurement."""
        watcher, self.watcher = self.watcher, None
        try:
            if watcher and self.way.leave(watcher, self.target) == 0 and not self.may_be_idle:
                raise Skip(f"{watcher.name} saw no allocation")
        finally:
            self._end_target()

    def _end_target(self):
        if self.pid and self.target.alive():
            kill(self.pid)
        if self.pid is None or not self.target.wait(LIMIT):
            self.target.stop(signal.SIGKILL)
        self.target.stop()


@contextlib.contextmanager
def watched(way, argv, directory, environment=None):
    """A program started in this way; watched from ready() to the end of the block."""
    run = Watched(way, Process(way.command(argv, directory), environment), directory)
    try:
        yield run
        run.check()
    except BaseException:
        with contextlib.suppress(Skip):
            run.end()
        raise
    run.end()
