"""Whole images through the network while it trains: scores, saved pictures, strips."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from traiNNer.data import Batch, eval_batches
from traiNNer.data.protocols import EvalSet
from traiNNer.engine.checkpoints import Checkpoints
from traiNNer.engine.joint_validation import own_part, parts_of_all
from traiNNer.engine.mishaps import Mishaps
from traiNNer.engine.part import Part
from traiNNer.engine.run import Run
from traiNNer.engine.scoring import (
    ImageScore,
    Judge,
    Metric,
    ValidationResult,
    describe_scores,
    is_clip,
    middle_frame,
    picture_labels,
    picture_names,
    scene_of,
    strip,
)
from traiNNer.engine.tracker import Tracker
from traiNNer.models import SmallestTileError, StepResult
from traiNNer.ops.color import to_uint8
from traiNNer.utils.errors import StopRequested
from traiNNer.utils.images import write_image
from traiNNer.utils.out_of_memory import is_out_of_memory
from traiNNer.utils.team import Team

log = logging.getLogger(__name__)
# Scenes of a set that have curves of their own: more would fill TensorBoard's page.
MOST_SCENES = 16
MAIN_MEMORY = torch.device("cpu")
# Behind the name of a saved picture: `_` and the iteration, below 10^11.
_ITERATION_BYTES = 12

Upscale = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ValSet:
    """A dataset to validate on.

    Attributes:
        images: whole images, one by one.
        num_workers: processes that read them.
    """

    images: EvalSet
    num_workers: int = 0


@dataclass(frozen=True)
class Exhibition:
    """What of a validation can be looked at.

    Attributes:
        tracker: for curves and strips.
        tb_images: how many strips of each dataset are shown.
        save_to: folder for the outputs, None to save none.
    """

    tracker: Tracker
    tb_images: int = 0
    save_to: Path | None = None


@dataclass(frozen=True)
class _Task:
    """One image of a validation: `name` is that of its file, `label` the one that people see."""

    batch: Batch
    dataset: str
    name: str
    label: str
    iteration: int
    is_shown: bool


class Validator:
    """Validates on a set of datasets.

    Args:
        val_sets: by name.
        metrics: by label.
        device: where images are processed and judged.
        exhibition: what can be looked at.
        team: the processes that share the images.
    """

    def __init__(
        self,
        val_sets: Mapping[str, ValSet],
        metrics: Mapping[str, Metric],
        device: torch.device,
        exhibition: Exhibition,
        team: Team | None = None,
    ) -> None:
        self.val_sets = val_sets
        self.metrics = metrics
        self._device = device
        self._exhibition = exhibition
        self._team = team or Team()
        self._mishaps = Mishaps()
        self._judge = self._new_judge()
        self._strips: list[Tensor] = []
        self._of = ""

    def run(
        self, upscale: Upscale, iteration: int, should_stop: Callable[[], bool], of: str = ""
    ) -> list[ValidationResult] | None:
        """Process every dataset. What fails is said and missing in the results, be it a metric, an
        image or a dataset.

        Args:
            upscale: from `(1, 3, H, W)` to `(1, 3, H * scale, W * scale)`.
            iteration: for curves and file names.
            should_stop: asked between images; when true, nothing is reported and None is returned.
            of: name of what is judged beside the network, which has curves of its own and no
                pictures.
        """
        self._of = of
        results: list[ValidationResult] = []
        for name, val_set in self.val_sets.items():
            start = time.perf_counter()
            self._mishaps.restart()
            scores: list[ImageScore] | None = None
            is_stopped = False
            with self._mishaps.forgiving(f"validation on {name}", "", "left out this time"):
                scores, is_stopped = self._judge_own(name, val_set, upscale, iteration, should_stop)
            own = None if scores is None else (scores, self._mishaps.counts)
            try:
                parts = parts_of_all(self._team, own, wants_end=is_stopped)
            except StopRequested:
                return None
            if parts is None:
                continue
            judged = [score for own_scores, _ in parts for score in own_scores]
            failed = sum((own_failed for _, own_failed in parts), Counter[str]())
            result = ValidationResult(name, judged, failed)
            results.append(result)
            self._draw_curves(result, iteration)
            log.info(
                "validation at %d on %s (%d images, %.1f s): %s",
                iteration,
                f"{name}, {of}" if of else name,
                len(result.images),
                time.perf_counter() - start,
                self._describe_result(result),
            )
        self._exhibition.tracker.flush()
        return results

    def _judge_own(
        self,
        name: str,
        val_set: ValSet,
        upscale: Upscale,
        iteration: int,
        should_stop: Callable[[], bool],
    ) -> tuple[list[ImageScore], bool]:
        """Scores of this process's part of the images, and whether it was to stop before the
        end.
        """
        scores: list[ImageScore] = []
        images = val_set.images
        names = picture_names(images, _ITERATION_BYTES)
        labels = picture_labels(names)
        self._judge = self._new_judge()
        self._strips = []
        own = own_part(images, self._team, self._exhibition.tb_images)
        batches = eval_batches(images, val_set.num_workers, indices=own)
        for index, batch in zip(own, batches, strict=True):
            if should_stop():
                return scores, True
            is_shown = index < self._exhibition.tb_images and not self._of
            task = _Task(batch, name, names[index], labels[index], iteration, is_shown)
            scores.append(self._judge_image(upscale, task))
        return scores, False

    def _draw_curves(self, result: ValidationResult, iteration: int) -> None:
        tracker = self._exhibition.tracker
        name = result.dataset
        top = f"val_{self._of}" if self._of else "val"
        tracker.scalars(
            {f"{top}/{name}/{label}": mean for label, mean in result.complete_means.items()},
            iteration,
        )
        if self._of:
            return
        for scene, means in list(result.scenes.items())[:MOST_SCENES]:
            tracker.scalars(
                {
                    f"val_scenes/{name}/{label}/{scene}": mean
                    for label, mean in means.items()
                    if label in result.complete_means
                },
                iteration,
            )

    def _describe_result(self, result: ValidationResult) -> str:
        """The means, and which of them are of fewer images than there are."""
        text = describe_scores(result.means, self.metrics)
        lost = [
            f"{label} of {result.failed[label]}"
            for label in self.metrics
            if result.failed.get(label)
        ]
        if lost:
            missing = f"could not be computed: {', '.join(lost)}; no point on those curves"
            return f"{text} ({missing})" if text else missing
        return text or "no GT"

    def _new_judge(self) -> Judge:
        elsewhere = self._device != MAIN_MEMORY
        return Judge(self.metrics, self._mishaps, memory_elsewhere=elsewhere)

    def _judge_image(self, upscale: Upscale, task: _Task) -> ImageScore:
        """Judge, save and show an image; one that fails has no scores."""
        with self._mishaps.forgiving("validation", task.label, "its scores are missing"):
            return self._attempt_anywhere(upscale, task)
        self._mishaps.counts.update(list(self.metrics))
        # The next frame has none before it.
        self._judge = self._new_judge()
        return ImageScore(task.label, {}, scene_of(task.batch))

    def _attempt_anywhere(self, upscale: Upscale, task: _Task) -> ImageScore:
        """Where memory runs out, with the image in main memory."""
        try:
            return self._attempt(upscale, task)
        except (RuntimeError, MemoryError, SmallestTileError) as error:
            is_full = isinstance(error, SmallestTileError) or is_out_of_memory(error)
            if self._device == MAIN_MEMORY or not is_full:
                raise
        log.warning(
            "validation ran out of memory: from now on images stay in main memory, only tiles "
            "visit the device"
        )
        self._device = MAIN_MEMORY
        # The frame before is on the device, or was this one already.
        self._judge = self._new_judge()
        return self._attempt(upscale, task)

    def _attempt(self, upscale: Upscale, task: _Task) -> ImageScore:
        on_device = task.batch.to(self._device)
        assert on_device.lq is not None, "what is validated has LQ"
        shows_clip = is_clip(on_device)
        sr = middle_frame(upscale(on_device.lq)).clamp(0, 1)
        lq = middle_frame(on_device.lq)
        gt = on_device.gt
        scores: dict[str, float] = {}
        if gt is not None:
            scores = self._judge(sr, gt, task.batch.lq_paths[0], frame=shows_clip)
        if self._exhibition.save_to is not None and not self._of:
            with self._mishaps.forgiving("saving the image", task.label, "it is not saved"):
                path = self._exhibition.save_to / task.dataset / f"{task.name}_{task.iteration}.png"
                write_image(path, to_uint8(sr[0]).permute(1, 2, 0).cpu().numpy())
        if task.is_shown:
            with self._mishaps.forgiving("showing the image", task.label, "it is not shown"):
                self._show(strip(lq, sr, gt, middle=shows_clip), task, shows_clip=shows_clip)
        return ImageScore(task.label, scores, scene_of(task.batch))

    def _show(self, picture: Tensor, task: _Task, *, shows_clip: bool) -> None:
        tracker = self._exhibition.tracker
        if not shows_clip:
            tracker.image(f"{task.dataset}/{task.label}", picture, task.iteration)
            return
        # Frames that follow each other are shown below each other, to see what changes.
        self._strips = [
            earlier for earlier in self._strips if earlier.shape == self._strips[0].shape
        ]
        self._strips.append(picture)
        tracker.image(f"{task.dataset}/frames", torch.cat(self._strips, dim=-2), task.iteration)


class Judged(Protocol):
    """What a validation says of one dataset."""

    @property
    def dataset(self) -> str:
        """Its name."""
        ...

    @property
    def complete_means(self) -> dict[str, float]:
        """The scores by metric label that can be compared with those of another time."""
        ...


class AnyValidator(Protocol):
    """What judges a network on a set of datasets."""

    @property
    def val_sets(self) -> Mapping[str, ValSet]:
        """By name; the first one decides which weights are best."""
        ...

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """By label."""
        ...

    def run(
        self, upscale: Upscale, iteration: int, should_stop: Callable[[], bool], of: str = "", /
    ) -> Sequence[Judged] | None:
        """Judge every dataset; None where it was to stop. `of` names what is judged beside the
        network.
        """
        ...


class Validation(Part):
    """Validates when it is due, and has the best weights kept.

    Args:
        validator: judges the network.
        upscale: whole images, or what a classifier sees, through the network that is validated.
        checkpoints: keep the best; None in a process that is not the first.
        metric: label of the metric that decides which weights are best; None for none.
    """

    name = "validation"

    def __init__(
        self,
        validator: AnyValidator,
        upscale: Upscale,
        checkpoints: Checkpoints | None,
        metric: str | None,
    ) -> None:
        self._validator = validator
        self._upscale = upscale
        self._checkpoints = checkpoints
        self._metric = metric
        self._is_due = False
        self._validated_at: int | None = None

    def start(self, run: Run) -> None:
        """Make up for a validation that the former run did not come to, or see what the network is
        before its first step.
        """
        if self._is_due:
            log.info("the validation at %d was interrupted: it is made now", run.iteration)
            self._validate(run)
            if not self._is_due and self._checkpoints is not None:
                self._checkpoints.save(run)
        elif run.iteration == 0 and run.options.validates_at_start:
            self._validate(run)

    def after_step(self, run: Run, result: StepResult) -> None:  # noqa: ARG002
        if not run.is_due(run.options.val.val_freq):
            return
        self._is_due = True
        if run.wants_end:
            log.info("the validation at %d is made when the run goes on", run.iteration)
            return
        with run.clock.outside():
            # What is trained is safe before anything is measured.
            if self._checkpoints is not None:
                _save_what_is_due(self._checkpoints, run)
            self._validate(run)

    def rescue(self, run: Run) -> str:
        is_made = self._validated_at == run.iteration
        self._is_due = self._is_due or (run.is_due(run.options.val.val_freq) and not is_made)
        return ""

    def state_dict(self) -> dict[str, Any]:
        return {"is_due": self._is_due}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._is_due = bool(state["is_due"])

    def _validate(self, run: Run) -> None:
        """Validate, unless somebody wants the run to end; then it stays due."""
        if run.memory is not None:
            # What the step left in the caches is of no use to whole images.
            run.memory.release()
        results = self._validator.run(
            self._upscale, run.iteration, lambda: run.interrupts.requested
        )
        recipe = run.recipe
        averages = [average for average in recipe.averages if average.source is recipe.main]
        for average in averages[1:]:
            with recipe.networks.evaluating(average.network):
                self._validator.run(
                    self._upscale,
                    run.iteration,
                    lambda: run.interrupts.requested,
                    average.network.name,
                )
        if run.memory is not None:
            # What whole images took is no part of the next step's peak.
            run.memory.release()
        if results is None:
            log.info("the validation at %d is made when the run goes on", run.iteration)
            return
        self._is_due = False
        self._validated_at = run.iteration
        if self._checkpoints is None:
            return
        self._checkpoints.outdate()
        for validated in results:
            self._keep_best(self._checkpoints, run, validated)

    def _keep_best(self, checkpoints: Checkpoints, run: Run, result: Judged) -> None:
        """The first val set decides, and only if each of its images has a score."""
        label = self._metric
        means = result.complete_means
        is_first = result.dataset == next(iter(self._validator.val_sets))
        if label is not None and is_first and label in means:
            better = self._validator.metrics[label].better
            checkpoints.save_if_best(run.recipe, label, means[label], better)


def _save_what_is_due(checkpoints: Checkpoints, run: Run) -> None:
    if not run.is_due(run.options.logger.save_checkpoint_freq):
        return
    run.recipe.flush_checks()
    # What is not finite the checkpoints themselves leave out, and say so.
    if not any(phase.guard.in_a_row for phase in run.recipe.phases):
        checkpoints.save(run)
