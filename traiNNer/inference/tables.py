"""Scores of images and scenes as tables."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rich.table import Table

from traiNNer.engine.mishaps import Mishaps
from traiNNer.engine.scoring import Metric, ValidationResult

log = logging.getLogger(__name__)


def say_lost(name: str, mishaps: Mishaps, metrics: Iterable[str]) -> None:
    """How many scores of a dataset are missing because they could not be computed."""
    lost = [f"{label} of {mishaps.counts[label]}" for label in metrics if mishaps.counts[label]]
    if lost:
        log.warning(
            "%s: could not be computed: %s; the means are those of the others",
            name,
            ", ".join(lost),
        )


def image_table(result: ValidationResult, metrics: Mapping[str, Metric]) -> Table:
    """A row for each image, and the means."""
    table = _begin_table(result.dataset, ("image",), metrics)
    for image in result.images:
        table.add_row(image.name, *_score_cells(metrics, image.scores))
    table.add_section()
    table.add_row("mean", *_score_cells(metrics, result.means))
    return table


@dataclass
class Scores:
    """The scores of many frames as their sums, which take the same space for any number of them."""

    frames: int = 0
    sums: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    # By label, because the first frame of a scene has no score of a metric that compares two.
    counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, scores: Mapping[str, float]) -> None:
        """Take in those of a frame."""
        self.frames += 1
        for label, score in scores.items():
            self.sums[label] += score
            self.counts[label] += 1

    def join(self, other: Scores) -> None:
        """Take in those of other frames."""
        self.frames += other.frames
        for label, value in other.sums.items():
            self.sums[label] += value
            self.counts[label] += other.counts[label]

    @property
    def means(self) -> dict[str, float]:
        """By metric label, over the frames that have a score."""
        return {label: value / self.counts[label] for label, value in self.sums.items()}


def scene_table(name: str, rows: Mapping[str, Scores], metrics: Mapping[str, Metric]) -> Table:
    """A row for each scene, and the means of all frames: a long scene counts more than a short
    one.
    """
    table = _begin_table(name, ("scene", "frames"), metrics)
    total = Scores()
    for scene, scores in rows.items():
        total.join(scores)
        table.add_row(scene, str(scores.frames), *_score_cells(metrics, scores.means))
    # Sums are joined, not means: else a scene of two frames would count as much as a film.
    table.add_section()
    table.add_row("mean of all frames", str(total.frames), *_score_cells(metrics, total.means))
    return table


def _begin_table(title: str, columns: Iterable[str], metrics: Mapping[str, Metric]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        # Folded, not cut: long names may differ at their ends alone.
        table.add_column(column, justify="right" if column == "frames" else "left", overflow="fold")
    for label, metric in metrics.items():
        table.add_column(f"{label} ({metric.unit})" if metric.unit else label, justify="right")
    return table


def _score_cells(metrics: Iterable[str], scores: Mapping[str, float]) -> list[str]:
    """A cell for each metric, empty where there is no score, as flicker of a single image."""
    return [f"{scores[label]:.4f}" if label in scores else "" for label in metrics]
