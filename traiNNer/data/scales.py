"""The same samples at several sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor
from torch.utils.data import Dataset

from traiNNer.data.sample import Batch, Sample, SampleRequest, collate
from traiNNer.data.views import DatasetOver, SizedDataset
from traiNNer.ops.resize import resize
from traiNNer.utils.patch_scales import PatchScales


def materialize_scale(batch: Batch, lq_size: int) -> Batch:
    """The same samples with patches of `lq_size` LQ pixels: shrunk, and not cropped.

    LQ and GT are shrunk alike, by an antialiased bicubic kernel, so they stay aligned. What the
    dataset has made at this size already is taken as it is.

    Args:
        batch: float32 in [0, 1], LQ (B, ..., 3, h, w) and GT, on any device.
        lq_size: side in LQ pixels, at most that of the batch.
    """
    if lq_size == batch.lq_size:
        return batch
    made = next((view for view in batch.views if view.lq_size == lq_size), None)
    if made is not None:
        return made
    return replace(
        batch,
        lq=_shrunk(batch.lq, lq_size),
        gt=_shrunk(batch.gt, lq_size * batch.scale),
        lq_size=lq_size,
        views=(),
    )


def _shrunk(pixels: Tensor | None, side: int) -> Tensor | None:
    # The cubic kernel overshoots at edges, and pictures do not.
    return None if pixels is None else resize(pixels, (side, side)).clamp_(0, 1)


class MultiScaleDataset(DatasetOver):
    """Any dataset to train on, at several sizes.

    Args:
        base_dataset: takes sized requests; or a torch Subset or ConcatDataset of such, to any
            depth.
        scales: sides in LQ pixels; a request is for the largest, and the others are in proportion.
        augment: changes each sample before it is shrunk, so that all sizes show the same.
        memory_efficient: read and send the largest size only; the others are made of it on the
            device when their turn comes (`materialize_scale`). False makes all of them here, so
            that they travel with the sample.
        multiple: what the sides are multiples of.
        least: the smallest side.

    Raises:
        ValueError: for fewer than two sizes, or sizes below 1.
    """

    def __init__(
        self,
        base_dataset: SizedDataset | Dataset[Sample],
        scales: Sequence[int],
        augment: Callable[[Sample], Sample] | None = None,
        memory_efficient: bool = True,
        *,
        multiple: int = 1,
        least: int = 1,
    ) -> None:
        if len(set(scales)) < 2 or min(scales) < 1:
            raise ValueError(f"scales are {list(scales)}; expected two sizes or more, each above 0")
        super().__init__(base_dataset)
        self.scales = PatchScales(tuple(scales), multiple, least)
        self.augment = augment
        self.memory_efficient = memory_efficient

    def __getitem__(self, index: SampleRequest) -> Sample:
        """The sample of a request, and its smaller sizes where they are made here.

        Raises:
            DataError: as the dataset below raises it.
        """
        sample = self.read_below(index)
        if self.augment is not None:
            sample = self.augment(sample)
        if self.memory_efficient or index.lq_size is None:
            return sample
        sides = self.scales.sides(index.lq_size)[1:]
        return replace(sample, views=tuple(_sample_at(sample, side) for side in sides))


def _sample_at(sample: Sample, side: int) -> Sample:
    """The sample shrunk, as a batch of one would be on the device."""
    batch = collate([replace(sample, views=())])
    shrunk = materialize_scale(batch.to("cpu"), side)
    return replace(
        sample,
        lq=None if shrunk.lq is None else shrunk.lq[0],
        gt=None if shrunk.gt is None else shrunk.gt[0],
        lq_size=side,
        scale=batch.scale,
        views=(),
    )
