"""Losses of an adversarial training, over a discriminator's logits."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that PyTorch's own documentation uses

from traiNNer.utils.registry import LOSSES

GanType = Literal["vanilla", "lsgan", "hinge", "wgan", "wgan_softplus"]


@LOSSES.register("gan", aliases=("ganloss",))
class GANLoss(nn.Module):
    """What the network gains by deceiving `network_d`, and the discriminator by telling.

    Sources: vanilla, Goodfellow et al. 2014, in its non-saturating form; lsgan, Mao et al. 2017;
    hinge, Lim and Ye 2017; wgan, Arjovsky et al. 2017; wgan_softplus, Karras et al. 2019.

    Args:
        gan_type: the form.
        real_label: what vanilla and lsgan take for real.
        fake_label: what they take for made.
    """

    adversarial: ClassVar[bool] = True
    """Judges logits of `network_d`, not pictures."""

    def __init__(
        self, gan_type: GanType = "vanilla", real_label: float = 1.0, fake_label: float = 0.0
    ) -> None:
        super().__init__()
        self.gan_type: GanType = gan_type
        self.real_label = real_label
        self.fake_label = fake_label

    def for_generator(self, logits: Tensor) -> Tensor:
        """A scalar: what is lost while the discriminator is not deceived.

        Args:
            logits: of what the network made, any shape.
        """
        logits = logits.float()
        if self.gan_type in ("hinge", "wgan"):
            return -logits.mean()
        return self._told(logits, is_real=True)

    def for_discriminator(self, logits: Tensor, *, is_real: bool) -> Tensor:
        """A scalar: what is lost by taking `logits` for what they are not."""
        logits = logits.float()
        signed = logits if is_real else -logits
        if self.gan_type == "hinge":
            return F.relu(1 - signed).mean()
        if self.gan_type == "wgan":
            return -signed.mean()
        return self._told(logits, is_real=is_real)

    def _told(self, logits: Tensor, *, is_real: bool) -> Tensor:
        if self.gan_type == "wgan_softplus":
            return F.softplus(-logits if is_real else logits).mean()
        target = torch.full_like(logits, self.real_label if is_real else self.fake_label)
        if self.gan_type == "vanilla":
            return F.binary_cross_entropy_with_logits(logits, target)
        return F.mse_loss(logits, target)
