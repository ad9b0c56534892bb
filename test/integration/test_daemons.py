# SPDX-License-Identifier: GPL-2.0-or-later
"""Real daemons under load: some seconds watched, then healthy, and never a wrong answer."""

import os

import pytest

import loads
import servers
from harness import Health, stack_text, wait_until

pytestmark = pytest.mark.usefixtures("engine")

SECONDS = "6s"


@pytest.fixture
def run(started):
    """run(argv) starts a program, and skips the test when it is not installed."""
    def start(*argv, port=None):
        try:
            process = servers.run(*argv, port=port)
        except servers.Missing as missing:
            pytest.skip(str(missing))
        started.append(process)
        return process
    return start


@pytest.fixture
def load(started):
    def start(port, exchange):
        started.append(loads.Load(port, exchange))
        return started[-1]
    return start


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
    pid, port = servers.start_redis(run, tmp_path)
    servers.load_redis(run, port)
    watching = assert_harmless(pid, load(port, loads.redis_exchange), watch)
    modules = [os.path.basename(each["module"])
               for each in watching.of("attach")[0]["allocators"]]
    assert any("jemalloc" in module for module in modules)


def test_redis_scripts_are_the_first_stack(run, load, watch, tmp_path):
    """What grows for ever is told first, by the function that hoards it."""
    pid, port = servers.start_redis(run, tmp_path)
    scripts = load(port, loads.redis_script_exchange)
    scripts.assert_served()
    health = Health(pid)
    watching = watch(pid, "-e", "500ms", "-i", "1h")
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
    pid, port = servers.start_nginx(run, tmp_path, master)
    servers.load_nginx(run, port)
    assert_harmless(pid, load(port, loads.http_exchange), watch)


def test_memcached(run, load, watch):
    pid, port = servers.start_memcached(run)
    client = load(port, loads.memcached_exchange)
    load(port, loads.memcached_exchange)
    assert_harmless(pid, client, watch)
