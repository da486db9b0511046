"""Power-law averages of a network's weights, and others that are put together of them afterwards.

The network counts in proportion to a power of the work that was done when it was so, so that the
average is as wide at any time, against the run until then, as it was at any other. Averages of two
widths, kept at several times of a run, span those of other widths.

Source: Karras et al., "Analyzing and improving the training dynamics of diffusion models", 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Of the exponent 0, where all of the run counts alike; the standard deviation of what is spread
# evenly over a length of 1.
WIDEST = 12**-0.5


@dataclass(frozen=True)
class Profile:
    """How much the network of each time counts in an average.

    Attributes:
        done: work of the run at whose end it stands, in any unit, above 0.
        width: standard deviation of the times, each by what it counts, as a share of `done`.
    """

    done: float
    width: float


def exponent_of(width: float) -> float:
    """The power that gives the width.

    Args:
        width: above 0, and at most `WIDEST`.
    """
    # (e + 1) / ((e + 2)^2 (e + 3)) is the square of the width.
    inverse = width**-2
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return max(0.0, float(roots.real.max()))


def shares_for(wanted: Profile, kept: Sequence[Profile]) -> tuple[list[float], float]:
    """How much each average that was kept has to count, so that together they come nearest to
    another one, by least squares over the time.

    Args:
        wanted: the other one.
        kept: those that are there.

    Returns:
        The shares, 1 in sum, and how much of the wanted profile is missed, as a share of its norm.
    """
    products = np.array([[_product(one, other) for other in kept] for one in kept])
    aims = np.array([_product(one, wanted) for one in kept])
    # Averages of neighbouring times are nearly the same, and shares of 1e6 would cancel each other.
    shares: NDArray[np.float64] = np.linalg.pinv(products, rcond=1e-8, hermitian=True) @ aims
    shares /= shares.sum()
    whole = _product(wanted, wanted)
    missed = whole - 2 * shares @ aims + shares @ products @ shares
    return shares.tolist(), float((max(missed, 0.0) / whole) ** 0.5)


def _product(one: Profile, other: Profile) -> float:
    """The integral over the time of both profiles' product."""
    sooner, later = sorted((one, other), key=lambda profile: profile.done)
    first, second = exponent_of(sooner.width), exponent_of(later.width)
    scale = (first + 1) * (second + 1) / (first + second + 1)
    return scale * (sooner.done / later.done) ** second / later.done
