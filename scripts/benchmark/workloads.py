# SPDX-License-Identifier: GPL-2.0-or-later
"""What is measured: each workload measures one way at a time, and answers with figures by name.

A figure's name is that of its column: for people what, then its unit."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import sys
import time

from . import ways
from .process import (LIMIT, Process, Skip, cpu_seconds, free_port, status_number, wait_until)
from .ways import TARGETS, watched

PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable


class Workload:
    """`rounds` are those of a full run; results.py tells which of them counts."""

    name = title = ""
    rounds = 3
    note = ""

    def __init__(self, directory, quick):
        self.directory, self.quick = directory, quick

    def missing(self):
        """Why it cannot be measured at all, or None."""
        return None

    def refuses(self, _way):
        """Why it is not measured in this way, or None."""
        return None

    def measure(self, way):
        """Figures by name. Raises Skip."""
        raise NotImplementedError


def median_answer(process, question, times):
    """The medians of what it answers each time."""
    answers = [process.ask(question) for _ in range(times)]
    return {key: statistics.median(answer[key] for answer in answers) for key in answers[0]}


class Pairs(Workload):
    """Nothing but allocating and freeing: the highest relative cost there can be."""

    name = "pairs"
    title = "malloc/free pair"
    rounds = 4
    note = ("f: frames, t: threads; cpu: processor time that the program itself used; clock: what\n"
            "  went by (stops and waiting too); ltrace has no 2 threads, since programs die of that")
    cells = [(frames, threads) for frames in (6, 30) for threads in (1, 2)]

    @staticmethod
    def column(frames, threads, kind):
        return f"{frames}f {threads}t {kind} ns"

    def measure(self, way):
        figures = {"clock": {}, "cpu": {}}
        with watched(way, [os.path.join(TARGETS, "pairs"), "ask"], self.directory) as run:
            run.ready(run.target.ask(None)["ready"])
            cells = [cell for cell in self.cells if way.threads or cell[1] == 1]
            for frames, threads in cells:  # fills caches and tables
                run.target.ask(f"pair {frames} {threads} 50")
            for frames, threads in cells:
                answer = median_answer(run.target, f"pair {frames} {threads} 80", 3)
                figures["clock"][self.column(frames, threads, "clock")] = answer["ns"]
                figures["cpu"][self.column(frames, threads, "cpu")] = answer["cpu_ns"]
        return {**figures["cpu"], **figures["clock"]}


class Live(Workload):
    """Many live blocks, freed at random. They are allocated before those who attach do, since that
    would take minutes under some; they replace them as fast as they can."""

    name = "live"
    blocks = 400000
    title = f"pair among {blocks} live blocks, freed at random"
    note = "6 frames, 1 thread; who is slow has seen few of the blocks begin"

    def measure(self, way):
        argv = [os.path.join(TARGETS, "pairs"), "ask", str(self.blocks)]
        with watched(way, argv, self.directory) as run:
            run.ready(run.target.ask(None)["ready"])
            run.target.ask("replace 700")
            answer = median_answer(run.target, "replace 150", 3)
        return {"cpu ns": answer["cpu_ns"], "clock ns": answer["ns"]}


class Python(Workload):
    """An ordinary program whose every object is a malloc."""

    name = "python"
    title = "python3 with PYTHONMALLOC=malloc, a round of work"

    def measure(self, way):
        script = os.path.join(os.path.dirname(__file__), "python_work.py")
        with watched(way, [PYTHON, script], self.directory, {"PYTHONMALLOC": "malloc"}) as run:
            run.ready(run.target.ask(None)["ready"])
            run.target.ask("run 300")
            answer = median_answer(run.target, "run 150", 3)
        return {"cpu us": answer["cpu_us"], "clock us": answer["us"]}


class Server(Workload):
    """A server on 127.0.0.1 and a load generator, both of which use the machine's processors:
    processor time tells more than requests per second."""

    PER_SECOND = "k requests/s"
    programs = ()
    note = "server: processor time of it; watcher: of what watches; judge by these, not by rates"

    def missing(self):
        absent = [name for name in self.programs if shutil.which(name) is None]
        return f"{', '.join(absent)} not installed" if absent else None

    @staticmethod
    @contextlib.contextmanager
    def load(argv):
        process = Process(argv)
        try:
            yield process
        finally:
            process.stop()

    @staticmethod
    def figures(requests, seconds, server, watcher):
        if requests <= 0:
            raise Skip(f"no request was answered in {seconds:.1f} s")
        return {"server us/request": server * 1e6 / requests,
                "watcher us/request": watcher * 1e6 / requests,
                Server.PER_SECOND: requests / seconds / 1000}


class Redis(Server):
    """A server that allocates for every request, from jemalloc."""

    name = "redis"
    title = "redis SET, pipelines of 16"
    programs = ("redis-server", "redis-benchmark")

    @staticmethod
    def _info(port, key):
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as connection:
            connection.settimeout(LIMIT)
            connection.sendall(b"INFO\r\n")
            answer = b""
            while key.encode() + b":" not in answer or not answer.endswith(b"\n"):
                part = connection.recv(65536)
                if not part:
                    raise OSError("closed")
                answer += part
        return int(re.search(key.encode() + rb":(\d+)", answer)[1])

    def _pid(self, port, server):
        def answered():
            try:
                return self._info(port, "process_id")
            except OSError:
                return not server.alive() and -1
        pid = wait_until(answered, "redis-server answers")
        if pid < 0:
            raise Skip(server.end_told())
        return pid

    def _state(self, port, run):
        try:
            requests = self._info(port, "total_commands_processed")
        except OSError as failure:
            run.check()
            raise Skip(f"redis-server did not answer: {failure}") from None
        return requests, time.monotonic(), cpu_seconds(run.pid), run.watchers_cpu_seconds()

    def measure(self, way):
        port = free_port()
        argv = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "",
                "--appendonly", "no", "--dir", self.directory]
        with watched(way, argv, self.directory) as run:
            run.ready(self._pid(port, run.target))
            with self.load(["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-t", "set",
                            "-P", "16", "-c", "16", "-n", "1000000000", "--csv"]):
                time.sleep(0.7)
                before = self._state(port, run)
                time.sleep(1 if self.quick else 2)
                after = self._state(port, run)
        return self.figures(*(new - old for new, old in zip(after, before)))


NGINX_CONF = """daemon off;
master_process off;
error_log stderr emerg;
pid {directory}/nginx.{port}.pid;
events {{ worker_connections 128; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
    uwsgi_temp_path {directory}; scgi_temp_path {directory};
    server {{ listen 127.0.0.1:{port}; location / {{ return 200 "well"; }} }}
}}
"""


class Nginx(Server):
    """A server that allocates pools."""

    name = "nginx"
    title = "nginx, small answers over open connections"
    programs = ("nginx", "wrk")

    def measure(self, way):
        port = free_port()
        conf = os.path.join(self.directory, f"nginx.{port}.conf")
        pid_file = os.path.join(self.directory, f"nginx.{port}.pid")
        with open(conf, "w", encoding="utf-8") as file:
            file.write(NGINX_CONF.format(directory=self.directory, port=port))
        argv = [shutil.which("nginx"), "-p", self.directory, "-e", "stderr", "-c", conf]
        with watched(way, argv, self.directory) as run:
            wait_until(lambda: not run.target.alive() or (os.path.exists(pid_file) and
                                                          os.path.getsize(pid_file)), "nginx runs")
            run.check()
            with open(pid_file, encoding="utf-8") as file:
                run.ready(int(file.read()))
            return self._under_load(port, run)

    def _under_load(self, port, run):
        seconds = 1 if self.quick else 2
        server, watcher = cpu_seconds(run.pid), run.watchers_cpu_seconds()
        with self.load(["wrk", "-t1", "-c16", f"-d{seconds}s", f"http://127.0.0.1:{port}/"]) as wrk:
            text = wrk.line_with("requests in")
            server = cpu_seconds(run.pid) - server
            watcher = run.watchers_cpu_seconds() - watcher
        return self.figures(int(text.split()[0]), seconds, server, watcher)


class Memory(Workload):
    """What a million live blocks cost, beside the blocks themselves."""

    name = "memory"
    rounds = 1
    note = ("target: resident memory that watching added to it, private and shared; watcher: the "
            "peak of what watches, shared memory too")

    def __init__(self, directory, quick):
        super().__init__(directory, quick)
        self.blocks = 100000 if quick else 1000000
        self.title = f"{self.blocks} live blocks"
        self._untraced_kib = None

    def refuses(self, way):
        if way is ways.LTRACE:
            return "it keeps nothing of a block, and a million calls take minutes"
        if way in (ways.MEMLEAK, ways.BPFTRACE):
            return "what it keeps is in the kernel"
        return None

    def measure(self, way):
        with watched(way, [os.path.join(TARGETS, "bigheap")], self.directory) as run:
            run.ready(run.target.ask(None)["ready"])
            run.target.ask(f"begin {self.blocks}", 120)
            if isinstance(way, ways.Leakwatch) and way is not ways.SAMPLED:
                self._check_live(run)
            target_kib = (status_number(run.pid, "RssAnon") + status_number(run.pid, "RssShmem"))
            watcher_kib = run.watchers_peak_kib()
        if way is ways.UNTRACED:
            self._untraced_kib = target_kib
        if self._untraced_kib is None:
            raise Skip("what it is without being watched is not known")
        added = (target_kib - self._untraced_kib) * 1024
        return {"target MiB": added / 2**20, "bytes/block": added / self.blocks,
                "watcher MiB": watcher_kib / 1024}

    def _check_live(self, run):
        run.watcher.popen.send_signal(signal.SIGUSR1)
        live = json.loads(run.watcher.line_with('"report"', 60))["live"]["blocks"]
        if live != self.blocks:
            raise Skip(f"leakwatch tells {live} live blocks")


class Pause(Workload):
    """What an attach does to a program at once; leakwatch alone tells."""

    name = "pause"
    title = "how long the attach stops the program, the median of rounds"
    note = "waiting: threads that sleep; busy: threads that allocate all the time"
    rounds = 5
    threads = 8
    columns = {f"{threads} waiting threads us": "idle", f"{threads} busy threads us": "run"}

    def refuses(self, way):
        return None if isinstance(way, ways.Leakwatch) else ""

    def measure(self, way):
        figures = {}
        for column, state in self.columns.items():
            argv = [os.path.join(TARGETS, "storm"), str(self.threads), state]
            with watched(way, argv, self.directory) as run:
                run.ready(run.target.ask(None)["ready"])
                figures[column] = way.attached["pause_us"]
                run.may_be_idle = state == "idle"
        return figures


ALL = [Pairs, Live, Python, Redis, Nginx, Memory, Pause]
