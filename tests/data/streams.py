"""Datasets without files, and records of what a loader was asked for and gave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from torch.utils.data import Dataset

from traiNNer.data import (
    Batch,
    DynamicDataLoaderWrapper,
    PairedImageDatasetDynamicMixin,
    PairedVideoDatasetDynamicMixin,
    Sample,
    SampleRequest,
)
from traiNNer.data.crop import SmallImages
from traiNNer.utils.images import Pixels


@dataclass(frozen=True)
class Picture:
    """LQ frames (T, h, w, 3) of one height and width, and a number for their name."""

    number: int
    lq: Pixels


def picture(number: int, height: int, width: int, frames: int = 1) -> Picture:
    """Noise: no two places are alike."""
    shape = (frames, height, width, 3)
    return Picture(number, np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8))


def enlarge(lq: Pixels, scale: int) -> Pixels:
    """GT whose pixel (y * scale, x * scale) is that of LQ at (y, x), as all others of its
    square.
    """
    return lq.repeat(scale, 0).repeat(scale, 1)


class _InMemory:
    """What both kinds share."""

    scale: int

    def lq_extent(self, element: Picture) -> tuple[int, int]:
        return element.lq.shape[1], element.lq.shape[2]

    def name_paths(self, element: Picture) -> tuple[str, str]:
        return f"lq/{element.number}", f"gt/{element.number}"

    def read_frames(self, element: Picture) -> Iterator[tuple[Pixels, Pixels]]:
        for frame in element.lq:
            yield frame, enlarge(frame, self.scale)


class MemoryImages(_InMemory, PairedImageDatasetDynamicMixin[Picture], Dataset[Sample]):
    """Images with the sizes (height, width)."""

    def __init__(
        self, sizes: list[tuple[int, int]], scale: int = 2, small_images: SmallImages = "error"
    ) -> None:
        self.scale = scale
        self.use_hflip = self.use_rot = True
        self.small_images = small_images
        self.use_elements([picture(number, *size) for number, size in enumerate(sizes)])

    def read_pair(self, element: Picture) -> tuple[Pixels, Pixels]:
        return next(self.read_frames(element))


class MemoryClips(_InMemory, PairedVideoDatasetDynamicMixin[Picture], Dataset[Sample]):
    """Clips of 3 frames with the sizes (height, width)."""

    def __init__(self, sizes: list[tuple[int, int]], scale: int = 2, frames: int = 3) -> None:
        self.scale = scale
        self.use_hflip = self.use_rot = True
        self.small_images: SmallImages = "error"
        self.use_elements(
            [picture(number, *size, frames=frames) for number, size in enumerate(sizes)]
        )


@dataclass
class Asked:
    """The requests of a loader by place in the stream, noted where they are made."""

    loader: DynamicDataLoaderWrapper
    requests: list[SampleRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        make = self.loader.sampler.request
        first = self.loader.samples_consumed

        def request(position: int) -> SampleRequest:
            assert position == first + len(self.requests), "asked in order, once"
            self.requests.append(make(position))
            return self.requests[-1]

        self.loader.sampler.request = request  # type: ignore[method-assign]
        self.first = first

    def waiting(self) -> list[SampleRequest]:
        """Asked for, and not yielded yet."""
        return self.requests[self.loader.samples_consumed - self.first :]

    def of(self, batch: Batch) -> list[SampleRequest]:
        """The requests of the batch that was yielded last."""
        end = self.loader.samples_consumed - self.first
        return self.requests[end - len(batch) : end]
