# SPDX-License-Identifier: GPL-2.0-or-later
"""One watch that writes every format at once, for the tests that look at what was written."""

import os

from harness import Target, Watch, settled_leaks

# Those that are a file a report.
FORMATS = ["folded", "pprof", "svg", "html", "heap", "massif"]


class Written:
    """One watch of a program that leaks through each allocator function, in every format."""

    def __init__(self, directory):
        self.directory = directory
        target = Target("each_function")
        options = [f"--format={name}:{self.path(name)}" for name in FORMATS]
        watch = Watch(target.pid, *options, "-e", "50ms", "-i", "1h")
        try:
            watch.armed()
            plan = target.ask("begin")["leaks"]
            assert settled_leaks(watch, plan) == plan
            watch.report()  # JSON comes first: now all else of the report before is written too
            self.meanwhile = {name: self.read(name) for name in FORMATS}
            watch.detach()
            self.summary = watch.summary()
            self.reports = watch.of("report")
            self.report = self.reports[-1]
        finally:
            watch.stop()
            target.stop()

    def path(self, name):
        """Named as a browser wants it."""
        return os.path.join(self.directory, f"out.{name}")

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()
