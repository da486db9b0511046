"""Whole numbers on a grid."""

from __future__ import annotations


def ceil_div(number: int, divisor: int) -> int:
    """`number / divisor`, rounded up."""
    # Floor division of the negative, which is exact where a division of floats is not.
    return -(-number // divisor)


def round_up(number: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is at least `number`."""
    return ceil_div(number, multiple) * multiple


def round_down(number: int, multiple: int) -> int:
    """The largest multiple of `multiple` that is at most `number`."""
    return number // multiple * multiple
