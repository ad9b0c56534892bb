# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures: everything that a test starts is stopped after it, by its PID."""

import os
import resource

import pytest

import harness
from written import Written

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@pytest.fixture
def started():
    """What was started; stopped in reverse order."""
    processes = []
    yield processes
    for process in reversed(processes):
        process.stop()


@pytest.fixture
def target(started):
    """target(name, arguments...) starts a program of test/targets."""
    def start(name, *arguments, **options):
        started.append(harness.Target(name, *arguments, **options))
        return started[-1]
    return start


@pytest.fixture
def watch(started):
    """watch(pid, options...) starts leakwatch, and returns once it is armed."""
    def start(pid, *options, **popen_options):
        started.append(harness.Watch(pid, *options, **popen_options))
        started[-1].armed()
        return started[-1]
    return start


@pytest.fixture
def healthy_watch(watch):
    """The same; after the test, the watch is ended if it still runs, and the target must be as it
    was before."""
    judged = []

    def start(pid, *options, **popen_options):
        health = harness.Health(pid)
        started_watch = watch(pid, *options, **popen_options)
        judged.append((started_watch, health))
        return started_watch
    yield start
    for started_watch, health in judged:
        if started_watch.alive():
            started_watch.detach()
        health.assert_same()


@pytest.fixture(params=harness.ENGINES)
def engine(request, monkeypatch):
    """Every watch of the test is by this engine. A file whose tests are the same for all engines
    uses it for all of them: pytestmark = pytest.mark.usefixtures("engine")."""
    monkeypatch.setattr(harness, "ENGINE", request.param)
    return request.param


@pytest.fixture(scope="session", autouse=True)
def built():
    assert os.access(harness.LEAKWATCH, os.X_OK), f"LEAKWATCH={harness.LEAKWATCH}: not built"
    assert os.path.isdir(harness.TARGETS), f"TARGETS={harness.TARGETS}: not built"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The files of one watch (written.py)."""
    return Written(tmp_path_factory.mktemp("formats"))
