"""The networks of a recipe by their roles: what is trained, averaged, saved and loaded follows the
role, never a name.
"""

# torch's functions for lists of tensors are private to a type checker.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

import torch
from torch import Tensor, nn

from traiNNer.models.power_average import exponent_of

log = logging.getLogger(__name__)


class Role(StrEnum):
    """What a network is there for."""

    TRAINED = "trained"
    """A phase changes its weights."""
    AVERAGE = "average"
    """It follows a trained network, and is what is validated and given away."""
    FROZEN = "frozen"
    """Its weights never change and come from elsewhere, so no checkpoint holds them."""


@dataclass(frozen=True)
class Network:
    """A network and its role.

    Attributes:
        name: stem of its file in a checkpoint, for example "net_g".
        module: the network itself, on the device.
        role: what it is there for.
        section: key of the options that describes it; pretrained weights are looked for in
            `path.pretrain_<section>`.
        averaged_from: name of the network that an average follows.
        required: whether a run can go on from a checkpoint without its weights only by starting it
            anew, which is refused; an optional one starts as it was built, and that is said.
        facts: what its weights files say of it besides.
    """

    name: str
    module: nn.Module
    role: Role = Role.TRAINED
    section: str = "network_g"
    averaged_from: str | None = None
    required: bool = True
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def saved(self) -> bool:
        """Whether checkpoints hold its weights."""
        return self.role is not Role.FROZEN


class Networks:
    """The networks of a recipe, in the order in which they were added."""

    def __init__(self) -> None:
        self._networks: dict[str, Network] = {}
        self._evaluated: Network | None = None

    def add(self, network: Network) -> Network:
        """Take in one more.

        Raises:
            ValueError: if the name is taken, or an average follows what is not there.
        """
        if network.name in self._networks:
            raise ValueError(f"there are two networks of the name '{network.name}'")
        source = network.averaged_from
        if source is not None and source not in self._networks:
            raise ValueError(f"'{network.name}' averages '{source}', which is not there")
        self._networks[network.name] = network
        return network

    def __iter__(self) -> Iterator[Network]:
        return iter(self._networks.values())

    def __getitem__(self, name: str) -> Network:
        return self._networks[name]

    def average_of(self, network: Network) -> Network | None:
        """The network that follows `network`, None without one."""
        averages = (other for other in self if other.averaged_from == network.name)
        return next(averages, None)

    def evaluated(self, network: Network) -> Network:
        """The first average of `network` where there is one, else `network` itself."""
        return self._evaluated or self.average_of(network) or network

    @contextmanager
    def evaluating(self, average: Network) -> Iterator[None]:
        """Have this one be what is evaluated."""
        self._evaluated = average
        try:
            yield
        finally:
            self._evaluated = None

    def with_names(self, weights: Iterable[nn.Parameter]) -> Iterator[tuple[str, nn.Parameter]]:
        """Weights and their names in the networks; empty for those of none."""
        names = {
            id(weight): name
            for network in self
            for name, weight in network.module.named_parameters()
        }
        return ((names.get(id(weight), ""), weight) for weight in weights)

    @property
    def passed_through(self) -> list[nn.Module]:
        """The modules that a training step may run through: all but the averages."""
        return [network.module for network in self if network.role is not Role.AVERAGE]


class MovingAverage:
    """An exponential moving average of a network's weights.

    The first update copies, so that the random start has no share in it. Buffers are copied at each
    one. torch's own AveragedModel keeps its counter on the device, which waits for it at each step,
    and follows steps that were skipped.

    Args:
        source: the network that is followed.
        decay: share of the former average that is kept at each update.
        half_life: work of the run after which half of it is left, in place of the decay.
        power: of the warm-up: in iteration n the decay is at most 1 - n^-power, so that the average
            soon forgets what the network was at the beginning; 0 is none.
        width: of a power-law average (`models/power_average.py`), in place of the decay.
        suffix: behind the network's name in that of the average.

    Attributes:
        source: the network that is followed.
        changed_by: names of the phases that change it; empty until a step has found them.
        network: the average.
        iteration: the last one that was followed.
        done: work of the run at that time.
    """

    def __init__(
        self,
        source: Network,
        decay: float,
        half_life: float | None = None,
        power: float = 0.0,
        width: float | None = None,
        suffix: str = "_ema",
    ) -> None:
        self.changed_by: list[str] = []
        self.iteration: int | None = None
        self.done = 0.0
        self._decay = decay
        self._half_life = half_life
        self._power = power
        self._exponent = None if width is None else exponent_of(width)
        self.source = source
        self._begun: bool | Tensor = False
        average = copy.deepcopy(source.module).requires_grad_(requires_grad=False).eval()
        self._averages: list[Tensor] = list(average.parameters())
        self._weights: list[Tensor] = list(source.module.parameters())
        self._buffers = list(zip(average.buffers(), source.module.buffers(), strict=True))
        self.network = Network(
            f"{source.name}{suffix}",
            average,
            Role.AVERAGE,
            source.section,
            averaged_from=source.name,
            required=False,
            facts={} if width is None else {"ema_width": str(width)},
        )

    @property
    def has_begun(self) -> bool:
        """Whether there was an update that copied the weights; on a GPU this waits for it."""
        return bool(self._begun)

    @has_begun.setter
    def has_begun(self, value: bool) -> None:
        self._begun = value

    @torch.no_grad()
    def update(
        self, done: float, skipped: Tensor | None = None, iteration: int | None = None
    ) -> None:
        """Follow the network by one step.

        Args:
            done: work of the run so far, in the unit of the half-life; above 0.
            skipped: whether the step left the weights as they were, a flag on their device; None
                says that it did not.
            iteration: the step's number. A second call for the same one does nothing: where memory
                runs out, it is called again.
        """
        if iteration is not None and iteration == self.iteration:
            return
        decay = self._decay
        if self._half_life is not None:
            # So that two steps of half the work keep as much as one of all of it.
            decay = 0.5 ** ((done - self.done) / self._half_life)
        if self._exponent is not None:
            decay = (self.done / done) ** (self._exponent + 1)
        if self._power and iteration is not None:
            decay = min(decay, 1 - iteration**-self._power)
        for average, buffer in self._buffers:
            average.copy_(buffer)
        if skipped is not None and skipped.device.type != "cpu":
            self._follow_on_device(decay, skipped)
        elif not skipped:
            # The one change that must not be made twice is made last, and for all weights at once.
            share = 1 - decay if self.has_begun else 1.0
            torch._foreach_lerp_(self._averages, self._weights, share)
            self._begun = True
        self.done = done
        self.iteration = iteration

    def _follow_on_device(self, decay: float, skipped: Tensor) -> None:
        """Without waiting for `skipped`: nothing of the former average is kept at first, all of it
        where the step was skipped. Nothing here takes memory but a few numbers.
        """
        begun = torch.as_tensor(self._begun, device=skipped.device)
        kept = torch.where(skipped, 1.0, torch.where(begun, decay, 0.0))
        begun = begun | ~skipped
        torch._foreach_sub_(self._averages, self._weights)
        torch._foreach_mul_(self._averages, kept)
        torch._foreach_add_(self._averages, self._weights)
        self._begun = begun

    @torch.no_grad()
    def restart(self) -> None:
        """Take over the weights of the network as they are."""
        self.network.module.load_state_dict(self.source.module.state_dict())


class ScheduleFreeAverage(MovingAverage):
    """The average that a schedule-free optimizer keeps: between the weights that it trains and
    those that it steps from, which it remembers. It is worked out anew at each update.

    Args:
        source: the network that is followed.

    Attributes:
        optimizer: that changes it; without one there is nothing to follow.
    """

    def __init__(self, source: Network) -> None:
        super().__init__(source, 0.0)
        self.optimizer: torch.optim.Optimizer | None = None

    @torch.no_grad()
    def update(
        self, done: float, skipped: Tensor | None = None, iteration: int | None = None
    ) -> None:
        """As of the class above; a step that was left out has changed nothing to be followed."""
        del skipped
        assert self.optimizer is not None, "the phase is there before the first step"
        for average, buffer in self._buffers:
            average.copy_(buffer)
        settings = self.optimizer.param_groups[0]
        momentum = settings["betas"][0] if "betas" in settings else settings["momentum"]
        for average, weight in zip(self._averages, self._weights, strict=True):
            start = self.optimizer.state.get(weight, {}).get("z", weight)
            # What is trained lies between the average and `start`, by the share of momentum.
            torch.lerp(weight, start, 1 - 1 / momentum, out=average)
        self._begun = True
        self.done = done
        self.iteration = iteration
