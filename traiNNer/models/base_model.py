"""What every training recipe shares: phases that accumulate then apply, EMA, learning rate,
state.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from traiNNer.archs.loading import load_weights
from traiNNer.data import Batch, DynamicDataLoaderWrapper, DynamicDatasetWrapper
from traiNNer.models.nonfinite import NonFiniteGuard
from traiNNer.models.recovery import Rewind, describe_needs, release_memory, smaller_chunks
from traiNNer.models.upscaler import TileSettings, Upscaler
from traiNNer.optim import build_scheduler
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import OptionsError, TrainingError
from traiNNer.utils.out_of_memory import is_out_of_memory

log = logging.getLogger(__name__)
# Side in LQ pixels below which a sample that does not fit into memory is not cropped; losses need
# some room.
SMALLEST_RETRY = 16


@dataclass
class Phase:
    """One network's share of a step: gradients are accumulated over chunks of the samples, then
    applied.

    Attributes:
        name: for messages, for example "generator".
        optimizer: over the weights that this phase changes.
        losses: from a batch on the device to the weighted losses by label (scalars).
    """

    name: str
    optimizer: torch.optim.Optimizer
    losses: Callable[[Batch], dict[str, Tensor]]
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    parameters: list[nn.Parameter] = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]


class LossRecord:
    """Sums of losses that stay on the device until somebody reads them."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, label: str, loss: Tensor) -> None:
        """Add the loss of a step."""
        self._sums[label] = self._sums[label] + loss if label in self._sums else loss

    def count_step(self) -> None:
        """Say that the losses of all phases of a step were added."""
        self._steps += 1

    def read(self) -> dict[str, float]:
        """The mean per step since the last reading (one synchronisation with the device), and start
        anew.
        """
        if not self._steps:
            return {}
        values = torch.stack([s.float() for s in self._sums.values()]).tolist()
        means = {
            label: value / self._steps for label, value in zip(self._sums, values, strict=True)
        }
        self._sums = {}
        self._steps = 0
        return means


class BaseModel(ABC):
    """A recipe. Subclasses build networks, fill `phases` in `__init__` and say what to save.

    Args:
        options: the checked options.
        runtime: device and precision.
    """

    phases: list[Phase]

    def __init__(self, options: TrainingOptions, runtime: Runtime) -> None:
        self.options = options
        self.runtime = runtime
        self.iteration = 0
        self.received: tuple[int, ...] = ()
        """Shape of the tensor that entered the generator last: what is reported is what was
        received."""
        self._dataloader: DynamicDataLoaderWrapper | None = None
        self._dataset: DynamicDatasetWrapper | None = None
        self.samples_in_step = 0
        """Samples of the step that was made last, of all its batches."""
        self.out_of_memory_total = 0
        self.out_of_memory_in_step = False
        self.losses = LossRecord()
        spec = options.network_g.entry
        val = options.val
        tile = TileSettings(
            options.scale, spec.size_multiple, spec.min_size, val.tile_size, val.tile_overlap
        )
        self._upscaler = Upscaler(runtime, tile)
        self.scaler = torch.amp.GradScaler(
            runtime.device.type, enabled=runtime.amp_dtype is torch.float16
        )
        self.guard = NonFiniteGuard(
            limit=options.train.max_nonfinite_steps, scaled=self.scaler.is_enabled()
        )

    @property
    @abstractmethod
    def network(self) -> nn.Module:
        """The generator with the weights being trained."""

    @property
    @abstractmethod
    def evaluated_network(self) -> nn.Module:
        """The generator that is validated: the moving average where there is one."""

    @property
    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """Every network whose weights a checkpoint holds, by the stem of its file's name."""

    def set_dynamic_wrappers(
        self, dataloader: DynamicDataLoaderWrapper, dataset: DynamicDatasetWrapper
    ) -> None:
        """Hand over the parts whose sizes `recover_from_oom` changes."""
        self._dataloader = dataloader
        self._dataset = dataset

    def recover_from_oom(self, batch_size: int, lq_size: int) -> None:
        """Go on with batches of `batch_size` patches of `lq_size` LQ pixels, from the next one on.

        The samples of the step that ran out of memory were already used, in smaller chunks: none is
        lost or repeated.
        """
        assert self._dataloader is not None, "set_dynamic_wrappers comes first"
        assert self._dataset is not None
        self._dataset.lq_size = lq_size
        self._dataloader.set_lq_size(lq_size)
        self._dataloader.set_batch_size(batch_size)
        release_memory(self.runtime.device)

    def train_step(self, batches: Sequence[Batch]) -> None:
        """One iteration: every phase accumulates over `batches`, then changes its weights.

        Nothing here waits for the device: losses and checks are read when they are printed.
        """
        self.iteration += 1
        self.received = ()
        self.samples_in_step = sum(map(len, batches))
        self.out_of_memory_in_step = False
        for phase in self.phases:
            self._run(phase, batches)
        self.losses.count_step()
        self.after_step()

    def _to_device(self, batch: Batch) -> Batch:
        runtime = self.runtime
        return batch.to(
            runtime.device,
            channels_last=runtime.channels_last,
            non_blocking=runtime.device.type == "cuda",
        )

    def note_received(self, lq: Tensor) -> None:
        """Recipes call this with the tensor that enters the generator: the largest of a step is
        what is reported.
        """
        if lq.numel() > math.prod(self.received or (0,)):
            self.received = tuple(lq.shape)

    def _run(self, phase: Phase, batches: Sequence[Batch]) -> None:
        """Accumulate and apply; when memory runs out, with the same samples again in smaller
        chunks.

        Raises:
            TrainingError: if a single sample of the smallest size does not fit, or the optimizer
                stopped half-way.
        """
        spec = self.options.network_g.entry
        chunks: list[Batch] | None = list(batches)
        size = chunks[0].lq_size
        said = ""
        while chunks is not None:
            rewind = Rewind(self.networks.values(), self.runtime.device, phase.optimizer)
            received = self.received
            try:
                losses = self.accumulate(phase, chunks)
                self.apply(phase, chunks)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                said = str(error).strip().splitlines()[0][:200]
            else:
                for label, loss in losses.items():
                    self.losses.add(label, loss)
                return
            # The except block is left, so nothing holds the frames of the failed attempt and their
            # activations.
            self.out_of_memory_total += 1
            self.out_of_memory_in_step = True
            self._forget_attempt(phase, rewind)
            self.received = received
            largest = max(len(chunk) for chunk in chunks)
            size = chunks[0].lq_size
            chunks = smaller_chunks(chunks, max(spec.min_size, SMALLEST_RETRY), spec.size_multiple)
            log.warning(
                "out of memory in the %s at %d x %d px%s (%s)",
                phase.name, largest, size,
                ": the same samples are tried again in smaller chunks" if chunks else "", said,
            )  # fmt: skip
        raise TrainingError(
            f"one sample of {size} px LQ does not fit into the memory of {self.runtime.device} in "
            f"the {phase.name}: "
            f"{describe_needs(self.networks.values(), self.phases, self.runtime.device)} ({said}). "
            "What helps: use_amp: true, a smaller network, an optimizer with less state, or ending "
            "other programs that use the memory. The last checkpoint is good."
        )

    def _forget_attempt(self, phase: Phase, rewind: Rewind) -> None:
        """Everything as it was before the attempt, and its memory given back."""
        phase.optimizer.zero_grad(set_to_none=True)
        rewind.restore()
        if (
            self.scaler.is_enabled()
        ):  # it remembers that the failed attempt's gradients were unscaled
            state = self.scaler.state_dict()
            self.scaler = torch.amp.GradScaler(self.runtime.device.type)
            self.scaler.load_state_dict(state)
        release_memory(self.runtime.device)

    def accumulate(self, phase: Phase, chunks: Sequence[Batch]) -> dict[str, Tensor]:
        """Gradients of the mean over all samples of `chunks`, whatever the chunks' sizes; the mean
        losses by label.

        One chunk at a time is on the device.
        """
        phase.optimizer.zero_grad(set_to_none=True)
        means: dict[str, Tensor] = {}
        pixels = sum(chunk.pixels for chunk in chunks)
        for chunk in chunks:
            weight = chunk.pixels / pixels
            losses = phase.losses(self._to_device(chunk))
            total = sum(losses.values(), start=torch.zeros((), device=self.runtime.device))
            self.scaler.scale(total * weight).backward()
            for label, loss in losses.items():
                mean = loss.detach() * weight
                means[label] = means[label] + mean if label in means else mean
        return means

    def apply(self, phase: Phase, chunks: Sequence[Batch]) -> None:
        """Change the weights by the accumulated gradients, unless these are not finite."""
        train = self.options.train
        optimizer = phase.optimizer
        self.scaler.unscale_(optimizer)
        if train.grad_clip:
            norm = nn.utils.clip_grad_norm_(phase.parameters, train.grad_clip_max_norm)
        else:
            norm = nn.utils.get_total_norm([p.grad for p in phase.parameters if p.grad is not None])
        paths = [path for chunk in chunks for path in chunk.lq_paths]
        factor = self._learning_rate_factor()
        scheduled = [group["lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, scheduled, strict=True):
            group["lr"] = rate * factor
        try:
            self.guard.step(optimizer, norm, self.scaler, paths)
        finally:
            for group, rate in zip(optimizer.param_groups, scheduled, strict=True):
                group["lr"] = rate
        if phase.scheduler is not None:
            try:
                phase.scheduler.step()
            except (
                ValueError
            ) as error:  # OneCycleLR beyond its end, after a resume with a larger total_iter
                raise OptionsError(
                    f"{type(phase.scheduler).__name__} cannot go on at iteration {self.iteration}: "
                    f"{error}. It keeps the length that the run was started with; start anew with "
                    "path.pretrain_network_g for a longer one"
                ) from error

    def _learning_rate_factor(self) -> float:
        """What the scheduled rate is multiplied by: the warm-up, and the batch against the one of
        the options.
        """
        train = self.options.train
        data = self.options.datasets.train
        factor = min(1.0, self.iteration / train.warmup_iter) if train.warmup_iter > 0 else 1.0
        if train.lr_scaling != "none" and self.samples_in_step:
            ratio = self.samples_in_step / (data.batch_size_per_gpu * data.accum_iter)
            factor *= ratio if train.lr_scaling == "linear" else math.sqrt(ratio)
        return factor

    @property
    def learning_rates(self) -> dict[str, float]:
        """The rate of each phase (of its first group), as a step like the last one uses it."""
        factor = self._learning_rate_factor()
        return {phase.name: phase.optimizer.param_groups[0]["lr"] * factor for phase in self.phases}

    def after_step(self) -> None:  # noqa: B027 (a hook that need not be filled)
        """Hook for what follows the phases, for example the moving average."""

    def make_scheduler(
        self, optimizer: torch.optim.Optimizer
    ) -> torch.optim.lr_scheduler.LRScheduler | None:
        """The scheduler that the options ask for."""
        train = self.options.train
        if train.scheduler is None:
            return None
        return build_scheduler(
            train.scheduler.type, optimizer, train.total_iter, train.scheduler.params
        )

    def make_ema(self, network: nn.Module) -> AveragedModel | None:
        """The moving average of `network`, None when the options switch it off."""
        decay = self.options.train.ema_decay
        if not decay:
            return None
        ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))
        return ema.requires_grad_(requires_grad=False).eval()

    def upscale(self, lq: Tensor) -> Tensor:
        """Process whole images as the validation does: evaluated network, autocast, tiles where
        they are needed.

        Args:
            lq: `(B, 3, H, W)`, or clips `(B, T, 3, H, W)`, in [0, 1], on any device.

        Returns:
            `(B, 3, H * scale, W * scale)`, or with T before the 3 where the network makes every
            frame of a clip; float32, not clamped, on the device of `lq`.
        """
        network = self.evaluated_network
        was_training = network.training
        network.eval()
        try:
            return self._upscaler(network, lq)
        finally:
            network.train(was_training)

    def load_pretrained(self, path: Path, *, strict: bool) -> None:
        """Start the generator, and its moving average, from the weights in `path`.

        Raises:
            CheckpointError: if the file cannot be read or, when strict, does not fit.
        """
        for name, network in self.networks.items():
            report = load_weights(network, path, strict=strict, what="network_g")
            if name == "net_g":
                log.info("%s", report.summary())

    def state_dict(self) -> dict[str, Any]:
        """Everything but the networks' weights that the next iteration depends on."""
        return {
            "iteration": self.iteration,
            "optimizers": {phase.name: phase.optimizer.state_dict() for phase in self.phases},
            "schedulers": {
                p.name: p.scheduler.state_dict() for p in self.phases if p.scheduler is not None
            },
            "scaler": self.scaler.state_dict(),
            "guard": self.guard.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo everything since `state_dict()`; the networks' weights are loaded apart."""
        self.iteration = state["iteration"]
        for phase in self.phases:
            phase.optimizer.load_state_dict(state["optimizers"][phase.name])
            if phase.scheduler is not None and phase.name in state["schedulers"]:
                phase.scheduler.load_state_dict(state["schedulers"][phase.name])
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.guard.load_state_dict(state["guard"])
