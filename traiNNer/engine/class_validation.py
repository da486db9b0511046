"""Pictures through a classifier while it trains: how many are told right."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from traiNNer.data import eval_batches
from traiNNer.engine.joint_validation import own_part, parts_of_all
from traiNNer.engine.mishaps import Mishaps
from traiNNer.engine.scoring import describe_scores
from traiNNer.engine.tracker import Tracker
from traiNNer.engine.validation import ValSet
from traiNNer.metrics.protocol import Metric
from traiNNer.models.memory_needs import with_second_try
from traiNNer.utils.errors import StopRequested
from traiNNer.utils.out_of_memory import is_out_of_memory
from traiNNer.utils.team import Team

log = logging.getLogger(__name__)
# Pictures at once: enough for a GPU to be worth its while, and few for its memory, without
# gradients, at the sizes that classifiers are trained at.
BATCH = 32

Classify = Callable[[Tensor], Tensor]
# Probabilities (B, classes) and labels of a batch.
Told = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class ClassResult:
    """The scores of one dataset.

    Attributes:
        dataset: its name.
        complete_means: the score by metric label, of those that could be computed.
    """

    dataset: str
    complete_means: dict[str, float]


class ClassValidator:
    """Validates a classifier on a set of datasets.

    Args:
        val_sets: by name.
        metrics: by label.
        lq_size: side of the pictures, in pixels.
        tracker: for curves.
        team: the processes that share the pictures.
    """

    def __init__(
        self,
        val_sets: Mapping[str, ValSet],
        metrics: Mapping[str, Metric],
        lq_size: int,
        tracker: Tracker,
        team: Team | None = None,
    ) -> None:
        self.val_sets = val_sets
        self.metrics = metrics
        self._lq_size = lq_size
        self._tracker = tracker
        self._team = team or Team()

    def run(
        self, classify: Classify, iteration: int, should_stop: Callable[[], bool], of: str = ""
    ) -> list[ClassResult] | None:
        """Judge every dataset. What fails is said and missing in the results.

        Args:
            classify: from (B, 3, H, W) to probabilities (B, classes).
            iteration: for curves.
            should_stop: asked between batches; when true, nothing is reported and None is returned.
            of: name of what is judged beside the network, which has curves of its own.
        """
        results: list[ClassResult] = []
        mishaps = Mishaps()
        for name, val_set in self.val_sets.items():
            start = time.perf_counter()
            own: list[Told] | None = None
            is_stopped = False
            left_out = partial(mishaps.forgiving, f"validation on {name}", "", "left out this time")
            with left_out():
                own, is_stopped = self._judge_own(val_set, classify, should_stop)
            try:
                parts = parts_of_all(self._team, own, wants_end=is_stopped)
            except StopRequested:
                return None
            if parts is None:
                continue
            result: ClassResult | None = None
            with left_out():
                told, labels = map(torch.cat, zip(*chain(*parts), strict=True))
                scores = class_scores(self.metrics, told, labels, name, mishaps)
                result = ClassResult(name, scores)
            if result is None:
                continue
            results.append(result)
            top = f"val_{of}" if of else "val"
            scores = {f"{top}/{name}/{label}": v for label, v in result.complete_means.items()}
            self._tracker.scalars(scores, iteration)
            log.info(
                "validation at %d on %s (%d pictures, %.1f s): %s",
                iteration,
                f"{name}, {of}" if of else name,
                len(val_set.images),
                time.perf_counter() - start,
                describe_scores(result.complete_means, self.metrics),
            )
        self._tracker.flush()
        return results

    def _judge_own(
        self, val_set: ValSet, classify: Classify, should_stop: Callable[[], bool]
    ) -> tuple[list[Told], bool]:
        """What was told of this process's part of the pictures, and whether it was to stop before
        the end.
        """
        told: list[Told] = []
        own = own_part(val_set.images, self._team)
        for pictures, labels in _pictures(val_set, self._lq_size, own):
            if should_stop():
                return told, True
            told.append((in_halves(classify, pictures).cpu(), labels))
        return told, False


def _pictures(val_set: ValSet, lq_size: int, indices: range) -> Iterator[tuple[Tensor, Tensor]]:
    """Pictures (B, 3, H, W) in [0, 1] and their labels."""
    for batch in eval_batches(
        val_set.images, val_set.num_workers, lq_size=lq_size, size=BATCH, indices=indices
    ):
        on_cpu = batch.to("cpu")
        assert on_cpu.lq is not None
        assert on_cpu.labels is not None
        yield on_cpu.lq, on_cpu.labels


def in_halves(classify: Classify, pictures: Tensor) -> Tensor:
    """The probabilities of a batch, in smaller ones where memory does not do."""
    try:
        return with_second_try(lambda: classify(pictures), pictures.device, "classes")
    except (RuntimeError, MemoryError) as error:
        if len(pictures) == 1 or not is_out_of_memory(error):
            raise
    half = len(pictures) // 2
    return torch.cat([in_halves(classify, part) for part in pictures.split(half)])


def class_scores(
    metrics: Mapping[str, Metric], told: Tensor, labels: Tensor, what: str, mishaps: Mishaps
) -> dict[str, float]:
    """The score by label; those that cannot be computed are said and left out.

    Args:
        metrics: by label.
        told: probabilities (N, classes).
        labels: see `ClassMetric`.
        what: the dataset, for messages.
        mishaps: counts them.
    """
    scores: dict[str, float] = {}
    for label, metric in metrics.items():
        with mishaps.forgiving(label, what, "its score is missing"):
            scores[label] = metric(told, labels)
    return scores
