"""From a request to a job: options and headers are read, the network is built, nothing is written.

This module imports little, so that --check answers at once.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from traiNNer.data.protocols import EvalSet, TrainingSet
from traiNNer.data.roots import all_data_roots, data_roots
from traiNNer.demo import demo_root, prepare_demo
from traiNNer.engine.command_line import make_runtime, timed
from traiNNer.engine.folders import RunFolders, find_resume_state
from traiNNer.engine.lock import claimed
from traiNNer.engine.pixel_cache import PixelCache, plan_cache
from traiNNer.engine.plan import expected_time, format_plan, training_plan, warn_of_frequencies
from traiNNer.engine.setup import choose_workers, open_datasets, share_cores
from traiNNer.options.loading import load_options
from traiNNer.options.schema import DatasetOptions, TrainingOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.registry import RECIPES
from traiNNer.utils.seeds import seed_everything

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
        opt: the options, a YAML file.
        overrides: `KEY=VALUE` each.
        name: of the run, instead of the file's.
        auto_resume: go on with the run of this name, if there is one.
        check: read, plan, and write nothing.
    """

    opt: Path
    overrides: tuple[str, ...] = ()
    name: str | None = None
    auto_resume: bool = False
    check: bool = False


@dataclass(frozen=True)
class Job:
    """What is known of a run before anything of it is loaded or written.

    Attributes:
        request: what was asked for.
        options: the checked options.
        runtime: device and precision.
        folders: where the run lives, or will live.
        resume_from: the state to go on from, None to start anew.
        train_set: to train on.
        cache: where its decoded pictures are kept.
        val_sets: to validate on, by name.
        network: the main network, with its first weights.
        plan: what will happen, in words.
    """

    request: Request
    options: TrainingOptions
    runtime: Runtime
    folders: RunFolders
    resume_from: Path | None
    train_set: TrainingSet
    cache: PixelCache
    val_sets: dict[str, EvalSet]
    network: nn.Module
    plan: str

    @property
    def check_text(self) -> str:
        """What --check ends with."""
        return f"{self.plan}\n\nnothing is wrong, nothing was written"

    @property
    def is_checked(self) -> bool:
        """Whether --check has nothing to look at beyond the plan: no weights, no memory."""
        path = self.options.path
        pretrained = any(
            value is not None
            for key, value in path.model_dump().items()
            if key.startswith("pretrain_")
        )
        automated = self.options.training_automations.active
        return self.resume_from is None and not pretrained and not automated


@contextmanager
def prepared(request: Request) -> Iterator[Job]:
    """Read options and headers, build the network. Until the end the run's folder belongs to this
    process (but for --check, which only reads). What is looked at for --check alone is removed.

    Raises:
        TraiNNerError: listing what is wrong with options, data or weights.
    """
    options = load_options(TrainingOptions, request.opt, list(request.overrides), name=request.name)
    warn_of_frequencies(options)
    runtime = make_runtime(options)
    folders = RunFolders.of(options.name, options.path)
    with ExitStack() as stack:
        if not request.check:
            # First of all: what lies in the folder decides about everything that follows.
            stack.enter_context(claimed(folders.root))
        resume_from = find_resume_state(
            folders, options.path, auto_resume=request.auto_resume, check=request.check
        )
        options_read = _with_demo(options, stack, check=request.check)
        seed_everything(options.manual_seed)
        with timed("read the datasets' headers"):
            train_set, val_sets = open_datasets(options_read)
            cache = plan_cache(options_read.datasets.train, train_set)
        with timed("built the network"):
            network = RECIPES[options.model_type].build_network(options)
        runtime = runtime.for_training(network)
        num_workers = choose_workers(options.datasets.train, runtime)
        share_cores(runtime, num_workers)
        plan = training_plan(options, runtime, network, train_set, val_sets, folders, num_workers)
        plan["pixels"] = cache.summary
        if request.check:
            # Not for every start: the state of a large network is large.
            expected = expected_time(options, folders)
            if expected is not None:
                plan["time"] = expected
        yield Job(
            request,
            options,
            runtime,
            folders,
            resume_from,
            train_set,
            cache,
            val_sets,
            network,
            format_plan(plan),
        )


def _with_demo(options: TrainingOptions, stack: ExitStack, *, check: bool) -> TrainingOptions:
    """Make the demo's pictures if the run reads them and they are missing.

    --check leaves everything as it was, so it makes them in a temporary folder, and the options
    that are returned name that one.
    """
    roots = all_data_roots(options)
    missing = [root for root in roots if demo_root(root) is not None and not root.exists()]
    if not missing:
        return options
    if not check:
        for folder in prepare_demo(missing):
            log.info("made the demo's pictures in %s", folder)
        return options
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="demo-")))
    prepare_demo(missing, into=folder)
    log.info("the demo's pictures are not there yet; a temporary copy was looked at")
    sections = {"train": options.datasets.train} | options.datasets.evaluated
    moved = {key: _moved(section, folder) for key, section in sections.items()}
    return options.model_copy(update={"datasets": options.datasets.model_copy(update=moved)})


def _moved(section: DatasetOptions, folder: Path) -> DatasetOptions:
    """The section with the demo's folders below `folder`."""
    changes: dict[str, Any] = {}
    for key, value in section.params.items():
        if key.startswith("dataroot") and any(map(demo_root, data_roots(section))):
            values = value if isinstance(value, list) else [value]
            moved = [str(folder / root) for root in values]
            changes[key] = moved if isinstance(value, list) else moved[0]
    return section.model_copy(update=changes)
