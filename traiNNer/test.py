"""Upscale images and videos with a trained network, and measure it where there is GT."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traiNNer.options.schema import TestOptions
    from traiNNer.utils.device import Runtime

# As in train.py of this folder.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Kernels that oneDNN keeps on a CPU, a set for each size of picture: with its own 1,024, 300
# pictures of all sizes left 116 MiB behind. A network has less than a hundred of one size.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "-opt", metavar="FILE", type=Path, required=True, help="the options, a YAML file"
    )
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
                        help="set one option, for example --set val.tile_size=256 "
                             "(repeatable)")  # fmt: skip
    parser.add_argument("--name", metavar="S", help="name of the results, instead of the file's")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0 done, 2 wrong options, data or checkpoint (of single files, too, when the
    others are done), 130 interrupted, 1 anything else.
    """
    arguments = parse_arguments(argv)
    # Imported late, so that --help and a mistyped argument are answered at once.
    from traiNNer.engine.command_line import run_plainly
    from traiNNer.engine.logs import setup_logging

    setup_logging()
    return run_plainly(lambda: test(arguments))


def test(arguments: argparse.Namespace) -> int:
    """Options, checkpoint, datasets; then every image and every scene."""
    from traiNNer.engine.command_line import make_runtime, timed
    from traiNNer.engine.setup import open_dataset
    from traiNNer.inference.classifier import names_classifier
    from traiNNer.inference.ensemble import open_enlarger
    from traiNNer.inference.failures import Failures
    from traiNNer.inference.images import upscale_images
    from traiNNer.inference.scenes import VideoDataset, check_datasets, upscale_scenes
    from traiNNer.options.loading import load_options
    from traiNNer.options.schema import TestOptions
    from traiNNer.utils.problems import Problems

    options = load_options(TestOptions, arguments.opt, arguments.overrides, name=arguments.name)
    runtime = make_runtime(options)
    if names_classifier(options):
        return classify(options, runtime)
    with timed("loaded the network"):
        network = open_enlarger(options, runtime)
    unusable = Problems()
    datasets = {
        section.name or key: open_dataset(section, network.facts.scale, unusable)
        for key, section in options.datasets.evaluated.items()
    }
    # All of them first: a mistake in the last one should not show after hours.
    check_datasets(datasets, network, options)
    # One bad file does not end the work on a folder.
    failures = Failures()
    failures.extend(unusable.examples)
    for name, dataset in datasets.items():
        folder = Path(options.path.results_root) / options.name / name
        if isinstance(dataset, VideoDataset):
            upscale_scenes(name, dataset, network, options, folder, failures)
        else:
            upscale_images(name, dataset, network, options, folder, failures)
    failures.raise_if_any()
    return 0


def classify(options: TestOptions, runtime: Runtime) -> int:
    """The same with a network that tells classes."""
    from traiNNer.engine.setup import open_dataset
    from traiNNer.inference.classes import check_class_sets, classify_set
    from traiNNer.inference.classifier import open_classifier
    from traiNNer.inference.failures import Failures
    from traiNNer.utils.problems import Problems

    classifier = open_classifier(options, runtime)
    unusable = Problems()
    datasets = {
        section.name or key: open_dataset(section, 1, unusable)
        for key, section in options.datasets.evaluated.items()
    }
    check_class_sets(datasets, classifier, options)
    failures = Failures()
    failures.extend(unusable.examples)
    for name, dataset in datasets.items():
        folder = Path(options.path.results_root) / options.name / name
        classify_set(name, dataset, classifier, options, folder, failures)
    failures.raise_if_any()
    return 0


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
