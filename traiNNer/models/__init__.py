"""Training recipes: they own networks, losses and optimizers, and make one step on one batch."""

from traiNNer.models.base_model import BaseModel, Phase
from traiNNer.models.sr_model import SRModel

__all__ = ["BaseModel", "Phase", "SRModel"]
