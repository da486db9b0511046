"""Builds what the options name: datasets, loader, validator."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import cast

import torch

from traiNNer.data import (
    DynamicDataLoaderWrapper,
    DynamicDatasetWrapper,
    ImageFolderDataset,
    MixedDataset,
    MultiScaleDataset,
    SizedDataset,
)
from traiNNer.data.curriculum import AdaptiveCurriculumSampler
from traiNNer.data.deal import Deal
from traiNNer.data.protocols import EvalSet, TrainingSet
from traiNNer.engine.class_validation import ClassValidator
from traiNNer.engine.folders import RunFolders
from traiNNer.engine.pixel_cache import PixelCache
from traiNNer.engine.scoring import build_metrics, require_sizes
from traiNNer.engine.tracker import Tracker
from traiNNer.engine.validation import AnyValidator, Exhibition, Validator, ValSet
from traiNNer.options.dataset_sections import DatasetOptions
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import Runtime, usable_cores
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.problems import Problems

log = logging.getLogger(__name__)
# Reading processes that a GPU is given at most: more have not made any of our loaders faster.
MOST_WORKERS = 8
# Names of classes in a message.
MOST_NAMED = 8


def open_dataset(section: DatasetOptions, scale: int, unusable: Problems | None = None) -> EvalSet:
    """The dataset that a section names, its headers read. Nothing is written.

    Args:
        section: of the options.
        scale: how many times larger GT is, per side.
        unusable: gets single files that cannot be used, where the dataset can do without them; None
            makes an error of them.

    Raises:
        DataError: listing everything that is wrong with its files.
    """
    entry = section.entry
    params = section.params
    taken = inspect.signature(entry).parameters
    if section.source is not None:
        if "source" not in taken:
            raise OptionsError(f"{section.type} reads its files itself; leave source out")
        params["source"] = section.source.entry(**section.source.params)
    # Datasets of a program's own need not know of it.
    if unusable is not None and "unusable" in taken:
        params["unusable"] = unusable
    return entry(scale=scale, **params)


def open_datasets(options: TrainingOptions) -> tuple[TrainingSet, dict[str, EvalSet]]:
    """The training set, fit for its patches, and the validation sets by name."""
    section = options.datasets.train
    opened = open_dataset(section, options.scale)
    require_kind(options, "train", opened)
    # Sets without GT refuse to be trained on when they are asked for a patch size.
    train_set = cast("TrainingSet", opened)
    train_set.require_lq_size(section.lq_size)
    require_classes(options, "train", opened)
    val_sets: dict[str, EvalSet] = {}
    if not options.val.val_enabled:
        return train_set, val_sets
    held_out = opened.held_out() if isinstance(opened, ImageFolderDataset) else None
    if held_out is not None:
        val_sets["held_out"] = held_out
    for key, val_section in options.datasets.evaluated.items():
        val_set = open_dataset(val_section, options.scale)
        require_kind(options, key, val_set)
        require_classes(options, key, val_set, opened)
        val_sets[val_section.name or key] = val_set.for_validation()
    metrics = build_metrics(options.val.metrics, options.scale)
    for val_set in val_sets.values():
        require_sizes(val_set, metrics)
    return train_set, val_sets


def in_scales(options: TrainingOptions, train_set: TrainingSet) -> SizedDataset:
    """The training set, augmented and at the sizes as the options ask for."""
    scales = options.patch_scales
    shares = options.datasets.train.augmentations.shares
    augmented = MixedDataset(train_set, shares) if shares else train_set
    if scales is None:
        return augmented
    return MultiScaleDataset(
        augmented,
        scales.scales,
        memory_efficient=options.datasets.train.memory_efficient,
        multiple=scales.multiple,
        least=scales.least,
    )


def is_video(dataset: EvalSet) -> bool:
    """Whether samples are clips `(T, 3, h, w)`, of one frame even, and not images."""
    return dataset.target is not None


def require_kind(options: TrainingOptions, key: str, dataset: EvalSet) -> None:
    """Refuse clips for a network of images, images for one of clips, and clips of another length or
    target.

    Raises:
        OptionsError: naming the section and what to set.
    """
    network = options.network_g
    spec = options.network_g.entry
    where = f"datasets.{key}"
    if not is_video(dataset):
        if spec.temporal:
            raise OptionsError(
                f"{where} gives single images, and {network.type} takes clips; use type: "
                "PairedVideoDataset, or a network of images"
            )
        return
    if not spec.temporal:
        raise OptionsError(
            f"{where} gives clips of {dataset.frames} frames, and {network.type} takes single "
            f"images; use network_g: {{type: temporal_stack, arch: {network.type}, frames: "
            f"{dataset.frames}}}, or type: PairedImageDataset"
        )
    frames = spec.frames_of(network.params)
    if frames is not None and frames != dataset.frames:
        raise OptionsError(
            f"{where} gives clips of {dataset.frames} frames, and {network.type} takes {frames}; "
            f"set clip_size: {frames} there, or frames: {dataset.frames} in network_g"
        )
    if key == "train" and dataset.target != spec.target:
        raise OptionsError(
            f"{where} has target: {dataset.target}, and {network.type} makes "
            f"{'the frame in the middle' if spec.target == 'center' else 'all frames'}; set "
            f"target: {spec.target}"
        )


def require_classes(
    options: TrainingOptions, key: str, dataset: EvalSet, trained: EvalSet | None = None
) -> None:
    """Refuse pictures without classes for a classifier and the reverse, and classes that do not fit
    network, losses or the training set.

    Raises:
        OptionsError: naming the section and what to set.
    """
    where = f"datasets.{key}"
    has_classes = isinstance(dataset, ImageFolderDataset)
    if options.task != "classification":
        if has_classes and options.task is not None:
            raise OptionsError(
                f"{where} gives pictures and their classes, and {options.model_type} learns from "
                "pairs of pictures; set model_type: classifier, or another type of dataset"
            )
        return
    if not has_classes:
        kind = options.datasets.train.type if key == "train" else type(dataset).__name__
        raise OptionsError(
            f"{where} ({kind}) gives no classes, which a classifier learns; use type: "
            "ImageFolderDataset"
        )
    count = len(dataset.classes)
    if isinstance(trained, ImageFolderDataset) and dataset.classes != trained.classes:
        raise OptionsError(
            f"{where} has the classes {', '.join(dataset.classes)}, and datasets.train has "
            f"{', '.join(trained.classes)}; give both the same, in classes"
        )
    wanted = options.network_g.params.get("num_classes", 1000)
    if wanted != count:
        raise OptionsError(
            f"{where} has {count} classes ({', '.join(dataset.classes[:MOST_NAMED])}"
            f"{', ...' if count > MOST_NAMED else ''}) and network_g {wanted}; set num_classes: "
            f"{count} in network_g"
        )
    for label, loss in options.labelled_losses.items():
        if dataset.multi_label and not loss.entry.several:
            raise OptionsError(
                f"{where} has multi_label: true, and the loss {label} is for pictures of one class "
                "each; use {type: bce}"
            )
        weights = loss.params.get("class_weights")
        if weights is not None and len(weights) != count:
            raise OptionsError(
                f"class_weights of the loss {label} has {len(weights)} numbers, and there are "
                f"{count} classes"
            )
    trained_at = options.datasets.train.lq_size
    judged_at = options.val.lq_size or trained_at
    dataset.require_lq_size(trained_at if key == "train" else judged_at)
    held_out = dataset.held_out()
    if held_out is not None:
        held_out.require_lq_size(judged_at)


def choose_workers(options: DatasetOptions, runtime: Runtime) -> int:
    """The number of reading processes; auto leaves a CPU that trains one core at least."""
    if options.num_worker_per_gpu != "auto":
        return options.num_worker_per_gpu
    cores = cores_of(runtime)
    return min(2, cores - 1) if runtime.device.type == "cpu" else min(MOST_WORKERS, cores)


def cores_of(runtime: Runtime) -> int:
    """Those of this process, where others train on the same machine."""
    return max(1, usable_cores() // runtime.team.local_size)


def share_cores(runtime: Runtime, num_workers: int) -> None:
    """Leave a core to each reading process where the CPU trains, one at least to the training.

    Threads that wait for a sibling whose core a reader holds cost more than they bring: the demo on
    two cores made 18 iterations a second with one thread beside its reader, and 12 with two.
    """
    if runtime.device.type == "cpu" and (num_workers or not runtime.team.is_alone):
        cores = cores_of(runtime) - num_workers
        torch.set_num_threads(max(1, min(torch.get_num_threads(), cores)))


def build_loader(
    options: TrainingOptions,
    runtime: Runtime,
    train_set: DynamicDatasetWrapper,
    cache: PixelCache,
) -> DynamicDataLoaderWrapper:
    """The endless batches of the training set."""
    train = options.datasets.train
    order = None
    if train.order is not None:
        order = train.order.entry(
            length=len(train_set),
            seed=options.manual_seed,
            enlarge_ratio=train.dataset_enlarge_ratio,
            **train.order.params,
        )
    if train.curriculum is not None:
        if len(train_set) < 2:
            raise OptionsError("a curriculum needs two images or more; there is one")
        given = options.training_automations.active.values()
        batches = [train.batch_size_per_gpu, *(one.get("max_batch_size", 0) for one in given)]
        order = AdaptiveCurriculumSampler(
            len(train_set),
            options.manual_seed,
            train.dataset_enlarge_ratio,
            temperature=train.curriculum.temperature,
            floor=train.curriculum.floor,
            largest_batch=max(batches) * runtime.team.size,
        )
    return DynamicDataLoaderWrapper(
        train_set,
        batch_size=train.batch_size_per_gpu,
        lq_size=train.lq_size,
        seed=options.manual_seed,
        num_workers=choose_workers(train, runtime),
        enlarge_ratio=train.dataset_enlarge_ratio,
        read_errors=train.read_errors,
        pin_memory=runtime.device.type == "cuda",
        order=order,
        is_decoded=cache.look,
        # Who names a number of processes gets them.
        takes_thread=train.num_worker_per_gpu == "auto",
        deal=Deal(runtime.team.rank, (1.0,) * runtime.team.size),
    )


def build_validator(
    options: TrainingOptions,
    runtime: Runtime,
    val_sets: Mapping[str, EvalSet],
    tracker: Tracker,
    folders: RunFolders,
) -> AnyValidator | None:
    """The validator, None when there is nothing to validate on."""
    if not val_sets:
        return None
    workers: dict[str, int] = {}
    for key, section in options.datasets.evaluated.items():
        # auto: none of its own, for a validation reads few images and the readers of the training
        # keep their cores.
        number = section.num_worker_per_gpu
        workers[section.name or key] = 0 if number == "auto" else number
    read = {name: ValSet(images, workers.get(name, 0)) for name, images in val_sets.items()}
    metrics = build_metrics(options.val.metrics, options.scale)
    if options.task == "classification":
        side = options.val.lq_size or options.datasets.train.lq_size
        return ClassValidator(read, metrics, side, tracker, runtime.team)
    exhibition = Exhibition(
        tracker,
        tb_images=options.val.tb_images if options.logger.use_tb_logger else 0,
        save_to=folders.visualization if options.val.save_img else None,
    )
    return Validator(read, metrics, runtime.device, exhibition, runtime.team)
