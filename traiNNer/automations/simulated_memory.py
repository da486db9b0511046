"""A card that exists only as a formula: for tests, for the simulation, and to try settings without
a GPU.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from traiNNer.utils.arithmetic import round_up
from traiNNer.utils.memory import MemoryLook, MemoryReading
from traiNNer.utils.shape import Shape
from traiNNer.utils.text import gib


class SimulatedOutOfMemoryError(MemoryError):
    """The simulated card is full."""


@dataclass(frozen=True)
class CardModel:
    """What a training step takes on a simulated card, in bytes.

    Attributes:
        total: memory of the card.
        persistent: weights, gradients, optimizer state.
        bytes_per_pixel: activations of one padded LQ pixel.
        padding: sides are padded to a multiple of this inside the network.
        frames: frames of a sample.
        attention: bytes for each pixel times each padded pixel of a frame (global attention).
        border: bytes for each pixel of a side of each sample (halos, padded borders).
        second_phase: (persistent, bytes_per_pixel) of another phase; the peak is that of the larger
            phase.
        noise: standard deviation of a step's activations, as a share of them.
        workspace_chance: how often a shape makes the libraries take a workspace of its own.
        workspace_max: largest such workspace.
        fragmentation: reserved / allocated, at least 1.
        fragmentation_spread: by how much that differs from shape to shape (uniform, either way).
        outside: bytes held by others at a step; a number for always the same.
        seed: of everything that is random here.
    """

    total: int
    persistent: float
    bytes_per_pixel: float
    padding: int = 1
    frames: int = 1
    attention: float = 0.0
    border: float = 0.0
    second_phase: tuple[float, float] | None = None
    noise: float = 0.0
    workspace_chance: float = 0.0
    workspace_max: float = 0.0
    fragmentation: float = 1.0
    fragmentation_spread: float = 0.0
    outside: int | Callable[[int], float] = 0
    seed: int = 0

    def peak(self, shape: Shape) -> tuple[float, float]:
        """(allocated, reserved / allocated) at a shape, without noise."""
        # a workspace belongs to a shape, so it is drawn from the shape, not by the order of steps
        chance = random.Random(f"{self.seed}/{shape.lq_size}/{shape.batch_size}")  # noqa: S311
        side = round_up(shape.lq_size, self.padding)
        frames = shape.batch_size * self.frames
        pixels = frames * side * side
        allocated = self.persistent + pixels * (self.bytes_per_pixel + self.attention * side * side)
        allocated += frames * side * self.border
        if self.second_phase is not None:
            allocated = max(allocated, self.second_phase[0] + pixels * self.second_phase[1])
        if chance.random() < self.workspace_chance:
            allocated += chance.random() * self.workspace_max
        spread = self.fragmentation_spread * chance.uniform(-1, 1)
        return allocated, max(1.0, self.fragmentation + spread)


@dataclass
class SimulatedMemory:
    """A `MemoryBackend` over a `CardModel`; `step` stands for a training step.

    Attributes:
        card: the formula.
        steps: steps done.
    """

    card: CardModel
    steps: int = 0
    _peaks: dict[Shape, tuple[float, float]] = field(default_factory=dict)
    _allocated: float = 0.0
    _reserved: float = 0.0
    _cached: float = 0.0

    def __post_init__(self) -> None:
        self._noise = random.Random(self.card.seed)  # noqa: S311

    @property
    def total(self) -> int:
        """Bytes of the card."""
        return self.card.total

    @property
    def outside(self) -> int:
        """What others hold now."""
        outside = self.card.outside
        return int(outside(self.steps)) if callable(outside) else outside

    def needs(self, shape: Shape) -> tuple[float, float]:
        """(allocated, reserved) bytes of a step at a shape, without noise."""
        # a run asks for the same few shapes hundreds of times
        if shape not in self._peaks:
            self._peaks[shape] = self.card.peak(shape)
        allocated, ratio = self._peaks[shape]
        return allocated, allocated * ratio

    def share(self, shape: Shape) -> float:
        """Share of the card that a step at a shape takes now, without noise."""
        return (self.needs(shape)[1] + self.outside) / self.total

    def step(self, shape: Shape) -> None:
        """Train one step.

        Raises:
            SimulatedOutOfMemoryError: if it needs more than there is.
        """
        self.steps += 1
        allocated, reserved = self.needs(shape)
        noise = 1.0 + self.card.noise * self._noise.gauss(0.0, 1.0) if self.card.noise else 1.0
        # weights and the optimizer's state do not change from step to step; activations do
        moved = (allocated - self.card.persistent) * (noise - 1.0)
        allocated = allocated + moved
        reserved = reserved + moved
        if reserved + self.outside > self.total:
            raise SimulatedOutOfMemoryError(
                f"the simulated card of {gib(self.total)} is full at {shape}"
            )
        self._allocated = max(self._allocated, allocated)
        self._reserved = max(self._reserved, reserved)
        self._cached = max(self._cached, reserved)

    def start_window(self) -> None:
        """Forget the peaks."""
        self._allocated = self._reserved = 0.0

    def read(self) -> MemoryReading:
        """The peaks since `start_window`."""
        return MemoryReading(int(self._allocated), int(self._reserved), self.outside, self.total)

    def look(self) -> MemoryLook:
        """What is left between steps: the optimizer's state exists from the first one on, and what
        the largest step took stays reserved.
        """
        held = int(self.card.persistent) if self.steps else 0
        return MemoryLook(held, int(max(held, self._cached)), self.outside, self.total)

    def release(self) -> None:
        """Forget what is reserved and not in use."""
        self._cached = 0.0

    def others(self) -> str:
        """What they hold."""
        return f"others hold {gib(self.outside)}" if self.outside else ""

    def describe(self) -> str:
        """Its size."""
        return f"a simulated card of {gib(self.total)}"
