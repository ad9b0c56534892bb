# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures of every workload, way and round; told as tables for people, or as one JSON object."""

import statistics

from . import ways
from .workloads import Pause, Server

MOST_COLUMNS = 4
CELL = 22  # characters
# What else runs on the machine only ever adds to a cost: the least of the rounds is told. A pause
# differs by its nature, and there the median is.
PICKED = {Server.PER_SECOND: max, **dict.fromkeys(Pause.columns, statistics.median)}


def picked(column, figures):
    return PICKED.get(column, min)(figures)


class Results:
    """Keeps the figures of every round and, of what could not be measured, the reason."""

    def __init__(self):
        self._workloads = {}
        self.figures = {}  # workload: {way: {column: [a figure for each round]}}
        self.skipped = {}  # workload: {way: reason}; the way "" is every one of them

    def begin(self, workload):
        self._workloads[workload.name] = workload
        self.figures[workload.name] = {}
        self.skipped[workload.name] = {}

    def add(self, workload, way, figures):
        columns = self.figures[workload.name].setdefault(way.name, {})
        for column, figure in figures.items():
            columns.setdefault(column, []).append(figure)

    def skip(self, workload, way, reason):
        """What was measured of it before is not told: it did not get through all rounds. A way that
        has nothing to do with the workload has the reason ""."""
        self.figures[workload.name].pop(way.name if way else None, None)
        self.skipped[workload.name][way.name if way else ""] = reason

    def is_skipped(self, workload, way):
        return way.name in self.skipped[workload.name]

    def value(self, workload, way, column):
        """None when it was not measured."""
        figures = self.figures.get(workload, {}).get(way.name, {}).get(column)
        return picked(column, figures) if figures else None

    def reason(self, workload, way):
        """Why it was not measured."""
        skipped = self.skipped.get(workload)
        if skipped is None:
            return f"{workload} was not asked for"
        return skipped.get(way.name) or skipped.get("") or "it was not measured"

    def as_json(self):
        return {name: {"title": workload.title,
                       "ways": {way: {column: {"value": picked(column, figures), "rounds": figures}
                                      for column, figures in columns.items()}
                                for way, columns in self.figures[name].items()},
                       "skipped": self.skipped[name]}
                for name, workload in self._workloads.items()}

    def tables(self):
        return "\n\n".join(self._table(name, workload)
                           for name, workload in self._workloads.items())

    def _table(self, name, workload):
        measured = self.figures[name]
        lines = [f"{workload.name}: {workload.title}"]
        if workload.note:
            lines.append(f"  {workload.note}")
        columns = list(dict.fromkeys(column for each in measured.values() for column in each))
        for first in range(0, len(columns), MOST_COLUMNS):
            lines += self._rows(name, columns[first:first + MOST_COLUMNS])
        lines += [f"  {way or 'all':20}  skipped: {reason}"
                  for way, reason in self.skipped[name].items() if reason]
        return "\n".join(lines)

    def _rows(self, name, columns):
        yield " " * 22 + "".join(f"{column:>{CELL}}" for column in columns).rstrip()
        for way in ways.ALL:
            if way.name in self.figures[name]:
                yield (f"  {way.name:20}" +
                       "".join(self._cell(name, way, column) for column in columns)).rstrip()

    def _cell(self, workload, way, column):
        """The figure, and how many times that of the unwatched program it is."""
        value = self.value(workload, way, column)
        if value is None:
            return f"{'-':>{CELL}}"
        base = self.value(workload, ways.UNTRACED, column)
        times = f"({number(value / base)}x)" if base and way is not ways.UNTRACED else ""
        return f"{number(value) + ' ' + times:>{CELL}}" if times else f"{number(value):>{CELL}}"


def number(value):
    """Three digits that count, and never an exponent."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
