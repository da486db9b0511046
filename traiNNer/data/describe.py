"""One line about the images of a dataset, for the start of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from traiNNer.utils.images import ImageHeader
from traiNNer.utils.text import plural


def describe_sizes(headers: Iterable[ImageHeader]) -> str:
    """The smallest and the largest picture, for example "1020x768 to 2040x2040" pixels."""
    sizes = sorted({(h.width * h.height, h.width, h.height) for h in headers})
    ends = [f"{width}x{height}" for _, width, height in (sizes[0], sizes[-1])]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def describe_kinds(samples: Sequence[Sequence[ImageHeader]]) -> list[str]:
    """What is unusual about the images of the samples (one header, or those of a pair), and what is
    done about it.
    """
    grey = sum(any(h.channels <= 2 for h in headers) for headers in samples)
    alpha = sum(any(h.channels in (2, 4) for h in headers) for headers in samples)
    deep = sum(any(h.bits == 16 for h in headers) for headers in samples)
    parts = [
        (grey, f"{plural(grey, 'grey image')} (repeated to 3 channels)"),
        (alpha, f"{alpha} with alpha (dropped)"),
        (deep, f"{deep} of 16 bit"),
    ]
    return [text for number, text in parts if number]
