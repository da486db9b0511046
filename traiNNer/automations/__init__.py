"""What changes how a run goes. Importing this package registers the automations in `AUTOMATIONS`,
one module each.
"""

from traiNNer.automations.base import Automation, AutomationContext, Decision, StepReport
from traiNNer.automations.cpu_memory import CpuMemory
from traiNNer.automations.cuda_memory import CudaMemory
from traiNNer.automations.dynamic_batch_and_patch_size_optimizer import (
    DynamicBatchAndPatchSizeOptimizer,
    NothingSmallerError,
)
from traiNNer.automations.memory_model import MemoryModel, Prediction
from traiNNer.automations.memory_pressure_controller import MemoryPressureController
from traiNNer.automations.pressure import TimedLook
from traiNNer.automations.progressive_sizes import ProgressiveSizes
from traiNNer.automations.random_sizes import RandomSizes
from traiNNer.automations.shape_bounds import ShapeBounds
from traiNNer.automations.simulated_memory import (
    CardModel,
    SimulatedMemory,
    SimulatedOutOfMemoryError,
)
from traiNNer.automations.target import Target
from traiNNer.automations.together import Automations
from traiNNer.utils.memory import MemoryBackend, MemoryLook, MemoryReading
from traiNNer.utils.out_of_memory import is_out_of_memory
from traiNNer.utils.shape import Shape

__all__ = [
    "Automation",
    "AutomationContext",
    "Automations",
    "CardModel",
    "CpuMemory",
    "CudaMemory",
    "Decision",
    "DynamicBatchAndPatchSizeOptimizer",
    "MemoryBackend",
    "MemoryLook",
    "MemoryModel",
    "MemoryPressureController",
    "MemoryReading",
    "NothingSmallerError",
    "Prediction",
    "ProgressiveSizes",
    "RandomSizes",
    "Shape",
    "ShapeBounds",
    "SimulatedMemory",
    "SimulatedOutOfMemoryError",
    "StepReport",
    "Target",
    "TimedLook",
    "is_out_of_memory",
]
