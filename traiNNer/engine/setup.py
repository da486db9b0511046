"""Builds what the options name: datasets, loader, validator."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from traiNNer.data import (
    DynamicDataLoaderWrapper,
    DynamicDatasetWrapper,
    PairedVideoDataset,
    SingleVideoDataset,
)
from traiNNer.data.demo import make_demo_dataset
from traiNNer.data.demo_video import make_demo_video
from traiNNer.engine.runs import RunFolders
from traiNNer.engine.tracker import Tracker
from traiNNer.engine.validation import Validator, build_metrics, require_sizes
from traiNNer.options.schema import DatasetOptions, TrainingOptions
from traiNNer.utils.device import Runtime, usable_cores
from traiNNer.utils.errors import OptionsError

log = logging.getLogger(__name__)
MOST_WORKERS = 8
DEMO_ROOT = Path("datasets/demo")
DEMO_VIDEO_ROOT = Path("datasets/demo_video")


def data_roots(options: DatasetOptions) -> list[Path]:
    """The folders that a section names."""
    given = [value for key, value in options.params.items() if key.startswith("dataroot")]
    return [
        Path(root) for value in given for root in (value if isinstance(value, list) else [value])
    ]


def all_data_roots(options: TrainingOptions) -> list[Path]:
    """The folders that a run reads."""
    sections = [options.datasets.train, *options.datasets.evaluated.values()]
    return [root for section in sections for root in data_roots(section)]


def open_dataset(options: DatasetOptions, scale: int) -> Any:
    """The dataset that a section names, its headers read. The demos' pictures are made on first
    use.

    Raises:
        DataError: listing everything that is wrong with its files.
    """
    for demo, make in ((DEMO_ROOT, make_demo_dataset), (DEMO_VIDEO_ROOT, make_demo_video)):
        if any(demo in root.parents for root in data_roots(options)) and make(demo):
            log.info("made the demo's pictures in %s", demo)
    return options.entry(scale=scale, **options.params)


def open_datasets(options: TrainingOptions) -> tuple[Any, dict[str, Any]]:
    """The training set, fit for its patches, and the validation sets by name."""
    train = options.datasets.train
    train_set = open_dataset(train, options.scale)
    require_kind(options, "train", train_set)
    train_set.require_lq_size(train.lq_size)
    val_sets: dict[str, Any] = {}
    if options.val.val_enabled:
        for key, section in options.datasets.evaluated.items():
            val_set = open_dataset(section, options.scale)
            require_kind(options, key, val_set)
            val_sets[section.name or key] = (
                val_set.for_validation() if is_video(val_set) else val_set
            )
        metrics = build_metrics(options.val.metrics, options.scale)
        for val_set in val_sets.values():
            require_sizes(val_set, metrics)
    return train_set, val_sets


def is_video(dataset: Any) -> bool:
    """Whether samples are clips `(T, 3, h, w)`, of one frame even, and not images."""
    return isinstance(dataset, PairedVideoDataset | SingleVideoDataset)


def require_kind(options: TrainingOptions, key: str, dataset: Any) -> None:
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


def choose_workers(options: DatasetOptions, runtime: Runtime) -> int:
    """The number of reading processes; auto leaves a CPU that trains one core at least."""
    if options.num_worker_per_gpu != "auto":
        return options.num_worker_per_gpu
    cores = usable_cores()
    return min(2, cores - 1) if runtime.device.type == "cpu" else min(MOST_WORKERS, cores)


def share_cores(runtime: Runtime, num_workers: int) -> None:
    """Leave a core to each reading process where the CPU trains, one at least to the training.

    Threads that wait for a sibling whose core a reader holds cost more than they bring: the demo on
    two cores made 18 iterations a second with one thread beside its reader, and 12 with two.
    """
    if runtime.device.type == "cpu" and num_workers:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), usable_cores() - num_workers)))


def build_loader(
    options: TrainingOptions, runtime: Runtime, train_set: DynamicDatasetWrapper
) -> DynamicDataLoaderWrapper:
    """The endless batches of the training set."""
    train = options.datasets.train
    return DynamicDataLoaderWrapper(
        train_set,
        batch_size=train.batch_size_per_gpu,
        lq_size=train.lq_size,
        seed=options.manual_seed,
        num_workers=choose_workers(train, runtime),
        enlarge_ratio=train.dataset_enlarge_ratio,
        read_errors=train.read_errors,
        pin_memory=runtime.device.type == "cuda",
    )


def build_validator(
    options: TrainingOptions,
    runtime: Runtime,
    val_sets: dict[str, Any],
    tracker: Tracker,
    folders: RunFolders,
) -> Validator | None:
    """The validator, None when there is nothing to validate on."""
    if not val_sets:
        return None
    sections = {section.name or key: section for key, section in options.datasets.evaluated.items()}
    workers = {
        name: 0 if s.num_worker_per_gpu == "auto" else s.num_worker_per_gpu
        for name, s in sections.items()
    }
    return Validator(
        val_sets,
        build_metrics(options.val.metrics, options.scale),
        runtime.device,
        workers,
        tracker,
        tb_images=options.val.tb_images if options.logger.use_tb_logger else 0,
        save_to=folders.visualization if options.val.save_img else None,
    )
