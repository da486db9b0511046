"""How fast this machine trains: a few steps of the real recipe on its real device."""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from traiNNer.options.schema import TrainingOptions
from traiNNer.planning.step_memory import planned_batch
from traiNNer.utils.device import Runtime
from traiNNer.utils.registry import RECIPES
from traiNNer.utils.shape import Shape
from traiNNer.utils.work import Work

# The first steps choose kernels and make the optimizer's state.
_WARM_UP = 2
# Seconds that are measured at least, for a figure within a few per cent.
TRIAL_S = 3.0
# Steps that are measured at most.
_MOST_STEPS = 50


def trial_work(options: TrainingOptions, runtime: Runtime, seconds: float = TRIAL_S) -> Work:
    """The work of a few steps at the sizes of the options, with the seconds that it took. Nothing
    is read or written; no time of reading, validating or saving is in it. Random numbers go on as
    if nobody had drawn any.

    Args:
        options: of the training.
        runtime: that it would run with.
        seconds: that are measured at least, if they are not more than some tens of steps.
    """
    with torch.random.fork_rng():
        return _steps(options, runtime, seconds)


def _steps(options: TrainingOptions, runtime: Runtime, least_seconds: float) -> Work:
    network = RECIPES[options.model_type].build_network(options)
    recipe = RECIPES[options.model_type](options, runtime.for_training(network), network)
    data = options.datasets.train
    samples = options.train.effective_batch_size or data.batch_size_per_gpu * data.accum_iter
    shape = Shape(data.lq_size, min(samples, data.batch_size_per_gpu))
    batches = [planned_batch(options, shape)] * max(1, samples // shape.batch_size)
    for _ in range(_WARM_UP):
        recipe.step(batches)
    _finish(runtime)
    before = replace(recipe.work)
    start = time.perf_counter()
    for _ in range(_MOST_STEPS):
        recipe.step(batches)
        _finish(runtime)
        if time.perf_counter() - start > least_seconds:
            break
    seconds = time.perf_counter() - start
    work = recipe.work
    return Work(
        work.iterations - before.iterations,
        work.samples - before.samples,
        work.pixels - before.pixels,
        seconds,
    )


def _finish(runtime: Runtime) -> None:
    if runtime.device.type == "cuda":
        torch.cuda.synchronize(runtime.device)
