"""The plan of a run in words, printed before anything is trained and by `--check`."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Mapping

from torch import nn

from traiNNer.data.protocols import EvalSet, TrainingSet
from traiNNer.engine.folders import RunFolders, saved_states
from traiNNer.engine.progress import duration
from traiNNer.engine.saved_state import read_state
from traiNNer.options.length import expected_seconds
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.arithmetic import ceil_div
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import CheckpointError
from traiNNer.utils.text import plural
from traiNNer.utils.work import Work

log = logging.getLogger(__name__)
# The largest batch of the automation where the options say nothing.
MOST_BATCH = 256
# A console has 120 columns, of which the time takes some.
PLAN_COLUMNS = 110


def count_parameters(network: nn.Module) -> int:
    """Trained numbers in a network."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def training_plan(
    options: TrainingOptions,
    runtime: Runtime,
    network: nn.Module,
    train_set: TrainingSet,
    val_sets: Mapping[str, EvalSet],
    folders: RunFolders,
    num_workers: int,
) -> dict[str, str]:
    """What will happen, by topic."""
    train = options.train
    data = options.datasets.train
    logger = options.logger
    samples = train.effective_batch_size or data.batch_size_per_gpu * data.accum_iter
    length = options.length
    steps = length.steps
    if train.effective_batch_size is None:
        # A step of several processes has the samples of each; one of them makes the same way in
        # fewer steps, but where steps are what is counted.
        samples *= runtime.team.size
        if length.key != "total_iter":
            steps = ceil_div(steps, runtime.team.size)
    epochs = steps * samples / (len(train_set) * data.dataset_enlarge_ratio)
    accumulated = f" x {data.accum_iter} accumulated" if data.accum_iter > 1 else ""
    if train.effective_batch_size is not None:
        accumulated = f", accumulated to {samples} an iteration,"
    frames = data.clip_frames
    clips = "" if frames is None else f" clips of {frames} frames,"
    source = options.path.pretrain_network_g
    averaged = f", moving average {train.ema_decay}" if train.ema_decay else ""
    if train.ema_half_life is not None:
        half_life = length.shown(length.units(train.ema_half_life))
        averaged = f", moving average with a half-life of {half_life}"
    clipped = f", gradients clipped at {train.grad_clip_max_norm}" if train.grad_clip else ""
    schedule = train.scheduler.type if train.scheduler else "constant rate"
    warmup = f", {train.warmup_iter:,} iterations of warm-up" if train.warmup_iter > 0 else ""
    if train.warmup is not None:
        warmup = f", {length.shown(length.units(train.warmup))} of warm-up"
    scale = f" x{options.scale}"
    patches = f"{data.lq_size} px LQ ({data.lq_size * options.scale} px GT)"
    if options.task == "classification":
        scale = ""
        patches = f"{data.lq_size} px"
    return {
        "run": f"{options.name} in {folders.root}",
        "device": str(runtime),
        "network": f"{options.network_g.type}{scale}, {count_parameters(network):,} "
        "parameters" + (f", starting from {source}" if source else ""),
        "training": train_set.summary(),
        "batches": f"{data.batch_size_per_gpu}{accumulated} of{clips} {patches}, read "
        + (f"by {plural(num_workers, 'worker')}" if num_workers else "in the training process"),
        "length": _length_plan(options, steps, samples, epochs),
        "growth": growth_plan(options, len(train_set)),
        "optimizer": f"{train.optim_g.type}, {schedule}{warmup}{clipped}{averaged}",
        "losses": _losses_plan(options),
        "validation": _validation_plan(options, val_sets),
        "checkpoints": f"every {_frequency(options, logger.save_checkpoint_freq)}, "
        + ("all kept" if logger.keep_last is None else f"the last {logger.keep_last} kept")
        + (" and the weights of all" if logger.keep_last and logger.keep_weights else "")
        + (f", and the best by {best}" if (best := best_metric(options)) and val_sets else ""),
        "curves": f"tensorboard --logdir {folders.tensorboard.parent}"
        if logger.use_tb_logger
        else "OFF",
    }


def expected_time(options: TrainingOptions, folders: RunFolders) -> str | None:
    """How long the run will take, at the rate of the newest state of a run of this name with the
    same network; None where there is none. It reads the state.
    """
    states = saved_states(folders)
    if not states:
        return None
    try:
        state = read_state(states[-1])
    except CheckpointError:
        return None  # what is damaged is for a resume to tell
    network = options.network_g.model_dump(mode="json")
    recipe = state["parts"]["recipe"]
    if state["options"].get("network_g") != network or options.length.key == "total_hours":
        return None
    rate = Work(recipe["iteration"], recipe["samples"], recipe["pixels"], recipe["seconds"])
    seconds = expected_seconds(options.length, rate)
    if seconds is None:
        return None
    return (
        f"about {duration(seconds)} for the whole run, at the rate of {states[-1]} (its validation "
        "and saving included)"
    )


def _length_plan(options: TrainingOptions, steps: int, samples: int, epochs: float) -> str:
    """The length in its measure, and what it is at the sizes of the options."""
    length = options.length
    if length.key == "total_hours":
        return str(length)
    data = options.datasets.train
    at_sizes = f"{steps * samples:,} samples = {epochs:,.1f} epochs"
    if length.key == "total_iter":
        return f"{length} = {at_sizes}"
    return f"{length} = {plural(steps, 'iteration')} of {samples} x {data.lq_size} px ({at_sizes})"


def growth_plan(options: TrainingOptions, pictures: int) -> str:
    """What sizes that grow mean for the run, in plain words."""
    active = options.training_automations.active
    if not active:
        return "OFF: lq_size and batch stay as they are (training_automations)"
    # Not for every --check: the automations take a moment to import.
    from traiNNer.automations.progressive_sizes import describe_stages
    from traiNNer.planning.bounds import stages_of

    stages = describe_stages(stages_of(options))
    if stages:
        stages = f"in stages: {stages}"
    if "RandomSizes" in active:
        sizes = ", ".join(map(str, active["RandomSizes"]["sizes"]))
        stages = f"each batch of one of {sizes} px at random, with the same pixels"
    if stages and len(active) == 1:
        return stages
    data = options.datasets.train
    length = options.length
    paces = {part.get("pace") for part in active.values()} - {None}
    pace = str(next(iter(paces), options.training_automations.usual_pace))
    begins = f"from {data.lq_size} px x {data.batch_size_per_gpu} up to what fills the memory"
    when = {
        "at_once": "within the first iterations",
        "ramp": "over the run",
        "measured": "in the last part of the run, before that as far as it is worth it",
    }[pace]
    if length.key == "total_iter":
        meaning = (
            "an iteration of n times the pixels takes about n times as long, and the run so too; "
            "train.total_mpixels keeps its work as it is"
        )
    elif length.key == "total_hours":
        meaning = "the time stays, the number of iterations is what fits into it"
    else:
        meaning = "the work stays, and iterations become fewer as they become larger"
    repeated = ""
    largest = max(int(part.get("max_batch_size") or MOST_BATCH) for part in active.values())
    if options.train.effective_batch_size is None and largest > pictures:
        repeated = (
            f"; a batch of more than {plural(pictures, 'picture')} holds some twice, cropped "
        )
        repeated += "elsewhere"
    if stages:
        grown = f"the batch from {data.batch_size_per_gpu} up to what fills the memory"
        begins = f"{stages}; {grown}"
    return f"{begins}, {when}; {meaning}{repeated}"


def _frequency(options: TrainingOptions, given: float | None) -> str:
    length = options.length
    return length.shown(length.units(length.frequency(given)))


def warn_of_frequencies(options: TrainingOptions) -> None:
    """Say which frequencies the run does not reach; what they are for happens at its end alone."""
    length = options.length
    given = {
        "val.val_freq": options.val.val_freq if options.val.val_enabled else None,
        "logger.save_checkpoint_freq": options.logger.save_checkpoint_freq,
    }
    for key, frequency in given.items():
        if frequency is not None and length.units(frequency) > length.total:
            shown = length.shown(length.units(frequency))
            log.info("%s (%s) is longer than the run (%s): at its end only", key, shown, length)


def _losses_plan(options: TrainingOptions) -> str:
    losses = options.labelled_losses
    if not losses:
        return f"those of {options.model_type}"
    text = ", ".join(f"{label} x {loss.loss_weight:g}" for label, loss in losses.items())
    off = [loss.label or loss.type for loss in options.train.losses if not loss.loss_weight]
    return f"{text}; switched off (loss_weight 0): {', '.join(off)}" if off else text


def _validation_plan(options: TrainingOptions, val_sets: Mapping[str, EvalSet]) -> str:
    if not options.val.val_enabled:
        return "OFF (val.val_enabled is false)"
    if not val_sets:
        return "OFF (there is no datasets.val* section)"
    images = ", ".join(
        f"{name}: {plural(len(dataset), 'image')}" for name, dataset in val_sets.items()
    )
    tiles = f", tiles of {options.val.tile_size} px" if options.val.tile_size else ""
    metrics = ", ".join(options.val.metrics) or "no metrics"
    sets = f"{plural(len(val_sets), 'set')} ({images})"
    start = "at the start and " if options.validates_at_start else ""
    return f"{start}every {_frequency(options, options.val.val_freq)} on {sets}: {metrics}{tiles}"


def best_metric(options: TrainingOptions) -> str | None:
    """The label of the metric that decides which weights are best; None without metrics."""
    return options.logger.keep_best or next(iter(options.val.metrics), None)


def format_plan(plan: Mapping[str, str]) -> str:
    """The plan as lines of two columns; long ones go on below themselves."""
    width = max(map(len, plan)) + 2
    wrapper = textwrap.TextWrapper(
        PLAN_COLUMNS,
        subsequent_indent=" " * width,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    return "\n".join(wrapper.fill(f"{topic:<{width}}{text}") for topic, text in plan.items())
