"""Which sizes of a step with several go through the network at once, where the memory does for
more than the largest.
"""

from __future__ import annotations

from collections.abc import Sequence

from traiNNer.options.schema import TrainingOptions
from traiNNer.planning.step_memory import StepTracker
from traiNNer.utils.memory import MemoryLook
from traiNNer.utils.shape import Shape

# Of the memory, as the automation of the sizes aims at: what is planned may be wrong, and others
# want some.
TARGET = 0.85


def group_scales_by_memory(
    pixels: Sequence[int], bytes_per_pixel: float, free: float
) -> tuple[int, ...]:
    """The sizes whose graphs are held at once. The others go through the network twice, so the
    largest that fit are chosen: they are what saves most.

    Args:
        pixels: of a batch at each size, the largest first.
        bytes_per_pixel: of a graph.
        free: bytes beside the graph of the largest.

    Returns:
        Places in `pixels`; always the first.
    """
    group = [0]
    for place, count in enumerate(pixels[1:], 1):
        needed = count * bytes_per_pixel
        if needed <= free:
            group.append(place)
            free -= needed
    return tuple(group)


def plan_scale_group(options: TrainingOptions, look: MemoryLook) -> tuple[int, ...]:
    """The group for the options' own sizes on a device.

    Args:
        options: with `datasets.train.scales` and `train.scale_consistency`.
        look: at the device before the first step.

    Raises:
        OptionsError: if the memory of the network cannot be planned.
    """
    data = options.datasets.train
    scales = options.patch_scales
    assert scales is not None, "several sizes are what is grouped"
    shape = Shape(data.lq_size, data.batch_size_per_gpu)
    sides = scales.sides(data.lq_size)
    pixels = [shape.batch_size * side**2 for side in sides]
    alone = _peak(options, shape, recompute=True)
    all_at_once = _peak(options, shape, recompute=False)
    bytes_per_pixel = max(0, all_at_once - alone) / sum(pixels[1:])
    taken = look.outside + look.reserved + alone
    return group_scales_by_memory(pixels, bytes_per_pixel, TARGET * look.total - taken)


def _peak(options: TrainingOptions, shape: Shape, *, recompute: bool) -> int:
    consistency = options.train.scale_consistency
    assert consistency is not None
    consistency = consistency.model_copy(update={"recompute": recompute})
    train = options.train.model_copy(update={"scale_consistency": consistency})
    return StepTracker(options.model_copy(update={"train": train})).track(shape).peak
