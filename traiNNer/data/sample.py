"""What travels from a dataset to a training step: a request, a sample, a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from traiNNer.data.crop import Placement
from traiNNer.ops.color import to_float


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

    uint8 in 0 to 255 or float32 in [0, 1].

    Attributes:
        lq: None where LQ is made of GT later, on the device.
        gt: None where there is no ground truth.
        index: of the element that was asked for.
        lq_path: for messages.
        gt_path: for messages.
        replaced: why the requested image could not be read, where another one was taken in its
            place.
        placement: where a crop lies in its image, where that is known.
        seed: of the request: whatever is drawn for this sample comes from it.
        lq_size: side of the LQ crop in pixels; 0 asks the tensor (of whole images its width).
        scale: GT pixels for each LQ pixel, per side; 0 asks the tensors.
        label: what a recipe of one's own is told besides, of any shape and type.
        views: the same crop at smaller sizes, where the dataset makes them.
    """

    lq: Tensor | None
    gt: Tensor | None
    index: int
    lq_path: str
    gt_path: str | None
    replaced: str | None = None
    placement: Placement | None = None
    seed: int = 0
    lq_size: int = 0
    scale: int = 0
    label: Tensor | None = None
    views: tuple[Sample, ...] = ()


@dataclass(slots=True)
class Batch:
    """Samples stacked along a first dimension: `lq` (B, ..., 3, h, w) and `gt` (B, ..., 3,
    h * scale, w * scale); either may be None.

    uint8 in 0 to 255 or float32 in [0, 1]; float32 after `to`. Each list has an entry for each
    sample (`gt_paths` is empty without GT).

    Attributes:
        lq: None where LQ is made of GT later, on the device.
        gt: None where there is no ground truth.
        indices: of the elements of the dataset.
        lq_paths: for messages.
        gt_paths: for messages.
        reasons: why another image was taken, or None.
        placements: of the crops, None if unknown.
        seeds: of the requests: whatever is drawn for a sample comes from its seed.
        lq_size: side of the LQ crops in pixels, whether LQ is there or not (of whole images: the
            width). 0 asks the tensor.
        scale: GT pixels for each LQ pixel, per side. 0 asks the tensors.
        labels: (B, ...), what a recipe of one's own is told of each sample besides; their values
            and their type stay as they are.
        views: the same crops at smaller sizes, where the dataset makes them; gone after a crop.
    """

    lq: Tensor | None
    gt: Tensor | None
    indices: list[int]
    lq_paths: list[str]
    gt_paths: list[str]
    reasons: list[str | None] = field(default_factory=list)
    placements: list[Placement | None] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    lq_size: int = 0
    scale: int = 0
    labels: Tensor | None = None
    views: tuple[Batch, ...] = ()

    def __post_init__(self) -> None:
        self.reasons = self.reasons or [None] * len(self)
        self.placements = self.placements or [None] * len(self)
        self.seeds = self.seeds or [0] * len(self)
        if self.lq is not None:
            self.lq_size = self.lq_size or self.lq.shape[-1]
            pair = self.gt if self.gt is not None else self.lq
            self.scale = self.scale or pair.shape[-1] // self.lq.shape[-1]
        if not self.lq_size or not self.scale:
            raise ValueError("a batch without LQ needs to be told its lq_size and its scale")

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """LQ and GT, of a batch that has both.

        Raises:
            ValueError: if one of them is missing.
        """
        if self.lq is None or self.gt is None:
            missing = "LQ" if self.lq is None else "GT"
            raise ValueError(f"a batch of {', '.join(self.lq_paths[:3])} has no {missing}")
        return self.lq, self.gt

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        tensor = self.lq if self.lq is not None else self.gt
        return torch.device("cpu") if tensor is None else tensor.device

    @property
    def frames(self) -> int:
        """Frames of a sample: 1 for images."""
        tensor = self.lq if self.lq is not None else self.gt
        return tensor.shape[1] if tensor is not None and tensor.ndim == 5 else 1

    @property
    def lq_sides(self) -> tuple[int, int]:
        """Height and width in LQ pixels as the tensors have them, whether LQ is there or not."""
        if self.lq is not None:
            return self.lq.shape[-2], self.lq.shape[-1]
        if self.gt is not None:
            return self.gt.shape[-2] // self.scale, self.gt.shape[-1] // self.scale
        return self.lq_size, self.lq_size

    @property
    def pixels(self) -> int:
        """LQ pixels of the whole batch (of all frames), whether LQ is there or not."""
        if self.lq is not None:
            return self.lq.numel() // self.lq.shape[-3]
        return len(self) * self.frames * self.lq_size**2

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        tensors = (self.lq, self.gt, self.labels)
        own = sum(tensor.nbytes for tensor in tensors if tensor is not None)
        return own + sum(view.nbytes for view in self.views)

    def pin_memory(self) -> Batch:
        """A copy in page-locked memory. The DataLoader calls this."""
        return _with_each(self, lambda tensor, _: tensor.pin_memory(), Tensor.pin_memory)

    def to(
        self,
        device: torch.device | str,
        *,
        channels_last: bool = False,
        non_blocking: bool = False,
    ) -> Batch:
        """A batch of float32 in [0, 1] on `device`; the conversion happens there, after the copy.

        Args:
            device: where to.
            channels_last: in the channels_last memory format (images only; clips stay as they are).
            non_blocking: do not wait for the copy (useful from page-locked memory).
        """

        def move(tensor: Tensor, _: int) -> Tensor:
            moved = to_float(tensor.to(device, non_blocking=non_blocking))
            if channels_last and moved.dim() == 4:
                return moved.contiguous(memory_format=torch.channels_last)
            return moved

        return _with_each(self, move, lambda labels: labels.to(device, non_blocking=non_blocking))

    def split(self, samples: int) -> tuple[Batch, Batch]:
        """The first `samples` and the others (1 at least of each), as views of the same memory."""
        assert 0 < samples < len(self)
        return _part(self, slice(0, samples)), _part(self, slice(samples, None))

    def crop(self, lq_size: int) -> Batch:
        """The same samples with LQ crops of `lq_size` pixels, GT exactly over them.

        Where the placement is known, the pixels are those that a request of `lq_size` would have
        given; else they are the centre. A new batch in memory of its own (page-locked if this one
        is), or this one if nothing is to do.
        """
        outer = self.lq_size
        room = outer - lq_size
        assert room >= 0
        if not room:
            return self
        corners = [
            (room // 2, room // 2) if place is None else place.corner_inside(lq_size, outer)
            for place in self.placements
        ]
        # Views are of the whole crop, and this is another one.
        alone = replace(self, views=())
        cropped = _with_each(
            alone, lambda tensor, factor: _windows(tensor, corners, lq_size, factor)
        )
        cropped.lq_size = lq_size
        return cropped

    @staticmethod
    def merge(parts: Sequence[Batch]) -> Batch:
        """One batch of all samples in order; all of the same shape but the first dimension.

        A single part is returned itself. As with `collate`, all become float32 if some are;
        page-locked if any was.
        """
        if len(parts) == 1:
            return parts[0]
        lqs = [part.lq for part in parts if part.lq is not None]
        gts = [part.gt for part in parts if part.gt is not None]
        labels = [part.labels for part in parts if part.labels is not None]
        return Batch(
            lq=_join(lqs) if lqs else None,
            gt=_join(gts) if gts else None,
            indices=[index for part in parts for index in part.indices],
            lq_paths=[path for part in parts for path in part.lq_paths],
            gt_paths=[path for part in parts for path in part.gt_paths],
            reasons=[reason for part in parts for reason in part.reasons],
            placements=[placement for part in parts for placement in part.placements],
            seeds=[seed for part in parts for seed in part.seeds],
            lq_size=parts[0].lq_size,
            scale=parts[0].scale,
            labels=_join(labels) if labels else None,
            views=tuple(map(Batch.merge, zip(*(part.views for part in parts), strict=False))),
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of equal shape. If some are uint8 and some float, all become float32 in
    [0, 1].
    """
    lqs = [sample.lq for sample in samples if sample.lq is not None]
    gts = [sample.gt for sample in samples if sample.gt is not None]
    labels = [sample.label for sample in samples if sample.label is not None]
    return Batch(
        lq=stack(lqs) if lqs else None,
        gt=stack(gts) if gts else None,
        indices=[sample.index for sample in samples],
        lq_paths=[sample.lq_path for sample in samples],
        gt_paths=[sample.gt_path for sample in samples if sample.gt_path is not None],
        reasons=[sample.replaced for sample in samples],
        placements=[sample.placement for sample in samples],
        seeds=[sample.seed for sample in samples],
        lq_size=samples[0].lq_size,
        scale=samples[0].scale,
        labels=torch.stack(labels) if labels else None,
        views=tuple(map(collate, zip(*(sample.views for sample in samples), strict=True))),
    )


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """Stack tensors of equal shape; if some are uint8 and some float, all become float32 in [0,
    1].
    """
    return torch.stack(_of_one_type(tensors))


def _of_one_type(tensors: Sequence[Tensor]) -> list[Tensor]:
    mixed = len({tensor.dtype for tensor in tensors}) > 1
    return [to_float(tensor) for tensor in tensors] if mixed else list(tensors)


def _join(tensors: Sequence[Tensor]) -> Tensor:
    pinned = any(tensor.is_pinned() for tensor in tensors)
    parts = _of_one_type(tensors)
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
    return torch.cat(parts, out=torch.empty(shape, dtype=parts[0].dtype, pin_memory=pinned))


def _windows(
    tensor: Tensor, corners: Sequence[tuple[int, int]], lq_size: int, factor: int
) -> Tensor:
    """The square of each sample at its corner (top, left), all given in LQ pixels."""
    side = lq_size * factor
    # Memory of its own: a view would keep the larger crops alive as long as the smaller ones.
    windows = torch.empty(
        (*tensor.shape[:-2], side, side),
        dtype=tensor.dtype,
        device=tensor.device,
        pin_memory=tensor.is_pinned(),
    )
    for window, whole, (top, left) in zip(windows, tensor, corners, strict=True):
        rows = slice(top * factor, top * factor + side)
        columns = slice(left * factor, left * factor + side)
        window.copy_(whole[..., rows, columns])
    return windows


def _with_each(
    batch: Batch,
    change: Callable[[Tensor, int], Tensor],
    change_labels: Callable[[Tensor], Tensor] | None = None,
) -> Batch:
    """A batch with `change(tensor, pixels for each LQ pixel)` in place of LQ and GT, and of the
    labels, where they change too.
    """
    labels = batch.labels
    if labels is not None and change_labels is not None:
        labels = change_labels(labels)
    return replace(
        batch,
        lq=None if batch.lq is None else change(batch.lq, 1),
        gt=None if batch.gt is None else change(batch.gt, batch.scale),
        labels=labels,
        views=tuple(_with_each(view, change) for view in batch.views),
    )


def _part(batch: Batch, which: slice) -> Batch:
    """Some of the samples."""
    return replace(
        _with_each(batch, lambda tensor, _: tensor[which], lambda labels: labels[which]),
        indices=batch.indices[which],
        lq_paths=batch.lq_paths[which],
        gt_paths=batch.gt_paths[which],
        reasons=batch.reasons[which],
        placements=batch.placements[which],
        seeds=batch.seeds[which],
        views=tuple(_part(view, which) for view in batch.views),
    )
