"""How well classes are told, by torchmetrics."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from traiNNer.utils.errors import DataError
from traiNNer.utils.registry import METRICS


class ClassMetric:
    """A metric of all samples of a set at once.

    Args:
        scale: of the network, given by the program; of no meaning here.
    """

    task: ClassVar[Literal["restoration", "classification"]] = "classification"
    better: ClassVar[Literal["higher", "lower"]] = "higher"
    unit: ClassVar[str] = ""
    temporal: ClassVar[bool] = False
    min_side: ClassVar[int] = 1

    def __init__(self, *, scale: int = 1) -> None:
        del scale

    def __call__(self, sr: Tensor, gt: Tensor) -> float:
        """The score of probabilities (N, classes).

        Args:
            sr: the probabilities.
            gt: (N,) numbers of classes, or (N, classes) of 0 and 1.

        Raises:
            DataError: if they do not belong together, or the score is not defined.
        """
        if len(sr) != len(gt) or (gt.ndim == 2 and gt.shape != sr.shape):
            raise DataError(
                f"probabilities {tuple(sr.shape)} and labels {tuple(gt.shape)} do not belong "
                "together"
            )
        return float(self.measure(sr, gt.long()))

    def measure(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        """The score; labels of two dimensions say for each class whether a sample has it."""
        raise NotImplementedError


def _by_torchmetrics(name: str, probabilities: Tensor, labels: Tensor, average: str) -> Tensor:
    # It takes seconds to import, which reading options should not wait for.
    from torchmetrics.functional import classification

    count = probabilities.shape[1]
    kind, number = (
        ("multiclass", "num_classes") if labels.ndim == 1 else ("multilabel", "num_labels")
    )
    measure = getattr(classification, f"{kind}_{name}")
    return measure(probabilities, labels, average=average, **{number: count})


@METRICS.register("accuracy", aliases=("top1",))
class Accuracy(ClassMetric):
    """The share of samples that are told right; where a sample may have several classes, the share
    of right answers at a probability of a half.

    Args:
        scale: of the network, given by the program.
    """

    def measure(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        return _by_torchmetrics("accuracy", probabilities, labels, "micro")


@METRICS.register("balanced_accuracy")
class BalancedAccuracy(ClassMetric):
    """The mean over the classes that occur of the share that is told right, so that rare ones count
    alike; where a sample may have several classes, of those with and of those without each.

    Args:
        scale: of the network, given by the program.
    """

    def measure(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        recall = _by_torchmetrics("recall", probabilities, labels, "none")
        if labels.ndim == 1:
            return recall[labels.unique()].mean()
        specificity = _by_torchmetrics("specificity", probabilities, labels, "none")
        occurs = (labels == 1).any(0) & (labels == 0).any(0)
        return ((recall + specificity) / 2)[occurs].mean()


@METRICS.register("f1", aliases=("f1_score",))
class F1(ClassMetric):
    """The mean over the classes of the harmonic mean of precision and recall.

    Args:
        scale: of the network, given by the program.
    """

    def measure(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        return _by_torchmetrics("f1_score", probabilities, labels, "macro")


@METRICS.register("auroc", aliases=("auc",))
class Auroc(ClassMetric):
    """The area under the receiver operating characteristic: the mean over the classes of which
    there are samples with and without.

    Args:
        scale: of the network, given by the program.
    """

    def measure(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        from torchmetrics.functional.classification import binary_auroc

        targets = labels
        if labels.ndim == 1:
            targets = (labels[:, None] == torch.arange(probabilities.shape[1])).long()
        occurs = (targets == 1).any(0) & (targets == 0).any(0)
        classes = occurs.nonzero().flatten().tolist()
        if not classes:
            raise DataError("all samples are of one class, so there is no curve")
        areas = [binary_auroc(probabilities[:, one], targets[:, one]) for one in classes]
        return torch.stack(areas).mean()
