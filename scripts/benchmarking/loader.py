#!/usr/bin/env python3
"""Samples a second of the loader beside plain ones, in one run: pairs of pictures, pictures of GT
alone, and clips of five frames.

A plain loader is written here: torch's DataLoader over a dataset that decodes both files of a pair
with OpenCV for each crop, as most programs do, and one over arrays in memory maps, which have
nothing to decode at all. Pictures are scikit-image's photographs enlarged, with noise. Each rate is
the median of the rounds. The memory is that of all processes, shared pages by halves (PSS).
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2
import numpy as np
import psutil
import torch
from rich.table import Table
from torch.utils.data import DataLoader, Dataset

from traiNNer.data import (
    DynamicDataLoaderWrapper,
    PairedImageDataset,
    PairedVideoDataset,
    SampleRequest,
    SingleGtDataset,
)
from traiNNer.data.protocols import StorableSet
from traiNNer.demo.photographs import find_photographs
from traiNNer.engine.logs import print_table
from traiNNer.utils.images import Pixels
from traiNNer.utils.pixel_store import PixelStore

SOURCES = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg")
# Of GT; at 2x and 4x LQ has whole sides.
HEIGHT, WIDTH = 1356, 2040
CLIP = 5
SEED = 0


@dataclass(frozen=True)
class Setting:
    """What is measured."""

    root: Path
    kind: str
    scale: int
    lq_size: int
    batch: int
    rounds: int
    seconds: float

    @property
    def folders(self) -> tuple[str, str]:
        """GT and LQ."""
        return str(self.root / "gt"), str(self.root / "lq")


def make_pictures(setting: Setting, number: int, suffix: str) -> None:
    """Write GT and LQ; of clips scenes of ten frames."""
    draw = np.random.default_rng(SEED)
    photographs = [decoded(find_photographs() / name)[..., ::-1] for name in SOURCES]
    for index in range(number):
        gt = cv2.resize(photographs[index % len(SOURCES)], (WIDTH, HEIGHT))
        noisy = np.clip(gt + draw.normal(0, 3, gt.shape), 0, 255).astype(np.uint8)
        size = (WIDTH // setting.scale, HEIGHT // setting.scale)
        lq = cv2.resize(noisy, size, interpolation=cv2.INTER_AREA)
        for folder, picture in zip(setting.folders, (noisy, lq), strict=True):
            scene = f"s{index // 10}" if setting.kind == "clips" else "."
            path = Path(folder, scene, f"{index:04d}.{suffix}")
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture)


def decoded(file: Path) -> Pixels:
    """A whole picture, as a plain dataset reads it."""
    picture = cv2.imread(str(file))
    assert picture is not None
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


class Plain(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Pairs as a plain dataset gives them: crops with flips and turns.

    Args:
        setting: scale and size.
        arrays: in memory maps, GT and LQ of each pair; None decodes the files.
    """

    def __init__(self, setting: Setting, arrays: list[tuple[Pixels, Pixels]] | None) -> None:
        self.setting = setting
        self.arrays = arrays
        self.draw = random.Random(SEED)  # noqa: S311 - no cryptography here
        roots = map(Path, setting.folders)
        self.files = list(zip(*(sorted(root.rglob("*.*")) for root in roots), strict=True))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self.arrays is not None:
            gt, lq = self.arrays[index]
        else:
            gt, lq = map(decoded, self.files[index])
        size = self.setting.lq_size
        top = self.draw.randrange(lq.shape[0] - size + 1)
        left = self.draw.randrange(lq.shape[1] - size + 1)
        flips = [self.draw.random() < 0.5 for _ in range(3)]
        crops: list[torch.Tensor] = []
        for picture, factor in ((gt, self.setting.scale), (lq, 1)):
            rows = slice(top * factor, (top + size) * factor)
            crop = picture[rows, left * factor : (left + size) * factor]
            crop = crop[:, ::-1] if flips[0] else crop
            crop = crop[::-1] if flips[1] else crop
            crop = crop.swapaxes(0, 1) if flips[2] else crop
            crops.append(torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))))
        return crops[0], crops[1]


def mapped_arrays(setting: Setting) -> list[tuple[Pixels, Pixels]]:
    """Every pair, decoded into files and mapped."""
    pairs: list[tuple[Pixels, Pixels]] = []
    for number, files in enumerate(Plain(setting, None).files):
        mapped: list[Pixels] = []
        for side, file in enumerate(files):
            path = setting.root / f"{number}_{side}.npy"
            np.save(path, decoded(file))
            mapped.append(np.load(path, mmap_mode="r"))
        pairs.append((mapped[0], mapped[1]))
    return pairs


def plain_batches(setting: Setting, dataset: Plain, workers: int) -> Iterator[int]:
    """Samples of each batch, epoch after epoch."""
    loader = DataLoader(
        dataset,
        batch_size=setting.batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    while True:
        for gt, _ in loader:
            yield len(gt)


def our_dataset(setting: Setting) -> PairedImageDataset | PairedVideoDataset | SingleGtDataset:
    """As the options would make it."""
    gt, lq = setting.folders
    if setting.kind == "clips":
        dataset = PairedVideoDataset(setting.scale, gt, lq, clip_size=CLIP)
    elif setting.kind == "gt":
        dataset = SingleGtDataset(setting.scale, gt)
    else:
        dataset = PairedImageDataset(setting.scale, gt, lq)
    dataset.require_lq_size(setting.lq_size)
    return dataset


def our_batches(
    setting: Setting,
    store: PixelStore | None,
    workers: int,
    *,
    is_kept: bool = False,
    resizes: bool = False,
) -> Iterator[int]:
    """Samples of each batch; with `resizes` both sizes change every ten batches."""
    dataset = our_dataset(setting)
    if store is not None:
        assert isinstance(dataset, StorableSet)
        dataset.use_store(store)
    loader = DynamicDataLoaderWrapper(
        dataset,
        batch_size=setting.batch,
        lq_size=setting.lq_size,
        seed=SEED,
        num_workers=workers,
        is_decoded=(lambda: True) if is_kept and not workers else None,
    )
    try:
        for number in count():
            if resizes and number % 10 == 0:
                larger = number // 10 % 2
                loader.set_lq_size(setting.lq_size // (1 if larger else 2))
                loader.set_batch_size(setting.batch * (1 if larger else 2))
            yield len(next(loader))
    finally:
        loader.close()


def fill(setting: Setting, store: PixelStore) -> None:
    """Keep what the first epoch has not kept yet."""
    store.stop_waiting()
    dataset = our_dataset(setting)
    assert isinstance(dataset, StorableSet)
    dataset.use_store(store)
    for index in range(len(dataset)):
        dataset[SampleRequest(index, setting.lq_size, index)]


def rate(batches: Iterator[int], seconds: float) -> float:
    """Samples a second, of whole batches, for so long and one batch at least."""
    began = time.perf_counter()
    samples = 0
    while time.perf_counter() - began < seconds or not samples:
        samples += next(batches)
    return samples / (time.perf_counter() - began)


def measure(
    start: Callable[[int], Iterator[int]], setting: Setting, workers: int, *, is_first: bool
) -> tuple[float, float]:
    """Samples a second, and the memory of all processes in MiB.

    Args:
        start: opens a loader with so many workers.
        setting: rounds and their length.
        workers: processes.
        is_first: measure one epoch from its beginning, not what comes later.
    """
    batches = start(workers)
    if is_first:
        began = time.perf_counter()
        samples = 0
        while samples < len(Plain(setting, None)):
            samples += next(batches)
        return samples / (time.perf_counter() - began), memory_mib()
    # Processes start, and what was read ahead is used up.
    rate(batches, setting.seconds / 2)
    rates = [rate(batches, setting.seconds) for _ in range(setting.rounds)]
    return statistics.median(rates), memory_mib()


def memory_mib() -> float:
    """Of this process and its children."""
    own = psutil.Process()
    total = 0
    for process in (own, *own.children(recursive=True)):
        total += process.memory_full_info().pss
    return total / 2**20


def main(arguments: list[str] | None = None) -> int:
    """Measure; 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=("pairs", "gt", "clips"), default="pairs")
    parser.add_argument("--pictures", type=int, default=24, help="of GT (default: 24)")
    parser.add_argument("--format", choices=("png", "jpg"), default="png")
    parser.add_argument("--scale", type=int, choices=(2, 4), default=2)
    parser.add_argument("--lq_size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each round (default: 2)")
    given = parser.parse_args(arguments)
    # As in the processes that read.
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(
            Path(folder),
            given.kind,
            given.scale,
            given.lq_size,
            given.batch,
            given.rounds,
            given.seconds,
        )
        make_pictures(setting, given.pictures, given.format)
        compare(setting, given.workers)
    return 0


def compare(setting: Setting, workers: list[int]) -> None:
    """Print a row for each contestant and number of processes."""
    stores = {number: PixelStore(setting.root / f"store{number}") for number in workers}
    contestants: dict[str, tuple[Callable[[int], Iterator[int]], bool]] = {}
    if setting.kind == "pairs":
        decoding = Plain(setting, None)
        mapped = Plain(setting, mapped_arrays(setting))
        contestants["plain, decodes"] = (lambda n: plain_batches(setting, decoding, n), False)
        contestants["plain, memory maps"] = (lambda n: plain_batches(setting, mapped, n), False)
    contestants["ours, cache: none"] = (lambda n: our_batches(setting, None, n), False)
    contestants["ours, cache: none, first epoch"] = (lambda n: our_batches(setting, None, n), True)
    contestants["ours, first epoch"] = (lambda n: our_batches(setting, stores[n], n), True)
    for name, resizes in (("ours, later", False), ("ours, later, resizes", True)):
        contestants[name] = (
            lambda n, resizes=resizes: our_batches(
                setting, stores[n], n, is_kept=True, resizes=resizes
            ),
            False,
        )
    table = Table(
        "loader", "processes", "samples/s", "of the first", "memory MiB", title="samples a second"
    )
    baselines: dict[int, float] = {}
    for name, (start, is_first) in contestants.items():
        for number in workers:
            if name == "ours, later":
                fill(setting, stores[number])
            speed, memory = measure(start, setting, number, is_first=is_first)
            baseline = baselines.setdefault(number, speed)
            is_thread = not number and "later" in name
            table.add_row(
                name,
                "a thread" if is_thread else str(number),
                f"{speed:,.0f}",
                f"{speed / baseline:.1f}",
                f"{memory:,.0f}",
            )
    print_table(table)


if __name__ == "__main__":
    sys.exit(main())
