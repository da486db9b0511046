"""Augmentations that mix samples, or LQ and GT of one: a pure function of the request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from traiNNer.data.sample import Sample, SampleRequest
from traiNNer.data.views import DatasetOver, SizedDataset
from traiNNer.ops.color import to_float, to_uint8
from traiNNer.ops.resize import ResizeMode, resize
from traiNNer.utils.seeds import hash_seed

# The shape of the Beta distribution of a mixture's shares: around the middle more often than not.
_BETA = 1.2
# Sides of boxes, as shares of the patch's.
_BOX = (0.2, 0.7)
_MODES: tuple[ResizeMode, ...] = ("box", "bilinear", "bicubic")
Box = tuple[int, int, int, int]


class MixedDataset(DatasetOver):
    """Any dataset to train on, whose samples are augmented in one of several ways.

    What a sample is mixed with is another request, drawn from its seed. So it does not depend on
    what is beside it in the batch, nor on who reads.

    - mixup: a mean of two samples, by Zhang et al. (ICLR 2018)
    - cutmix: a box of another sample, by Yun et al. (ICCV 2019)
    - resizemix: another sample shrunk into a box, by Qin et al. (2020)
    - cutblur: a box of LQ is GT shrunk, or all but the box, by Yoo et al. (CVPR 2020)
    - cutout: a box of LQ is black, by DeVries and Taylor (2017)
    - downup: LQ shrunk and enlarged again

    Args:
        base_dataset: gives LQ and GT; takes sized requests, or a torch Subset or ConcatDataset of
            such.
        shares: the share of the samples for each way, by name; at most 1 together. Whole images are
            never augmented.
    """

    def __init__(
        self, base_dataset: SizedDataset | Dataset[Sample], shares: Mapping[str, float]
    ) -> None:
        super().__init__(base_dataset)
        self.shares = dict(shares)

    @property
    def depends_on_size(self) -> bool:
        """True: boxes are drawn for the size that is asked for."""
        return True

    def __getitem__(self, index: SampleRequest) -> Sample:
        """The sample of a request, augmented if its seed says so.

        Raises:
            DataError: as the dataset below raises it.
        """
        sample = self.read_below(index)
        if index.lq_size is None:
            return sample
        draw = np.random.default_rng(hash_seed(index.seed, 5))
        way = self._drawn(draw.random())
        if way is None:
            return sample
        lq, gt = sample.lq, sample.gt
        assert lq is not None, "checked when the options are"
        assert gt is not None, "checked when the options are"
        own = to_float(lq), to_float(gt)
        if way in ("mixup", "cutmix", "resizemix"):
            other = self.read_below(
                SampleRequest(
                    int(draw.integers(len(self))), index.lq_size, int(draw.integers(2**62))
                )
            )
            assert other.lq is not None
            assert other.gt is not None
            pair = _with_another(way, own, (to_float(other.lq), to_float(other.gt)), draw)
        else:
            pair = _alone(way, own, draw)
        # As they came: eight bits travel in a quarter of the room.
        made = [
            to_uint8(after) if before.dtype == torch.uint8 else after.clamp(0, 1)
            for before, after in zip((lq, gt), pair, strict=True)
        ]
        return replace(sample, lq=made[0], gt=made[1])

    def _drawn(self, place: float) -> str | None:
        """The way whose share a number in [0, 1) falls into; None behind all of them."""
        for way, share in self.shares.items():
            if place < share:
                return way
            place -= share
        return None


Pair = tuple[Tensor, Tensor]


def _with_another(way: str, own: Pair, other: Pair, draw: np.random.Generator) -> Pair:
    """LQ and GT (..., 3, h, w) with something of another sample."""
    if way == "mixup":
        share = float(draw.beta(_BETA, _BETA))
        return own[0].lerp(other[0], share), own[1].lerp(other[1], share)
    box = _box(own[0], draw)
    made = tuple(
        _pasted(part, theirs, _scaled(box, part.shape[-1] // own[0].shape[-1]), way)
        for part, theirs in zip(own, other, strict=True)
    )
    return made[0], made[1]


def _pasted(part: Tensor, theirs: Tensor, box: Box, way: str) -> Tensor:
    top, left, height, width = box
    place = (..., slice(top, top + height), slice(left, left + width))
    made = part.clone()
    made[place] = resize(theirs, (height, width)) if way == "resizemix" else theirs[place]
    return made


def _alone(way: str, own: Pair, draw: np.random.Generator) -> Pair:
    """LQ (..., 3, h, w) with something of its own changed, and GT as it is."""
    lq, gt = own
    sides = (lq.shape[-2], lq.shape[-1])
    if way == "downup":
        mode = _MODES[int(draw.integers(len(_MODES)))]
        back = _MODES[int(draw.integers(len(_MODES)))]
        factor = draw.uniform(0.25, 0.9)
        small = (max(1, round(sides[0] * factor)), max(1, round(sides[1] * factor)))
        return resize(resize(lq, small, mode), sides, back), gt
    top, left, height, width = _box(lq, draw)
    place = (..., slice(top, top + height), slice(left, left + width))
    if way == "cutout":
        made = lq.clone()
        made[place] = 0
        return made, gt
    clean = resize(gt, sides)
    inside, outside = (clean, lq) if draw.random() < 0.5 else (lq, clean)
    made = outside.clone()
    made[place] = inside[place]
    return made, gt


def _box(lq: Tensor, draw: np.random.Generator) -> Box:
    """Top, left, height and width of a box within LQ, in its pixels."""
    height, width = (max(1, round(side * draw.uniform(*_BOX))) for side in lq.shape[-2:])
    top = int(draw.integers(lq.shape[-2] - height + 1))
    left = int(draw.integers(lq.shape[-1] - width + 1))
    return top, left, height, width


def _scaled(box: Box, factor: int) -> Box:
    top, left, height, width = (place * factor for place in box)
    return top, left, height, width
