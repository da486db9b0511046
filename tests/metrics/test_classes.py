"""Metrics of classes against their formulas."""

from __future__ import annotations

import pytest
import torch

from traiNNer.utils.errors import DataError
from traiNNer.utils.registry import METRICS

TOLD = torch.tensor([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]])
LABELS = torch.tensor([0, 1, 1, 2])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", 3 / 4),
        ("balanced_accuracy", (1 + 1 / 2 + 1) / 3),
        # Precision 1/2, 1, 1; recall 1, 1/2, 1.
        ("f1", (2 / 3 + 2 / 3 + 1) / 3),
        # Pairs in the right order of all: 3 of 3, 4 of 4, 3 of 3.
        ("auroc", 1.0),
    ],
)
def test_classes_of_one_each(name: str, expected: float) -> None:
    assert METRICS[name](scale=1)(TOLD, LABELS) == pytest.approx(expected)


def test_several_classes_each() -> None:
    told = torch.tensor([[0.9, 0.2], [0.4, 0.8], [0.6, 0.1], [0.2, 0.3]])
    labels = torch.tensor([[1, 0], [1, 1], [0, 0], [0, 1]])
    # Of 8 answers, those for the first class of the second and third and for the second one of the
    # last picture are wrong.
    assert METRICS["accuracy"](scale=1)(told, labels) == pytest.approx(5 / 8)
    assert METRICS["balanced_accuracy"](scale=1)(told, labels) == pytest.approx((1 / 2 + 3 / 4) / 2)
    # 3 of 4 pairs of the first class are in order, all of the second.
    assert METRICS["auroc"](scale=1)(told, labels) == pytest.approx((3 / 4 + 1) / 2)


def test_a_class_that_does_not_occur_has_no_say() -> None:
    labels = torch.tensor([0, 1, 1, 0])
    told = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]])
    assert METRICS["balanced_accuracy"](scale=1)(told, labels) == pytest.approx((1 + 1 / 2) / 2)
    with pytest.raises(DataError, match="one class"):
        METRICS["auroc"](scale=1)(told[:1], labels[:1])
    with pytest.raises(DataError, match="belong together"):
        METRICS["accuracy"](scale=1)(told, labels[:2])
