"""Which memory layout trains faster: tried once for a network and a machine, and remembered."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from traiNNer.options.schema import TrainingOptions
from traiNNer.planning.trial import trial_work
from traiNNer.utils.device import Runtime, describe_device
from traiNNer.utils.errors import DiskError
from traiNNer.utils.files import write_atomic
from traiNNer.utils.out_of_memory import is_out_of_memory
from traiNNer.utils.scan_cache import user_cache
from traiNNer.utils.work import Work

log = logging.getLogger(__name__)
Trial = Callable[[TrainingOptions, Runtime, float], Work]

# Seconds of steps in each layout. What differs by less than their noise stays plain.
_TRIAL_S = 1.5
_FASTER = 1.05


def choose_layout(
    options: TrainingOptions, runtime: Runtime, network: nn.Module, trial: Trial = trial_work
) -> Runtime:
    """`runtime` with channels_last where steps of training are faster with it.

    The answer is kept in the user's folder for caches, so that a run that goes on computes as it
    did before. It is tried anew for another network, shape, precision, torch or machine.

    Args:
        options: of a training whose `use_channels_last` is auto.
        runtime: that it would run with, in the plain layout and with its number of threads.
        network: of the options.
        trial: does some steps and tells how long they took.
    """
    last = replace(runtime, channels_last=True)
    can_be_timed = runtime.device.type in ("cpu", "cuda")
    if not can_be_timed or not last.for_training(network).channels_last:
        return runtime
    path = _place(options, runtime)
    times = _remembered(path)
    if times is None:
        times = _try_both(options, runtime, trial)
        if times is None:
            log.info("use_channels_last: auto: no memory to try it, so it is off")
            return runtime
        _remember(path, times)
    is_faster = times >= _FASTER
    log.info(
        "use_channels_last: auto: steps are %.2f times as fast with it, so it is %s",
        times,
        "on" if is_faster else "off",
    )
    return last if is_faster else runtime


def _try_both(options: TrainingOptions, runtime: Runtime, trial: Trial) -> float | None:
    """How many times as fast steps are with channels_last; None where memory runs out."""
    # Compiling twice would take longer than most differences are worth.
    plain = replace(runtime, compile=False)
    try:
        before = trial(options, plain, _TRIAL_S)
        with_it = trial(options, replace(plain, channels_last=True), _TRIAL_S)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    finally:
        if runtime.device.type == "cuda":
            torch.cuda.empty_cache()
    return (before.seconds / before.iterations) / (with_it.seconds / with_it.iterations)


def _place(options: TrainingOptions, runtime: Runtime) -> Path | None:
    base = user_cache()
    if base is None:
        return None
    data = options.datasets.train
    known_by = (
        torch.__version__,
        platform.node(),
        describe_device(runtime.device),
        runtime.precision,
        torch.get_num_threads() if runtime.device.type == "cpu" else 0,
        options.model_type,
        options.scale,
        options.network_g.model_dump(mode="json"),
        (data.lq_size, data.batch_size_per_gpu, data.clip_frames),
    )
    text = json.dumps(known_by, sort_keys=True)
    key = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return base / "layouts" / f"{key}.json"


def _remembered(path: Path | None) -> float | None:
    if path is None:
        return None
    try:
        times = float(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return times if 0 < times < math.inf else None


def _remember(path: Path | None, times: float) -> None:
    if path is None:
        return
    try:
        write_atomic(path, json.dumps(times).encode())
    except DiskError as error:
        log.debug("the layout is not remembered: %s", error)
