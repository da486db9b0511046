"""A whole training: the run is put together, trains, and says what came of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from functools import partial

import torch

from traiNNer.data import DynamicDatasetWrapper, ImageFolderDataset
from traiNNer.data.roots import all_data_roots
from traiNNer.engine.checkpoints import Checkpoints
from traiNNer.engine.difficulty import DifficultyNotes
from traiNNer.engine.fixed_sizes import checkpoint_where_needed, hold_sizes_at_once
from traiNNer.engine.folders import archive_old_run, set_aside_later_states, tidy
from traiNNer.engine.interrupts import Interrupts
from traiNNer.engine.logs import log_to_file, print_table
from traiNNer.engine.memory_fit import build_memory_fit, picture_path
from traiNNer.engine.mishaps import Mishaps
from traiNNer.engine.part import Part
from traiNNer.engine.plan import best_metric
from traiNNer.engine.preparation import Job
from traiNNer.engine.progress import Stopwatch
from traiNNer.engine.report import compare, comparison_table, save_sheet
from traiNNer.engine.reporter import Reporter
from traiNNer.engine.run import OTHER_STATES, Run
from traiNNer.engine.scoring import build_metrics
from traiNNer.engine.setup import build_loader, build_validator, in_scales
from traiNNer.engine.step_of_all import Following, share_by_memory
from traiNNer.engine.stream import StepStream
from traiNNer.engine.tracker import Tracker
from traiNNer.engine.validation import Upscale, Validation
from traiNNer.models import BaseModel, ClassifierModel, RestorationModel
from traiNNer.options.loading import options_text
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.files import write_atomic
from traiNNer.utils.memory import MemoryBackend
from traiNNer.utils.registry import RECIPES
from traiNNer.utils.seeds import hash_seed, seed_everything

log = logging.getLogger(__name__)


def train(
    job: Job,
    *,
    memory: MemoryBackend | None = None,
    more_parts: Sequence[Part] = (),
    interrupts: Interrupts | None = None,
) -> int:
    """Train from wherever the job begins to its end; with --check no more than loading it.

    Args:
        job: what is to be done.
        memory: what the automations watch; None opens that of the device.
        more_parts: called after the automations and the options' parts, and before everything that
            reports or saves.
        interrupts: whoever listens to Ctrl-C already; None listens while it trains.

    Returns:
        0, or 130 when interrupted (after saving).

    Raises:
        TraiNNerError: saying what is wrong and what to do.
    """
    team = job.runtime.team
    team.open_sums(job.runtime.device)
    run = assemble(job, memory=memory, more_parts=more_parts, interrupts=interrupts)
    load_start(job, run)
    if job.request.check:
        if team.is_first:
            print(job.check_text)  # noqa: T201 (what the user asked for)
        return 0
    if not team.is_alone:
        begin_together(run)
    if team.is_first:
        open_folders(job)
    job.cache.open()
    with run.interrupts:
        with run.interrupts.saving(), closing(run.tracker):
            run.tracker.open(first_step=run.iteration + 1)
            code = run.train()
        if code == 0 and team.is_first:
            finish(job, run)
    return code


def begin_together(run: Run) -> None:
    """All processes have the first one's weights, and random numbers of their own: a network that
    draws draws for other samples.
    """
    team = run.team
    for network in run.recipe.networks:
        team.copy_from_first(network.module.state_dict().values())
    if not team.is_first:
        seed_everything(hash_seed(run.options.manual_seed, run.iteration, team.rank))
        run.interrupts.is_quiet = True
        # From here on what it has to say is of its own device.
        logging.getLogger("traiNNer").setLevel(logging.WARNING)


def assemble(
    job: Job,
    *,
    memory: MemoryBackend | None = None,
    more_parts: Sequence[Part] = (),
    interrupts: Interrupts | None = None,
) -> Run:
    """Recipe, loader and parts, in the order in which the parts are called: what changes the sizes
    first, then what tells of it, and saving last, when all others have done their work.
    """
    options = job.options
    runtime = job.runtime
    recipe = RECIPES[options.model_type](options, runtime, job.network)
    dataset = DynamicDatasetWrapper(
        in_scales(options, job.train_set), options.datasets.train.lq_size, options.scale
    )
    loader = build_loader(options, runtime, dataset, job.cache)
    recipe.set_dynamic_wrappers(loader, dataset)
    interrupts = interrupts or Interrupts()
    recipe.runner.giving_up = interrupts.giving_up
    is_first = runtime.team.is_first
    writes_curves = options.logger.use_tb_logger and is_first
    tracker = Tracker(job.folders.tensorboard if writes_curves else None)
    if isinstance(job.train_set, ImageFolderDataset):
        recipe.metadata |= job.train_set.facts
    checkpoints = Checkpoints(job.folders, options, recipe.metadata)
    clock = Stopwatch()
    if runtime.device.type == "cuda":
        clock.shape_speed.wait = partial(torch.cuda.synchronize, runtime.device)
    fit = build_memory_fit(options, recipe, dataset, memory)
    if fit is not None and not runtime.team.is_alone:
        share_by_memory(options, recipe, loader, fit.memory)
    checkpoint_where_needed(options, recipe, memory)
    if fit is None:
        hold_sizes_at_once(options, recipe, memory)
    validator = build_validator(options, runtime, job.val_sets, tracker, job.folders)
    parts: list[Part] = [] if fit is None else [fit]
    parts += [section.entry(**section.params) for section in options.parts]
    parts += more_parts
    data = options.datasets.train
    notes: list[Part] = []
    if data.difficulty is not None:
        # Every process reads in the order that its own ones lead to, and they are all the same.
        notes.append(DifficultyNotes(data.curriculum, report=data.report_hardest and is_first))
    parts += notes
    parts.append(Reporter(job.cache.advice))
    if validator is not None:
        parts.append(Validation(validator, upscaler_of(recipe), checkpoints, best_metric(options)))
    parts.append(checkpoints)
    require_different_names(parts)
    effective = options.train.effective_batch_size
    if not is_first:
        # The state of every part is the first process's. Whoever hands parts in does so everywhere.
        parts = [*more_parts, *notes]
        if validator is not None:
            parts.append(Validation(validator, upscaler_of(recipe), None, None))
        parts.append(Following(None if fit is None else fit.memory))
    return Run(
        options,
        recipe,
        StepStream(
            loader,
            clock,
            options.datasets.train.accum_iter,
            None if effective is None else effective // runtime.team.size,
            interrupts,
            options.network_g.entry.min_batch,
        ),
        job.train_set,
        job.folders,
        tuple(parts),
        tracker,
        interrupts,
        clock,
    )


def require_different_names(parts: Sequence[Part]) -> None:
    """Refuse parts that a checkpoint has no name for, or could not tell apart.

    Raises:
        OptionsError: naming one.
    """
    taken: set[str] = {*OTHER_STATES}
    for part in parts:
        name = getattr(part, "name", None)
        if not isinstance(name, str) or not name:
            raise OptionsError(
                f"the part {type(part).__name__} has no name for its state in checkpoints; give "
                'its class one, for example name = "my_part"'
            )
        if name in taken:
            raise OptionsError(
                f"the part {type(part).__name__} has the name {name!r} in checkpoints, and so "
                "has something else; give it another name"
            )
        taken.add(name)


def upscaler_of(recipe: BaseModel) -> Upscale:
    """Whole images through the recipe's network; what a classifier says of them.

    Raises:
        OptionsError: if the recipe makes no images.
    """
    if isinstance(recipe, ClassifierModel):
        return recipe.classify
    if not isinstance(recipe, RestorationModel):
        raise OptionsError(
            f"model_type: {type(recipe).__name__} makes no images that could be compared with GT; "
            "set val.val_enabled: false and val.compare_bicubic: false"
        )
    return recipe.upscale


def load_start(job: Job, run: Run) -> None:
    """Load what the run starts from: a state, pretrained weights, or nothing."""
    if job.resume_from is not None:
        kept = [part for part in run.parts if isinstance(part, Checkpoints)]
        # A process that is not the first reads them too, and never writes any.
        checkpoints = kept[0] if kept else Checkpoints(job.folders, job.options)
        checkpoints.load(job.resume_from, run)
        run.recipe.load_pretrained(is_resumed=True)
        return
    if job.request.auto_resume:
        log.info("--auto_resume: no checkpoint of this run yet, it starts anew")
    run.recipe.load_pretrained()


def open_folders(job: Job) -> None:
    """Make room for the run, and write down what it is going to do."""
    folders = job.folders
    state = job.resume_from
    if state is not None and state.parent.resolve() == folders.states.resolve():
        tidy(folders)
        notes = set_aside_later_states(folders, state)
    else:
        # Local time: it goes into a folder's name that the user looks for.
        now = datetime.now()  # noqa: DTZ005
        notes = archive_old_run(folders, now, all_data_roots(job.options))
    folders.create()
    log_to_file(folders.log / "train.log")
    for note in notes:
        log.info("%s", note)
    log.info("the plan\n%s", job.plan)
    write_atomic(folders.root / "options.yml", options_text(job.options).encode())


def finish(job: Job, run: Run) -> None:
    """Say where everything is and, if asked, set the network beside bicubic."""
    options = job.options
    folders = job.folders
    if options.val.compare_bicubic:
        metrics = build_metrics(options.val.metrics, options.scale)
        upscale = upscaler_of(run.recipe)
        mishaps = Mishaps()
        for name, dataset in job.val_sets.items():
            with mishaps.forgiving(f"the comparison with bicubic on {name}"):
                comparison = compare(name, dataset, {"network": upscale}, metrics)
                print_table(comparison_table(comparison, metrics))
                sheet = folders.visualization / f"comparison_{name}.png"
                save_sheet(sheet, comparison.sheet)
                print(f"comparison sheet: {sheet}")  # noqa: T201 (beside the table)
    for part in run.parts:
        table = part.summary()
        if table is not None:
            print_table(table)
    if run.memory is not None:
        picture = picture_path(folders.root)
        print(f"use of the memory over the iterations: {picture}")  # noqa: T201 (beside the table)
    best = next(part.best for part in run.parts if isinstance(part, Checkpoints))
    kept = ""
    if best is not None:
        kept = f", the best ({best.metric} {best.value:.4f} at {best.iteration:,}) as net_g_best"
    log.info("done: %d iterations; weights in %s%s", run.iteration, folders.models, kept)
