"""What changed between two reports, as a section of the page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarking.report.results import Cell, Column, Table
from scripts.benchmarking.report.running import Report

# Part by which a figure must differ to be told: machines are noisy.
TOLD = 0.05


class NoReportError(Exception):
    """A file is no report; the message says which."""


@dataclass(frozen=True)
class Change:
    """A figure that is another one than before."""

    item: str
    row: str
    column: Column
    before: float
    now: float

    @property
    def ratio(self) -> float:
        """Now against before."""
        return self.now / self.before if self.before else float("inf")


def read_report(path: Path) -> Report:
    """The report of a former run.

    Raises:
        NoReportError: if the file is none, in a sentence.
    """
    try:
        return Report.from_json(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise NoReportError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise NoReportError(f"{path} is no report.json of this program") from error


def find_changes(before: Report, now: Report) -> list[Change]:
    """The figures that both have, and that differ by more than `TOLD`."""
    former = {
        (outcome.name, table.name): table
        for outcome in before.outcomes
        for table in outcome.findings.tables
    }
    changes: list[Change] = []
    for outcome in now.outcomes:
        for table in outcome.findings.tables:
            other = former.get((outcome.name, table.name))
            if other is not None:
                changes += _changes(outcome.name, other, table)
    return changes


def _changes(item: str, before: Table, now: Table) -> Iterator[Change]:
    rows = {_key(row): row for row in before.rows}
    for row in now.rows:
        old = rows.get(_key(row), {})
        for column in now.columns:
            first, second = old.get(column.key), row.get(column.key)
            if not isinstance(first, int | float) or not isinstance(second, int | float):
                continue
            if abs(second - first) > TOLD * abs(first):
                yield Change(item, _key(row), column, first, second)


def _key(row: Mapping[str, Cell]) -> str:
    """What a row is about: its words."""
    return ", ".join(str(cell) for cell in row.values() if isinstance(cell, str))


def render_changes(before: Report, now: Report) -> str:
    """The section; figures that are the same within a twentieth are left out."""
    changes = find_changes(before, now)
    device = before.machine.get("device", "an unknown machine")
    title = f"## What changed since `{before.command}` on {device}"
    if not changes:
        return f"{title}\n\nNo figure that both have differs by more than {TOLD:.0%}.\n"
    lines = [
        "| item | of | figure | before | now | ratio |",
        "| --- | --- | --- | ---: | ---: | ---: |",
    ]
    for change in changes:
        column = change.column
        cells = (column.show(change.before), column.show(change.now), f"{change.ratio:.2f}")
        lines.append(f"| {change.item} | {change.row} | {column.heading} | {' | '.join(cells)} |")
    return "\n".join([title, "", *lines]) + "\n"
