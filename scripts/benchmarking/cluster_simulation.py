#!/usr/bin/env python3
"""The automation of the memory on random clusters of simulated cards that make a step together.

Two to 64 cards, all of one size or of several, each with a context, programs, noise, workspaces and
fragmentation of its own, train one network. They have one lq_size, and each a batch as many times
that of the smallest as it has more memory left for samples; one automation sees the fullest card
and decides for all, as `engine/step_of_all.py` has it. A shortage on one card repeats that card's
samples in smaller chunks, and counts. It has landed when the fullest card is within the band.
Clusters whose smallest card no shape brings there are left out.

    python scripts/benchmarking/cluster_simulation.py --clusters 300
"""

from __future__ import annotations

import argparse
import logging
import random
import statistics
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.benchmarking.vram_simulation import (
    BAND,
    STEPS,
    Case,
    draw,
    log_uniform,
    make_optimizer,
    others,
    reachable,
    repeat_in_chunks,
)
from traiNNer.automations import (
    MemoryReading,
    NothingSmallerError,
    Shape,
    SimulatedMemory,
    SimulatedOutOfMemoryError,
    StepReport,
)
from traiNNer.data.deal import Deal
from traiNNer.engine.step_of_all import TARGET, shares_of, worst_of
from traiNNer.utils.text import GIB

MOST_CARDS = 64
# Memories of cards as they are sold, in GiB; a cluster has up to three kinds.
KINDS = (8, 10, 12, 16, 24, 32, 48, 80)


@dataclass(frozen=True)
class Cluster:
    """Cards, the smallest first, and what network, images and options allow."""

    case: Case
    cards: tuple[SimulatedMemory, ...]
    deal: Deal


@dataclass
class Run:
    """What came of a training.

    Attributes:
        ends: share of the memory that each card uses at the end, the smallest kind's first.
        smallest: how many of them are of the smallest kind.
        shortages: steps in which a card ran out of memory.
        on_larger: those in which it was not one of the smallest kind.
        moves: changes of the sizes.
        gave_up: whether the training ended early.
    """

    ends: list[float] = field(default_factory=list)
    smallest: int = 0
    shortages: int = 0
    on_larger: int = 0
    moves: int = 0
    gave_up: bool = False


def draw_cluster(seed: int) -> Cluster:
    """A random cluster; its network is that of the simulation of single cards."""
    chance = random.Random(f"cluster {seed}")  # noqa: S311 (not for secrets)
    count = round(log_uniform(chance, 2, MOST_CARDS))
    single = draw(seed)
    least = min(KINDS, key=lambda kind: abs(kind * GIB - single.card.total))
    kinds = [least]
    if chance.random() < 0.5:
        larger = [kind for kind in KINDS if kind > least]
        kinds += chance.sample(larger, min(len(larger), chance.choice([1, 2])))
    sizes = [least, *(chance.choice(kinds) for _ in range(count - 1))]
    cards: list[SimulatedMemory] = []
    for number, gib in enumerate(sorted(sizes)):
        # Drivers of cards that are alike reserve a little more or less.
        total = int(gib * GIB * chance.uniform(0.985, 1.0))
        card = replace(
            single.card,
            total=total,
            outside=others(chance, total),
            seed=1000 * seed + number,
        )
        cards.append(SimulatedMemory(card))
    # Of what is there before any sample, weights and their gradients are known: half with Adam.
    known = single.card.persistent / 2
    facts = [(card.total, TARGET * card.total - card.outside - known) for card in cards]
    shares = shares_of(facts)
    # What the automation knows of the device is the first process's.
    case = replace(single, card=cards[0].card)
    return Cluster(case, tuple(cards), Deal(0, shares))


def train(cluster: Cluster) -> Run:
    """A run of all cards, by one automation."""
    optimizer = make_optimizer(cluster.case)
    deal = cluster.deal
    run = Run(smallest=deal.shares.count(1.0))
    for step in range(1, STEPS + 1):
        shape = optimizer.shape
        readings: list[tuple[float, MemoryReading]] = []
        fitted: list[Shape] = []
        for memory, batch, share in zip(
            cluster.cards, deal.batches(shape.batch_size), deal.shares, strict=True
        ):
            own = Shape(shape.lq_size, batch)
            memory.start_window()
            try:
                memory.step(own)
            except SimulatedOutOfMemoryError:
                chunk = repeat_in_chunks(memory, own)
                asked = max(1, int(chunk.batch_size / share + 0.5))
                fitted.append(Shape(chunk.lq_size, asked))
                run.on_larger += share > 1
            else:
                readings.append((share, memory.read()))
        if fitted:
            run.shortages += 1
            try:
                decision = optimizer.after_out_of_memory(shape, min(fitted, key=Shape.pixels))
            except NothingSmallerError:
                run.gave_up = True
                break
        else:
            decision = optimizer.after_step(StepReport(step, shape, worst_of(readings)))
        run.moves += decision is not None
    end = optimizer.shape
    run.ends = [
        memory.share(Shape(end.lq_size, batch))
        for memory, batch in zip(cluster.cards, deal.batches(end.batch_size), strict=True)
    ]
    return run


def can_land(cluster: Cluster) -> bool:
    """Whether one of the smallest cards alone could be filled to the band."""
    alike = cluster.cards[: cluster.deal.shares.count(1.0)]
    return all(reachable(replace(cluster.case, card=one.card)) == "yes" for one in alike[:1])


def main(argv: list[str] | None = None) -> int:
    """Train on all clusters and print what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clusters", type=int, default=300, help="random clusters (300)")
    parser.add_argument("--seed", type=int, default=0, help="of the first one (0)")
    arguments = parser.parse_args(argv)
    began = time.perf_counter()
    seeds = range(arguments.seed, arguments.seed + arguments.clusters)
    fair = [cluster for cluster in map(draw_cluster, seeds) if can_land(cluster)]
    for title, wanted in (("of one kind of card", True), ("of several kinds", False)):
        runs = [train(cluster) for cluster in fair if cluster.deal.is_even is wanted]
        if runs:
            print(f"{len(runs)} clusters {title}: {summary(runs)}", flush=True)
    print(f"{len(fair)} of {arguments.clusters} can land; {time.perf_counter() - began:.0f} s")
    return 0


def summary(runs: list[Run]) -> str:
    """In one sentence."""
    fullest = [max(run.ends) for run in runs]
    landed = sum(BAND[0] <= end <= BAND[1] for end in fullest)
    of_smallest = [end for run in runs for end in run.ends[: run.smallest]]
    of_larger = [end for run in runs for end in run.ends[run.smallest :]]
    text = (
        f"{landed / len(runs):.1%} with the fullest card at 82 to 86 %, "
        f"smallest cards {statistics.fmean(of_smallest):.1%} full"
    )
    if of_larger:
        text += f", larger ones {statistics.fmean(of_larger):.1%} and {max(of_larger):.1%} at most"
    shortages = sum(run.shortages for run in runs)
    on_larger = sum(run.on_larger for run in runs)
    return text + (
        f"; {shortages / len(runs):.2f} shortages a run ({on_larger} in all on larger cards), "
        f"{statistics.fmean(run.moves for run in runs):.1f} moves, "
        f"{sum(run.gave_up for run in runs)} gave up"
    )


if __name__ == "__main__":
    # What a run would say of its speed.
    logging.disable()
    sys.exit(main())
