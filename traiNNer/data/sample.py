"""What travels from a dataset to a training step: a request, a sample, a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """What a dataset is asked for.

    The size of the crop belongs to the request, so that it can change from batch to batch while the dataset, and its
    copies in the workers, stay as they are.

    Args:
        index: which element of the dataset.
        lq_size: side of the square LQ crop in pixels; None is the whole image, without augmentation.
        seed: decides where the crop lies and how it is augmented.
    """

    index: int
    lq_size: int | None
    seed: int


@dataclass(slots=True)
class Sample:
    """One LQ tensor (..., 3, h, w) and, where there is one, its GT (..., 3, h * scale, w * scale).

    uint8 in 0 to 255 or float32 in [0, 1]. `replaced` says why the requested image could not be read, where another
    one was taken in its place.
    """

    lq: Tensor
    gt: Tensor | None
    index: int
    lq_path: str
    gt_path: str | None
    replaced: str | None = None


@dataclass(slots=True)
class Batch:
    """Samples stacked along a first dimension: `lq` (B, ..., 3, h, w), `gt` (B, ..., 3, h * scale, w * scale) or None.

    uint8 in 0 to 255 or float32 in [0, 1]; float32 after `to`. `replaced` holds the reasons of the replaced samples.
    """

    lq: Tensor
    gt: Tensor | None
    indices: list[int]
    lq_paths: list[str]
    gt_paths: list[str]
    replaced: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return self.lq.shape[0]

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
        return replace(self, lq=self.lq.pin_memory(), gt=None if self.gt is None else self.gt.pin_memory())

    def to(self, device: torch.device | str, *, channels_last: bool = False, non_blocking: bool = False) -> Batch:
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


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of equal shape. If some are uint8 and some float, all become float32 in [0, 1]."""
    gts = [sample.gt for sample in samples if sample.gt is not None]
    return Batch(
        lq=_stack([sample.lq for sample in samples]),
        gt=_stack(gts) if gts else None,
        indices=[sample.index for sample in samples],
        lq_paths=[sample.lq_path for sample in samples],
        gt_paths=[sample.gt_path for sample in samples if sample.gt_path is not None],
        replaced=[sample.replaced for sample in samples if sample.replaced is not None],
    )


def _stack(tensors: list[Tensor]) -> Tensor:
    if len({tensor.dtype for tensor in tensors}) > 1:
        tensors = [_scale(tensor) for tensor in tensors]
    return torch.stack(tensors)


def _scale(tensor: Tensor) -> Tensor:
    """float32 in [0, 1]."""
    return tensor.float().div_(255) if tensor.dtype == torch.uint8 else tensor.float()


def _to_float(tensor: Tensor, device: torch.device | str, channels_last: bool, non_blocking: bool) -> Tensor:
    moved = _scale(tensor.to(device, non_blocking=non_blocking))
    if channels_last and moved.dim() == 4:
        return moved.contiguous(memory_format=torch.channels_last)
    return moved
