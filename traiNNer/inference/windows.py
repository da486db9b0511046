"""The frames of a scene through a network, in windows where it takes clips."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from traiNNer.archs.facts import NetworkFacts
from traiNNer.data import PairedVideoDataset, SingleVideoDataset
from traiNNer.data.sample import stack
from traiNNer.inference.ensemble import Enlarger
from traiNNer.ops.color import to_float
from traiNNer.video.scenes import mirrored


@dataclass(frozen=True)
class Windows:
    """How the frames of a scene are handed to a network: in windows that follow each other.

    Numbers beyond the ends of a scene are mirrored around its first or last frame. A network that
    makes the middle of a clip sees one window for each frame. From one that makes whole clips,
    about the outer quarter on each side is thrown away: so each frame that is kept has that many
    neighbours within its window, and all are computed about twice.

    Attributes:
        frames: in a window.
        stride: distance between the frames of a window.
        first: place in a window of the first frame whose result is kept.
        kept: how many are kept; also the distance between windows.
    """

    frames: int = 1
    stride: int = 1
    first: int = 0
    kept: int = 1

    @classmethod
    def of(cls, facts: NetworkFacts, dataset: SingleVideoDataset | PairedVideoDataset) -> Windows:
        """The windows of a network; a clip is as long as the dataset's where the network takes any
        length.
        """
        if not facts.temporal:
            return cls()
        frames = facts.frames or dataset.frames
        stride = dataset.frame_stride if isinstance(dataset, PairedVideoDataset) else 1
        # With a stride, the results of a window are not neighbours: only one is of use.
        if facts.target == "all" and stride == 1:
            margin = (frames + 1) // 4
            return cls(frames, 1, margin, frames - 2 * margin)
        return cls(frames, stride, frames // 2, 1)

    @property
    def span(self) -> int:
        """Frames from the first to the last one of a window."""
        return (self.frames - 1) * self.stride + 1

    def numbers(self, start: int, length: int) -> list[int]:
        """The frames of the window whose results are kept from frame `start` on, in a scene of
        `length`.
        """
        first = start - self.first * self.stride
        return [mirrored(first + self.stride * place, length) for place in range(self.frames)]


def upscale_frames(
    network: Enlarger, frames: Iterator[Tensor], length: int, windows: Windows
) -> Iterator[Tensor]:
    """The results of all frames of a scene in order, `(1, 3, H, W)` float32 each.

    Args:
        network: what makes them.
        frames: `(3, h, w)` each, uint8 or float32 in [0, 1], `length` of them. No more than a
            window is kept.
        length: of the scene.
        windows: what the network is given at a time.
    """
    # A window mirrored at the end of a scene reaches back at most its own span.
    recent: deque[Tensor] = deque(maxlen=windows.span)
    count = 0
    for start in range(0, length, windows.kept):
        numbers = windows.numbers(start, length)
        while count <= max(numbers):
            recent.append(next(frames))
            count += 1
        # Counted from the end: the deque forgets at its front, so only the distance to the frame
        # that was read last is known.
        lq = to_float(stack([recent[number - count] for number in numbers]))
        results = network(lq[None] if network.facts.temporal else lq)
        if results.ndim == 5:
            results = results[0, windows.first : windows.first + windows.kept]
        # The last window may reach beyond the scene.
        for place in range(min(windows.kept, length - start)):
            yield results[place : place + 1]
