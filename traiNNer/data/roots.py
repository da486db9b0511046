"""The folders that sections of the options name."""

from __future__ import annotations

from pathlib import Path

from traiNNer.options.dataset_sections import DatasetOptions
from traiNNer.options.schema import TrainingOptions


def data_roots(section: DatasetOptions) -> list[Path]:
    """The folders that a section reads: every key that begins with `dataroot`."""
    roots: list[Path] = []
    for key, value in section.params.items():
        # Nothing stands for an optional folder that is not there.
        if key.startswith("dataroot") and value is not None:
            roots += [Path(root) for root in (value if isinstance(value, list) else [value])]
    return roots


def all_data_roots(options: TrainingOptions) -> list[Path]:
    """The folders that a run reads."""
    sections = [options.datasets.train, *options.datasets.evaluated.values()]
    return [root for section in sections for root in data_roots(section)]
