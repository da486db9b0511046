"""What every training recipe shares: networks by role, phases, learning rates, state."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from traiNNer.archs import build_network
from traiNNer.archs.checkpointing import checkpoint_blocks
from traiNNer.archs.loading import load_weights
from traiNNer.data import Batch, DynamicDataLoaderWrapper, DynamicDatasetWrapper
from traiNNer.models.graphed_forward import GraphedForward, open_forward
from traiNNer.models.memory_needs import release_memory, with_second_try
from traiNNer.models.networks import MovingAverage, Network, Networks, Role, ScheduleFreeAverage
from traiNNer.models.nonfinite import NonFiniteGuard
from traiNNer.models.objectives import AnyObjective
from traiNNer.models.phase import Phase
from traiNNer.models.phase_runner import PhaseRunner, StepContext
from traiNNer.models.step import SampleVisit, StepResult
from traiNNer.optim import build_optimizer, build_scheduler, group_by_rate
from traiNNer.options.entries import OptimizerOptions
from traiNNer.options.recipes import Task
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.work import Work

log = logging.getLogger(__name__)


class BaseModel:
    """A recipe: which networks there are, and the phases of a step.

    A subclass adds further networks and its phases in `__init__`. A step's result is what `step`
    returns; the recipe itself only keeps what the next step depends on.

    Args:
        options: the checked options.
        runtime: device and precision.
        network: the main one, as `build_network` makes it.

    Attributes:
        main: the network that the run is about; its average, where there is one, is validated.
        forward_main: calls it in a step, compiled or by graphs if the options say so.
        work: done so far; its seconds are told by whoever trains.
        place: steps that the schedules have made.
        out_of_memory_total: how often memory ran out in steps so far.
        networks: by role.
        averages: moving averages, updated after the phases.
        phases: of a step, in order.
        criteria: modules of the losses, which hold tensors too.
        metadata: what weights files say besides.
        runner: runs the phases; its `memory` is measured around each attempt.
    """

    task: ClassVar[Task | None] = None
    """What its networks make, by which networks, losses and metrics are checked; None checks
    nothing."""

    def __init__(self, options: TrainingOptions, runtime: Runtime, network: nn.Module) -> None:
        self.options = options
        self.runtime = runtime
        self.length = options.length
        self.work = Work()
        self.place = 0
        self.out_of_memory_total = 0
        self.networks = Networks()
        self.averages: list[MovingAverage] = []
        self.phases: list[Phase] = []
        self.criteria: list[nn.Module] = []
        self.metadata: dict[str, str] = {}
        self._dataloader: DynamicDataLoaderWrapper | None = None
        self.runner = PhaseRunner(
            runtime.device,
            options.train,
            options.network_g.entry,
            self.networks,
            self.phases,
            self.prepare,
            runtime.team,
        )
        if options.use_checkpointing is True:
            checkpoint_blocks(network)
        self.main = self.add_network("net_g", network)
        self.forward_main = open_forward(
            self.main.module, runtime, graphs=bool(options.use_cuda_graphs)
        )
        if isinstance(self.forward_main, GraphedForward):
            self.runner.graph = self.forward_main
        self.add_average(self.main)

    @property
    def iteration(self) -> int:
        """Changes of the weights so far."""
        return self.work.iterations

    # -- what a recipe says of itself --------------------------------------------------------------

    @classmethod
    def build_network(cls, options: TrainingOptions) -> nn.Module:
        """The main network as the options describe it, on the CPU."""
        network = options.network_g
        return build_network(network.type, scale=options.scale, **network.params)

    def prepare(self, batch: Batch) -> Batch:
        """What the losses see: float32 in [0, 1] on the device.

        It is a pure function of pixels and seeds, called for each phase and for each repeat of it,
        so that all of them see the same. Degradations of GT are made here.
        """
        runtime = self.runtime
        return batch.to(
            runtime.device,
            channels_last=runtime.channels_last,
            non_blocking=runtime.device.type == "cuda",
        )

    # -- for subclasses ----------------------------------------------------------------------------

    def add_network(
        self, name: str, module: nn.Module, role: Role = Role.TRAINED, section: str = "network_g"
    ) -> Network:
        """Place a network on the device and take it in; trained ones in training mode."""
        module = self.runtime.place(module)
        module.train(role is Role.TRAINED)
        return self.networks.add(Network(name, module, role, section))

    def add_average(self, source: Network) -> None:
        """The moving averages of `source`, unless the options switch them off; with a
        schedule-free optimizer its own.
        """
        train = self.options.train
        if train.is_schedule_free:
            average = ScheduleFreeAverage(source)
            self.networks.add(average.network)
            self.averages.append(average)
        elif train.ema_decay or train.ema_half_life is not None:
            half_life = None
            if train.ema_half_life is not None:
                half_life = self.length.units(train.ema_half_life)
            average = MovingAverage(source, train.ema_decay, half_life, train.ema_power)
            self.networks.add(average.network)
            self.averages.append(average)
        for decay in train.ema_also:
            average = MovingAverage(source, decay, power=train.ema_power, suffix=f"_ema_{decay}")
            self.networks.add(average.network)
            self.averages.append(average)
        for width in train.ema_widths:
            average = MovingAverage(source, 0.0, width=width, suffix=f"_ema_w{width}")
            self.networks.add(average.network)
            self.averages.append(average)

    def add_phase(
        self,
        name: str,
        weights: Iterable[nn.Parameter],
        objectives: Sequence[AnyObjective],
        optimizer: OptimizerOptions,
        optimizer_option: str = "train.optim_g",
    ) -> Phase:
        """A phase with an optimizer, a schedule, a guard and a loss scale of its own.

        Args:
            name: for messages, for example "generator".
            weights: that the phase changes.
            objectives: what it makes smaller.
            optimizer: its section of the options.
            optimizer_option: where that stands, for messages.
        """
        train = self.options.train
        device = self.runtime.device
        groups: Iterable[nn.Parameter] | Iterable[dict[str, Any]] = weights
        if optimizer.lr_mul:
            named = self.networks.with_names(weights)
            groups = group_by_rate(named, optimizer, optimizer_option)
        built = build_optimizer(optimizer.type, groups, optimizer.params, device)
        scaler = torch.amp.GradScaler(device.type, enabled=self.runtime.amp_dtype is torch.float16)
        guard = NonFiniteGuard(
            train.max_nonfinite_steps,
            scaled=scaler.is_enabled(),
            phase=name,
            optimizer_option=optimizer_option,
        )
        scheduler = None
        if train.scheduler is not None:
            scheduler = build_scheduler(
                train.scheduler.type, built, self.length, train.scheduler.params
            )
        for average in self.averages:
            if isinstance(average, ScheduleFreeAverage) and average.optimizer is None:
                average.optimizer = built
        phase = Phase(name, built, tuple(objectives), guard, scaler, scheduler)
        phase.keeps_gradients = self.runner.graph is not None
        self.phases.append(phase)
        return phase

    # -- a step ------------------------------------------------------------------------------------

    def step(self, batches: Sequence[Batch], *, per_sample: bool = False) -> StepResult:
        """One iteration: every phase accumulates over `batches`, then changes its weights.

        Nothing here waits for the device: losses and checks are read when they are printed.

        Args:
            batches: the samples.
            per_sample: give the losses of each sample too, which costs a second pass over them.

        Raises:
            TrainingError: if memory does not do even for one sample, or too many steps in a row
                were not finite. While `runner.between_steps`, all is as after the step before.
        """
        for phase in self.phases:
            if phase.guard.is_full:
                phase.guard.flush()
        after = replace(self.work)
        pixels = sum(batch.pixels for batch in batches)
        after.add(*self.runtime.team.totals(sum(map(len, batches)), pixels))
        factor = learning_rate_factor(self.options, self.work, after)
        context = StepContext(after.iterations, factor, per_sample)
        due = [phase for phase in self.phases if phase.is_due(after.iterations)]
        results = {phase.name: self.runner.run(phase, batches, context) for phase in due}
        samples = after.samples - self.work.samples
        indices = tuple(index for batch in batches for index in batch.indices)
        visits = tuple(_visits(batches)) if per_sample else ()
        result = StepResult(after.iterations, samples, results, indices, visits)
        self.out_of_memory_total += sum(retry.failures for retry in result.retries)
        self.work.add(result.samples, result.pixels)
        place = self.length.place(self.work)
        for phase in self.phases:
            phase.advance(place - self.place)
        self.place = place
        for average in self.averages:
            follow = partial(_follow, average, self.phases, result, self.length.done(self.work))
            with_second_try(follow, self.runtime.device, "the moving average")
        self.runner.between_steps = True
        return result

    # -- the sizes of the batches ------------------------------------------------------------------

    def set_dynamic_wrappers(
        self, dataloader: DynamicDataLoaderWrapper, dataset: DynamicDatasetWrapper
    ) -> None:
        """Hand over the parts whose sizes `recover_from_oom` changes: loader and dataset share one
        patch size.
        """
        if dataloader.dataset is not dataset:
            raise ValueError("the loader does not read from this dataset")
        self._dataloader = dataloader

    def recover_from_oom(self, batch_size: int, lq_size: int) -> None:
        """Go on with batches of `batch_size` patches of `lq_size` LQ pixels, from the next one on.

        The samples of the step that ran out of memory were already used, in smaller chunks: none is
        lost or repeated.
        """
        assert self._dataloader is not None, "set_dynamic_wrappers comes first"
        self._dataloader.set_lq_size(lq_size)
        self._dataloader.set_batch_size(batch_size)
        if self.runner.graph is not None:
            self.runner.graph.leave()
        release_memory(self.runtime.device)

    # -- weights and state -------------------------------------------------------------------------

    def load_pretrained(self, *, is_resumed: bool = False) -> None:
        """Start each network from the weights that `path.pretrain_<section>` names; averages start
        from the network that they follow.

        Args:
            is_resumed: load those alone that no checkpoint holds.

        Raises:
            CheckpointError: if a file cannot be read or, when strict, does not fit.
        """
        path = self.options.path
        for network in self.networks:
            if network.role is Role.AVERAGE or (is_resumed and network.saved):
                continue
            file = getattr(path, f"pretrain_{network.section}", None)
            if file is None:
                continue
            strict = getattr(path, f"strict_load_{network.section.removeprefix('network_')}", True)
            report = load_weights(network.module, Path(file), strict=strict, what=network.section)
            log.info("%s", report.summary())
        if not is_resumed:
            for average in self.averages:
                average.restart()

    def modules(self) -> Iterator[nn.Module]:
        """Every module that the recipe holds: networks, averages, losses."""
        for root in (*(network.module for network in self.networks), *self.criteria):
            yield from root.modules()

    def flush_checks(self) -> None:
        """Read the checks for finite gradients (one synchronisation for each phase).

        Raises:
            TrainingError: after too many non-finite steps in a row in one phase.
        """
        for phase in self.phases:
            phase.guard.flush()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the networks' weights that the next iteration depends on."""
        return {
            "iteration": self.iteration,
            "samples": self.work.samples,
            "pixels": self.work.pixels,
            "seconds": self.work.seconds,
            "length": self.length.state_dict(),
            "place": self.place,
            "out_of_memory_total": self.out_of_memory_total,
            "phases": {phase.name: phase.state_dict() for phase in self.phases},
            "averages": {average.network.name: int(average.has_begun) for average in self.averages},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo everything since `state_dict()`; the networks' weights are loaded apart."""
        self.work = Work(state["iteration"], state["samples"], state["pixels"], state["seconds"])
        self.place = state["place"]
        self.out_of_memory_total = state["out_of_memory_total"]
        for phase in self.phases:
            phase.load_state_dict(state["phases"][phase.name])
        for average in self.averages:
            # One that the former run did not have begins now: its first update copies.
            average.has_begun = bool(state["averages"].get(average.network.name, False))
            average.iteration = self.iteration
            average.done = self.length.done(self.work)


def _visits(batches: Iterable[Batch]) -> Iterator[SampleVisit]:
    for batch in batches:
        places = zip(batch.indices, batch.seeds, batch.placements, strict=True)
        for index, seed, placement in places:
            corner = None if placement is None else placement.corner(batch.lq_size)
            yield SampleVisit(index, seed, batch.lq_size, corner)


def _follow(
    average: MovingAverage, phases: Iterable[Phase], result: StepResult, done: float
) -> None:
    """Have `average` follow a step, unless the phases that change its network were skipped."""
    if not average.changed_by:
        weights = set(average.source.module.parameters())
        changing = [phase for phase in phases if not weights.isdisjoint(phase.parameters)]
        average.changed_by = [phase.name for phase in changing]
    present = [name for name in average.changed_by if name in result.phases]
    if average.changed_by and not present:
        return  # none of its phases took part in this step
    flags = [result.phases[name].skipped for name in present]
    # Of a network that no phase changes nothing can be skipped.
    skipped = torch.stack(flags).all() if flags else None
    average.update(done, skipped, result.iteration)


def learning_rate_scale(rule: str, ratio: float) -> float:
    """What the learning rate is multiplied by for `ratio` times the samples of the options.

    Args:
        rule: of `train.lr_scaling`: none, sqrt or linear.
        ratio: samples of an iteration against those that the options ask for.
    """
    if rule == "sqrt":
        return math.sqrt(ratio)
    return ratio if rule == "linear" else 1.0


def learning_rate_factor(options: TrainingOptions, before: Work, after: Work) -> float:
    """What the scheduled rates are multiplied by in a step: the warm-up, and the batch against the
    one of the options.

    Args:
        options: of the run.
        before: the work done before the step.
        after: the work that will be done behind it.
    """
    train = options.train
    data = options.datasets.train
    factor = 1.0
    if train.warmup_iter > 0:
        factor = min(1.0, after.iterations / train.warmup_iter)
    if train.warmup is not None:
        length = options.length
        factor = min(1.0, length.done(after) / length.units(train.warmup))
    configured = data.batch_size_per_gpu * data.accum_iter
    ratio = (after.samples - before.samples) / configured
    return factor * learning_rate_scale(train.lr_scaling, ratio)
