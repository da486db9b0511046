"""The samples of a step in portions, each on the device for as long as it is worked on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from traiNNer.data import Batch
from traiNNer.models.step import Losses
from traiNNer.utils.arithmetic import round_down
from traiNNer.utils.shape import Shape


@dataclass(frozen=True)
class _Output:
    """What a network made of `count` samples, beginning with the step's sample `first`."""

    first: int
    lq_size: int
    tensor: Tensor

    @property
    def end(self) -> int:
        return self.first + self.tensor.shape[0]


@dataclass
class Memo:
    """Outputs of a step's earlier phases, for later ones: a critic judges what the generator has
    just made of the very same samples, instead of making it again.

    It is kept by the place of the samples in the step, not by chunk, because phases that run out of
    memory cut the samples differently.
    """

    _outputs: dict[str, list[_Output]] = field(default_factory=dict)

    def put(self, name: str, first: int, lq_size: int, tensor: Tensor) -> None:
        """Keep `tensor` `(B, ...)`, made of the samples from `first` on in crops of `lq_size`."""
        self._outputs.setdefault(name, []).append(_Output(first, lq_size, tensor.detach()))

    def get(self, name: str, first: int, count: int, lq_size: int) -> Tensor | None:
        """The output for these samples; None where some of them, or other crops, were not seen."""
        parts: list[Tensor] = []
        position = first
        end = first + count
        for output in self._outputs.get(name, []):
            if output.lq_size == lq_size and output.first <= position < output.end:
                stop = min(end, output.end)
                parts.append(output.tensor[position - output.first : stop - output.first])
                position = stop
        if position < end:
            return None
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def mark(self) -> dict[str, int]:
        """Where it is now, for `rewind`."""
        return {name: len(outputs) for name, outputs in self._outputs.items()}

    def rewind(self, mark: dict[str, int]) -> None:
        """Forget what an attempt put in that has failed, and with it the memory that it holds."""
        for name in list(self._outputs):
            del self._outputs[name][mark.get(name, 0) :]


@dataclass
class Chunk:
    """Some of a step's samples as a phase's losses see them.

    Attributes:
        batch: prepared: float32 in [0, 1] on the device.
        first: the place of its first sample in the step.
        memo: outputs of earlier phases.
        wants_per_sample: whether `per_sample` is to be filled.
        entered: the largest shape that went into a trained network.
        per_sample: losses `(B,)` by label.
    """

    batch: Batch
    first: int
    memo: Memo
    wants_per_sample: bool = False
    entered: Shape | None = None
    per_sample: Losses = field(default_factory=dict)

    def enter(self, tensor: Tensor) -> Tensor:
        """`tensor` itself, on its way into a trained network: what is reported is what was
        received.
        """
        shape = Shape(tensor.shape[-1], tensor.shape[0])
        if self.entered is None or shape.pixels() > self.entered.pixels():
            self.entered = shape
        return tensor

    def remember(self, name: str, output: Tensor) -> None:
        """Keep an output `(B, ...)` for the later phases of this step, without its graph."""
        self.memo.put(name, self.first, self.batch.lq_size, output)

    def recall(self, name: str) -> Tensor | None:
        """What an earlier phase remembered of these samples; None if there is nothing."""
        return self.memo.get(name, self.first, len(self.batch), self.batch.lq_size)


def largest_shape(chunks: Sequence[Batch]) -> Shape:
    """The shape of the chunk with the most pixels."""
    largest = max(chunks, key=lambda chunk: chunk.pixels)
    return Shape(largest.lq_size, len(largest))


def smaller_chunks(
    chunks: Sequence[Batch], smallest_lq_size: int, multiple: int, min_batch: int = 1
) -> list[Batch] | None:
    """The same samples with the largest chunks made smaller; None if no chunk can be.

    A chunk is halved; where that would leave fewer samples than the network can be trained on, it
    is cropped to half its side, LQ and GT aligned. Chunks of less than half the largest one's
    pixels stay as they are, for they are not what did not fit.

    Args:
        chunks: of the failed attempt.
        smallest_lq_size: side in LQ pixels below which nothing is cropped.
        multiple: what the side must be a multiple of.
        min_batch: samples below which no chunk is halved.
    """

    def smaller(chunk: Batch) -> list[Batch] | None:
        if len(chunk) >= 2 * min_batch:
            return list(chunk.split(len(chunk) // 2))
        half = max(smallest_lq_size, round_down(chunk.lq_size // 2, multiple))
        return None if half >= chunk.lq_size else [chunk.crop(half)]

    parts = [smaller(chunk) for chunk in chunks]
    most = max(chunk.pixels for chunk in chunks)
    large = [2 * chunk.pixels > most for chunk in chunks]
    if not any(part is not None for part, is_large in zip(parts, large, strict=True) if is_large):
        # What is largest cannot be helped, and perhaps it was not what failed.
        large = [True] * len(chunks)
    if not any(part is not None for part, is_large in zip(parts, large, strict=True) if is_large):
        return None
    result: list[Batch] = []
    for chunk, part, is_large in zip(chunks, parts, large, strict=True):
        result += part if is_large and part is not None else [chunk]
    return result
