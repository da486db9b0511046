"""A loss over several sizes of the same samples, whose predictions are asked to agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from traiNNer.losses.pixel import CharbonnierLoss
from traiNNer.ops.resize import resize
from traiNNer.utils.errors import OptionsError

ConsistencyType = Literal["charbonnier", "l1", "mse", "cosine", "kl_divergence"]


class ScaleConsistency(nn.Module):
    """A term between outputs of the same samples at several sizes.

    Each output is compared with that of the first, largest size, which receives gradients too:
    pictures after it was shrunk to the other's size, logits as they are.

    Args:
        consistency_weight: of the term; 0 leaves it out.
        consistency_type: charbonnier, l1 or mse for pictures (B, C, H, W); mse, cosine or
            kl_divergence (of the softmax, in the direction of the largest size's) for logits
            (B, classes).

    Raises:
        OptionsError: for a negative weight, or an unknown type.
    """

    def __init__(
        self, consistency_weight: float = 0.1, consistency_type: ConsistencyType = "charbonnier"
    ) -> None:
        super().__init__()
        if consistency_weight < 0:
            raise OptionsError(f"consistency_weight is {consistency_weight}; it is 0 or more")
        if consistency_type not in _COMPARISONS:
            known = ", ".join(_COMPARISONS)
            raise OptionsError(f"consistency_type is {consistency_type!r}; there are: {known}")
        self.consistency_weight = consistency_weight
        self._compare = _COMPARISONS[consistency_type]

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        """A scalar, weighted; 0 for a single size.

        Args:
            outputs: one for each size, the largest first.
        """
        if not self.consistency_weight or len(outputs) < 2:
            return torch.zeros((), device=outputs[0].device)
        largest = outputs[0].float()
        terms: list[Tensor] = []
        for output in outputs[1:]:
            reference = largest
            if output.ndim > 2 and output.shape != largest.shape:
                reference = resize(largest, (output.shape[-2], output.shape[-1]))
            terms.append(self._compare(output.float(), reference))
        return self.consistency_weight * torch.stack(terms).mean()


class ScaleConsistencyLoss(nn.Module):
    """The mean of a loss over the sizes, and a term between the sizes.

    Args:
        base_loss: from an output and its target to a scalar.
        consistency_weight: see `ScaleConsistency`.
        consistency_type: see `ScaleConsistency`.

    Raises:
        OptionsError: for a negative weight, or an unknown type.
    """

    def __init__(
        self,
        base_loss: Callable[[Tensor, Tensor], Tensor],
        consistency_weight: float = 0.1,
        consistency_type: ConsistencyType = "charbonnier",
    ) -> None:
        super().__init__()
        self.base_loss = base_loss
        self.consistency = ScaleConsistency(consistency_weight, consistency_type)

    def forward(
        self,
        outputs: Sequence[Tensor],
        targets: Sequence[Tensor],
        weights: Sequence[float] | None = None,
    ) -> Tensor:
        """A scalar.

        Args:
            outputs: one for each size, the largest first.
            targets: of the same sizes.
            weights: of the sizes' losses, which count as they are; None weighs all alike.
        """
        shares = [1 / len(outputs)] * len(outputs) if weights is None else weights
        total = self.consistency(outputs)
        for share, output, target in zip(shares, outputs, targets, strict=True):
            total = total + share * self.base_loss(output, target)
        return total


def _cosine(output: Tensor, reference: Tensor) -> Tensor:
    """1 less the cosine of the angle between each sample's values."""
    return 1 - F.cosine_similarity(output.flatten(1), reference.flatten(1)).mean()


def _kl_divergence(output: Tensor, reference: Tensor) -> Tensor:
    """Of the largest size's distribution over the classes from the other's, per sample."""
    return F.kl_div(
        F.log_softmax(output, dim=-1),
        F.log_softmax(reference, dim=-1),
        reduction="batchmean",
        log_target=True,
    )


_COMPARISONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "charbonnier": CharbonnierLoss().compare,
    "l1": F.l1_loss,
    "mse": F.mse_loss,
    "cosine": _cosine,
    "kl_divergence": _kl_divergence,
}
