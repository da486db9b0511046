"""Wherever in a step memory runs out, the run is the one in which it did not.

`pytest tests/models/test_any_moment.py --draws 3000` tries as many recipes, optimizers and moments.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.models.test_sr_model import make_batch, make_options
from tests.models.two_phases import TwoPhases
from traiNNer.archs import build_network
from traiNNer.models import SRModel, StepResult, phase_runner, weight_step
from traiNNer.models.base_model import BaseModel
from traiNNer.optim import more_optimizers
from traiNNer.optim.optimizers import NAMES
from traiNNer.utils.device import Runtime

STEPS = 2
FULL = "CUDA out of memory. Tried to allocate 1.00 GiB."
# How far two runs may be apart, of the way that the weights went: a step that is applied twice, a
# sample that is lost or a gradient that is left over give 0.1 and more.
ROUNDING = 0.02

# Calls between two shortages: what is tried twice is not meant to fail twice.
APART = 100


@dataclass
class Draw:
    """A recipe and the moments at which memory runs out, as a seed says."""

    seed: int
    rng: random.Random = field(init=False)
    recipe: type[BaseModel] = field(init=False)
    train: dict[str, Any] = field(init=False)
    runtime: Runtime = field(init=False)
    groups: int = field(init=False)
    bundle: int = field(init=False)
    data: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        rng = self.rng
        self.recipe = rng.choice([SRModel, TwoPhases])
        optimizer: dict[str, Any] = {"type": rng.choice(NAMES).lower(), "lr": 1e-3}
        if optimizer["type"] == "adadelta":
            # Its steps are otherwise not much larger than rounding.
            optimizer["lr"] = 1.0
        if optimizer["type"] == "sgd":
            optimizer |= {"momentum": rng.choice([0.0, 0.9]), "dampening": rng.choice([0.0, 0.5])}
        way = rng.choice([None, "foreach", "loop"])
        if way is not None and optimizer["type"] != "adafactor":
            optimizer["foreach"] = way == "foreach"
        self.train = {
            "optim_g": optimizer,
            "grad_clip": rng.random() < 0.3,
            "ema_decay": rng.choice([0, 0.5]),
            "warmup_iter": rng.choice([0, 3]),
        }
        self.runtime = Runtime(torch.device("cpu"), rng.choice([None, None, torch.float16]))
        self.groups = rng.randint(1, 5)
        self.bundle = rng.choice([1, 200, 2**22])
        self.data = {}
        # From a generator of its own: the other draws stay what they were.
        sizes = random.Random(f"sizes {self.seed}")
        if self.recipe is SRModel and sizes.random() < 0.4:
            self.data = {"scales": sizes.choice([[32, 64], [32, 48, 64]])}
            if sizes.random() < 0.7:
                self.train["scale_consistency"] = {"recompute": sizes.random() < 0.7}

    def build(self) -> BaseModel:
        """The recipe, at its start."""
        torch.manual_seed(self.seed)
        options = make_options(self.data, **self.train)
        described = options.network_g
        network = build_network(described.type, scale=options.scale, **described.params)
        built = self.recipe(options, self.runtime, network)
        if isinstance(built, TwoPhases):
            # Batch norms tell chunks from the whole batch.
            built.net_d.module.eval()
        for phase in built.phases:
            _split_groups(phase.optimizer, self.groups)
            if phase.scaler.is_enabled():
                # What overflows in a whole batch need not in half of it, and is not asked here.
                phase.scaler.load_state_dict(phase.scaler.state_dict() | {"scale": 256.0})
        return built

    def batches(self, step: int) -> list[Any]:
        """The samples of a step, in several batches of two sizes."""
        rng = random.Random(f"{self.seed} {step}")
        sizes = [(rng.randint(1, 4), rng.choice([8, 16])) for _ in range(rng.randint(1, 3))]
        return [make_batch(*size, seed=number) for number, size in enumerate(sizes)]


def _split_groups(optimizer: torch.optim.Optimizer, count: int) -> None:
    """The same weights in several groups."""
    (group,) = optimizer.param_groups
    portions = [group["params"][first::count] for first in range(count)]
    optimizer.param_groups = [group | {"params": portion} for portion in portions if portion]


class Shortage(TorchDispatchMode):
    """Counts what torch is asked to compute, and has memory run out at some of it."""

    def __init__(self, moments: set[int]) -> None:
        super().__init__()
        self.moments = moments
        self.count = 0
        self.hits = 0
        self.changing: list[int] = []
        self.is_changing = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        self.count += 1
        if self.is_changing:
            self.changing.append(self.count)
        if self.count in self.moments:
            self.hits += 1
            raise torch.OutOfMemoryError(FULL)
        return func(*args, **(kwargs or {}))


@contextmanager
def weights_noticed(recipe: BaseModel, shortage: Shortage) -> Iterator[None]:
    """Have `shortage` know what belongs to a change of weights or of their average."""

    def noticed(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            shortage.is_changing = True
            try:
                return original(*args, **kwargs)
            finally:
                shortage.is_changing = False

        return call

    with pytest.MonkeyPatch.context() as patch:
        for average in recipe.averages:
            patch.setattr(average, "update", noticed(average.update))
        patch.setattr(recipe.runner, "apply", noticed(recipe.runner.apply))
        yield


def counted_step(recipe: BaseModel, batches: list[Any]) -> tuple[StepResult, Shortage]:
    shortage = Shortage(set())
    with weights_noticed(recipe, shortage), shortage:
        result = recipe.step(batches, per_sample=True)
    return result, shortage


def disturbed_step(
    recipe: BaseModel, batches: list[Any], rng: random.Random, calm: Shortage
) -> tuple[StepResult, int]:
    """A step in which memory runs out one to three times, or right behind a step of an optimizer
    that was made, or behind an average's update.
    """
    behind = rng.random()
    if behind < 0.1:
        return _behind(recipe, batches, rng.choice(recipe.phases).optimizer, "step")
    if behind < 0.2 and recipe.averages:
        return _behind(recipe, batches, recipe.averages[0], "update")
    pool = calm.changing if rng.random() < 0.5 and calm.changing else range(1, calm.count + 1)
    moments: set[int] = set()
    for moment in rng.choices(pool, k=3):
        if all(abs(moment - other) > APART for other in moments):
            moments.add(moment)
    shortage = Shortage(moments)
    with shortage:
        result = recipe.step(batches, per_sample=True)
    return result, shortage.hits


def _behind(recipe: BaseModel, batches: list[Any], owner: Any, name: str) -> tuple[StepResult, int]:
    original = getattr(owner, name)
    hits = 0

    def call(*args: Any, **kwargs: Any) -> None:
        nonlocal hits
        original(*args, **kwargs)
        if not hits:
            hits += 1
            raise torch.OutOfMemoryError(FULL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, call)
        result = recipe.step(batches, per_sample=True)
    return result, hits


def distance(start: list[Tensor], calm: list[Tensor], disturbed: list[Tensor]) -> float:
    """How far `disturbed` is from `calm`, of the way that it went: the median of a tensor's
    elements, and the worst of the tensors. Optimizers that look at signs alone turn the rounding of
    a gradient that is almost zero into a whole step, but for few elements.
    """
    worst = 0.0
    for first, second, third in zip(start, calm, disturbed, strict=True):
        way = (second - first).abs().median()
        worst = max(worst, float((second - third).abs().median() / way.clamp(min=1e-7)))
    return worst


def weights_of(recipe: BaseModel, name: str) -> list[Tensor]:
    return [weight.detach().clone() for weight in recipe.networks[name].module.parameters()]


def check(draw: Draw) -> int:
    """Whether one draw ends as it does undisturbed; returned is how often memory ran out."""
    calm = draw.build()
    disturbed = draw.build()
    names = [network.name for network in calm.networks if network.name != "teacher"]
    start = {name: weights_of(calm, name) for name in names}
    hits = 0
    for step in range(STEPS):
        batches = draw.batches(step)
        wanted, counts = counted_step(calm, batches)
        got, hit = disturbed_step(disturbed, batches, draw.rng, counts)
        hits += hit
        assert got.samples == wanted.samples
        assert got.pixels == wanted.pixels
        for label, values in wanted.per_sample.items():
            torch.testing.assert_close(got.per_sample[label], values, rtol=1e-2, atol=1e-3)
        reported = sum(retry.failures for retry in got.retries)
        assert reported <= hit
    for name in names:
        apart = distance(start[name], weights_of(calm, name), weights_of(disturbed, name))
        assert apart < ROUNDING, f"{name} is {apart:.3f} of its way apart"
    for ours, theirs in zip(disturbed.phases, calm.phases, strict=True):
        states = zip(ours.parameters, theirs.parameters, strict=True)
        for our_weight, their_weight in states:
            our_state = ours.optimizer.state[our_weight]
            their_state = theirs.optimizer.state[their_weight]
            assert our_state.keys() == their_state.keys()
            if "step" in our_state:
                assert float(our_state["step"]) == float(their_state["step"])
        assert ours.guard.state_dict() == theirs.guard.state_dict()
    return hits


@pytest.mark.long
def test_a_shortage_at_any_moment_changes_nothing(
    draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)  # the tensors are tiny
    monkeypatch.setattr(phase_runner, "PAUSES", (0.0, 0.0, 0.0))
    logging.disable()
    hits = 0
    try:
        for seed in range(draws):
            monkeypatch.setattr(weight_step, "BUNDLE", Draw(seed).bundle)
            hits += check(Draw(seed))
    except Exception as error:
        error.add_note(f"draw {seed}: {Draw(seed)}")
        raise
    finally:
        logging.disable(logging.NOTSET)
    assert hits > STEPS * draws / 2, "memory has to run out for this to say anything"


@pytest.mark.parametrize("name", more_optimizers.NAMES)
def test_neither_does_it_with_the_librarys_optimizers(name: str) -> None:
    torch.set_num_threads(1)
    hits = 0
    for seed in range(4):
        draw = Draw(seed)
        draw.train |= {"optim_g": {"type": name, "lr": 1e-3}}
        if name.startswith("ScheduleFree"):
            del draw.train["ema_decay"]
        hits += check(draw)
    assert hits > 0
