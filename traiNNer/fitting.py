"""The memory automation for a training loop of one's own: any network, optimizer and dataset."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, Dataset
from torch.utils.data import default_collate as torch_collate

from traiNNer.automations import (
    AutomationContext,
    Automations,
    MemoryBackend,
    Shape,
    ShapeBounds,
    StepReport,
    is_out_of_memory,
)
from traiNNer.data.order import ShuffledOrder
from traiNNer.engine.memory_fit import CPU_STEP_SECONDS, open_memory
from traiNNer.engine.progress import ShapeSpeed
from traiNNer.models.memory_needs import release_memory
from traiNNer.models.phase_runner import PAUSES
from traiNNer.models.rewind import Rewind
from traiNNer.models.weight_step import change_weights, decide
from traiNNer.options.schema import TrainingAutomations
from traiNNer.utils.arithmetic import round_down
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import OptionsError, TrainingError
from traiNNer.utils.out_of_memory import first_line
from traiNNer.utils.text import plural

log = logging.getLogger(__name__)
NAME = "DynamicBatchAndPatchSizeOptimizer"
# Losses that wait on the device: to fetch each would be a wait in every step.
MOST_PENDING = 100

Collate = Callable[[list[Any], int], Any]


@dataclass(frozen=True)
class FittedStep:
    """What a step was made of, as the network received it.

    Attributes:
        iteration: changes of the weights so far.
        indices: of its samples in the dataset.
        size: of the samples; 1 where they have none.
        loss: mean over the samples, detached.
        used_share: of the memory, at the step's peak; 0.85 is 85 %.
        failures: how often memory ran out in it; the samples are the same.
    """

    iteration: int
    indices: tuple[int, ...]
    size: int
    loss: Tensor
    used_share: float
    failures: int

    @property
    def samples(self) -> int:
        """How many."""
        return len(self.indices)


@dataclass(frozen=True)
class _Read:
    """A sample that was read, at the size that it was asked for."""

    index: int
    size: int
    sample: Any


class _Items(Dataset[_Read]):
    """The user's dataset, as the reading processes see it."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.is_sized = hasattr(dataset, "sized")

    def __getitem__(self, request: tuple[int, int]) -> _Read:
        index, size = request
        sample = self.dataset.sized(index, size) if self.is_sized else self.dataset[index]
        return _Read(index, size, sample)

    def read_again(self, read: _Read, size: int) -> _Read:
        """The same sample at another size; where a collate hook makes the size, nothing is read."""
        return self[read.index, size] if self.is_sized else _Read(read.index, size, read.sample)


class _Reader:
    """An endless stream of samples in the order of permutations; batch and size may change at any
    time, and nothing that was read is dropped.
    """

    def __init__(
        self, dataset: Any, seed: int, num_workers: int, shape: Shape, min_batch: int
    ) -> None:
        self.items = _Items(dataset)
        self.shape = shape
        self.min_batch = min_batch
        self.taken = 0
        self.length = len(dataset)
        self._order = ShuffledOrder(self.length, seed)
        self._read: deque[_Read] = deque()
        self._num_workers = num_workers
        self._lists: Iterator[list[_Read]] | None = None

    def take(self, left: float) -> list[_Read]:
        """The next samples: as many as a batch has, of the `left` that are still to come; those
        that were read at a smaller size are a batch of their own.
        """
        if self._lists is None:
            self._lists = self._start()
        wanted = self.shape.batch_size
        # What would be left is too little for a batch of its own.
        if left < wanted + self.min_batch:
            wanted = int(left)
        samples: list[_Read] = []
        while len(samples) < wanted:
            if not self._read:
                self._read.extend(next(self._lists))
            size = min(self._read[0].size, self.shape.lq_size)
            if not self.items.is_sized:
                size = self.shape.lq_size
            if samples and samples[0].size != size:
                if len(samples) >= self.min_batch:
                    break
                size = samples[0].size
            read = self._read.popleft()
            samples.append(read if read.size == size else self.items.read_again(read, size))
        self.taken += len(samples)
        return samples

    def begin_at(self, taken: int) -> None:
        """Go on behind the first samples of the stream."""
        self.taken = taken
        self._read.clear()
        self._lists = None

    def _start(self) -> Iterator[list[_Read]]:
        workers = self._num_workers
        loader = DataLoader(
            self.items,
            # torch declares lists of numbers; whatever they hold reaches the dataset as it is.
            batch_sampler=cast("Any", self._requests(self.taken)),
            collate_fn=list,
            num_workers=workers,
            prefetch_factor=2 if workers else None,
        )
        return iter(loader)

    def _requests(self, position: int) -> Iterator[list[tuple[int, int]]]:
        while True:
            # Each list is read by one worker, so a batch is parted among all of them.
            count = math.ceil(self.shape.batch_size / max(1, self._num_workers))
            places = range(position, position + count)
            yield [(self._order.visit(place).index, self.shape.lq_size) for place in places]
            position += count


def fit_memory(  # noqa: PLR0913 (all named by keyword: a bundle would only hide them)
    loss: Callable[[Any], Tensor],
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    dataset: Any,
    *,
    batch_size: int = 1,
    size: int | None = None,
    max_size: int | None = None,
    size_multiple: int = 1,
    collate: Collate | Callable[[list[Any]], Any] | None = None,
    epochs: float | None = None,
    num_workers: int = 0,
    seed: int = 0,
    scaler: torch.amp.GradScaler | None = None,
    before_step: Callable[[], object] | None = None,
    limit_gib: float | None = None,
    automation: Mapping[str, Any] | None = None,
    min_batch: int | None = None,
    memory: MemoryBackend | None = None,
) -> Fit:
    """A training loop that fits its batches to the memory of the device, and whose steps survive
    running out of it. Iterating makes one step after the other; the body of the loop is yours.

    Args:
        loss: from a batch to the mean loss of its samples, with its graph. It moves the batch to
            the device and runs the network; where memory runs out, it is called again with parts of
            the batch, and the sum of their gradients is that of the whole.
        network: what is trained; its device is the one that is watched.
        optimizer: over its weights.
        dataset: map-style: `len(dataset)`, and `dataset[index]`, or `dataset.sized(index, size)`
            where it gives samples of a size that is asked for.
        batch_size: samples of a step that you would choose. Growth begins at one sample, comes by
            this and, with sizes, keeps it until the size has grown.
        size: smallest side of the samples. None: they have none, and the batch alone grows.
        max_size: largest side. None: `size`.
        size_multiple: what sides are multiples of.
        collate: from samples (and the size, where `size` is given) to a batch. None: torch's.
        epochs: how often the dataset is gone through; None for ever.
        num_workers: processes that read.
        seed: of the order.
        scaler: scales the loss for float16, if given; its `unscale_` and `update` are called here.
        before_step: called with all gradients there, before weights change: for clipping.
        limit_gib: of the memory. None: the whole card, or half of the main memory that is free.
        automation: settings of DynamicBatchAndPatchSizeOptimizer, for example {"pace": "ramp"}.
        min_batch: samples below which the network cannot be trained. None: 2 with a batch norm, 1
            without.
        memory: what is watched; None is that of the network's device.

    Returns:
        What is iterated over.

    Raises:
        OptionsError: for sizes that cannot be, or settings that do not exist.
    """
    if not len(dataset):
        raise OptionsError("fit_memory: the dataset is empty")
    if epochs is not None and epochs <= 0:
        raise OptionsError(f"fit_memory: epochs is {epochs}; expected more than 0")
    if size is not None and collate is None and not hasattr(dataset, "sized"):
        raise OptionsError(
            "fit_memory: nothing can make samples of a size; give collate(samples, size), or a "
            "dataset with a method sized(index, size)"
        )
    if size is None and max_size is not None:
        raise OptionsError("fit_memory: max_size without size; give the size to begin with")
    device = next(network.parameters()).device
    memory = memory or open_memory(Runtime(device), limit_gib)
    if memory is None:
        raise OptionsError(f"fit_memory: the memory of {device} cannot be watched")
    least = size or 1
    if min_batch is None:
        has_batch_norm = any(isinstance(part, _BatchNorm) for part in network.modules())
        min_batch = 2 if has_batch_norm else 1
    bounds = ShapeBounds(
        min_lq_size=least,
        max_lq_size=max_size or least,
        size_multiple=size_multiple,
        min_batch_size=min_batch,
        max_lq_due_to="max_size",
    )
    step_seconds = CPU_STEP_SECONDS if device.type == "cpu" else None
    # Nobody looks at the gradients of a loop of the user's own.
    context = AutomationContext(
        bounds, Shape(least, batch_size), memory.total, step_seconds, batches_per_step=None
    )
    settings = {"min_lq_size": least} | dict(automation or {})
    try:
        checked = TrainingAutomations.model_validate({"enabled": True, NAME: settings})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise OptionsError(f"fit_memory: automation: {place}: {problem['msg']}") from error
    return Fit(
        loss,
        network,
        optimizer,
        reader=_Reader(dataset, seed, num_workers, Shape(least, min_batch), min_batch),
        collate=_with_size(collate, is_sized=size is not None),
        automations=Automations.build(checked.active, context),
        memory=memory,
        last=None if epochs is None else round(epochs * len(dataset)),
        scaler=scaler or torch.amp.GradScaler(device.type, enabled=False),
        before_step=before_step or (lambda: None),
        sizes=(least, size_multiple),
    )


def _with_size(collate: Collate | Callable[[list[Any]], Any] | None, *, is_sized: bool) -> Collate:
    """The hook as it is called: with samples and a size."""
    if collate is not None and is_sized:
        return cast("Collate", collate)
    without_size = cast("Callable[[list[Any]], Any]", collate or torch_collate)
    return lambda samples, _size: without_size(samples)


class Fit:
    """See `fit_memory`. Iterating gives a `FittedStep` after each change of the weights.

    Attributes:
        iteration: changes of the weights so far.
        failures: how often memory ran out.
    """

    def __init__(  # noqa: PLR0913 (made by `fit_memory` alone)
        self,
        loss: Callable[[Any], Tensor],
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        reader: _Reader,
        collate: Collate,
        automations: Automations,
        memory: MemoryBackend,
        last: int | None,
        scaler: torch.amp.GradScaler,
        before_step: Callable[[], object],
        sizes: tuple[int, int],
    ) -> None:
        self.iteration = 0
        self.failures = 0
        self._loss = loss
        self._optimizer = optimizer
        self._device = next(network.parameters()).device
        self._rewind = Rewind([network], self._device)
        self._reader = reader
        self._collate = collate
        self._automations = automations
        self._memory = memory
        self._last = last
        self._scaler = scaler
        self._before_step = before_step
        self._least, self._multiple = sizes
        self._speed = ShapeSpeed(
            partial(torch.cuda.synchronize, self._device)
            if self._device.type == "cuda"
            else lambda: None
        )
        self._points: dict[str, list[float]] = {}
        self._pending: list[Tensor] = []
        self._use(automations.before_training())

    @property
    def curves(self) -> dict[str, list[float]]:
        """A point for each step: iteration, samples, size, loss, used_pct, failures."""
        self._fetch_losses()
        return {tag: list(values) for tag, values in self._points.items()}

    @property
    def epoch(self) -> float:
        """How often the dataset was gone through."""
        return self._reader.taken / self._reader.length

    def __iter__(self) -> Iterator[FittedStep]:
        try:
            while self._last is None or self._reader.taken < self._last:
                left = math.inf if self._last is None else self._last - self._reader.taken
                yield self._step(self._reader.take(left))
        finally:
            # The reading processes end with the loop; another one goes on behind this sample.
            self._reader.begin_at(self._reader.taken)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps beside network and optimizer: tensors and plain values."""
        return {
            "iteration": self.iteration,
            "taken": self._reader.taken,
            "failures": self.failures,
            "automations": self._automations.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on behind the samples that were trained on when the state was made."""
        self.iteration = int(state["iteration"])
        self.failures = int(state["failures"])
        self._reader.begin_at(int(state["taken"]))
        self._automations.load_state_dict(state["automations"])
        self._use(self._automations.before_training(resumed=True))

    def _step(self, samples: list[_Read]) -> FittedStep:
        """Change the weights by these samples, whatever it takes, and look at what it took."""
        asked = Shape(samples[0].size, len(samples))
        chunks = [samples]
        failures = 0
        pauses = iter(PAUSES)
        while True:
            self._rewind.mark()
            self._memory.start_window()
            try:
                loss = self._accumulate(chunks, len(samples))
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                complaint = first_line(error)
            # Behind the except block nothing holds the frames of the failed attempt.
            failures += 1
            self._optimizer.zero_grad(set_to_none=True)
            self._rewind.restore()
            release_memory(self._device)
            smaller = self._smaller(chunks)
            self._say(chunks, complaint, can_shrink=smaller is not None)
            if smaller is not None:
                chunks = smaller
                pauses = iter(PAUSES)
                continue
            # It may have been another program that took what was missing, and for a moment.
            pause = next(pauses, None)
            if pause is None:
                raise self._nothing_smaller(chunks, complaint)
            time.sleep(pause)
        self._scaler.unscale_(self._optimizer)
        self._before_step()
        groups = self._optimizer.param_groups
        weights = [weight for group in groups for weight in group["params"]]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        # A step whose gradients are not finite would end the training; it is left out.
        skipped = ~torch.isfinite(nn.utils.get_total_norm(gradients))
        decision = decide(self._optimizer, skipped, self._device)
        failures += change_weights(self._optimizer, decision, self._device)
        self._scaler.update()
        self._rewind.take_back_statistics(skipped)
        self._optimizer.zero_grad(set_to_none=True)
        self.iteration += 1
        self.failures += failures
        largest = max(chunks, key=lambda chunk: len(chunk) * chunk[0].size ** 2)
        self._adapt(asked, Shape(largest[0].size, len(largest)), failures)
        step = FittedStep(
            self.iteration,
            tuple(read.index for read in samples),
            max(chunk[0].size for chunk in chunks),
            loss,
            self._memory.read().used_share,
            failures,
        )
        self._note(step)
        return step

    def _accumulate(self, chunks: Sequence[list[_Read]], total: int) -> Tensor:
        """Add up the gradients of the mean over all samples; the loss."""
        self._optimizer.zero_grad(set_to_none=True)
        sums = torch.zeros((), device=self._device)
        for chunk in chunks:
            batch = self._collate([read.sample for read in chunk], chunk[0].size)
            loss = self._loss(batch) * (len(chunk) / total)
            self._scaler.scale(loss).backward()
            sums += loss.detach()
        return sums

    def _smaller(self, chunks: Sequence[list[_Read]]) -> list[list[_Read]] | None:
        """The same samples in halves; where these would be too few, at half of their pixels. None
        where nothing smaller is possible.
        """
        least = self._reader.min_batch
        if any(len(chunk) >= 2 * least for chunk in chunks):
            halves: list[list[_Read]] = []
            for chunk in chunks:
                middle = (len(chunk) + 1) // 2 if len(chunk) >= 2 * least else len(chunk)
                halves += [part for part in (chunk[:middle], chunk[middle:]) if part]
            return halves
        size = round_down(int(chunks[0][0].size * math.sqrt(0.5)), self._multiple)
        if size < self._least:
            return None
        again = self._reader.items.read_again
        return [[again(read, size) for read in chunk] for chunk in chunks]

    def _say(self, chunks: Sequence[list[_Read]], complaint: str, *, can_shrink: bool) -> None:
        log.warning(
            "out of memory at %d of size %d: the same samples are tried again %s (%s)",
            max(map(len, chunks)),
            chunks[0][0].size,
            "in smaller chunks" if can_shrink else "after giving back what is not in use",
            complaint,
        )

    def _nothing_smaller(self, chunks: Sequence[list[_Read]], complaint: str) -> TrainingError:
        count = plural(max(map(len, chunks)), "sample")
        return TrainingError(
            f"fit_memory: the memory of {self._device} does not hold {count} of size "
            f"{chunks[0][0].size} ({complaint}); what helps: mixed precision, a smaller network, "
            "or ending other programs that use the memory"
        )

    def _adapt(self, asked: Shape, fitted: Shape, failures: int) -> None:
        """Have the sizes of the next steps decided."""
        pixels = asked.pixels()
        self._speed.count(asked, pixels, 0.0)
        if failures:
            decision = self._automations.after_out_of_memory(asked, fitted)
        else:
            rate = self._speed.rate
            progress = self._reader.taken / self._last if self._last else 0.0
            report = StepReport(
                self.iteration,
                asked,
                self._memory.read(),
                rate=rate,
                seconds=None if rate is None else pixels / rate,
                progress=min(1.0, progress),
            )
            decision = self._automations.after_step(report)
        if decision is not None:
            log.info("%s", decision)
            self._memory.release()
            self._use(decision.shape)

    def _use(self, shape: Shape | None) -> None:
        if shape is not None:
            self._reader.shape = shape

    def _note(self, step: FittedStep) -> None:
        values = {
            "iteration": step.iteration,
            "samples": step.samples,
            "size": step.size,
            "used_pct": 100 * step.used_share,
            "failures": step.failures,
        }
        for tag, value in values.items():
            self._points.setdefault(tag, []).append(float(value))
        self._pending.append(step.loss)
        if len(self._pending) >= MOST_PENDING:
            self._fetch_losses()

    def _fetch_losses(self) -> None:
        if self._pending:
            self._points.setdefault("loss", []).extend(torch.stack(self._pending).tolist())
            self._pending.clear()
