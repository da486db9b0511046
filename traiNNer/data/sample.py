"""What travels from a dataset to a training step: a request, a sample, a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from traiNNer.data.crop import Placement


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """What a dataset is asked for.

    The size of the crop belongs to the request, so that it can change from batch to batch while the
    dataset, and its copies in the workers, stay as they are.

    Args:
        index: which element of the dataset.
        lq_size: side of the square LQ crop in pixels; None is the whole image, without
            augmentation.
        seed: decides where the crop lies and how it is augmented.
    """

    index: int
    lq_size: int | None
    seed: int


@dataclass(slots=True)
class Sample:
    """One LQ tensor (..., 3, h, w) and, where there is one, its GT (..., 3, h * scale, w * scale).

    uint8 in 0 to 255 or float32 in [0, 1]. `replaced` says why the requested image could not be
    read, where another one was taken in its place. `placement` says where a crop lies in its image,
    where that is known.
    """

    lq: Tensor
    gt: Tensor | None
    index: int
    lq_path: str
    gt_path: str | None
    replaced: str | None = None
    placement: Placement | None = None


@dataclass(slots=True)
class Batch:
    """Samples stacked along a first dimension: `lq` (B, ..., 3, h, w), `gt` (B, ..., 3, h * scale,
    w * scale) or None.

    uint8 in 0 to 255 or float32 in [0, 1]; float32 after `to`. Each list has an entry for each
    sample (`gt_paths` is empty without GT): `reasons` why another image was taken, or None, and
    `placements` of the crops, None if unknown.
    """

    lq: Tensor
    gt: Tensor | None
    indices: list[int]
    lq_paths: list[str]
    gt_paths: list[str]
    reasons: list[str | None] = field(default_factory=list)
    placements: list[Placement | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reasons = self.reasons or [None] * len(self)
        self.placements = self.placements or [None] * len(self)

    def __len__(self) -> int:
        return self.lq.shape[0]

    @property
    def replaced(self) -> list[str]:
        """The reasons of the samples that stand for an unreadable one."""
        return [reason for reason in self.reasons if reason is not None]

    @property
    def lq_size(self) -> int:
        """Side of the LQ crops in pixels (of whole images: the width)."""
        return self.lq.shape[-1]

    @property
    def pixels(self) -> int:
        """LQ pixels of the whole batch (of all frames)."""
        return self.lq.numel() // self.lq.shape[-3]

    @property
    def nbytes(self) -> int:
        """Bytes of both tensors."""
        return self.lq.nbytes + (0 if self.gt is None else self.gt.nbytes)

    def pin_memory(self) -> Batch:
        """A copy in page-locked memory. The DataLoader calls this."""
        return replace(
            self, lq=self.lq.pin_memory(), gt=None if self.gt is None else self.gt.pin_memory()
        )

    def to(
        self, device: torch.device | str, *, channels_last: bool = False, non_blocking: bool = False
    ) -> Batch:
        """A batch of float32 in [0, 1] on `device`; the conversion happens there, after the copy.

        Args:
            device: where to.
            channels_last: in the channels_last memory format (images only; clips stay as they are).
            non_blocking: do not wait for the copy (useful from page-locked memory).
        """
        return replace(
            self,
            lq=_to_float(self.lq, device, channels_last, non_blocking),
            gt=None if self.gt is None else _to_float(self.gt, device, channels_last, non_blocking),
        )

    def split(self, samples: int) -> tuple[Batch, Batch]:
        """The first `samples` and the others (1 at least of each), as views of the same memory."""
        assert 0 < samples < len(self)
        return self._part(slice(0, samples)), self._part(slice(samples, None))

    def crop(self, lq_size: int) -> Batch:
        """The same samples with LQ crops of `lq_size` pixels, GT exactly over them.

        Where the placement is known, the pixels are those that a request of `lq_size` would have
        given; else they are the centre. A new batch in memory of its own (page-locked if this one
        is), or this one if nothing is to do.
        """
        outer = self.lq_size
        room = self.lq_size - lq_size
        assert room >= 0
        if not room:
            return self
        corners = [
            (room // 2, room // 2) if place is None else place.corner_inside(lq_size, outer)
            for place in self.placements
        ]
        gt = (
            None
            if self.gt is None
            else _windows(self.gt, corners, lq_size, self.gt.shape[-1] // outer)
        )
        return replace(self, lq=_windows(self.lq, corners, lq_size, 1), gt=gt)

    @staticmethod
    def merge(parts: Sequence[Batch]) -> Batch:
        """One batch of all samples in order; all of the same shape but the first dimension.

        A single part is returned itself. As with `collate`, all become float32 if some are;
        page-locked if any was.
        """
        if len(parts) == 1:
            return parts[0]
        gts = [part.gt for part in parts if part.gt is not None]
        return Batch(
            lq=_join([part.lq for part in parts]),
            gt=_join(gts) if gts else None,
            indices=[index for part in parts for index in part.indices],
            lq_paths=[path for part in parts for path in part.lq_paths],
            gt_paths=[path for part in parts for path in part.gt_paths],
            reasons=[reason for part in parts for reason in part.reasons],
            placements=[placement for part in parts for placement in part.placements],
        )

    def _part(self, which: slice) -> Batch:
        return Batch(
            lq=self.lq[which],
            gt=None if self.gt is None else self.gt[which],
            indices=self.indices[which],
            lq_paths=self.lq_paths[which],
            gt_paths=self.gt_paths[which],
            reasons=self.reasons[which],
            placements=self.placements[which],
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of equal shape. If some are uint8 and some float, all become float32 in [0,
    1].
    """
    gts = [sample.gt for sample in samples if sample.gt is not None]
    return Batch(
        lq=stack([sample.lq for sample in samples]),
        gt=stack(gts) if gts else None,
        indices=[sample.index for sample in samples],
        lq_paths=[sample.lq_path for sample in samples],
        gt_paths=[sample.gt_path for sample in samples if sample.gt_path is not None],
        reasons=[sample.replaced for sample in samples],
        placements=[sample.placement for sample in samples],
    )


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """Stack tensors of equal shape; if some are uint8 and some float, all become float32 in [0,
    1].
    """
    return torch.stack(_of_one_type(tensors))


def _of_one_type(tensors: Sequence[Tensor]) -> list[Tensor]:
    mixed = len({tensor.dtype for tensor in tensors}) > 1
    return [_scale(tensor) for tensor in tensors] if mixed else list(tensors)


def _join(tensors: Sequence[Tensor]) -> Tensor:
    pinned = any(tensor.is_pinned() for tensor in tensors)
    parts = _of_one_type(tensors)
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
    return torch.cat(parts, out=torch.empty(shape, dtype=parts[0].dtype, pin_memory=pinned))


def _windows(
    tensor: Tensor, corners: Sequence[tuple[int, int]], lq_size: int, factor: int
) -> Tensor:
    """Of each sample the square at its corner (top, left), all given in LQ pixels."""
    side = lq_size * factor
    windows = torch.empty(
        (*tensor.shape[:-2], side, side),
        dtype=tensor.dtype,
        device=tensor.device,
        pin_memory=tensor.is_pinned(),
    )
    for window, whole, (top, left) in zip(windows, tensor, corners, strict=True):
        window.copy_(
            whole[..., top * factor : top * factor + side, left * factor : left * factor + side]
        )
    return windows


def _scale(tensor: Tensor) -> Tensor:
    """float32 in [0, 1]."""
    return tensor.float().div_(255) if tensor.dtype == torch.uint8 else tensor.float()


def _to_float(
    tensor: Tensor, device: torch.device | str, channels_last: bool, non_blocking: bool
) -> Tensor:
    moved = _scale(tensor.to(device, non_blocking=non_blocking))
    if channels_last and moved.dim() == 4:
        return moved.contiguous(memory_format=torch.channels_last)
    return moved
