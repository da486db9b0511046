"""Run in each of several processes by test_team.py: what they make together is what one process
makes of the same samples. `torchrun --nproc-per-node 2 -m tests.engine.team_worker 100` tries a
hundred draws.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tests.models.test_any_moment import (
    APART,
    ROUNDING,
    STEPS,
    Draw,
    Shortage,
    counted_step,
    distance,
    weights_of,
)
from tests.models.test_classifier import make_batch as make_labelled
from tests.models.test_classifier import make_model as make_classifier
from tests.models.test_several_sizes import assert_equal
from tests.models.test_several_sizes import make_model as make_several
from tests.models.test_sr_model import make_batch, make_options
from traiNNer.archs import build_network
from traiNNer.data import Batch
from traiNNer.models import SRModel, phase_runner, weight_step
from traiNNer.models.base_model import BaseModel
from traiNNer.utils.device import Runtime
from traiNNer.utils.team import Team, joined_team

Parts = list[list[Batch]]
CPU = torch.device("cpu")


def split(team: Team, make: Callable[..., Batch], shapes: list[tuple[int, int]]) -> Parts:
    """The batches of a step: those of each process, and last those of one that has all samples."""
    parts: Parts = [
        [make(*shape, seed=team.size * number + rank) for number, shape in enumerate(shapes)]
        for rank in range(team.size)
    ]
    return [*parts, [Batch.merge(list(batches)) for batches in zip(*parts, strict=True)]]


def put_in(team: Team, model: BaseModel) -> BaseModel:
    """The same recipe as one of a team."""
    model.runtime = replace(model.runtime, team=team)
    model.runner._team = team
    return model


def plain(name: str) -> SRModel:
    torch.manual_seed(0)
    options = make_options(optim_g={"type": "adamw", "lr": 1e-3}, grad_clip=True, ema_decay=0.5)
    network = build_network(options.network_g.type, scale=2, **options.network_g.params)
    return SRModel(options, Runtime(CPU), network)


def without_dropout(model: BaseModel) -> BaseModel:
    for module in model.main.module.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def equalities(team: Team) -> None:
    """Weights and records of plain, coupled and classifying recipes."""
    recipes: dict[str, tuple[Callable[[], BaseModel], Callable[..., Batch], int]] = {
        "plain": (lambda: plain("compact"), make_batch, 16),
        "several": (lambda: make_several("span"), make_batch, 32),
        "coupled": (
            lambda: make_several("span", scale_consistency={"weight": 0.5}),
            make_batch,
            32,
        ),
        "classes": (
            lambda: without_dropout(make_classifier("squeezenet1_1")),
            make_labelled,
            64,
        ),
    }
    for name, (build, make, side) in recipes.items():
        alone = build()
        one = put_in(team, build())
        for step in range(3):
            shapes = [(1 + step, side), (2, side)]
            parts = split(team, make, shapes)
            wanted = alone.step(parts[-1])
            got = one.step(parts[team.rank])
            assert (got.samples, got.pixels) == (wanted.samples, wanted.pixels), name
            for label, loss in wanted.losses.items():
                torch.testing.assert_close(
                    got.losses[label],
                    loss,
                    rtol=1e-4,
                    atol=1e-6,
                    msg=f"{name} {label} {step}: {got.losses[label]} {loss}",
                )
        assert_equal(alone, one)  # type: ignore[arg-type]
        assert alone.work == one.work
        every = team.share([weight.tolist() for weight in one.main.module.parameters()][:2])
        assert all(weights == every[0] for weights in every), "the same bits everywhere"


class OwnShortage(Shortage):
    """Memory runs out in this process's own work."""

    is_talking = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.is_talking:
            return func(*args, **(kwargs or {}))
        return super().__torch_dispatch__(func, types, args, kwargs)


def noticed(team: Team, shortage: OwnShortage) -> Team:
    """The same team; while it exchanges something, nothing is counted."""
    talking = replace(team, _sums=None)

    def quiet(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            shortage.is_talking = True
            try:
                return original(*args, **kwargs)
            finally:
                shortage.is_talking = False

        return call

    for name in ("vote", "average"):
        setattr(talking, name, quiet(getattr(team, name)))
    return talking


def shortages(team: Team, draws: int) -> None:
    """Memory runs out in one of the processes, anywhere in a step."""
    phase_runner.PAUSES = (0.0, 0.0, 0.0)
    hits = 0
    slowest = 0.0
    for seed in range(draws):
        draw = Draw(seed)
        weight_step.BUNDLE = draw.bundle
        alone = draw.build()
        one = draw.build()
        names = [network.name for network in alone.networks if network.name != "teacher"]
        start = {name: weights_of(alone, name) for name in names}
        # The same draws in all processes.
        rng = random.Random(f"one of several {seed}")
        for _ in range(STEPS):
            shapes = [(rng.randint(1, 3), rng.choice([8, 16])) for _ in range(rng.randint(1, 2))]
            parts = split(team, make_batch, shapes)
            wanted, counts = counted_step(alone, parts[-1])
            unlucky = rng.randrange(team.size)
            pool = counts.changing if rng.random() < 0.3 else range(1, counts.count + 1)
            moments: set[int] = set()
            for moment in rng.choices(list(pool), k=2):
                if all(abs(moment - other) > APART for other in moments):
                    moments.add(moment)
            shortage = OwnShortage(moments if unlucky == team.rank else set())
            put_in(team, one)
            one.runner._team = noticed(team, shortage)
            began = time.monotonic()
            with shortage if shortage.moments else nullcontext():
                got = one.step(parts[team.rank])
            slowest = max(slowest, time.monotonic() - began)
            hits += shortage.hits
            assert (got.samples, got.pixels) == (wanted.samples, wanted.pixels)
        for name in names:
            apart = distance(start[name], weights_of(alone, name), weights_of(one, name))
            assert apart < ROUNDING, f"draw {seed}: {name} is {apart:.3f} of its way apart"
    total = sum(team.share(hits))
    assert total > draws, "memory has to run out for this to say anything"
    assert slowest < 5, "no step was waited for"
    if team.is_first:
        print(f"{total} shortages, the longest step {slowest:.2f} s")  # noqa: T201 (for docs)


def main() -> None:
    torch.set_num_threads(1)
    logging.disable()
    with joined_team() as team:
        team.open_sums(CPU)
        equalities(team)
        shortages(team, int(sys.argv[1]))


if __name__ == "__main__":
    main()
