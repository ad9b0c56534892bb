# SPDX-License-Identifier: GPL-2.0-or-later
"""Control groups of the tests' own, of whichever version the machine has."""

import os

import pytest

import harness


def own_groups():
    """The directory of this process's group in each hierarchy."""
    with open("/proc/self/cgroup", encoding="ascii") as lines:
        paths = dict(line.rstrip("\n").split(":", 2)[1:] for line in lines)
    with open("/proc/self/mountinfo", encoding="ascii") as mounts:
        for fields in (line.split() for line in mounts):
            root, point = fields[3], fields[4]
            kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
            for controllers, path in paths.items():
                if kind == "cgroup2" and controllers == "" or \
                        kind == "cgroup" and controllers in options:
                    yield os.path.join(point, os.path.relpath(path, root))


class ControlGroup:
    """A group that has one of these files; its processes have to end before it."""

    def __init__(self, *files):
        for parent in own_groups():
            self.path = os.path.join(parent, f"leakwatch-test-{os.getpid()}")
            try:
                os.mkdir(self.path)
            except OSError:
                continue
            for self.file in files:
                if os.access(os.path.join(self.path, self.file), os.W_OK):
                    return
            os.rmdir(self.path)
        pytest.skip(f"no control group with {' or '.join(files)} can be made here")

    def write(self, name, value):
        with open(os.path.join(self.path, name), "w", encoding="ascii") as file:
            file.write(str(value))

    def set(self, value):
        self.write(self.file, value)

    def add(self, pid):
        self.write("cgroup.procs", pid)

    def shell_prefix(self):
        """What makes a shell command run in it: sh -c PREFIX sh COMMAND..."""
        return f'echo $$ > {self.path}/cgroup.procs && exec "$@"'

    def processes(self):
        with open(os.path.join(self.path, "cgroup.procs"), encoding="ascii") as procs:
            return procs.read().split()

    def stop(self):
        harness.wait_until(lambda: not self.processes(), "no process in the control group")
        os.rmdir(self.path)
