"""Losses of an adversarial training, over a discriminator's logits."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from traiNNer.utils.registry import LOSSES

GanType = Literal["vanilla", "lsgan", "hinge", "wgan", "wgan_softplus"]


@LOSSES.register("gan", aliases=("ganloss",))
class GANLoss(nn.Module):
    """What the network gains by deceiving `network_d`, and the discriminator by telling.

    Sources: vanilla, Goodfellow et al. 2014, in its non-saturating form; lsgan, Mao et al. 2017;
    hinge, Lim and Ye 2017; wgan, Arjovsky et al. 2017; wgan_softplus, Karras et al. 2019;
    relativistic, Jolicoeur-Martineau 2018, over the pairs of a batch as in R3GAN (Huang et al.
    2024), so that a sample's loss does not depend on what else is in its batch; R1 and R2,
    Mescheder et al. 2018.

    Args:
        gan_type: the form.
        real_label: what vanilla and lsgan take for real.
        fake_label: what they take for made.
        relativistic: judge by how much more real than its counterpart a picture looks: GT than the
            mean of what was made of the same sample, and the reverse.
        r1_weight: of the penalty on the discriminator's slope at GT; 0 is none.
        r2_weight: of that at what was made.
    """

    adversarial: ClassVar[bool] = True
    """Judges logits of `network_d`, not pictures."""

    def __init__(
        self,
        gan_type: GanType = "vanilla",
        real_label: float = 1.0,
        fake_label: float = 0.0,
        relativistic: bool = False,
        r1_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0,
        r2_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0,
    ) -> None:
        super().__init__()
        self.relativistic = relativistic
        self.r1_weight = r1_weight
        self.r2_weight = r2_weight
        self.gan_type: GanType = gan_type
        self.real_label = real_label
        self.fake_label = fake_label

    def for_generator(self, logits: Tensor, real: Tensor | None = None) -> Tensor:
        """A scalar: what is lost while the discriminator is not deceived.

        Args:
            logits: of what the network made, (B, ...).
            real: of GT, where the loss is relativistic.
        """
        logits = logits.float()
        if real is not None and self.relativistic:
            made_as_real = self._gained(logits - _means(real))
            real_as_made = self._told(real.float() - _means(logits), is_real=False)
            return (made_as_real + real_as_made) / 2
        return self._gained(logits)

    def _gained(self, logits: Tensor) -> Tensor:
        if self.gan_type in ("hinge", "wgan"):
            return -logits.mean()
        return self._told(logits, is_real=True)

    def for_discriminator(
        self, logits: Tensor, *, is_real: bool, others: Tensor | None = None
    ) -> Tensor:
        """A scalar: what is lost by taking `logits` for what they are not.

        Args:
            logits: (B, ...).
            is_real: whether they are of GT.
            others: those of the other kind, where the loss is relativistic.
        """
        logits = logits.float()
        if others is not None and self.relativistic:
            return self._told(logits - _means(others), is_real=is_real) / 2
        return self._told(logits, is_real=is_real)

    def _told(self, logits: Tensor, *, is_real: bool) -> Tensor:
        signed = logits if is_real else -logits
        if self.gan_type == "hinge":
            return F.relu(1 - signed).mean()
        if self.gan_type == "wgan":
            return -signed.mean()
        if self.gan_type == "wgan_softplus":
            return F.softplus(-signed).mean()
        target = torch.full_like(logits, self.real_label if is_real else self.fake_label)
        if self.gan_type == "vanilla":
            return F.binary_cross_entropy_with_logits(logits, target)
        return F.mse_loss(logits, target)


def slope_penalty(logits: Tensor, pictures: Tensor) -> Tensor:
    """Half of the mean square of the discriminator's slope, a scalar with a graph: of each sample
    the squared gradient of the sum of its logits, by the number of them. So it does not depend on
    the size of the patch where logits are of places.

    Args:
        logits: (B, ...), made of `pictures`.
        pictures: (B, 3, H, W), which want gradients.
    """
    (slopes,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    places = logits.numel() / len(logits)
    return slopes.square().sum() / (2 * places * len(logits))


def _means(logits: Tensor) -> Tensor:
    """Of each sample (B, 1, ...), broadcast to its places."""
    return logits.float().flatten(1).mean(1).reshape(-1, *[1] * (logits.ndim - 1))
