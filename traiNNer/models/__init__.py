"""Training recipes: they own networks, losses and optimizers, and make one step on one batch.

Importing this package registers the recipes in `RECIPES`.
"""

from traiNNer.models.base_model import BaseModel
from traiNNer.models.chunks import Chunk
from traiNNer.models.classifier_model import ClassifierModel
from traiNNer.models.networks import Network, Networks, Role
from traiNNer.models.objectives import CoupledObjective, Objective
from traiNNer.models.phase import Phase
from traiNNer.models.restoration_model import RestorationModel
from traiNNer.models.sr_model import SRModel
from traiNNer.models.step import Losses, PhaseResult, Retry, StepResult
from traiNNer.models.upscaler import SmallestTileError, TileSettings, Upscaler

__all__ = [
    "BaseModel",
    "Chunk",
    "ClassifierModel",
    "CoupledObjective",
    "Losses",
    "Network",
    "Networks",
    "Objective",
    "Phase",
    "PhaseResult",
    "RestorationModel",
    "Retry",
    "Role",
    "SRModel",
    "SmallestTileError",
    "StepResult",
    "TileSettings",
    "Upscaler",
]
