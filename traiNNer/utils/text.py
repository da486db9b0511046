"""Numbers in words, for messages, plans and tables."""

from __future__ import annotations

# Powers of two, in which nvidia-smi and torch count too.
MIB = 2**20
GIB = 2**30


def gib(size: float) -> str:
    """Bytes as GiB, for example `1.25 GiB`."""
    return f"{size / GIB:.2f} GiB"


def plural(number: int, noun: str) -> str:
    """For example `1 pair`, `2 pairs`, `12,000 images`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
