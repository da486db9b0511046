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

import torch
from torch import nn

import traiNNer
from traiNNer.data.protocols import EvalSet, TrainingSet
from traiNNer.data.roots import all_data_roots, data_roots
from traiNNer.demo import demo_root, prepare_demo
from traiNNer.engine.command_line import make_runtime, timed
from traiNNer.engine.folders import RunFolders, find_resume_state
from traiNNer.engine.lock import claimed
from traiNNer.engine.pixel_cache import PixelCache, plan_cache
from traiNNer.engine.plan import expected_time, format_plan, training_plan, warn_of_frequencies
from traiNNer.engine.setup import choose_workers, open_datasets, share_cores
from traiNNer.options.dataset_sections import DatasetOptions
from traiNNer.options.loading import load_options, options_hash
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import RECIPES
from traiNNer.utils.seeds import seed_everything
from traiNNer.utils.team import Team
from traiNNer.utils.text import plural

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


def read_options(request: Request) -> TrainingOptions:
    """The options that a request names.

    Raises:
        OptionsError: listing everything that is wrong with them.
    """
    return load_options(TrainingOptions, request.opt, list(request.overrides), name=request.name)


def processes_wanted(options: TrainingOptions) -> int:
    """How many processes are to be started on this machine; 1 for this one alone.

    Raises:
        OptionsError: if there are not as many GPUs.
    """
    count = options.num_gpu
    if count == "auto" or count <= 1:
        return 1
    cards = torch.cuda.device_count()
    if cards < count:
        raise OptionsError(
            f"num_gpu = {count}: torch finds {plural(cards, 'GPU')} on this machine; set num_gpu: "
            "auto, 0 for the CPU, or a number up to that"
        )
    return count


def require_shareable(options: TrainingOptions, team: Team) -> None:
    """Refuse what several processes cannot do together.

    Raises:
        OptionsError: naming the option and what to do.
    """
    if team.is_alone:
        return
    count = options.num_gpu
    if count not in ("auto", 0, team.local_size):
        raise OptionsError(
            f"num_gpu = {count}: the processes that were started on this machine are "
            f"{team.local_size}; start as many, or leave num_gpu out"
        )
    samples = options.train.effective_batch_size
    if samples is not None and samples % team.size:
        raise OptionsError(
            f"train.effective_batch_size = {samples}: that cannot be shared by {team.size} "
            "processes; take a multiple of their number"
        )


@contextmanager
def prepared(
    request: Request, team: Team | None = None, options: TrainingOptions | None = None
) -> Iterator[Job]:
    """Read options and headers, build the network. Until the end the run's folder belongs to this
    process (but for --check, which only reads). What is looked at for --check alone is removed.

    Args:
        request: what is asked for.
        team: the processes that train together: the first one prepares first, and the folder is
            its. None for this one alone.
        options: that it names; None reads them.

    Raises:
        TraiNNerError: listing what is wrong with options, data or weights.
    """
    team = team or Team()
    if not team.is_first:
        # The demo's pictures and the headers of all are there then, and what is wrong is told once.
        logging.getLogger("traiNNer").setLevel(logging.ERROR)
        team.vote()
    options = options or read_options(request)
    require_shareable(options, team)
    warn_of_frequencies(options)
    runtime = make_runtime(options, team)
    folders = RunFolders.of(options.name, options.path)
    with ExitStack() as stack:
        if not request.check and team.is_first:
            # First of all: what lies in the folder decides about everything that follows.
            stack.enter_context(claimed(folders.root))
        resume_from = find_resume_state(
            folders, options.path, auto_resume=request.auto_resume, check=request.check
        )
        options_read = _with_demo(options, stack, check=request.check)
        seed_everything(options.manual_seed)
        with timed("read the datasets' headers"):
            train_set, val_sets = open_datasets(options_read)
            cache = plan_cache(options_read.datasets.train, train_set, val_sets.values())
        with timed("built the network"):
            network = RECIPES[options.model_type].build_network(options)
        runtime, num_workers = _settled(options, runtime, network)
        plan = training_plan(options, runtime, network, train_set, val_sets, folders, num_workers)
        plan["pixels"] = cache.summary
        if not team.is_alone:
            plan["processes"] = (
                f"{team.size}: each has samples of its own, in batches as above, and all of them "
                "together make one step"
            )
        if request.check:
            # Not for every start: the state of a large network is large.
            expected = expected_time(options, folders)
            if expected is not None:
                plan["time"] = expected
        job = Job(
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
        if team.is_first:
            team.vote()
        _require_same(team, job)
        yield job


def _require_same(team: Team, job: Job) -> None:
    """Refuse processes that would not do the same."""
    team.require_same(
        {
            "hash of the options": options_hash(job.options),
            "number of training samples": len(job.train_set),
            "number of pictures to validate on": {
                name: len(images) for name, images in job.val_sets.items()
            },
            "checkpoint to go on from": str(job.resume_from),
            "memory layout (name one, use_channels_last: true or false)": str(
                job.runtime.memory_format
            ),
            "version of traiNNer": traiNNer.__version__,
            "version of torch": torch.__version__,
        }
    )


def _settled(options: TrainingOptions, runtime: Runtime, network: nn.Module) -> tuple[Runtime, int]:
    """The runtime with the memory layout and the threads that suit the network, and the number of
    processes that read.
    """
    runtime = runtime.for_training(network)
    num_workers = choose_workers(options.datasets.train, runtime)
    share_cores(runtime, num_workers)
    if options.use_channels_last == "auto":
        # Not for every start: it imports much.
        from traiNNer.planning.layout import choose_layout

        with timed("chose the memory layout"):
            runtime = choose_layout(options, runtime, network)
    return runtime, num_workers


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
