"""What no section of the options can know by itself: whether the parts fit each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traiNNer.options.components import Component
from traiNNer.options.length import MEASURES
from traiNNer.options.problems import OptionProblems
from traiNNer.options.recipes import DEFAULT_RECIPE, Task
from traiNNer.utils.arithmetic import ceil_div, round_up
from traiNNer.utils.errors import OptionsError

if TYPE_CHECKING:
    from traiNNer.options.schema import TrainingOptions

# By the word of a task: how it is asked for, in messages.
_WHAT_IT_MAKES: dict[Task, str] = {
    "restoration": "pictures",
    "classification": "classes (model_type: classifier)",
}
# What several sizes can be asked to agree by, by what is compared.
_COMPARED: dict[Task, tuple[str, ...]] = {
    "restoration": ("charbonnier", "l1", "mse"),
    "classification": ("kl_divergence", "mse", "cosine"),
}


def problems_of(options: TrainingOptions) -> OptionProblems:
    """All that does not fit."""
    problems = OptionProblems()
    _check_task(options, problems)
    _check_sizes(options, problems)
    _check_precision(options, problems)
    _check_patches(options, problems)
    _check_batches(options, problems)
    _check_lengths(options, problems)
    _check_labels(options, problems)
    _check_scales(options, problems)
    _check_random_sizes(options, problems)
    _check_augmentations(options, problems)
    _check_adversary(options, problems)
    _check_curriculum(options, problems)
    _check_teacher(options, problems)
    _check_averages(options, problems)
    _check_sharpening(options, problems)
    return problems


def _check_task(options: TrainingOptions, problems: OptionProblems) -> None:
    """Network, losses and metrics against what the recipe's networks make."""
    task = options.task
    if task is None:
        return
    parts: list[tuple[tuple[str | int, ...], Component]] = [(("network_g",), options.network_g)]
    parts += [(("train", "losses", n), loss) for n, loss in enumerate(options.train.losses)]
    parts += [(("val", "metrics", label), one) for label, one in options.val.metrics.items()]
    for place, part in parts:
        made: Task = getattr(part.entry, "task", "restoration")
        if made != task:
            message = (
                f"{part.type} is for {_WHAT_IT_MAKES[made]}, and model_type: "
                f"{options.model_type} makes {_WHAT_IT_MAKES[task].split(' ')[0]}"
            )
            problems.add((*place, "type"), message, part.type)
    if task == "classification" and options.val.compare_bicubic:
        message = "there are no pictures to compare; leave it out"
        problems.add(("val", "compare_bicubic"), message, True)
    _check_judged_size(options, problems)
    consistency = options.train.scale_consistency
    if consistency is not None and consistency.type not in (None, *_COMPARED[task]):
        message = f"expected {', '.join(_COMPARED[task])} for {_WHAT_IT_MAKES[task]}"
        place = ("train", "scale_consistency", "type")
        problems.add(place, message, consistency.type)


def _check_judged_size(options: TrainingOptions, problems: OptionProblems) -> None:
    """The pictures that a classifier is judged at against its network."""
    side = options.val.lq_size
    if side is None:
        return
    spec = options.network_g.entry
    place = ("val", "lq_size")
    if options.task != "classification":
        problems.add(place, "pictures are judged as they are; leave it out", side)
    elif side % spec.size_multiple or side < spec.min_size:
        message = (
            f"{options.network_g.type} needs a multiple of {spec.size_multiple}, at least "
            f"{spec.min_size}"
        )
        problems.add(place, message, side)


def _check_sizes(options: TrainingOptions, problems: OptionProblems) -> None:
    """Scale, patch, batch and tiles against what the network takes."""
    spec = options.network_g.entry
    name = options.network_g.type
    data = options.datasets.train
    multiple = spec.size_multiple
    if options.scale not in spec.scales:
        problems.add(("scale",), f"{name} works at {_listed(spec.scales)}", options.scale)
    if data.lq_size % multiple or data.lq_size < spec.min_size:
        nearest = max(ceil_div(spec.min_size, multiple), round(data.lq_size / multiple))
        message = (
            f"{name} needs a multiple of {multiple}, at least {spec.min_size}; the nearest is "
            f"{nearest * multiple}"
        )
        problems.add(("datasets", "train", "lq_size"), message, data.lq_size)
    if data.batch_size_per_gpu < spec.min_batch:
        message = f"{name} needs at least {spec.min_batch}"
        place = ("datasets", "train", "batch_size_per_gpu")
        problems.add(place, message, data.batch_size_per_gpu)
    effective = options.train.effective_batch_size
    if effective is not None and effective < spec.min_batch:
        message = f"{name} needs at least {spec.min_batch}"
        problems.add(("train", "effective_batch_size"), message, effective)
    # Tiles begin at multiples, so one of them has to be left to go on by.
    tile = round_up(max(options.val.tile_size, spec.min_size), multiple)
    if options.val.tile_size and options.val.tile_overlap > tile - multiple:
        message = f"{name} in tiles of {tile} needs {tile - multiple} or less"
        problems.add(("val", "tile_overlap"), message, options.val.tile_overlap)


def _check_precision(options: TrainingOptions, problems: OptionProblems) -> None:
    """Mixed precision against what the network computes safely in."""
    spec = options.network_g.entry
    chosen = "bf16" if options.amp_bf16 else "fp16"
    other = "fp16" if options.amp_bf16 else "bf16"
    safe = {"bf16": spec.bf16, "fp16": spec.fp16}
    if not options.use_amp or safe[chosen]:
        return
    hint = "set use_amp: false"
    if safe[other]:
        hint = f"set amp_bf16: {str(not options.amp_bf16).lower()} ({other})"
    message = f"{options.network_g.type} is not safe in {chosen}; {hint}"
    problems.add(("use_amp",), message, True)


def _check_patches(options: TrainingOptions, problems: OptionProblems) -> None:
    """The patch against what the losses need."""
    data = options.datasets.train
    refused = False
    for index, loss in enumerate(options.train.losses):
        try:
            _ = loss.min_side
        except OptionsError as error:
            problems.add(("train", "losses", index), str(error), loss.type)
            refused = True
    # Without a loss there is a problem of its own.
    if refused or not options.labelled_losses:
        return
    side, what = options.smallest_patch
    if data.lq_size < side:
        least = round_up(side, options.network_g.entry.size_multiple)
        message = (
            f"{what} needs at least {least} at scale {options.scale}, because it takes GT of "
            f"{options.gt_needs[what]} pixels a side and more"
        )
        problems.add(("datasets", "train", "lq_size"), message, data.lq_size)


def _check_batches(options: TrainingOptions, problems: OptionProblems) -> None:
    """`effective_batch_size` against what would say the same thing in another way."""
    train = options.train
    data = options.datasets.train
    samples = train.effective_batch_size
    if samples is None:
        return
    if data.accum_iter > 1:
        message = "train.effective_batch_size accumulates by itself; leave one of them out"
        problems.add(("datasets", "train", "accum_iter"), message, data.accum_iter)
    if samples < data.batch_size_per_gpu:
        message = f"expected at least batch_size_per_gpu ({data.batch_size_per_gpu})"
        problems.add(("train", "effective_batch_size"), message, samples)
    if train.lr_scaling != "none":
        message = (
            "the samples of an iteration never change with train.effective_batch_size; leave "
            "one of them out"
        )
        problems.add(("train", "lr_scaling"), message, train.lr_scaling)


def _check_adversary(options: TrainingOptions, problems: OptionProblems) -> None:
    """A discriminator, its optimizer and its loss: all of them, or none."""
    train = options.train
    if options.model_type != DEFAULT_RECIPE:
        return
    adversarial = [loss for loss in options.labelled_losses.values() if loss.is_adversarial]
    if adversarial and options.network_d is None:
        message = f"the loss {adversarial[0].type} needs a discriminator; set network_d"
        problems.add(("network_d",), message, None, kind="missing")
    if options.network_d is None:
        if train.optim_d is not None:
            message = "there is no network_d that it could change; leave it out"
            problems.add(("train", "optim_d"), message, train.optim_d.type)
        return
    if not adversarial:
        message = "no loss asks it; add {type: gan, loss_weight: 0.1} to train.losses"
        problems.add(("network_d",), message, options.network_d.type)
    if train.optim_d is None:
        message = "required with network_d: the discriminator's optimizer"
        problems.add(("train", "optim_d"), message, None, kind="missing")
    if len(adversarial) == len(options.labelled_losses) and adversarial:
        message = "a loss that compares with GT is needed beside the adversarial one"
        problems.add(("train", "losses"), message, [loss.type for loss in train.losses])


def _check_sharpening(options: TrainingOptions, problems: OptionProblems) -> None:
    """gt_usm, where there is no picture that would be compared."""
    for number, loss in enumerate(options.train.losses):
        if not loss.gt_usm:
            continue
        where = ("train", "losses", number, "gt_usm")
        if loss.is_adversarial:
            message = "a discriminator sees GT as it is; set it for losses that compare with GT"
            problems.add(where, message, True)
        elif options.task == "classification":
            problems.add(where, "a classifier has no GT to make sharper; leave it out", True)


def _check_averages(options: TrainingOptions, problems: OptionProblems) -> None:
    """Further moving averages against the first."""
    train = options.train
    is_first_missing = not train.ema_decay and train.ema_half_life is None
    further = (("ema_also", train.ema_also, "decay"), ("ema_widths", train.ema_widths, "width"))
    for key, values, kind in further:
        if values and is_first_missing:
            message = "goes beside the first moving average; set ema_decay or ema_half_life too"
            problems.add(("train", key), message, values)
        if len(set(values)) < len(values):
            problems.add(("train", key), f"expected each {kind} once", values)


def _check_teacher(options: TrainingOptions, problems: OptionProblems) -> None:
    """A teacher, its weights and its part; and whether it takes what the network takes."""
    teacher = options.network_g_teacher
    place = ("network_g_teacher",)
    if teacher is None:
        given = {
            ("train", "distillation"): options.train.distillation,
            ("path", "pretrain_network_g_teacher"): options.path.pretrain_network_g_teacher,
        }
        for key, value in given.items():
            if value is not None:
                problems.add(key, "there is no network_g_teacher; set it, or leave this out", None)
        return
    if options.model_type != DEFAULT_RECIPE:
        message = f"model_type: {options.model_type} has no teacher; leave it out"
        problems.add(place, message, teacher.type)
        return
    if options.path.pretrain_network_g_teacher is None:
        message = "required with network_g_teacher: a teacher without weights teaches nothing"
        problems.add(("path", "pretrain_network_g_teacher"), message, None, kind="missing")
    spec = teacher.entry
    learner = options.network_g.entry
    if options.scale not in spec.scales:
        message = f"works at {_listed(spec.scales)}, and scale is {options.scale}"
        problems.add(place, message, teacher.type)
    if spec.temporal != learner.temporal:
        kind = "clips" if spec.temporal else "images"
        message = f"takes {kind}, and {options.network_g.type} does not"
        problems.add(place, message, teacher.type)
    if learner.size_multiple % spec.size_multiple:
        # The sizes of patches are multiples of what the learning network needs.
        fixed = options.datasets.train.lq_size % spec.size_multiple == 0
        if not fixed or options.training_automations.active or options.patch_scales is not None:
            message = (
                f"needs sides that are a multiple of {spec.size_multiple}: set lq_size to one, and "
                "leave out automations and several sizes of a patch"
            )
            problems.add(place, message, teacher.type)


def _check_random_sizes(options: TrainingOptions, problems: OptionProblems) -> None:
    """A size for each batch against what a patch is otherwise."""
    if "RandomSizes" not in options.training_automations.active:
        return
    place = ("training_automations", "RandomSizes")
    if options.datasets.train.scales is not None:
        message = "goes with patches of one size; leave out datasets.train.scales, or this"
        problems.add(place, message, None)
    if options.task == "classification":
        # What a picture is at another size is for the dataset to say: cropped, or shrunk.
        message = "crops patches, and the pictures of a classifier count as a whole; leave it out"
        problems.add(place, message, None)


def _check_scales(options: TrainingOptions, problems: OptionProblems) -> None:
    """The sizes of a patch against the patch, the network and the losses."""
    train = options.train
    scales = options.datasets.train.scales
    place = ("datasets", "train", "scales")
    if scales is None:
        if train.scale_consistency is not None and train.scale_consistency.weight:
            message = "needs several sizes; set datasets.train.scales"
            problems.add(("train", "scale_consistency"), message, None)
        return
    spec = options.network_g.entry
    least = round_up(max(spec.min_size, options.smallest_patch[0]), spec.size_multiple)
    wrong = [side for side in scales if side % spec.size_multiple or side < least]
    if wrong:
        message = (
            f"{options.network_g.type} and the losses need multiples of {spec.size_multiple}, at "
            f"least {least}; not {', '.join(map(str, wrong))}"
        )
        problems.add(place, message, scales)
    if len(set(scales)) < len(scales):
        problems.add(place, "expected each size once", scales)
    if max(scales) != options.datasets.train.lq_size:
        message = f"expected {max(scales)}, the largest of scales"
        problems.add(("datasets", "train", "lq_size"), message, options.datasets.train.lq_size)
    weights = train.scale_weights
    if isinstance(weights, list) and len(weights) != len(scales):
        message = f"expected {len(scales)} numbers, one for each of datasets.train.scales"
        problems.add(("train", "scale_weights"), message, weights)


def _check_augmentations(options: TrainingOptions, problems: OptionProblems) -> None:
    """What is mixed are pairs of LQ and GT."""
    if options.task == "classification" and options.datasets.train.augmentations.shares:
        place = ("datasets", "train", "augmentations")
        problems.add(place, "are for pairs of LQ and GT; a classifier has classes", None)


def _check_curriculum(options: TrainingOptions, problems: OptionProblems) -> None:
    """Two orders, and difficulties of pixels that a classifier does not compare."""
    train = options.datasets.train
    if train.curriculum is None:
        return
    place = ("datasets", "train", "curriculum")
    if train.order is not None:
        problems.add(place, "curriculum and order are two orders; leave one of them out", None)
    if options.task != "restoration" and train.curriculum.difficulty != "loss":
        message = "only loss tells how hard a sample is where no pictures are compared"
        problems.add((*place, "difficulty"), message, train.curriculum.difficulty)


def _check_lengths(options: TrainingOptions, problems: OptionProblems) -> None:
    """Frequencies and lengths of a run that is counted in whole things."""
    measure = MEASURES[options.train.length_key]
    if not measure.whole:
        return
    lengths: dict[tuple[str | int, ...], Any] = {
        ("val", "val_freq"): options.val.val_freq,
        ("logger", "save_checkpoint_freq"): options.logger.save_checkpoint_freq,
    }
    if options.train.scheduler is not None:
        for name in options.train.scheduler.entry.lengths:
            value = options.train.scheduler.params.get(name)
            place = ("train", "scheduler", name)
            if isinstance(value, list):
                lengths |= {(*place, number): one for number, one in enumerate(value)}
            else:
                lengths[place] = value
    for place, value in lengths.items():
        if value is not None and not float(value).is_integer():
            problems.add(place, f"expected a whole number of {measure.noun}s", value)


def _check_labels(options: TrainingOptions, problems: OptionProblems) -> None:
    """Labels of metrics that are named elsewhere, and of losses that are given twice."""
    metrics = list(options.val.metrics)
    best = options.logger.keep_best
    if best is not None and best not in metrics:
        message = f"expected a label of val.metrics: {', '.join(metrics) or 'there are none'}"
        problems.add(("logger", "keep_best"), message, best)
    given = [loss.type for loss in options.train.losses]
    # A recipe of an extension may have losses of its own.
    if not options.labelled_losses and (given or options.task is not None):
        message = "expected at least one loss"
        if given:
            message = "every loss_weight is 0; at least one loss has to be more"
        problems.add(("train", "losses"), message, given)
    labels = [loss.label for loss in options.train.losses]
    for index, label in enumerate(labels):
        if label is not None and labels.count(label) > 1:
            place = ("train", "losses", index, "label")
            problems.add(place, "each loss needs its own", label)


def _listed(scales: tuple[int, ...]) -> str:
    noun = "scale" if len(scales) == 1 else "scales"
    return f"{noun} {', '.join(map(str, scales))}"
