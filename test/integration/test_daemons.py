# SPDX-License-Identifier: GPL-2.0-or-later
"""Real daemons under load: some seconds watched, then healthy, and never a wrong answer."""

import os
import shutil
import socket
import subprocess

import pytest

import loads
from harness import Daemon, Health, free_port, stack_text, wait_until

pytestmark = pytest.mark.usefixtures("engine")

SECONDS = "6s"
NGINX = """
daemon off; master_process {master}; worker_processes 1; user root; pid {directory}/pid;
error_log {directory}/error.log; events {{ worker_connections 128; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{ listen 127.0.0.1:{port}; root {directory}/root; }}
}}
"""


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def run(started):
    """run(argv) starts a program, and skips the test when it is not installed."""
    def start(*argv, port=None):
        if shutil.which(argv[0]) is None:
            pytest.skip(f"{argv[0]} is not installed")
        process = Daemon([str(word) for word in argv], stdin=subprocess.DEVNULL)
        started.append(process)
        if port:
            wait_until(lambda: listens(port) or not process.alive(), f"{argv[0]} listens")
            assert process.alive(), process.stderr()
        return process
    return start


@pytest.fixture
def load(started):
    def start(port, exchange):
        started.append(loads.Load(port, exchange))
        return started[-1]
    return start


def start_redis(run, directory):
    port = free_port()
    server = run("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly",
                 "no", "--dir", directory, port=port)
    return server, port


def assert_harmless(pid, load, watch):
    """Watches for some seconds; the server serves rightly before, meanwhile and after."""
    health = Health(pid)
    load.assert_served()
    watching = watch(pid, "-e", "2s", "-i", "3s", "-d", SECONDS)
    load.assert_served()
    assert watching.finish() == 0, watching.stderr()
    receipt = watching.receipt()
    assert receipt["threads"] >= 1 and receipt["probes_removed"] >= 1
    health.assert_same()
    load.assert_served()
    summary = watching.summary()
    assert summary["events"]["allocs"] > 0
    assert summary["losses"]["missed_returns"] == 0
    assert summary["events"]["missed_frees"] == 0
    return watching


def test_redis(run, load, watch, tmp_path):
    server, port = start_redis(run, tmp_path)
    run("redis-benchmark", "-p", port, "-t", "set,get,lpush,lpop", "-c", "4", "-n", "1000", "-l",
        "-q")
    watching = assert_harmless(server.pid, load(port, loads.redis_exchange), watch)
    modules = [os.path.basename(each["module"])
               for each in watching.of("attach")[0]["allocators"]]
    assert any("jemalloc" in module for module in modules)


def test_redis_scripts_are_the_first_stack(run, load, watch, tmp_path):
    """What grows for ever is told first, by the function that hoards it."""
    server, port = start_redis(run, tmp_path)
    scripts = load(port, loads.redis_script_exchange)
    scripts.assert_served()
    health = Health(server.pid)
    watching = watch(server.pid, "-e", "500ms", "-i", "1h")
    scripts.assert_served(300)
    report = wait_until(lambda: (found := watching.report())["expired"]["blocks"] > 300 and found,
                        "expired scripts")
    texts = [stack_text(stack) for stack in report["stacks"][:3]]
    assert "evalGenericCommand" in texts[0]
    assert any("luaCreateFunction" in text for text in texts), texts
    watching.detach()
    health.assert_same()
    scripts.assert_served()


@pytest.mark.parametrize("master", ["off", "on"])
def test_nginx(run, load, watch, tmp_path, master):
    port = free_port()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "index.html").write_text("content\n", encoding="ascii")
    (tmp_path / "conf").write_text(NGINX.format(master=master, directory=tmp_path, port=port),
                                   encoding="ascii")
    server = run("nginx", "-c", tmp_path / "conf", "-p", tmp_path, port=port)
    pid = server.pid
    if master == "on":
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
            pid = int(children.read().split()[0])
    run("wrk", "-t", "1", "-c", "4", "-d", "60s", f"http://127.0.0.1:{port}/")
    assert_harmless(pid, load(port, loads.http_exchange), watch)


def test_memcached(run, load, watch):
    port = free_port()
    server = run("memcached", "-u", "root", "-l", "127.0.0.1", "-p", port, "-U", "0", "-t", "2",
                 port=port)
    client = load(port, loads.memcached_exchange)
    load(port, loads.memcached_exchange)
    assert_harmless(server.pid, client, watch)
