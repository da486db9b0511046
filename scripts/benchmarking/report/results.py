"""What an item of the report found: tables of figures with their units, faults, what is missing.

A result is a JSON file. The process that measures writes it anew after each figure, so that what
ends the process does not take the figures with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Cell = str | float | int | None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: in the rows.
        title: for readers.
        unit: of the figures; empty for words and plain numbers.
        digits: decimals that are shown.
    """

    key: str
    title: str
    unit: str = ""
    digits: int = 1

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    def show(self, value: Cell) -> str:
        """A cell in words: `-` for what is not known."""
        if value is None:
            return "-"
        if isinstance(value, float):
            return f"{value:,.{self.digits}f}" if math.isfinite(value) else "-"
        return str(value).replace("|", "\\|").replace("\n", " ")


@dataclass(frozen=True)
class Table:
    """Figures of one kind.

    Attributes:
        name: by which pictures find it.
        title: for readers.
        columns: what the rows hold.
        rows: values by key of a column; a missing one is not known.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: list[dict[str, Cell]] = field(default_factory=list)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Table:
        """The table that `asdict` made plain."""
        columns = tuple(Column(**column) for column in raw["columns"])
        return cls(raw["name"], raw["title"], columns, raw["rows"])


@dataclass
class Findings:
    """What an item found so far.

    Attributes:
        tables: with figures.
        faults: sentences, each of something that is wrong.
        missing: sentences, each of something that was not measured, and why.
        notes: sentences that a reader needs beside the figures.
        commands: that measure the same by hand.
    """

    tables: list[Table] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    @property
    def has_figures(self) -> bool:
        """Whether any table has a row."""
        return any(table.rows for table in self.tables)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Findings:
        """What `asdict` made plain."""
        tables = [Table.from_json(table) for table in raw["tables"]]
        sentences = {key: list(raw[key]) for key in ("faults", "missing", "notes", "commands")}
        return cls(tables, **sentences)


class Notebook:
    """Findings that are on the disk as soon as they are made.

    Args:
        path: of the JSON file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.findings = Findings()
        self.save()

    def table(self, name: str, title: str, columns: Sequence[Column]) -> Table:
        """A new table without rows."""
        table = Table(name, title, tuple(columns))
        self.findings.tables.append(table)
        return table

    def add(self, table: Table, **cells: Cell) -> None:
        """A row more."""
        table.rows.append(cells)
        self.save()

    def fault(self, sentence: str) -> None:
        """Something is wrong."""
        self._say(self.findings.faults, sentence)

    def missing(self, sentence: str) -> None:
        """Something was not measured."""
        self._say(self.findings.missing, sentence)

    def note(self, sentence: str) -> None:
        """Something that a reader should know."""
        self._say(self.findings.notes, sentence)

    def command(self, command: str) -> None:
        """What measures this by hand."""
        self._say(self.findings.commands, command)

    def save(self) -> None:
        """Write all of it; a reader sees the old file or the new one."""
        write_json(self.path, asdict(self.findings))

    def _say(self, sentences: list[str], sentence: str) -> None:
        if sentence not in sentences:
            sentences.append(sentence)
            self.save()


def read_findings(path: Path) -> Findings:
    """What a process has written; nothing, if it has not come to that."""
    try:
        return Findings.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return Findings()


def write_json(path: Path, value: object) -> None:
    """Write beside the file and rename; figures that are no number become null."""
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(json.dumps(_plain(value), indent=1, allow_nan=False), encoding="utf-8")
    beside.replace(path)


def _plain(value: Any) -> Any:
    """JSON has no word for infinity."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
