# SPDX-License-Identifier: GPL-2.0-or-later
"""Text as a person reads it on a terminal, and the progress of what takes long."""

import fcntl
import http.server
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import threading
import time

import pytest

import harness
from harness import LIMIT, target_path, wait_until

COLUMNS = 80


class Terminal:
    """A leakwatch on a terminal of 80 columns."""

    def __init__(self, *arguments, environment=None):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        self.text = ""
        self.popen = subprocess.Popen([harness.LEAKWATCH, *map(str, arguments)], stdin=slave,
                                      stdout=slave, stderr=slave,
                                      env={**os.environ, "TERM": "xterm", **(environment or {})})
        os.close(slave)

    def read(self, deadline):
        """Some more; False at the end."""
        ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"no more within {LIMIT} s behind {self.text[-2000:]!r}"
        try:
            more = os.read(self.master, 65536)
        except OSError:  # EIO: the last writer has gone
            return False
        self.text += more.decode(errors="replace").replace("\r\n", "\n")
        return True

    def expect(self, pattern):
        deadline = time.monotonic() + LIMIT
        while not (found := re.search(pattern, self.text)):
            assert self.read(deadline), f"no {pattern!r}, but {self.text!r}"
        return found

    def finish(self):
        """All that it wrote, without what was erased."""
        deadline = time.monotonic() + LIMIT
        while self.read(deadline):
            pass
        assert self.popen.wait(LIMIT) == 0, self.text
        return re.sub(r"\r[^\r\n]*\x1b\[K(?=\r)|\r\x1b\[K", "", self.text)

    def stop(self):
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait(LIMIT)
        os.close(self.master)


@pytest.fixture
def terminal(started):
    def start(*arguments, **options):
        started.append(Terminal(*arguments, **options))
        return started[-1]
    return start


def shown(text):
    """The summary, without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text[text.rindex("Summary"):])


def test_a_report_on_a_terminal(target, terminal):
    templates = target("templates")
    watch = terminal("-e", "20ms", "-i", "1h", "-T", "0", templates.pid)
    watch.expect(r"\nengine ")
    for _ in range(3):
        templates.ask("leak")
    time.sleep(0.1)
    watch.popen.send_signal(signal.SIGINT)
    text = watch.finish()
    summary = shown(text)
    assert max(map(len, summary.splitlines())) <= COLUMNS, summary
    # the program's own frame, and below it those that only pass the request on
    for own in (r"shop::fill\(.*\)", r"shop::index<.*>::add\(.*\)", r"shop::copy_name\(.*\)",
                r"shop::duplicate\(.*\)"):
        assert re.search(rf"\n  > {own}\+0x[0-9a-f]+  targets/templates\.cpp:\d+\n", summary), summary
    assert re.search(r"\n    std::.*<…>.*  bits/\w+\.h:\d+\n", summary), summary
    assert re.search(r"\n    strdup\+0x[^\n]*\n  > shop::duplicate", summary), summary
    # what calls them all is told once
    assert re.search(r"\n    … \d+ outer frames as in #\d+\n", summary), summary
    stacks = len(re.findall(r"^#\d+ ", summary, re.MULTILINE))
    assert 0 < summary.count("\n    _start+0x") < stacks
    assert "\x1b[1;35m  > \x1b[0m" in text and "\x1b[2m    malloc+0x0" in text


def test_a_report_in_a_log_and_in_full():
    def summary_of(*options):
        result = subprocess.run(
            [harness.LEAKWATCH, "-e", "1ms", "-T", "0", *options, "--", target_path("templates")],
            input="leak\nleak\n", capture_output=True, text=True, timeout=LIMIT, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout[result.stdout.rindex("Summary"):]

    log = summary_of()
    assert re.search(r"::_M_realloc_insert<[^\n…]{100,}  bits/vector\.tcc:\d+  \(templates\)\n",
                     log), log
    assert "(anonymous namespace)::fill(" in log and "outer frames as in #" in log
    full = summary_of("-v")
    assert "outer frames as in #" not in full
    assert re.search(r"\n  > 0x[0-9a-f]{12}  shop::\(anonymous namespace\)::fill\(.*\)\+0x[0-9a-f]+"
                     r"  /.*/targets/templates\.cpp:\d+  \(/.*/templates\+0x[0-9a-f]+\)\n", full), full


def test_progress_of_writing(target, terminal, tmp_path):
    each = target("each_function")
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    watch = terminal("-e", "20ms", "-i", "1h", "--format=text", f"--format=json:{pipe}", each.pid)
    watch.expect(r"\nengine ")
    each.ask("begin")
    time.sleep(0.1)
    watch.popen.send_signal(signal.SIGUSR1)
    watch.expect(r"\rwriting [^\r]*/pipe\x1b\[K")
    stopped = threading.Event()

    def drain():
        while not stopped.wait(0.01):
            try:
                while os.read(reader, 65536):
                    pass
            except BlockingIOError:
                pass
    thread = threading.Thread(target=drain)
    thread.start()
    try:
        watch.expect(r"/pipe\x1b\[K\r\x1b\[K")  # it is erased
        watch.popen.send_signal(signal.SIGINT)
        text = watch.finish()
    finally:
        stopped.set()
        thread.join()
        os.close(reader)
    assert "writing" not in text and "Summary" in text


class Debuginfod:
    """A server of debug information that has none, and takes its time to say so."""

    def __init__(self):
        self.answers = threading.Event()
        self.asked = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                outer.answers.wait(LIMIT)
                self.send_error(404)

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def stop(self):
        self.answers.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def slow_names(started, tmp_path):
    """A target whose names only a server has that does not answer, that server, and where it is."""
    stripped = tmp_path / "each_function"
    shutil.copy(target_path("each_function"), stripped)
    subprocess.run(["strip", stripped], check=True, timeout=LIMIT)
    each = harness.Target("each_function", path=str(stripped))
    started.append(each)
    server = Debuginfod()
    started.append(server)
    return each, server, {"DEBUGINFOD_URLS": server.url(),
                          "DEBUGINFOD_CACHE_PATH": str(tmp_path / "cache")}


def test_no_name_holds_up_the_end(slow_names):
    each, server, environment = slow_names
    watch = subprocess.Popen(
        [harness.LEAKWATCH, "-e", "20ms", "-i", "300ms", "-d", "500ms", "-p", str(each.pid)],
        env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)
    try:
        while not watch.stdout.readline().startswith("engine "):
            assert watch.poll() is None
        each.ask("begin")
        text, _ = watch.communicate(timeout=LIMIT)
    finally:
        watch.kill()
    assert watch.returncode == 0 and server.asked and not server.answers.is_set()
    assert "Summary" in text


def test_progress_of_debug_information(slow_names, terminal):
    each, server, environment = slow_names
    watch = terminal("-e", "20ms", "-i", "1h", each.pid, environment=environment)
    watch.expect(r"\nengine ")
    each.ask("begin")
    time.sleep(0.1)
    watch.popen.send_signal(signal.SIGUSR1)
    watch.expect(r"\rreading debug information of each_function \(\d+ of \d+\)")
    wait_until(lambda: server.asked, "debuginfod is asked")
    watch.popen.send_signal(signal.SIGINT)  # nobody has to wait for the answer
    text = watch.finish()
    assert not server.answers.is_set()
    assert "reading debug information" not in text and "Summary" in text
