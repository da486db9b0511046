"""docs/features.md: every component there is, with a line and its options."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from traiNNer.options.components import Component, parameter_fields
from traiNNer.options.dataset_sections import DatasetOptions
from traiNNer.options.degradation_recipes import NAMED_RECIPES
from traiNNer.options.degradations import DegradationOptions
from traiNNer.options.entries import (
    DiscriminatorOptions,
    LossOptions,
    MetricOptions,
    OptimizerOptions,
    OrderOptions,
    SchedulerOptions,
    SourceOptions,
)
from traiNNer.options.schema import TrainingAutomations
from traiNNer.utils.registry import ARCHS, RECIPES

Section = type[Component] | type[TrainingAutomations]
# A heading, where its components are named in the options, and the section that names them.
_OURS: tuple[tuple[str, str, Section], ...] = (
    ("Datasets", "datasets.<label>.type", DatasetOptions),
    ("Degradations", "datasets.<label>.degradations", DegradationOptions),
    ("Losses", "train.losses", LossOptions),
    ("Metrics", "val.metrics.<label>.type", MetricOptions),
    ("Automations", "training_automations", TrainingAutomations),
    ("Discriminators", "network_d.type", DiscriminatorOptions),
    ("Orders of the data", "datasets.train.order.type", OrderOptions),
    ("Sources of pixels", "datasets.<label>.source.type", SourceOptions),
)
_TORCHS: tuple[tuple[str, str, Section], ...] = (
    (
        "Optimizers",
        "train.optim_g.type`, torch's and, from `AdaBelief` on, pytorch-optimizer's: ",
        OptimizerOptions,
    ),
    (
        "Schedulers",
        "train.scheduler.type`, torch's, with torch's arguments: ",
        SchedulerOptions,
    ),
)


def features_page() -> str:
    """docs/features.md."""
    parts = [
        "# Features",
        "",
        "<!-- made by scripts/options/write_reference.py -->",
        "",
        "Every component that an options file can name, with its options. What they mean, and",
        f"their defaults, stand in [options.md](options.md); the {len(list(ARCHS))} names of",
        "networks in [archs.md](archs.md).",
        "",
    ]
    for title, key, section in _OURS:
        entries = section.registry.items()
        if not entries:
            continue
        parts += [
            f"## {title}",
            "",
            f"`{key}`",
            "",
            "| name | what | options |",
            "| --- | --- | --- |",
        ]
        for name, entry in entries:
            names = ", ".join(f"`{field}`" for field in parameter_fields(entry, section.injected))
            parts.append(f"| `{name}` | {_first_sentence(entry)} | {names} |")
        parts.append("")
    parts += ["Recipes of degradations: " + _listed(NAMED_RECIPES), ""]
    for title, key, section in _TORCHS:
        parts += [f"## {title}", "", f"`{key}"]
        parts += [_listed(name for name, _ in section.registry.items()), ""]
    parts += ["## Recipes of training", "", "`model_type`: " + _listed(RECIPES), ""]
    return "\n".join(parts)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _first_sentence(entry: Any) -> str:
    """The beginning of a docstring up to its first full stop."""
    text = inspect.getdoc(entry) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return paragraph.split(". ")[0].rstrip(".").replace("|", "\\|")
