"""One line about the images of a dataset, for the start of a run."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from traiNNer.utils.images import ImageHeader
from traiNNer.utils.text import plural

log = logging.getLogger(__name__)


class Described(Protocol):
    """A picture, or a scene of pictures, whose header is known."""

    @property
    def header(self) -> ImageHeader: ...

    @property
    def path(self) -> Path: ...


def describe_sizes(headers: Iterable[ImageHeader]) -> str:
    """The smallest and the largest picture, for example "1020x768 to 2040x2040" pixels."""
    # By area first: of a wide and a high picture neither is larger in both sides.
    sizes = sorted({(h.width * h.height, h.width, h.height) for h in headers})
    ends = [f"{width}x{height}" for _, width, height in (sizes[0], sizes[-1])]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def describe_kinds(
    samples: Sequence[Sequence[ImageHeader]], alpha_is: str = "dropped"
) -> list[str]:
    """What is unusual about the images of the samples (one header, or those of a pair), and what is
    done about it.

    Args:
        samples: the headers.
        alpha_is: what is done about alpha.
    """
    # 2 channels are grey and alpha, 4 are colour and alpha: see `ImageHeader`.
    grey = sum(_has_channels(headers, 1, 2) for headers in samples)
    alpha = sum(_has_channels(headers, 2, 4) for headers in samples)
    deep = sum(map(_is_deep, samples))
    turned = sum(any(header.orientation != 1 for header in headers) for headers in samples)
    parts = [
        (grey, f"{plural(grey, 'grey image')} (repeated to 3 channels)"),
        (alpha, f"{alpha} with alpha ({alpha_is})"),
        (deep, f"{deep} of 16 bit"),
        (turned, f"{turned} turned upright"),
    ]
    texts = [text for number, text in parts if number]
    # A sample counts once for each kind, and may have two: GT and LQ.
    converted = Counter(kind for headers in samples for kind in {h.converted for h in headers})
    colors = Counter(kind for headers in samples for kind in {h.colors for h in headers})
    texts += [f"{converted[kind]} of {kind} (converted to sRGB)" for kind in converted if kind]
    texts += [f"{colors[kind]} in colours of {kind} (taken as they are)" for kind in colors if kind]
    return texts


def warn_of_unequal_colors(pairs: Iterable[tuple[Described, Described]]) -> None:
    """Warn of pairs whose numbers mean different colours: a network would learn the difference.

    Args:
        pairs: GT and LQ.
    """
    unequal = [(gt, lq) for gt, lq in pairs if gt.header.colors != lq.header.colors]
    if unequal:
        gt, lq = unequal[0]
        log.warning(
            "GT and LQ of %s say different colours, for example %s: GT %s, LQ %s. The numbers are "
            "taken as they are, so the network learns the difference; convert both to sRGB",
            plural(len(unequal), "pair"),
            gt.path,
            gt.header.colors or "sRGB",
            lq.header.colors or "sRGB",
        )


def _has_channels(headers: Sequence[ImageHeader], *numbers: int) -> bool:
    return any(header.channels in numbers for header in headers)


def _is_deep(headers: Sequence[ImageHeader]) -> bool:
    return any(header.bits == 16 for header in headers)
