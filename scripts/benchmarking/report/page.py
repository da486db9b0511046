"""The report as a page of Markdown: what went wrong first, then the figures."""

from __future__ import annotations

from scripts.benchmarking.report.results import Table
from scripts.benchmarking.report.running import Outcome, Report

# Lines of the output of an item that went wrong, on the page; the file beside it has more.
SHOWN_LINES = 8
# Characters of such a line.
SHOWN_WIDTH = 160


def render(report: Report) -> str:
    """The whole page."""
    machine = report.machine
    name = machine.get("device", "an unknown machine")
    parts = [f"# What {name} can do", _summary(report)]
    parts += _troubles(report)
    if machine:
        parts.append(_machine(machine))
    for outcome in report.outcomes:
        if outcome.findings.has_figures:
            parts.append(_section(outcome, report.pictures.get(outcome.name, [])))
    return "\n\n".join(parts) + "\n"


def _summary(report: Report) -> str:
    good = sum(outcome.is_good for outcome in report.outcomes)
    seconds = sum(outcome.seconds for outcome in report.outcomes)
    text = f"`{report.command}`: {good} of {len(report.outcomes)} items are without fault, "
    return text + f"measured in {seconds / 60:.1f} of {report.minutes:g} minutes."


def _troubles(report: Report) -> list[str]:
    """What is wrong and what is missing, plainly and at the top."""
    parts: list[str] = []
    faults: list[str] = []
    missing: list[str] = []
    for outcome in report.outcomes:
        faults += [f"- **{outcome.title}**: {fault}" for fault in outcome.findings.faults]
        missing += [f"- **{outcome.title}**: {gap}" for gap in outcome.findings.missing]
        if not outcome.message:
            continue
        sentence = f"- **{outcome.title}** {outcome.message}"
        if outcome.findings.has_figures:
            sentence += "; what it had measured by then is below"
        target = missing if outcome.state in ("not started", "interrupted") else faults
        target.append(f"{sentence}.{_quoted(outcome.last_lines)}")
    missing += [f"- {note}" for note in report.notes]
    if faults:
        parts += ["## What went wrong", "\n".join(faults)]
    if missing:
        parts += ["## What was not measured", "\n".join(missing)]
    return parts


def _quoted(lines: list[str]) -> str:
    """The last lines of an output below a point of a list."""
    if not lines:
        return ""
    shown = [f"  {line[:SHOWN_WIDTH]}" for line in lines[-SHOWN_LINES:]]
    return "\n\n  ```text\n" + "\n".join(shown).replace("```", "'''") + "\n  ```\n"


def _machine(machine: dict[str, str]) -> str:
    rows = [f"| {name} | {text} |" for name, text in machine.items()]
    return "\n".join(["## The machine", "", "| | |", "| --- | --- |", *rows])


def _section(outcome: Outcome, pictures: list[str]) -> str:
    findings = outcome.findings
    parts = [f"## {outcome.title[:1].upper()}{outcome.title[1:]}"]
    parts += [f"`{command}`" for command in findings.commands]
    for table in findings.tables:
        if table.rows:
            parts.append(render_table(table))
    parts += findings.notes
    parts += [f"![{outcome.title}]({picture})" for picture in pictures]
    return "\n\n".join(parts)


def render_table(table: Table) -> str:
    """A table in Markdown; figures stand to the right."""
    words = {
        column.key: any(isinstance(row.get(column.key), str) for row in table.rows)
        for column in table.columns
    }
    # A column of which nothing is known would be a row of dashes.
    columns = [c for c in table.columns if any(row.get(c.key) is not None for row in table.rows)]
    lines = [f"**{table.title[:1].upper()}{table.title[1:]}**", ""]
    lines.append(f"| {' | '.join(column.heading for column in columns)} |")
    rules = ("---" if words[column.key] else "---:" for column in columns)
    lines.append(f"| {' | '.join(rules)} |")
    for row in table.rows:
        cells = (column.show(row.get(column.key)) for column in columns)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
