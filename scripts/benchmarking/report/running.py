"""The items one after the other, each in a process of its own and in its share of the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scripts.benchmarking.report.processes import Ending, run_command
from scripts.benchmarking.report.results import Findings, read_findings

# Of its time an item may measure so much: the rest is for what it has begun then, for starting
# Python and for ending.
MEASURING_SHARE = 0.85
# Lines of the output of an item that went wrong.
LAST_LINES = 20
# Below so many seconds not even torch is imported.
LEAST_S = 2.0


@dataclass(frozen=True)
class Item:
    """Something to measure.

    Attributes:
        name: for the command line and files.
        title: for readers.
        weight: its share of the time, against the weights of the others.
        command: of the process that measures: it is given the path of its findings and the seconds
            after which it should come to an end.
    """

    name: str
    title: str
    weight: float
    command: Callable[[Path, float], list[str]]


@dataclass
class Outcome:
    """What came of an item.

    Attributes:
        name: of the item.
        title: of the item.
        state: done, failed, time up, interrupted or not started.
        limit_s: seconds that it was given.
        seconds: that it took.
        message: what went wrong, a sentence; empty if nothing did.
        last_lines: of the output, where something went wrong.
        findings: figures and sentences.
    """

    name: str
    title: str
    state: str
    limit_s: float = 0.0
    seconds: float = 0.0
    message: str = ""
    last_lines: list[str] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)

    @property
    def is_good(self) -> bool:
        """Whether it came to its end with figures and without faults."""
        findings = self.findings
        return self.state == "done" and findings.has_figures and not findings.faults

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Outcome:
        """The outcome that `asdict` made plain."""
        values: dict[str, Any] = {**raw, "findings": Findings.from_json(raw["findings"])}
        return cls(**values)


@dataclass
class Report:
    """All that is known so far.

    Attributes:
        machine: facts by name, in order.
        command: that was given.
        minutes: that it was given.
        outcomes: of the items, in order.
        pictures: file names by the name of the item.
        notes: what went wrong with the report itself.
    """

    machine: dict[str, str] = field(default_factory=dict)
    command: str = ""
    minutes: float = 0.0
    outcomes: list[Outcome] = field(default_factory=list)
    pictures: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether every item gave figures and none found a fault."""
        return bool(self.outcomes) and all(outcome.is_good for outcome in self.outcomes)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Report:
        """The report that `asdict` made plain."""
        outcomes = [Outcome.from_json(one) for one in raw["outcomes"]]
        values: dict[str, Any] = {**raw, "outcomes": outcomes}
        return cls(**values)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def share_of_time(left_s: float, weights: Sequence[float]) -> float:
    """Seconds for the first of the items that are still to come.

    What an item leaves over so goes to all that follow.
    """
    return max(0.0, left_s) * weights[0] / sum(weights)


def run_items(
    items: Sequence[Item],
    seconds: float,
    folder: Path,
    report: Report,
    save: Callable[[Report], None],
    say: Callable[[str], None] = print,
) -> bool:
    """Measure everything; False if somebody interrupted it.

    Args:
        items: in the order in which they are measured.
        seconds: for all of them together.
        folder: for the findings and the outputs of the items.
        report: gets the outcomes.
        save: is called after each item.
        say: tells somebody who waits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    report.outcomes = [
        Outcome(item.name, item.title, "not started", message="was not begun") for item in items
    ]
    for number, item in enumerate(items):
        weights = [later.weight for later in items[number:]]
        limit_s = share_of_time(end - time.monotonic(), weights)
        if limit_s < LEAST_S:
            report.outcomes[number].message = "was not begun, for the time was up"
            save(report)
            continue
        say(f"{item.title}: {limit_s:.0f} s at most")
        try:
            report.outcomes[number] = run_item(item, limit_s, folder)
        except KeyboardInterrupt:
            findings = read_findings(folder / f"{item.name}.json")
            report.outcomes[number] = Outcome(
                item.name, item.title, "interrupted", limit_s, 0.0, "was interrupted", [], findings
            )
            save(report)
            return False
        say(f"  {in_words(report.outcomes[number])}")
        save(report)
    return True


def run_item(item: Item, limit_s: float, folder: Path) -> Outcome:
    """Measure one item."""
    path = folder / f"{item.name}.json"
    # What a former report left here is not of this one.
    path.unlink(missing_ok=True)
    command = item.command(path, MEASURING_SHARE * limit_s)
    ending = run_command(command, limit_s, own_group=True)
    (folder / f"{item.name}.txt").write_text(ending.output, encoding="utf-8")
    return judge(item, ending, limit_s, read_findings(path))


def judge(item: Item, ending: Ending, limit_s: float, findings: Findings) -> Outcome:
    """What an ending and findings come to."""
    message = ending.describe(limit_s)
    state = "done"
    if ending.timed_out:
        state = "time up"
    elif message:
        state = "failed"
    elif not findings.has_figures:
        state = "failed"
        message = "gave no figures"
    lines = ending.last_lines(LAST_LINES) if message else []
    return Outcome(item.name, item.title, state, limit_s, ending.seconds, message, lines, findings)


def in_words(outcome: Outcome) -> str:
    """An outcome for somebody who waits."""
    findings = outcome.findings
    count = sum(len(table.rows) for table in findings.tables)
    text = f"{count} rows of figures in {outcome.seconds:.0f} s"
    if outcome.message:
        text += f"; {outcome.message}"
    if findings.faults:
        text += f"; faults: {len(findings.faults)}, the first: {findings.faults[0]}"
    return text
