"""One line about the images of a dataset, for the start of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from traiNNer.utils.images import ImageHeader
from traiNNer.utils.text import plural


def describe_sizes(headers: Iterable[ImageHeader]) -> str:
    """The smallest and the largest picture, for example "1020x768 to 2040x2040" pixels."""
    # By area first: of a wide and a high picture neither is larger in both sides.
    sizes = sorted({(h.width * h.height, h.width, h.height) for h in headers})
    ends = [f"{width}x{height}" for _, width, height in (sizes[0], sizes[-1])]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def describe_kinds(samples: Sequence[Sequence[ImageHeader]]) -> list[str]:
    """What is unusual about the images of the samples (one header, or those of a pair), and what is
    done about it.
    """
    # 2 channels are grey and alpha, 4 are colour and alpha: see `ImageHeader`.
    grey = sum(_has_channels(headers, 1, 2) for headers in samples)
    alpha = sum(_has_channels(headers, 2, 4) for headers in samples)
    deep = sum(map(_is_deep, samples))
    parts = [
        (grey, f"{plural(grey, 'grey image')} (repeated to 3 channels)"),
        (alpha, f"{alpha} with alpha (dropped)"),
        (deep, f"{deep} of 16 bit"),
    ]
    return [text for number, text in parts if number]


def _has_channels(headers: Sequence[ImageHeader], *numbers: int) -> bool:
    return any(header.channels in numbers for header in headers)


def _is_deep(headers: Sequence[ImageHeader]) -> bool:
    return any(header.bits == 16 for header in headers)
