"""A recipe of degradations at work: LQ of a piece of GT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from traiNNer.ops.degradations.base import Degradation, Draws, Frames, to_levels
from traiNNer.ops.degradations.resizing import resize_frames
from traiNNer.ops.resize import ResizeMode
from traiNNer.options.degradations import (
    DegradationOptions,
    GroupOptions,
    Node,
    parse_recipe,
)
from traiNNer.utils.errors import DataError
from traiNNer.utils.registry import DEGRADATIONS
from traiNNer.utils.seeds import hash_seed


@dataclass(frozen=True, slots=True)
class Done:
    """A step that was done to a sample, and what was drawn for it by name."""

    step: str
    values: dict[str, Any]

    def __str__(self) -> str:
        """On one line, for tables and messages."""
        values = [f"{name} {_text(value)}" for name, value in self.values.items()]
        return f"{self.step} ({', '.join(values)})" if values else self.step


@dataclass(slots=True)
class _Sample:
    """One sample on its way through the recipe."""

    frames: Frames
    lq_sides: tuple[int, int]
    done: list[Done]

    def draws(self, seed: int) -> Draws:
        return Draws(seed, self.lq_sides)


class DegradationRecipe:
    """Makes LQ of GT: a pure function of pixels and a seed.

    Every step draws from a generator of its own, made of the seed and its place in the recipe, so
    that a step that is left out changes nothing of what the others draw.

    Args:
        steps: the recipe, as `parse_recipe` takes it.
        scale: GT pixels for each LQ pixel, per side.
        mode: the kernel that shrinks to LQ at the end, where no step of the recipe does.

    Raises:
        ValidationError: if the recipe is wrong.
    """

    def __init__(self, steps: Any, scale: int, mode: ResizeMode) -> None:
        self.scale = scale
        self.mode: ResizeMode = mode
        self._nodes = _built(parse_recipe(steps), scale)

    def __call__(self, gt: Frames, seed: int) -> tuple[NDArray[np.uint8], list[Done]]:
        """LQ (T, h, w, 3) in 256 levels, and what was done.

        Args:
            gt: (T, h * scale, w * scale, 3), RGB, float32 in [0, 1]; it may be changed in place.
            seed: decides everything that is drawn.

        Raises:
            DataError: if a step fails; it names the step and what was drawn.
        """
        lq_sides = (gt.shape[1] // self.scale, gt.shape[2] // self.scale)
        sample = _Sample(gt, lq_sides, [])
        for place, node in enumerate(self._nodes):
            node.run(sample, hash_seed(seed, place))
        frames = resize_frames(sample.frames, lq_sides, self.mode, antialias=True)
        return to_levels(frames), sample.done


@dataclass(frozen=True, slots=True)
class _Step:
    name: str
    action: Degradation
    prob: float
    weight: float

    def run(self, sample: _Sample, seed: int) -> None:
        # Apart from what the step draws: it draws the same at any probability.
        is_rare = self.prob < 1
        if is_rare and not sample.draws(hash_seed(seed, 0)).chance("done", self.prob):
            return
        draws = sample.draws(hash_seed(seed, 1))
        done = Done(self.name, draws.values)
        try:
            frames = self.action(sample.frames, draws)
        except Exception as error:
            raise DataError(f"the degradation {done} failed: {error}") from error
        # What pictures cannot hold is lost at every step, as it is in files and on wires.
        sample.frames = np.clip(frames, 0, 1).astype(np.float32, copy=False)
        sample.done.append(done)


@dataclass(frozen=True, slots=True)
class _Group:
    kind: str
    parts: Sequence[_Step | _Group]
    repeat: tuple[int, int]
    prob: float
    weight: float

    def run(self, sample: _Sample, seed: int) -> None:
        draws = sample.draws(hash_seed(seed, 0))
        if not self.parts or not draws.chance("done", self.prob):
            return
        times = draws.whole("times", self.repeat)
        for round_ in range(times):
            for place in self._chosen(draws):
                self.parts[place].run(sample, hash_seed(seed, 1, round_, place))

    def _chosen(self, draws: Draws) -> list[int]:
        """Places of the parts to run, in order."""
        places = list(range(len(self.parts)))
        if self.kind == "one_of":
            return [draws.choice("part", places, [part.weight for part in self.parts])]
        if self.kind == "shuffle":
            return [int(place) for place in draws.generator.permutation(len(places))]
        return places


def _built(nodes: Sequence[Node], scale: int) -> list[_Step | _Group]:
    """What runs at this scale."""
    built: list[_Step | _Group] = []
    for node in nodes:
        if node.scales is not None and scale not in node.scales:
            continue
        if isinstance(node, GroupOptions):
            repeat = (node.repeat, node.repeat) if isinstance(node.repeat, int) else node.repeat
            parts = _built(node.parts, scale)
            built.append(_Group(node.kind, parts, (repeat[0], repeat[1]), node.prob, node.weight))
        else:
            built.append(_built_step(node))
    return built


def _built_step(node: DegradationOptions) -> _Step:
    return _Step(node.type, DEGRADATIONS[node.type](**node.params), node.prob, node.weight)


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
