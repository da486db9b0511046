"""Loaders of pictures and their classes for notebooks and programs of one's own, read as the
program's own runs read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from traiNNer.data.image_folder_dataset import ImageFolderDataset
from traiNNer.data.loader import BatchReader, open_loader
from traiNNer.data.order import ShuffledOrder
from traiNNer.data.sample import SampleRequest
from traiNNer.data.workers import Workers
from traiNNer.utils.arithmetic import ceil_div
from traiNNer.utils.device import usable_cores
from traiNNer.utils.errors import DataError

# Batches that wait for each reading process, as in a run.
_PREFETCH = 2
# More reading processes have made no loader of ours faster.
_MOST_WORKERS = 8


@dataclass(frozen=True)
class Loaders:
    """The loaders of a data set.

    Attributes:
        train: shuffled anew in each epoch, augmented.
        val: to judge by while training.
        test: to judge by once, at the end; None where the data set names none.
        classes: their names, in the order of the labels' numbers.
    """

    train: ClassLoader
    val: ClassLoader
    test: ClassLoader | None
    classes: tuple[str, ...]


class ClassLoader:
    """Pictures (B, 3, side, side), float32 in [0, 1], and labels (B,), an epoch each time it is
    iterated over. Its processes stay from epoch to epoch.

    Args:
        dataset: what is read.
        batch_size: pictures at once; the last batch of an epoch may be smaller.
        img_size: side of the pictures.
        num_workers: processes that read; 0 reads here.
        is_shuffled: a new order in each epoch, and pictures augmented anew.
        seed: of the orders.
    """

    def __init__(
        self,
        dataset: ImageFolderDataset,
        batch_size: int,
        img_size: int,
        num_workers: int,
        *,
        is_shuffled: bool,
        seed: int = 0,
    ) -> None:
        self.dataset = dataset
        self._requests = _Requests(len(dataset), batch_size, img_size, seed, is_shuffled)
        self._num_workers = num_workers
        self._workers: Workers | None = None

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self._requests.batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        workers = self._workers or self._start()
        self._workers = None
        is_whole = False
        try:
            for _ in range(len(self)):
                batch = workers.receive()
                assert batch is not None
                on_cpu = batch.to("cpu")
                assert on_cpu.lq is not None
                assert on_cpu.labels is not None
                yield on_cpu.lq, on_cpu.labels
            is_whole = True
        finally:
            # Whoever breaks off an epoch gets a whole one the next time, from new processes.
            self._requests.first_epoch += 1
            if is_whole:
                self._workers = workers
            else:
                workers.end()

    def _start(self) -> Workers:
        reader = BatchReader(self.dataset)
        count = self._num_workers
        pins = torch.cuda.is_available()
        workers = Workers(open_loader(reader, self._requests, count, pins, _PREFETCH))
        workers.start()
        return workers

    def close(self) -> None:
        """End its processes; they also end with the program."""
        if self._workers is not None:
            self._workers.end()
            self._workers = None


@dataclass
class _Requests:
    """Endless lists of requests, epoch after epoch."""

    length: int
    batch_size: int
    side: int
    seed: int
    is_shuffled: bool
    first_epoch: int = 0

    @property
    def batches(self) -> int:
        return ceil_div(self.length, self.batch_size)

    def __iter__(self) -> Iterator[list[SampleRequest]]:
        order = ShuffledOrder(self.length, self.seed)
        epoch = self.first_epoch
        while True:
            for start in range(0, self.length, self.batch_size):
                places = range(start, min(self.length, start + self.batch_size))
                yield [self._request(order, epoch, place) for place in places]
            epoch += 1

    def _request(self, order: ShuffledOrder, epoch: int, place: int) -> SampleRequest:
        if not self.is_shuffled:
            return SampleRequest(place, self.side, 0)
        visit = order.visit(epoch * self.length + place)
        return SampleRequest(visit.index, self.side, visit.seed)


def create_dataloaders(
    data_root: str,
    batch_size: int,
    img_size: int,
    num_workers: int | Literal["auto"] = "auto",
    val_split: float = 0.1,
    seed: int = 0,
) -> Loaders:
    """Loaders of a folder with a folder for each class.

    Where it has a folder `train`, the folders `val` and `test` beside that are used, as far as they
    are there. What is missing of them is drawn from the rest, of each class alike: `val` always,
    `test` only where there is no folder `train`.

    Args:
        data_root: the folder.
        batch_size: pictures at once.
        img_size: side of the pictures in pixels; the shorter side is resized to it and the rest of
            the longer one cut off.
        num_workers: processes that read; auto: a core is left to what is trained here, or 8.
        val_split: share that is drawn for `val`, and for `test`; above 0.
        seed: of the draws and orders.

    Raises:
        DataError: listing all that is wrong with folders and pictures, or for a share that is out
            of its range.
    """
    if not 0 < val_split < 0.5:
        raise DataError(f"val_split is {val_split}; expected a number above 0 and below 0.5")
    if num_workers == "auto":
        num_workers = min(_MOST_WORKERS, max(0, usable_cores() - 1))
    root = Path(data_root)
    has_parts = (root / "train").is_dir()
    train = ImageFolderDataset(1, str(root / "train" if has_parts else root))
    parts: dict[str, ImageFolderDataset] = {}
    for number, name in enumerate(("test", "val")):
        if has_parts and (root / name).is_dir():
            own = ImageFolderDataset(1, str(root / name), classes=train.classes)
            parts[name] = own.for_validation()
        elif name == "val" or not has_parts:
            parts[name] = train.split_off(val_split, seed + number)
    loaders = {
        name: ClassLoader(part, batch_size, img_size, num_workers, is_shuffled=False)
        for name, part in parts.items()
    }
    shuffled = ClassLoader(train, batch_size, img_size, num_workers, is_shuffled=True, seed=seed)
    return Loaders(shuffled, loaders["val"], loaders.get("test"), tuple(train.classes))
