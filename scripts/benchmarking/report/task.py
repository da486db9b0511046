"""What a process that measures an item is given."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from scripts.benchmarking.report.machine import Machine
from scripts.benchmarking.report.results import Notebook


@dataclass
class Task:
    """An item to measure.

    Attributes:
        notebook: takes the figures.
        machine: what is measured on.
        end: on the monotonic clock, when it should be over.
    """

    notebook: Notebook
    machine: Machine
    end: float

    @property
    def is_small(self) -> bool:
        """Whether everything is small, for a CPU."""
        return self.machine.kind != "cuda"

    @property
    def device(self) -> torch.device:
        """What is measured on. Naming it does not start CUDA."""
        kind = self.machine.kind
        return torch.device(kind, 0) if kind == "cuda" else torch.device(kind)

    @property
    def folder(self) -> Path:
        """Of the findings."""
        return self.notebook.path.parent

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return self.end - time.monotonic()

    def has_time(self, what: str, needed_s: float = 0.0) -> bool:
        """Whether there is time for something; if not, the page says that it was left out."""
        if self.left_s > needed_s:
            return True
        self.notebook.missing(f"{what}: the time was up")
        return False
