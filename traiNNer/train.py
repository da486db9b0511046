"""Train a network: python train.py -opt options/demo.yml"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traiNNer.engine.interrupts import Interrupts
    from traiNNer.engine.preparation import Request

# Threads that wait for each other on a CPU sleep instead of spinning, which leaves the core to the
# processes that read images (20 to 30 % faster steps beside them on two cores). Must be set before
# torch is imported, so the package is imported inside functions.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Large blocks on a CPU come in pages of 2 MiB, where the system has them: they are given back after
# each step, and to take them anew in small ones took a fifth of a demo's processor time.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-opt", metavar="FILE", type=Path, help="the options, a YAML file")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="set one option, for example --set train.total_iter=1000 (repeatable)",
    )
    parser.add_argument("--name", metavar="S", help="name of the run, instead of the file's")
    parser.add_argument(
        "--auto_resume",
        action="store_true",
        help="go on with the run of this name, if there is one",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="read options and data, print the plan, and stop",
    )
    parser.add_argument(
        "--explain",
        metavar="KEY",
        help="say what an option means, for example train.optim_g",
    )
    arguments = parser.parse_args(argv)
    if arguments.opt is None and arguments.explain is None:
        parser.error("the following arguments are required: -opt FILE")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0 done, 2 wrong options or data, 130 interrupted after saving, 1 anything
    else.
    """
    # Before everything else, and before torch, which takes seconds.
    from traiNNer.engine.interrupts import Interrupts

    with Interrupts() as interrupts:
        arguments = parse_arguments(argv)
        from traiNNer.engine.command_line import run_plainly
        from traiNNer.engine.logs import setup_logging

        setup_logging()
        if arguments.explain is not None:
            return run_plainly(lambda: explain(arguments.explain, arguments.opt))
        return run_plainly(lambda: train(make_request(arguments), interrupts))


def make_request(arguments: argparse.Namespace) -> Request:
    from traiNNer.engine.preparation import Request

    return Request(
        arguments.opt,
        tuple(arguments.overrides),
        arguments.name,
        auto_resume=arguments.auto_resume,
        check=arguments.check,
    )


def explain(key: str, options: Path | None) -> int:
    from traiNNer.options.extensions import load_extensions
    from traiNNer.options.reference import explain_key
    from traiNNer.options.yaml_reader import read_yaml

    if options is not None:
        load_extensions(read_yaml(options))
    print(explain_key(key))
    return 0


def train(request: Request, interrupts: Interrupts) -> int:
    """Options, data, network, plan; then the training, unless no more than a look was asked for."""
    from traiNNer.engine.launch import end_with_launcher, run_processes
    from traiNNer.engine.preparation import prepared, processes_wanted, read_options
    from traiNNer.utils.team import joined_team, started_here

    options = None
    # In a team the first process reads them first, and tells what is wrong once.
    if started_here() is None:
        options = read_options(request)
        count = processes_wanted(options)
        if count > 1:
            return run_processes([sys.executable, *sys.orig_argv[1:]], count)
    end_with_launcher()
    with joined_team() as team, prepared(request, team, options) as job:
        if request.check and job.is_checked:
            if team.is_first:
                print(job.check_text)
            return 0
        from traiNNer.engine import session

        return session.train(job, interrupts=interrupts)


def command() -> int:
    """`main`, as a program calls it."""
    from traiNNer.utils.names import take_names_for_utf8

    try:
        take_names_for_utf8()
        return main()
    except KeyboardInterrupt:  # while modules were imported
        return 130


if __name__ == "__main__":
    sys.exit(command())
