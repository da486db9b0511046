"""What is decided once at the start by the memory that a step of the options' own sizes takes."""

from __future__ import annotations

import logging

from traiNNer.archs.checkpointing import checkpoint_blocks, find_blocks
from traiNNer.engine.memory_fit import open_memory
from traiNNer.models import BaseModel, CoupledObjective
from traiNNer.options.schema import TrainingOptions
from traiNNer.planning.scale_groups import TARGET, plan_scale_group
from traiNNer.planning.step_memory import StepTracker
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.memory import MemoryBackend
from traiNNer.utils.out_of_memory import first_line
from traiNNer.utils.shape import Shape

log = logging.getLogger(__name__)


def checkpoint_where_needed(
    options: TrainingOptions, recipe: BaseModel, memory: MemoryBackend | None = None
) -> None:
    """See `use_checkpointing` of the options: say what `true` came to, and decide for `auto`.

    Args:
        options: the checked options.
        recipe: trains.
        memory: of the device; None opens it.
    """
    wanted = options.use_checkpointing
    if wanted is False:
        return
    network = recipe.main.module
    blocks = find_blocks(network)
    name = options.network_g.type
    if not blocks:
        log.warning("use_checkpointing: %s has no blocks that could be made again", name)
        return
    if wanted == "auto":
        memory = memory or open_memory(recipe.runtime, options.vram_limit_gib)
        if memory is None or options.task != "restoration":
            return
        data = options.datasets.train
        try:
            peak = StepTracker(options).track(Shape(data.lq_size, data.batch_size_per_gpu)).peak
        except OptionsError as error:
            log.info("use_checkpointing: auto stays without it: %s", first_line(error))
            return
        look = memory.look()
        if look.outside + look.reserved + peak <= TARGET * look.total:
            return
        checkpoint_blocks(network)
    kind = type(blocks[0]).__name__
    log.info("%d blocks of %s (%s) are made again in the backward pass", len(blocks), name, kind)


def hold_sizes_at_once(
    options: TrainingOptions, recipe: BaseModel, memory: MemoryBackend | None = None
) -> None:
    """Where a term couples the sizes of a step and the sizes stay as they are, run as many of them
    once as the memory is expected to do for; see `train.scale_consistency.recompute`.

    Args:
        options: the checked options.
        recipe: trains.
        memory: of the device; None opens it.
    """
    consistency = options.train.scale_consistency
    objectives = [objective for phase in recipe.phases for objective in phase.objectives]
    coupled = [each for each in objectives if isinstance(each, CoupledObjective)]
    if consistency is None or consistency.recompute != "auto" or not coupled:
        return
    # The planner knows batches of pictures alone.
    if options.task != "restoration":
        return
    memory = memory or open_memory(recipe.runtime, options.vram_limit_gib)
    if memory is None:
        return
    try:
        group = plan_scale_group(options, memory.look())
    except OptionsError as error:
        log.info("the smaller sizes go through the network twice: %s", first_line(error))
        return
    for objective in coupled:
        objective.at_once = group
    assert options.patch_scales is not None, "coupled objectives have several sizes"
    sides = options.patch_scales.sides(options.datasets.train.lq_size)
    once = [f"{side} px" for place, side in enumerate(sides) if place in group]
    twice = [f"{side} px" for place, side in enumerate(sides) if place not in group]
    rest = f"; {', '.join(twice)} twice, for which the memory does" if twice else ""
    log.info("sizes that go through the network once: %s%s", ", ".join(once), rest)
