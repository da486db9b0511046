"""Pictures of the figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.benchmarking.report.results import Cell, Table
from scripts.benchmarking.report.running import Report

BLUE = "tab:blue"
ORANGE = "tab:orange"
GRAY = "0.45"
# Inches of a bar, and of a picture's title, axis and legend.
BAR = 0.27
AROUND = 1.8
WIDTH = 9.0
# Frames per second of films and of most screens.
RATES = (24, 60)
# Figures above so many times the smallest are drawn on a logarithmic axis.
WIDE = 30.0
# Pictures that an item's process has left in the folder.
LEFT_BEHIND = {"landing": "landing_run.png", "training": "training_run.png"}


def draw_all(report: Report, folder: Path) -> None:
    """Draw what there are figures for, and enter the files into the report.

    An item without a picture is no reason for a report to end: what cannot be drawn is a note.
    """
    report.pictures = {}
    for outcome in report.outcomes:
        files: list[str] = []
        for table in outcome.findings.tables:
            draw = DRAWERS.get(table.name)
            if draw is None or not table.rows:
                continue
            name = f"{table.name}.png"
            try:
                _save(folder / name, table, draw)
            except Exception as error:  # noqa: BLE001 (see above)
                note = f"The picture {name} could not be drawn: {type(error).__name__}: {error}"
                if note not in report.notes:
                    report.notes.append(note)
                continue
            files.append(name)
        left = LEFT_BEHIND.get(outcome.name)
        if left is not None and outcome.findings.has_figures and (folder / left).is_file():
            files.append(left)
        if files:
            report.pictures[outcome.name] = files


def _save(path: Path, table: Table, draw: Callable[[Any, Table], None]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure, table)
    figure.savefig(path, dpi=110)


def _number(cell: Cell) -> float:
    return float(cell) if isinstance(cell, int | float) else 0.0


def _labels(axes: Any, labels: list[str]) -> None:
    """Names of the bars, from the top down."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _landing(figure: Any, table: Table) -> None:
    rows = table.rows
    figure.set_size_inches(WIDTH, AROUND + 2 * BAR * len(rows))
    axes = figure.subplots()
    used = [_number(row.get("used_pct")) for row in rows]
    outside = [_number(row.get("driver_pct")) for row in rows]
    places = range(len(rows))
    axes.barh([p - 0.2 for p in places], used, 0.38, color=BLUE, label="as the run says")
    axes.barh([p + 0.2 for p in places], outside, 0.38, color=ORANGE, label="seen from outside")
    axes.axvline(85, color="black", linestyle="--", linewidth=1, label="target, 85 %")
    for place, row in zip(places, rows, strict=True):
        failures = int(_number(row.get("ooms")))
        words = f"{row.get('to')}" + (f", out of memory {failures} x" if failures else "")
        axes.text(1, place - 0.2, words, va="center", color="white", fontsize=8)
    _labels(
        axes, [f"{row.get('network')}\n{_number(row.get('memory_gib')):.1f} GiB" for row in rows]
    )
    axes.set(xlabel="memory used (%)", xlim=(0, 105), title="Where runs land (lq_size x batch)")
    figure.legend(loc="outside lower center", ncols=3)


def _planner(figure: Any, table: Table) -> None:
    figure.set_size_inches(WIDTH * 0.62, WIDTH * 0.55)
    axes = figure.subplots()
    networks = list(dict.fromkeys(str(row.get("network")) for row in table.rows))
    largest = 0.0
    smallest = float("inf")
    for network in networks:
        rows = [row for row in table.rows if row.get("network") == network]
        planned = [_number(row.get("planned_mib")) for row in rows]
        measured = [_number(row.get("measured_mib")) for row in rows]
        axes.plot(measured, planned, "o", label=network, markersize=8, alpha=0.85)
        largest = max([largest, *planned, *measured])
        smallest = min([smallest, *planned, *measured])
    ends = [smallest * 0.8, largest * 1.25]
    axes.plot(ends, ends, "--", color=GRAY, linewidth=1, label="equal")
    axes.set(
        xscale="log", yscale="log", xlabel="measured (MiB)", ylabel="planned (MiB)",
        title="Memory of a step: planned and measured",
    )  # fmt: skip
    axes.grid(alpha=0.3, which="both")
    axes.legend()


def _bars_of_variants(figure: Any, table: Table, key: str, xlabel: str, title: str) -> Any:
    """A bar for each row, rows of one network under its name."""
    rows = [row for row in table.rows if row.get(key) is not None]
    groups = list(dict.fromkeys((row.get("network"), row.get("size")) for row in rows))
    figure.set_size_inches(WIDTH, AROUND + BAR * (len(rows) + len(groups)))
    axes = figure.subplots()
    variants = list(dict.fromkeys(str(row.get("variant")) for row in rows))
    labels: list[str] = []
    values = [_number(row.get(key)) for row in rows]
    for group in groups:
        labels.append(" ".join(str(part) for part in group if part is not None))
        for row in rows:
            if (row.get("network"), row.get("size")) != group:
                continue
            value = _number(row.get(key))
            color = f"C{variants.index(str(row.get('variant'))) % 10}"
            axes.barh(len(labels), value, 0.8, color=color)
            axes.text(value, len(labels), f" {value:.3g}", va="center", fontsize=8)
            labels.append(str(row.get("variant")))
    _labels(axes, labels)
    for text, label in zip(axes.get_yticklabels(), labels, strict=True):
        if label not in variants:
            text.set_fontweight("bold")
    axes.set(xlabel=xlabel, title=title)
    axes.set_xlim(0, 1.1 * max(values, default=1.0))
    if values and min(values) > 0 and max(values) > WIDE * min(values):
        axes.set_xscale("log")
        axes.set_xlim(0.6 * min(values), 1.8 * max(values))
    return axes


def _steps(figure: Any, table: Table) -> None:
    _bars_of_variants(figure, table, "steps_per_s", "steps/s", "Steps of training per second")


def _playback(figure: Any, table: Table) -> None:
    title = "Playback, 2x, from memory to memory"
    axes = _bars_of_variants(figure, table, "frames_per_s", "frames/s", title)
    low, high = axes.get_xlim()
    for rate in RATES:
        if low < rate < high:
            axes.axvline(rate, color="black", linestyle=":", linewidth=1)
            axes.text(rate, 1.0, f"{rate}", transform=axes.get_xaxis_transform(), ha="center",
                      va="bottom", fontsize=8)  # fmt: skip
    axes.set_title(title, pad=16)


def _loops(figure: Any, table: Table) -> None:
    rows = table.rows
    keys = (("bare_ms", "bare loop"), ("framework_ms", "framework"),
            ("automation_ms", "with automation"))  # fmt: skip
    figure.set_size_inches(WIDTH, AROUND + 3 * BAR * len(rows))
    axes = figure.subplots()
    for number, (key, label) in enumerate(keys):
        values = [_number(row.get(key)) for row in rows]
        places = [place + 0.27 * (number - 1) for place in range(len(rows))]
        axes.barh(places, values, 0.25, label=label, color=f"C{number}")
        for place, value in zip(places, values, strict=True):
            axes.text(value, place, f" {value:.2f}", va="center", fontsize=8)
    _labels(axes, [f"{row.get('network')}\n{row.get('shape')}" for row in rows])
    axes.set(xlabel="a step (ms)", title="The loop against a bare one")
    axes.margins(x=0.1)
    figure.legend(loc="outside lower center", ncols=3)


def _psnr(figure: Any, table: Table) -> None:
    figure.set_size_inches(WIDTH * 0.75, WIDTH * 0.4)
    axes = figure.subplots()
    iterations = [_number(row.get("iteration")) for row in table.rows]
    values = [_number(row.get("psnr_db")) for row in table.rows]
    axes.plot(iterations, values, "o-", color=BLUE, label="network")
    bicubic = _number(table.rows[0].get("bicubic_db"))
    axes.axhline(bicubic, color=GRAY, linestyle="--", label="bicubic")
    axes.legend()
    axes.set(xlabel="iteration", ylabel="PSNR (dB)", title="The demo's photographs")
    axes.grid(alpha=0.3)


DRAWERS: dict[str, Callable[[Any, Table], None]] = {
    "landing": _landing,
    "planner": _planner,
    "steps": _steps,
    "loops": _loops,
    "playback": _playback,
    "psnr": _psnr,
}
