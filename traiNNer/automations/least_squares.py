"""Weighted least squares for a handful of unknowns, without an array library: it runs between
training steps.
"""

from __future__ import annotations

from collections.abc import Sequence

# Far below the noise of any measurement, far above the rounding of float64.
RIDGE = 1e-12
# Stands for a pivot of nothing, so that a division gives something large and finite.
TINY = 1e-300


def weighted_least_squares(
    rows: Sequence[Sequence[float]], values: Sequence[float], weights: Sequence[float]
) -> list[float]:
    """The coefficients c that make sum(w * (v - row . c)^2) least.

    Columns are scaled to 1 first, so that 1, pixels and pixels^2 may stand beside each other, and
    each diagonal gets a trace of ridge, so that columns that cannot be told apart share their
    weight instead of failing.

    Args:
        rows: one row of features for each value.
        values: what is to be explained.
        weights: at least 0, one for each value.
    """
    size = len(rows[0])
    # columns differ by ten orders of magnitude; unscaled, their products lose all digits
    scales = [max(map(abs, column)) or 1.0 for column in zip(*rows, strict=True)]
    matrix = [[0.0] * (size + 1) for _ in range(size)]
    top = max(weights) or 1.0
    for row, value, weight in zip(rows, values, weights, strict=True):
        scaled = [x / s for x, s in zip(row, scales, strict=True)]
        for i in range(size):
            share = weight / top * scaled[i]
            for k in range(size):
                matrix[i][k] += share * scaled[k]
            matrix[i][size] += share * value
    for i in range(size):
        matrix[i][i] += RIDGE * (matrix[i][i] or 1.0)
    return [c / s for c, s in zip(_solve(matrix), scales, strict=True)]


def _solve(matrix: list[list[float]]) -> list[float]:
    """Gauss's elimination with pivots; the last column is the right side. Changes `matrix`."""
    size = len(matrix)
    for column in range(size):
        # dividing by the largest keeps rounding errors from growing
        pivot = max(range(column, size), key=lambda row: abs(matrix[row][column]))
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        head = matrix[column][column] or TINY
        for row in range(column + 1, size):
            factor = matrix[row][column] / head
            for k in range(column, size + 1):
                matrix[row][k] -= factor * matrix[column][k]
    result = [0.0] * size
    for row in reversed(range(size)):
        known = sum(matrix[row][k] * result[k] for k in range(row + 1, size))
        result[row] = (matrix[row][size] - known) / (matrix[row][row] or TINY)
    return result
