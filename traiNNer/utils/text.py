"""Numbers in words, for messages, plans and tables."""

from __future__ import annotations

import re

# Powers of two, in which nvidia-smi and torch count too.
MIB = 2**20
GIB = 2**30


def gib(size: float) -> str:
    """Bytes as GiB, for example `1.25 GiB`."""
    return f"{size / GIB:.2f} GiB"


def plural(number: int, noun: str) -> str:
    """For example `1 pair`, `2 pairs`, `12,000 images`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


# More digits than a count of iterations ever has, and few enough for `int` at any time.
_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")


def whole_number(text: str) -> int | None:
    """The number that `text` is made of digits for, None for anything else.

    `str.isdigit` says yes to superscripts too, which `int` refuses.
    """
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else None


def shortened(text: str, length: int) -> str:
    """`text` in at most `length` characters, its end cut off with `...`."""
    return text if len(text) <= length else f"{text[: length - 3]}..."
