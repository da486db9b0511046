#!/usr/bin/env python3
"""`fit_memory` beside Lightning's batch size finder, on the same network and simulated cards.

A card is a formula: what a batch takes, and when memory runs out; on some of them another program
takes a part of it in the middle of the run. Told are the use of the memory at the end of training,
how often memory ran out, samples that were drawn for a step that was not made, and runs that ended
early. Needs Lightning (pytorch-lightning); without it ours stands alone.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import random
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import mobilenet_v3_small

from traiNNer import fit_memory
from traiNNer.automations import CardModel, Shape, SimulatedMemory
from traiNNer.engine.logs import print_table
from traiNNer.utils.out_of_memory import is_out_of_memory

SIDE = 32
SAMPLES = 400
EPOCHS = 6
CLASSES = 3


@dataclass
class Outcome:
    """What came of a run on a card."""

    use: float
    failures: int
    lost: int
    died: bool


class CardLoss:
    """The loss, after the card has judged the batch."""

    def __init__(self, memory: SimulatedMemory) -> None:
        torch.manual_seed(0)
        self.network = mobilenet_v3_small(num_classes=CLASSES)
        self.memory = memory
        self.last = Shape(SIDE, 1)
        self.failures = 0
        self.lost = 0

    def __call__(self, batch: Any) -> Tensor:
        pictures, labels = batch
        self.last = Shape(SIDE, len(pictures))
        try:
            self.memory.step(self.last)
        except MemoryError as error:
            self.failures += 1
            # The words by which Lightning knows it.
            raise torch.OutOfMemoryError(f"CUDA out of memory. {error}") from error
        # The arithmetic is not what is looked at, so four samples stand for all.
        return functional.cross_entropy(self.network(pictures[:4]), labels[:4])


def draw_card(number: int) -> CardModel:
    """A card that holds between 20 and 120 samples; on every other one a neighbour comes and
    goes.
    """
    draw = random.Random(number)  # noqa: S311
    largest = Shape(SIDE, draw.randint(20, 120))
    persistent = 2e8
    total = int((persistent + 1e5 * largest.pixels()) / 0.95)
    model = CardModel(total, persistent, 1e5, noise=0.002, seed=number)
    if number % 2:
        begin = draw.randint(40, 120)
        return replace(model, outside=lambda step: 0.15 * total if begin < step < begin + 60 else 0)
    return model


def make_data() -> TensorDataset:
    """Noise and classes."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(SAMPLES, 3, SIDE, SIDE, generator=generator)
    return TensorDataset(pictures, torch.arange(SAMPLES) % CLASSES)


def ours(model: CardModel) -> Outcome:
    """`fit_memory`."""
    memory = SimulatedMemory(model)
    loss = CardLoss(memory)
    optimizer = torch.optim.SGD(loss.network.parameters(), lr=1e-3)
    fit = fit_memory(
        loss,
        loss.network,
        optimizer,
        make_data(),
        batch_size=4,
        epochs=EPOCHS,
        memory=memory,
        automation={"adjustment_frequency": 1},
    )
    seen = 0
    largest = Shape(1, 1)
    for step in fit:
        seen += step.samples
        # The last batch of all is what was left.
        if seen < EPOCHS * SAMPLES:
            largest = Shape(SIDE, step.samples)
    return Outcome(memory.share(largest), loss.failures, EPOCHS * SAMPLES - seen, died=False)


def lightning(mode: str) -> Callable[[CardModel], Outcome]:
    """Lightning's finder in one of its modes, and the training with what it has found."""
    # It is no dependency of this project.
    lightning_package = importlib.import_module("pytorch_lightning")
    tuning = importlib.import_module("pytorch_lightning.tuner.tuning")

    class Module(lightning_package.LightningModule):
        def __init__(self, loss: CardLoss) -> None:
            super().__init__()
            self.loss = loss
            self.network: nn.Module = loss.network
            self.batch_size = 4

        def training_step(self, batch: Any, index: int) -> Tensor:
            del index
            try:
                return self.loss(batch)
            except RuntimeError:
                self.loss.lost += len(batch[0])
                raise

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.network.parameters(), lr=1e-3)

        def train_dataloader(self) -> Any:
            return DataLoader(make_data(), batch_size=self.batch_size, shuffle=True)

    def run(model: CardModel) -> Outcome:
        memory = SimulatedMemory(model)
        module = Module(CardLoss(memory))
        with tempfile.TemporaryDirectory() as folder:
            trainer = lightning_package.Trainer(
                max_epochs=EPOCHS,
                accelerator="cpu",
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=folder,
            )
            tuning.Tuner(trainer).scale_batch_size(module, mode=mode, max_trials=12)
            died = False
            try:
                trainer.fit(module)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                died = True
        loss = module.loss
        use = memory.share(Shape(SIDE, min(module.batch_size, SAMPLES)))
        return Outcome(use, loss.failures, loss.lost, died)

    return run


def main(argv: list[str] | None = None) -> int:
    """Run all of them on all cards and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cards", type=int, default=20, help="simulated cards (%(default)s)")
    arguments = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    contestants: dict[str, Callable[[CardModel], Outcome]] = {"fit_memory": ours}
    try:
        for mode in ("power", "binsearch"):
            contestants[f"Lightning, {mode}"] = lightning(mode)
    except ImportError:
        print("pytorch-lightning is not installed: no finder to compare with", file=sys.stderr)
    table = Table(title=f"{arguments.cards} simulated cards, mobilenet_v3_small")
    columns = ("", "use %", "from to %", "out of memory", "samples lost", "runs that ended early")
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    for name, run in contestants.items():
        outcomes = [run(draw_card(number)) for number in range(arguments.cards)]
        uses = [100 * outcome.use for outcome in outcomes]
        table.add_row(
            name,
            f"{statistics.mean(uses):.1f}",
            f"{min(uses):.0f} to {max(uses):.0f}",
            f"{statistics.mean(outcome.failures for outcome in outcomes):.2f}",
            f"{statistics.mean(outcome.lost for outcome in outcomes):.1f}",
            str(sum(outcome.died for outcome in outcomes)),
        )
    print_table(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
