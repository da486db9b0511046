"""Losses of logits (B, classes) against labels: (B,) numbers of classes, or (B, classes) of 0 and 1
where a picture may have several.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from traiNNer.utils.errors import DataError, OptionsError
from traiNNer.utils.registry import LOSSES


class ClassLoss(nn.Module):
    """What they have in common: a mean over the samples, so that it is the same however many of
    them come at once.

    Args:
        label_smoothing: see the losses.
        class_weights: a factor for each class; None for 1.
    """

    task: ClassVar[Literal["restoration", "classification"]] = "classification"

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: list[float] | None = None
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise OptionsError(f"label_smoothing is {label_smoothing}; expected 0 or more, below 1")
        if class_weights is not None and min(class_weights, default=0) <= 0:
            raise OptionsError(
                f"class_weights are {class_weights}; expected a number above 0 for each class"
            )
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights

    def _weights(self, logits: Tensor) -> Tensor:
        """(classes,)"""
        classes = logits.shape[-1]
        if self.class_weights is None:
            return torch.ones(classes, device=logits.device)
        if len(self.class_weights) != classes:
            raise DataError(
                f"class_weights has {len(self.class_weights)} numbers, and there are {classes} "
                "classes"
            )
        return torch.tensor(self.class_weights, device=logits.device)


@LOSSES.register("cross_entropy", aliases=("CrossEntropyLoss", "ce"))
class CrossEntropyLoss(ClassLoss):
    """Cross entropy of the softmax, for pictures of one class each.

    Args:
        label_smoothing: share of the probability that is spread over all classes.
        class_weights: a factor for the samples of each class, in the order of the classes; left
            out: 1.

    Raises:
        OptionsError: for a smoothing or weights out of their range.
    """

    several: ClassVar[bool] = False

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """A scalar, computed in float32.

        Args:
            logits: (B, classes).
            labels: (B,), numbers of classes.
        """
        losses = F.cross_entropy(
            logits.float(), labels, label_smoothing=self.label_smoothing, reduction="none"
        )
        return (losses * self._weights(logits)[labels]).mean()


@LOSSES.register("bce", aliases=("BCEWithLogitsLoss", "binary_cross_entropy"))
class BinaryCrossEntropyLoss(ClassLoss):
    """Binary cross entropy of each class's sigmoid, for pictures of one class or of several.

    Args:
        label_smoothing: how far labels are from 0 and 1, times 2.
        class_weights: a factor for each class, in the order of the classes; left out: 1.

    Raises:
        OptionsError: for a smoothing or weights out of their range.
    """

    several: ClassVar[bool] = True

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """A scalar, computed in float32: the mean over samples and classes.

        Args:
            logits: (B, classes).
            labels: (B, classes) of 0 and 1, or (B,), numbers of classes.
        """
        targets = labels.float()
        if labels.ndim == 1:
            targets = F.one_hot(labels, logits.shape[-1]).float()
        targets = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        losses = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
        return (losses * self._weights(logits)).mean()
