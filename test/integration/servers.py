# SPDX-License-Identifier: GPL-2.0-or-later
"""Starts real servers on 127.0.0.1: each takes `run`, which starts a program and has it ended later."""

import shutil
import socket
import subprocess

from harness import Daemon, free_port, wait_until

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


class Missing(Exception):
    """The program is not installed."""


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run(*argv, port=None):
    """Starts a program, and waits until it listens there."""
    if shutil.which(argv[0]) is None:
        raise Missing(f"{argv[0]} is not installed")
    process = Daemon([str(word) for word in argv], stdin=subprocess.DEVNULL)
    if port:
        wait_until(lambda: listens(port) or not process.alive(), f"{argv[0]} listens")
        assert process.alive(), process.stderr()
    return process


def start_redis(start, directory):
    """The server's PID and port."""
    port = free_port()
    server = start("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "",
                   "--appendonly", "no", "--dir", directory, port=port)
    return server.pid, port


def load_redis(start, port):
    start("redis-benchmark", "-p", port, "-t", "set,get,lpush,lpop", "-c", "4", "-n", "1000", "-l",
          "-q")


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as pids:
        return pids.read().split()


def start_nginx(start, directory, master="off"):
    """The PID of the process that serves, and its port."""
    port = free_port()
    (directory / "root").mkdir()
    (directory / "root" / "index.html").write_text("content\n", encoding="ascii")
    (directory / "conf").write_text(NGINX.format(master=master, directory=directory, port=port),
                                    encoding="ascii")
    pid = start("nginx", "-c", directory / "conf", "-p", directory, port=port).pid
    if master == "on":
        pid = int(wait_until(lambda: children(pid), "a worker")[0])
    return pid, port


def load_nginx(start, port, seconds=60):
    start("wrk", "-t", "1", "-c", "4", "-d", f"{seconds}s", f"http://127.0.0.1:{port}/")


def start_memcached(start):
    port = free_port()
    server = start("memcached", "-u", "root", "-l", "127.0.0.1", "-p", port, "-U", "0", "-t", "2",
                   port=port)
    return server.pid, port
