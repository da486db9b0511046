"""Runs a phase: accumulate over chunks, apply, and again in smaller chunks when memory runs out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from traiNNer.data import Batch
from traiNNer.models.chunks import Memo, largest_shape, smaller_chunks
from traiNNer.models.gradient_noise import (
    compare_halves,
    copy_gradients,
    in_halves,
    is_time_to_look,
)
from traiNNer.models.graphed_forward import GraphedForward
from traiNNer.models.joint_step import join
from traiNNer.models.memory_needs import describe_needs, release_memory, with_second_try
from traiNNer.models.networks import Networks
from traiNNer.models.objectives import Accumulated, Portion
from traiNNer.models.phase import Phase
from traiNNer.models.rewind import Rewind
from traiNNer.models.step import Losses, PhaseResult, Retry
from traiNNer.models.weight_step import change_weights, decide
from traiNNer.options.schema import TrainOptions
from traiNNer.utils.errors import TrainingError
from traiNNer.utils.memory import MemoryBackend, MemoryReading
from traiNNer.utils.out_of_memory import first_line, is_out_of_memory, may_be_out_of_memory
from traiNNer.utils.team import Team

if TYPE_CHECKING:
    from traiNNer.utils.registry import NetworkSpec

log = logging.getLogger(__name__)
# Side in LQ pixels below which a sample that does not fit into memory is not cropped; losses need
# some room.
SMALLEST_RETRY = 16
# In place of a number of errors that may have been something else than a lack of memory: memory was
# short for certain, so it is taken for that again.
KNOWN = -1
# Seconds before each of the last tries at what cannot be made smaller.
PAUSES = (0.0, 0.5, 1.0)


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


@dataclass(frozen=True)
class _Attempt:
    """One that went through.

    Attributes:
        accumulated: the gradients are those of it.
        per_sample: losses of each sample, where they were wanted.
        judged: whether the step is to be skipped, of a process alone.
        failures: how often memory ran out before.
    """

    accumulated: Accumulated
    per_sample: Losses
    judged: tuple[Tensor, bool | Tensor] | None
    failures: int


class PhaseRunner:
    """Accumulates, applies and, when memory runs out, repeats a phase with the same samples.

    Args:
        device: where the networks are.
        train: the options of the optimization.
        spec: facts of the main network, whose smallest sizes bound the chunks.
        networks: those of the recipe.
        phases: those of the recipe.
        prepare: from the batch of a view to what the losses see, on the device.
        team: the processes that train together.

    Attributes:
        memory: is measured around every attempt; None measures nothing.
        giving_up: surrounds what may be given up, by StopRequested or whatever else it raises: the
            first half of a step's first phase. All is as before it then.
        between_steps: whether no phase of an unfinished step has begun to change weights.
        looks_at_noise: whether the first phase looks now and then at how noisy its gradients are.
        graph: what replays the main network's passes, where anything does.
        stepping_device: whose way of changing weights is taken; that of the networks, but where
            the memory of another device is planned.
    """

    def __init__(
        self,
        device: torch.device,
        train: TrainOptions,
        spec: NetworkSpec,
        networks: Networks,
        phases: Sequence[Phase],
        prepare: Callable[[Batch], Batch],
        team: Team,
    ) -> None:
        self.memory: MemoryBackend | None = None
        self.giving_up: Callable[[], AbstractContextManager[None]] = nullcontext
        self.between_steps = True
        self.looks_at_noise = False
        self.graph: GraphedForward | None = None
        self.stepping_device = device
        self._device = device
        self._train = train
        self._spec = spec
        self._smallest_lq_size = max(spec.min_size, SMALLEST_RETRY)
        self._networks = networks
        self._phases = phases
        self._prepare = prepare
        self._team = team
        self._rewinds: dict[str, Rewind] = {}
        self._readings: dict[str, MemoryReading] = {}
        self._was_short = False

    def run(self, phase: Phase, batches: Sequence[Batch], step: StepContext) -> PhaseResult:
        """Change the phase's weights by the samples of `batches`, whatever it takes.

        Raises:
            TrainingError: if a single sample of the smallest size does not fit, or the optimizer
                stopped half-way.
        """
        rewind = with_second_try(lambda: self._rewind(phase), self._device, "copying statistics")
        attempt = self._until_it_fits(phase, batches, step, rewind)
        accumulated = attempt.accumulated
        skipped, decision = attempt.judged or self._judge_together(phase, accumulated, rewind)
        # From here on weights change, so nothing is repeated that was done.
        self.between_steps = False
        rate, late_failures = self.apply(phase, decision, step)
        failures = attempt.failures + late_failures
        with_second_try(
            lambda: rewind.take_back_statistics(skipped), self._device, "restoring statistics"
        )
        phase.guard.note(skipped, [path for batch in batches for path in batch.lq_paths])
        return PhaseResult(
            accumulated.losses,
            attempt.per_sample,
            accumulated.shape,
            accumulated.pixels,
            rate,
            skipped,
            Retry(phase.name, largest_shape(batches), accumulated.shape, failures)
            if failures
            else None,
            None if self.memory is None else self._read(self.memory, phase.name),
            accumulated.alignment,
        )

    def _until_it_fits(
        self, phase: Phase, batches: Sequence[Batch], step: StepContext, rewind: Rewind
    ) -> _Attempt:
        """Accumulate, in smaller chunks each time that memory runs out. Nothing of an attempt that
        fails is left.

        Raises:
            TrainingError: if a single sample of the smallest size does not fit.
        """
        chunks = list(batches)
        failures = 0
        guesses = KNOWN if self._was_short else 0
        pauses = iter(PAUSES)
        while True:
            with_second_try(rewind.mark, self._device, "copying statistics")
            mark = step.memo.mark()
            try:
                if self.memory is not None:
                    self.memory.start_window()
                # Behind a phase that has changed weights the step has to be finished.
                may_give_up = phase is self._phases[0]
                with self.giving_up() if may_give_up else nullcontext():
                    accumulated = self.accumulate(phase, chunks, step)
                judged = self._judge(phase) if self._team.is_alone else None
                return _Attempt(accumulated, accumulated.joined_per_sample(), judged, failures)
            except BaseException as error:
                step.memo.rewind(mark)
                phase.forget_gradients(self._device)
                with_second_try(rewind.restore, self._device, "restoring statistics")
                if not isinstance(error, RuntimeError | MemoryError):
                    raise
                guesses = self._guesses(error, guesses)
                complaint = first_line(error)
            # The except block is left, so nothing holds the frames of the failed attempt, and with
            # them its activations.
            failures += 1
            if self.graph is not None:
                self.graph.leave()
            release_memory(self._device)
            smaller = smaller_chunks(
                chunks, self._smallest_lq_size, self._spec.size_multiple, self._spec.min_batch
            )
            self._say(phase, chunks, complaint, can_shrink=smaller is not None)
            if smaller is not None:
                chunks = smaller
                pauses = iter(PAUSES)
                continue
            # Nothing smaller is there: again with the memory that was given back just now, for it
            # may have been another program that took what was missing, and for a moment.
            pause = next(pauses, None)
            if pause is None:
                raise self._nothing_smaller(phase, chunks, complaint)
            time.sleep(pause)

    def accumulate(self, phase: Phase, chunks: Sequence[Batch], step: StepContext) -> Accumulated:
        """Gradients of the mean over all samples of `chunks`, whatever the chunks' sizes.

        One chunk at a time is on the device.
        """
        phase.drop_gradients()
        pixels = sum(chunk.pixels for chunk in chunks)
        accumulated = Accumulated()
        first = 0
        half = 0
        of_half: list[Tensor] = []
        looks = self.looks_at_noise and is_time_to_look(step.iteration)
        if looks and phase is self._phases[0]:
            chunks, half = in_halves(chunks, self._spec.min_batch)
        for samples in chunks:
            portion = Portion(
                self._prepare(samples),
                first,
                samples.pixels / pixels,
                step.memo,
                step.per_sample,
                phase.scaler.scale,
                accumulated,
            )
            for objective in phase.objectives:
                objective.accumulate(portion)
            first += len(samples)
            if first == half:
                of_half = copy_gradients(phase.parameters)
        if half:
            accumulated.alignment = compare_halves(of_half, phase.parameters)
        return accumulated

    def _judge(self, phase: Phase) -> tuple[Tensor, bool | Tensor]:
        """Whether the step is to be skipped: for the record, and for the optimizer."""
        skipped = self.check(phase)
        decision = with_second_try(
            lambda: decide(phase.optimizer, skipped, self.stepping_device),
            self._device,
            "looking at gradients",
        )
        return skipped, decision

    def _judge_together(
        self, phase: Phase, accumulated: Accumulated, rewind: Rewind
    ) -> tuple[Tensor, bool | Tensor]:
        """The same of what all processes have accumulated."""
        statistics = with_second_try(lambda: rewind.changing, self._device, "looking at statistics")
        join(self._team, phase, accumulated, statistics)
        return self._judge(phase)

    def check(self, phase: Phase) -> Tensor:
        """Make the accumulated gradients ready to be applied: unscaled, and clipped if the options
        ask for it.

        Returns:
            Whether they are not finite, so that the step is to be skipped; a flag on the device.
        """
        # Each for itself may be done again, and all of it not: gradients are unscaled once.
        tried = partial(with_second_try, device=self._device, what="looking at gradients")
        tried(lambda: phase.scaler.unscale_(phase.optimizer))
        gradients = [p.grad for p in phase.parameters if p.grad is not None]
        norm: Tensor = tried(lambda: nn.utils.get_total_norm(gradients))
        if self._train.grad_clip:
            most = self._train.grad_clip_max_norm
            tried(lambda: nn.utils.clip_grads_with_norm_(phase.parameters, most, norm))
        skipped: Tensor = tried(lambda: ~torch.isfinite(norm))
        if phase.scaler.is_enabled():
            # The scaler has seen the gradients; whether the step is made is not its business.
            tried(phase.scaler.update)
        return skipped

    def apply(self, phase: Phase, skipped: bool | Tensor, step: StepContext) -> tuple[float, int]:
        """Change the weights by the gradients, unless `skipped`, which is what `decide` gave.

        Returns:
            The learning rate that was used, of the first group of weights; how often memory ran
            out.
        """
        optimizer = phase.optimizer
        scheduled = [group["lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, scheduled, strict=True):
            group["lr"] = rate * step.rate_factor
        try:
            failures = change_weights(optimizer, skipped, self.stepping_device)
        finally:
            # Schedulers compute the next rate from this one, so the factor must not stay in it.
            for group, rate in zip(optimizer.param_groups, scheduled, strict=True):
                group["lr"] = rate
        return scheduled[0] * step.rate_factor, failures

    def _read(self, memory: MemoryBackend, phase: str) -> MemoryReading:
        """What the attempt took; with a graph, whose memory no counter sees, what the same shape
        took before.
        """
        reading = memory.read()
        if self.graph is not None and self.graph.is_active and phase in self._readings:
            return self._readings[phase]
        self._readings[phase] = reading
        return reading

    def _guesses(self, error: Exception, guesses: int) -> int:
        """How many errors of this step may have been something else than a lack of memory; below 0
        once one was nothing else.

        Raises:
            TrainingError: at the second of them.
            Exception: the error itself, where it is none of memory.
        """
        if is_out_of_memory(error):
            self._was_short = True
            return KNOWN
        if not may_be_out_of_memory(error):
            raise error
        if guesses > 0:
            raise TrainingError(
                f"the device says: {first_line(error)}. It did so with half of the samples too, "
                "so it is probably no lack of memory but a fault of the driver, of torch's "
                "installation or of the device; if other programs fill its memory, end them."
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
            "programs that use the memory."
        )

    def _rewind(self, phase: Phase) -> Rewind:
        """Prepared at the phase's first step, when all networks of the recipe are known."""
        if phase.name not in self._rewinds:
            self._rewinds[phase.name] = Rewind(self._networks.passed_through, self._device)
        return self._rewinds[phase.name]
