"""Training recipes: they own networks, losses and optimizers, and make one step on one batch."""

from traiNNer.models.base_model import BaseModel, Phase
from traiNNer.models.sr_model import SRModel
from traiNNer.models.upscaler import SmallestTileError, TileSettings, Upscaler

__all__ = ["BaseModel", "Phase", "SRModel", "SmallestTileError", "TileSettings", "Upscaler"]
