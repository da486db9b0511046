#!/usr/bin/env python3
"""Train a network: python train.py -opt options/demo.yml"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

# Threads that wait for each other on a CPU sleep instead of spinning, which leaves the core to the
# processes that read images (20 to 30 % faster steps beside them on two cores). Must be set before
# torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

log = logging.getLogger("traiNNer.train")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-opt", metavar="FILE", type=Path, help="the options, a YAML file")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
                        help="set one option, for example --set train.total_iter=1000 "
                             "(repeatable)")  # fmt: skip
    parser.add_argument("--name", metavar="S", help="name of the run, instead of the file's")
    parser.add_argument(
        "--auto_resume",
        action="store_true",
        help="go on with the run of this name, if there is one",
    )
    parser.add_argument(
        "--check", action="store_true", help="read options and data, print the plan, and stop"
    )
    parser.add_argument(
        "--explain", metavar="KEY", help="say what an option means, for example train.optim_g"
    )
    arguments = parser.parse_args(argv)
    if arguments.opt is None and arguments.explain is None:
        parser.error("the following arguments are required: -opt FILE")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0 done, 2 wrong options or data, 130 interrupted after saving, 1 anything
    else.
    """
    arguments = parse_arguments(argv)
    from traiNNer.engine.command_line import run_plainly
    from traiNNer.engine.logs import setup_logging

    setup_logging()
    if arguments.explain is not None:
        return run_plainly(lambda: explain(arguments.explain))
    return run_plainly(lambda: train(arguments))


def explain(key: str) -> int:
    from traiNNer.options.reference import explain_key

    print(explain_key(key))
    return 0


@dataclass
class Job:
    """What is known of a run before anything of it is loaded or written."""

    options: Any
    runtime: Any
    folders: Any
    resume_from: Path | None
    train_set: Any
    val_sets: dict[str, Any]
    network: Any
    plan: str


def train(arguments: argparse.Namespace) -> int:
    """Options, data, network, plan; with --check no more than that."""
    job = prepare(arguments)
    path = job.options.path
    automations = job.options.training_automations
    if (
        arguments.check
        and job.resume_from is None
        and path.pretrain_network_g is None
        and not automations.active
    ):
        print(job.plan)
        return 0
    return run(arguments, job)


def prepare(arguments: argparse.Namespace) -> Job:
    """Read options and headers, build the network. Imports little, so that --check answers at
    once.
    """
    from traiNNer.archs import build_network
    from traiNNer.engine.command_line import make_runtime, timed
    from traiNNer.engine.plan import format_plan, training_plan
    from traiNNer.engine.runs import RunFolders, find_resume_state, refuse_running
    from traiNNer.engine.setup import choose_workers, open_datasets, share_cores
    from traiNNer.options.loading import load_options
    from traiNNer.options.schema import TrainingOptions
    from traiNNer.utils.seeds import seed_everything

    options = load_options(TrainingOptions, arguments.opt, arguments.overrides, name=arguments.name)
    runtime = make_runtime(
        num_gpu=options.num_gpu, use_amp=options.use_amp, amp_bf16=options.amp_bf16,
        use_channels_last=options.use_channels_last, use_compile=options.use_compile,
        fast_matmul=options.fast_matmul, deterministic=options.deterministic,
    )  # fmt: skip
    folders = RunFolders.of(options.name, options.path)
    if not arguments.check:
        refuse_running(folders)
    resume_from = find_resume_state(folders, options.path, auto_resume=arguments.auto_resume)
    seed_everything(options.manual_seed)
    with timed("read the datasets' headers"):
        train_set, val_sets = open_datasets(options)
    with timed("built the network"):
        network = build_network(
            options.network_g.type, scale=options.scale, **options.network_g.params
        )
    runtime = runtime.for_training(network)
    num_workers = choose_workers(options.datasets.train, runtime)
    share_cores(runtime, num_workers)
    plan = format_plan(
        training_plan(options, runtime, network, train_set, val_sets, folders, num_workers)
    )
    return Job(options, runtime, folders, resume_from, train_set, val_sets, network, plan)


def run(arguments: argparse.Namespace, job: Job) -> int:
    """Model, loader, checkpoints; then the loop; then the report."""
    from traiNNer.data import DynamicDatasetWrapper
    from traiNNer.engine.checkpoints import Checkpoints
    from traiNNer.engine.interrupts import Interrupts
    from traiNNer.engine.memory_fit import build_memory_fit
    from traiNNer.engine.runs import claimed
    from traiNNer.engine.setup import build_loader, build_validator
    from traiNNer.engine.tracker import Tracker
    from traiNNer.engine.trainer import Trainer
    from traiNNer.models import SRModel

    options = job.options
    runtime = job.runtime
    folders = job.folders
    model = SRModel(options, runtime, job.network)
    checkpoints = Checkpoints(folders, options)
    dataset = DynamicDatasetWrapper(job.train_set, options.datasets.train.lq_size, options.scale)
    loader = build_loader(options, runtime, dataset)
    model.set_dynamic_wrappers(loader, dataset)
    fit = checkpoints.fit = build_memory_fit(options, model, dataset)
    load_start(model, loader, checkpoints, job.resume_from, auto_resume=arguments.auto_resume)
    if arguments.check:
        print(job.plan)
        return 0

    open_folders(job)
    tracker = Tracker(
        folders.tensorboard if options.logger.use_tb_logger else None, model.iteration + 1
    )
    with claimed(folders), Interrupts() as interrupts:
        validator = build_validator(options, runtime, job.val_sets, tracker, folders)
        try:
            code = Trainer(model, loader, checkpoints, tracker, validator, interrupts, fit).run()
        finally:
            tracker.close()
            if fit is not None:
                fit.save_picture(folders.root / "vram.png", f"{options.name} on {runtime.device}")
    if code == 0:
        finish(model, job.val_sets, folders, checkpoints)
    return code


def open_folders(job: Job) -> None:
    """Make room for the run, and write down what it is going to do."""
    from traiNNer.engine.logs import log_to_file
    from traiNNer.engine.runs import archive_old_run, set_aside_later_states
    from traiNNer.engine.setup import all_data_roots
    from traiNNer.options.loading import options_text
    from traiNNer.utils.files import write_atomic

    folders = job.folders
    resume_from = job.resume_from
    if resume_from is not None and resume_from.parent.resolve() == folders.states.resolve():
        said = set_aside_later_states(folders, resume_from)
    else:
        said = archive_old_run(folders, datetime.now(), all_data_roots(job.options))  # noqa: DTZ005
    folders.create()
    log_to_file(folders.log / "train.log")
    for sentence in said:
        log.info("%s", sentence)
    log.info("the plan\n%s", job.plan)
    write_atomic(folders.root / "options.yml", options_text(job.options).encode())


def load_start(
    model: Any, loader: Any, checkpoints: Any, resume_from: Path | None, *, auto_resume: bool
) -> None:
    """Load what the run starts from: a state, pretrained weights, or nothing."""
    options = model.options
    if resume_from is not None:
        checkpoints.load(resume_from, model, loader)
        return
    if auto_resume:
        log.info("--auto_resume: no checkpoint of this run yet, it starts anew")
    if options.path.pretrain_network_g is not None:
        model.load_pretrained(
            Path(options.path.pretrain_network_g), strict=options.path.strict_load_g
        )


def finish(model: Any, val_sets: Mapping[str, Any], folders: Any, checkpoints: Any) -> None:
    """Say where everything is and, if asked, set the network beside bicubic."""
    from traiNNer.engine.logs import print_table
    from traiNNer.engine.report import compare_with_bicubic, comparison_table, save_sheet
    from traiNNer.engine.validation import build_metrics

    options = model.options
    if options.val.compare_bicubic:
        metrics = build_metrics(options.val.metrics, options.scale)
        for name, dataset in val_sets.items():
            comparison = compare_with_bicubic(name, dataset, model.upscale, metrics)
            sheet = folders.visualization / f"comparison_{name}.png"
            save_sheet(sheet, comparison.sheet)
            print_table(comparison_table(comparison, metrics))
            print(f"comparison sheet: {sheet}")
    if checkpoints.fit is not None:
        print_table(checkpoints.fit.table())
        print(f"use of the memory over the iterations: {folders.root / 'vram.png'}")
    best = checkpoints.best
    kept = (
        f", the best ({best.metric} {best.value:.4f} at {best.iteration:,}) as net_g_best"
        if best
        else ""
    )
    log.info("done: %d iterations; weights in %s%s", model.iteration, folders.models, kept)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # while modules were imported
        sys.exit(130)
