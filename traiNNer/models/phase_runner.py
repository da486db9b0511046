"""Runs a phase: accumulate over chunks, apply, and again in smaller chunks when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from traiNNer.data import Batch
from traiNNer.models.chunks import Chunk, Memo, largest_shape, smaller_chunks
from traiNNer.models.memory_needs import describe_needs, release_memory
from traiNNer.models.networks import Networks
from traiNNer.models.phase import Objective, Phase
from traiNNer.models.rewind import Rewind
from traiNNer.models.step import Losses, PhaseResult, Retry
from traiNNer.options.schema import TrainOptions
from traiNNer.utils.errors import TrainingError
from traiNNer.utils.memory import MemoryBackend
from traiNNer.utils.out_of_memory import first_line, is_out_of_memory, may_be_out_of_memory
from traiNNer.utils.shape import Shape

if TYPE_CHECKING:
    from traiNNer.utils.registry import NetworkSpec

log = logging.getLogger(__name__)
# Side in LQ pixels below which a sample that does not fit into memory is not cropped; losses need
# some room.
SMALLEST_RETRY = 16


@dataclass
class StepContext:
    """What all phases of a step share.

    Attributes:
        iteration: the step's number, from 1.
        rate_factor: what the scheduled learning rates are multiplied by.
        per_sample: whether losses are wanted for each sample too.
        memo: outputs of earlier phases.
    """

    iteration: int
    rate_factor: float
    per_sample: bool = False
    memo: Memo = field(default_factory=Memo)


@dataclass
class Accumulated:
    """What the chunks of an attempt came to."""

    losses: Losses = field(default_factory=dict)
    per_sample: dict[str, list[Tensor]] = field(default_factory=dict)
    shape: Shape = field(default_factory=lambda: Shape(0, 0))
    pixels: int = 0

    def add(self, objective: Objective, chunk: Chunk, losses: Losses, weight: float) -> None:
        """Take in what one objective made of one chunk, whose share of the step is `weight`."""
        for name, loss in losses.items():
            label = objective.label(name)
            mean = loss.detach() * weight
            self.losses[label] = self.losses[label] + mean if label in self.losses else mean
        for name, values in chunk.per_sample.items():
            self.per_sample.setdefault(objective.label(name), []).append(values)
        entered = chunk.entered or Shape(chunk.batch.lq_size, len(chunk.batch))
        self.shape = max(self.shape, entered, key=Shape.pixels)
        self.pixels += chunk.batch.pixels


class PhaseRunner:
    """Accumulates, applies and, when memory runs out, repeats a phase with the same samples.

    Args:
        device: where the networks are.
        train: the options of the optimization.
        spec: facts of the main network, whose smallest sizes bound the chunks.
        networks: those of the recipe.
        phases: those of the recipe.
        prepare: from the batch of a view to what the losses see, on the device.

    Attributes:
        memory: is measured around every attempt; None measures nothing.
        giving_up: surrounds what may be given up, by StopRequested or whatever else it raises: the
            first half of a step's first phase. All is as before it then.
    """

    def __init__(
        self,
        device: torch.device,
        train: TrainOptions,
        spec: NetworkSpec,
        networks: Networks,
        phases: Sequence[Phase],
        prepare: Callable[[Batch], Batch],
    ) -> None:
        self.memory: MemoryBackend | None = None
        self.giving_up: Callable[[], AbstractContextManager[None]] = nullcontext
        self._device = device
        self._train = train
        self._spec = spec
        self._smallest_lq_size = max(spec.min_size, SMALLEST_RETRY)
        self._networks = networks
        self._phases = phases
        self._prepare = prepare
        self._rewinds: dict[str, Rewind] = {}

    def run(self, phase: Phase, batches: Sequence[Batch], step: StepContext) -> PhaseResult:
        """Change the phase's weights by the samples of `batches`, whatever it takes.

        Raises:
            TrainingError: if a single sample of the smallest size does not fit, or the optimizer
                stopped half-way.
        """
        rewind = self._rewind(phase)
        chunks = list(batches)
        failures = 0
        guesses = 0
        is_repeated = False
        while True:
            rewind.mark()
            mark = step.memo.mark()
            try:
                if self.memory is not None:
                    self.memory.start_window()
                # Behind a phase that has changed weights the step has to be finished.
                may_give_up = phase is self._phases[0]
                with self.giving_up() if may_give_up else nullcontext():
                    accumulated = self.accumulate(phase, chunks, step)
                rate, skipped = self.apply(phase, chunks, step)
            except KeyboardInterrupt:
                phase.forget_gradients(self._device)
                rewind.restore()
                raise
            except (RuntimeError, MemoryError) as error:
                guesses = self._guesses(error, guesses)
                complaint = first_line(error)
            else:
                rewind.take_back_statistics(skipped)
                asked = largest_shape(batches)
                return PhaseResult(
                    accumulated.losses,
                    {name: torch.cat(parts) for name, parts in accumulated.per_sample.items()},
                    accumulated.shape,
                    accumulated.pixels,
                    rate,
                    Retry(phase.name, asked, accumulated.shape, failures) if failures else None,
                    None if self.memory is None else self.memory.read(),
                )
            # The except block is left, so nothing holds the frames of the failed attempt, and with
            # them its activations.
            failures += 1
            step.memo.rewind(mark)
            phase.forget_gradients(self._device)
            rewind.restore()
            release_memory(self._device)
            smaller = smaller_chunks(
                chunks, self._smallest_lq_size, self._spec.size_multiple, self._spec.min_batch
            )
            self._say(phase, chunks, complaint, can_shrink=smaller is not None)
            if smaller is None and is_repeated:
                raise self._nothing_smaller(phase, chunks, complaint)
            # Nothing smaller is there: once more with the memory that was given back just now.
            is_repeated = smaller is None
            chunks = smaller or chunks

    def accumulate(self, phase: Phase, chunks: Sequence[Batch], step: StepContext) -> Accumulated:
        """Gradients of the mean over all samples of `chunks`, whatever the chunks' sizes.

        One view of one chunk at a time is on the device.
        """
        phase.optimizer.zero_grad(set_to_none=True)
        pixels = sum(chunk.pixels for chunk in chunks)
        accumulated = Accumulated()
        first = 0
        for samples in chunks:
            for objective in phase.objectives:
                view = samples if objective.view is None else objective.view(samples)
                weight = samples.pixels / pixels
                self._add_gradients(phase, objective, view, first, weight, step, accumulated)
            first += len(samples)
        return accumulated

    def _add_gradients(
        self,
        phase: Phase,
        objective: Objective,
        view: Batch,
        first: int,
        weight: float,
        step: StepContext,
        accumulated: Accumulated,
    ) -> None:
        chunk = Chunk(self._prepare(view), first, step.memo, step.per_sample)
        losses = objective.losses(chunk)
        total = sum(losses.values(), start=torch.zeros((), device=self._device))
        phase.scaler.scale(total * weight).backward()
        accumulated.add(objective, chunk, losses, weight)

    def apply(
        self, phase: Phase, chunks: Sequence[Batch], step: StepContext
    ) -> tuple[float, Tensor]:
        """Change the weights by the accumulated gradients, unless these are not finite.

        Returns:
            The learning rate that was used, of the first group of weights; whether the gradients
            were not finite, a flag on the device.
        """
        optimizer = phase.optimizer
        phase.scaler.unscale_(optimizer)
        if self._train.grad_clip:
            norm = nn.utils.clip_grad_norm_(phase.parameters, self._train.grad_clip_max_norm)
        else:
            gradients = [p.grad for p in phase.parameters if p.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
        paths = [path for chunk in chunks for path in chunk.lq_paths]
        scheduled = [group["lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, scheduled, strict=True):
            group["lr"] = rate * step.rate_factor
        try:
            skipped = phase.guard.step(optimizer, norm, phase.scaler, paths)
        finally:
            # Schedulers compute the next rate from this one, so the factor must not stay in it.
            for group, rate in zip(optimizer.param_groups, scheduled, strict=True):
                group["lr"] = rate
        return scheduled[0] * step.rate_factor, skipped

    @staticmethod
    def _guesses(error: Exception, guesses: int) -> int:
        """How many errors of this step may have been something else than a lack of memory; below 0
        once one was nothing else.

        Raises:
            TrainingError: at the second of them.
            Exception: the error itself, where it is none of memory.
        """
        if is_out_of_memory(error):
            return -1
        if not may_be_out_of_memory(error):
            raise error
        if guesses > 0:
            raise TrainingError(
                f"the device says: {first_line(error)}. It did so with half of the samples too, "
                "so it is probably no lack of memory but a fault of the driver, of torch's "
                "installation or of the device; if other programs fill its memory, end them. What "
                "was saved before is good."
            ) from error
        return guesses + 1 if guesses >= 0 else guesses

    def _say(self, phase: Phase, chunks: list[Batch], complaint: str, *, can_shrink: bool) -> None:
        failed = largest_shape(chunks)
        what = "in smaller chunks" if can_shrink else "after giving back what is not in use"
        log.warning(
            "out of memory in the %s at %d x %d px: the same samples are tried again %s (%s)",
            phase.name,
            failed.batch_size,
            failed.lq_size,
            what,
            complaint,
        )

    def _nothing_smaller(self, phase: Phase, chunks: list[Batch], complaint: str) -> TrainingError:
        """The error of a step that does not fit at all."""
        needs = describe_needs(
            [network.module for network in self._networks], self._phases, self._device
        )
        failed = largest_shape(chunks)
        samples = "one sample" if failed.batch_size == 1 else f"a batch of {failed.batch_size}"
        return TrainingError(
            f"{samples} of {failed.lq_size} px LQ does not fit into the memory of {self._device} "
            f"in the {phase.name}: {needs} ({complaint}). What helps: "
            "use_amp: true, a smaller network, an optimizer with less state, or ending other "
            "programs that use the memory. What was saved before is good."
        )

    def _rewind(self, phase: Phase) -> Rewind:
        """Prepared at the phase's first step, when all networks of the recipe are known."""
        if phase.name not in self._rewinds:
            networks = self._networks.passed_through
            self._rewinds[phase.name] = Rewind(networks, self._device, phase.optimizer)
        return self._rewinds[phase.name]
