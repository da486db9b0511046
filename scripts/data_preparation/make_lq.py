#!/usr/bin/env python3
"""Make a data set out of pictures: GT, and LQ by shrinking it or by a recipe of degradations.

    python scripts/data_preparation/make_lq.py PICTURES -o datasets --scale 2 --val 5

writes datasets/train/gt and datasets/train/lq, and five of the pictures to datasets/val/gt and
datasets/val/lq; without --val datasets/gt and datasets/lq. Sub-folders and names are kept. GT is
copied as it is, or cropped at its right and lower edge to a multiple of the scale. LQ is PNG, with
8 or 16 bits as its GT (8, where it is degraded). With --lq_only GT stays where it is, and -o is the
folder for LQ; the sides of GT have to be multiples of the scale then.

A picture's name and --seed decide all that a recipe draws for it. Started again with the same
arguments, it goes on where it was stopped, and makes what is new or has changed; what was for
training or for validation remains so. It replaces nothing that it has not made itself: the folders
have to be new or empty the first time. Pictures that cannot be used are named at the end.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
import yaml
from pydantic import ValidationError

from traiNNer.data.degrading import DegradationRecipe
from traiNNer.data.scan import ScannedImage, scan_into
from traiNNer.data.shrinking import shrink
from traiNNer.data.walk import SYSTEM_NAMES, LeftOut
from traiNNer.engine.command_line import run_plainly
from traiNNer.engine.logs import console, setup_logging
from traiNNer.engine.progress import ProgressBar
from traiNNer.inference.failures import Failures
from traiNNer.ops.resize import ResizeMode
from traiNNer.utils.device import usable_cores
from traiNNer.utils.errors import DataError, DiskError, OptionsError
from traiNNer.utils.files import FileStamp, write_atomic
from traiNNer.utils.images import Pixels, read_header, read_image, write_image
from traiNNer.utils.names import file_key, same_everywhere, visible
from traiNNer.utils.problems import Problems
from traiNNer.utils.seeds import hash_seed
from traiNNer.utils.text import plural

log = logging.getLogger("traiNNer.make_lq")
# Hidden, so that no scan takes it for data.
LEDGER = ".make_lq.jsonl"
# Where there is no terminal, the log of a large set should stay readable.
LOG_EVERY_S = 60


class Ledger:
    """Which files of a folder this script has made, and of what: a line for each, written before
    the file is, so that a kill never leaves one that is not listed.

    Args:
        folder: of the files, made if need be.
        settings: what all of them have in common.

    Raises:
        OptionsError: if the folder holds something else, or was made with other settings.
        DiskError: if it cannot be written.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self._path = folder / LEDGER
        self._lock = threading.Lock()
        self._made: dict[str, FileStamp] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if self._path.exists():
                self._read(settings)
            elif any(path.name.lower() not in SYSTEM_NAMES for path in folder.iterdir()):
                raise OptionsError(
                    f"{folder} holds files that this script has not made; name a new folder, or an "
                    "empty one"
                )
            else:
                write_atomic(self._path, (json.dumps(settings) + "\n").encode())
        except OSError as error:
            raise DiskError(f"cannot write {folder}: {error.strerror or error}") from error

    def _read(self, settings: dict[str, Any]) -> None:
        try:
            first, *lines = self._path.read_bytes().splitlines()
            former = dict(json.loads(first))
        except (ValueError, TypeError) as error:
            raise OptionsError(f"{self._path} is damaged; name a new folder") from error
        if former != settings:
            raise OptionsError(
                f"{self.folder} was made with other settings ({_words(former)}; asked for is "
                f"{_words(settings)}); name another folder"
            )
        for line in lines:
            try:
                name, size, mtime_ns = json.loads(line)
            except (ValueError, TypeError):
                # The last line of a run that was killed: its file was not begun.
                continue
            self._made[name] = FileStamp(size, mtime_ns)

    def has(self, name: str, source: FileStamp | None, size: tuple[int, int]) -> bool:
        """Whether a file of that width and height was made of this very source, and is there."""
        if source is None or self._made.get(same_everywhere(name)) != source:
            return False
        try:
            header = read_header(self.folder / name)
        except DataError:
            return False
        return (header.width, header.height) == size

    def claim(self, name: str, source: FileStamp | None) -> Path:
        """Where to write a file, which is listed from now on.

        Raises:
            DataError: if there is one that this script has not made.
        """
        path = self.folder / name
        key = same_everywhere(name)
        with self._lock:
            if key not in self._made and path.exists():
                raise DataError(f"{path} was not made by this script; move it out of the way")
            stamp = source or FileStamp(0, 0)
            self._made[key] = stamp
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, *stamp]) + "\n")
        return path

    def lists(self, name: str) -> bool:
        """Whether the file was made, or begun."""
        return same_everywhere(name) in self._made

    def others(self, names: set[str]) -> list[str]:
        """What was made before and is not among these names."""
        wanted = {same_everywhere(name) for name in names}
        gone = [name for name in self._made if name not in wanted]
        return sorted(name for name in gone if (self.folder / name).exists())


def _words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pictures", type=Path, metavar="PICTURES", help="a folder of them")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="where to write"
    )
    parser.add_argument(
        "--scale",
        type=int,
        required=True,
        help="GT is this many times larger, 2 or more (1 with --degradations)",
    )
    parser.add_argument(
        "--filter", choices=get_args(ResizeMode), default="bicubic", help="default: %(default)s"
    )
    parser.add_argument(
        "--antialias",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="widen the filter by the scale, as every image program does (default: on)",
    )
    parser.add_argument(
        "--degradations",
        metavar="RECIPE",
        help="a recipe's name, or a YAML file with a list of steps (docs/degradations.md)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of what the recipe draws")
    parser.add_argument(
        "--val", type=int, default=0, metavar="N", help="as many pictures are for validation"
    )
    parser.add_argument(
        "--lq_only", action="store_true", help="write LQ alone, GT remains where it is"
    )
    parser.add_argument(
        "--jobs", type=int, default=usable_cores(), help="pictures at once (default: all cores)"
    )
    return parser.parse_args(argv)


class Maker:
    """Makes GT and LQ of one picture after the other.

    Args:
        arguments: of the command line.
        lq: the folder for LQ.
        gt: the folder for GT, None to make none.
        recipe: makes LQ; None shrinks.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        lq: Ledger,
        gt: Ledger | None,
        recipe: DegradationRecipe | None,
    ) -> None:
        self.lq = lq
        self.gt = gt
        self._arguments = arguments
        self._recipe = recipe

    def make(self, image: ScannedImage) -> bool:
        """Whether anything had to be made.

        Raises:
            DataError: if GT cannot be read, or a file is in the way.
            DiskError: if a file cannot be written.
        """
        scale = self._arguments.scale
        width = image.header.width // scale
        height = image.header.height // scale
        name = lq_name(image)
        name_gt = gt_name(image, scale)
        size_gt = (width * scale, height * scale)
        needs_lq = not self.lq.has(name, image.stamp, (width, height))
        needs_gt = self.gt is not None and not self.gt.has(name_gt, image.stamp, size_gt)
        if not needs_lq and not needs_gt:
            return False
        gt = read_image(image.path)[: height * scale, : width * scale]
        # GT first: LQ without its GT would be found by the scan.
        if needs_gt and self.gt is not None:
            path = self.gt.claim(name_gt, image.stamp)
            if is_multiple(image, scale):
                write_atomic(path, image.path.read_bytes())
            else:
                write_image(path, np.ascontiguousarray(gt))
        if needs_lq:
            write_image(self.lq.claim(name, image.stamp), self._lq_of(gt, name))
        return True

    def _lq_of(self, gt: Pixels, name: str) -> Pixels:
        arguments = self._arguments
        if self._recipe is None:
            return shrink(gt, arguments.scale, arguments.filter, antialias=arguments.antialias)
        seed = name_seed(name, arguments.seed)
        pixels = gt / np.float32(np.iinfo(gt.dtype).max)
        return self._recipe(pixels[None].astype(np.float32, copy=False), seed)[0][0]


def find_recipe(arguments: argparse.Namespace) -> DegradationRecipe | None:
    """The recipe that the command line names.

    Raises:
        OptionsError: if there is none of that name, or it is wrong.
    """
    given = arguments.degradations
    if given is None:
        return None
    steps: Any = given
    try:
        if given.lower().endswith((".yml", ".yaml")):
            steps = yaml.safe_load(Path(given).read_text(encoding="utf-8"))
        return DegradationRecipe(steps, arguments.scale, arguments.filter)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise OptionsError(f"--degradations {given} cannot be read: {error}") from error
    except ValidationError as error:
        said = [
            ".".join(map(str, one["loc"])) + (": " if one["loc"] else "") + one["msg"]
            for one in error.errors()
        ]
        raise OptionsError(f"--degradations {given}: {'; '.join(said)}") from error


def lq_name(image: ScannedImage) -> str:
    """The path of an LQ below its folder."""
    return f"{image.stem}.png"


def gt_name(image: ScannedImage, scale: int) -> str:
    """The path of a cropped GT below its folder: as it was, where it is copied."""
    return image.name if is_multiple(image, scale) else f"{image.stem}.png"


def is_multiple(image: ScannedImage, scale: int) -> bool:
    """Whether both sides are multiples of the scale."""
    return image.header.width % scale == 0 and image.header.height % scale == 0


def find_images(arguments: argparse.Namespace, failures: Failures) -> list[ScannedImage]:
    """The pictures that can be used; what cannot is added to `failures`.

    Raises:
        DataError: if there are none, or GT would have to be cropped where it lies.
        OptionsError: if all of them would be for validation.
    """
    scale = arguments.scale
    problems = Problems(what="pictures")
    left_out = LeftOut()
    found = scan_into(arguments.pictures, problems, left_out)
    if not found:
        problems.raise_if_any()
    failures.extend(problems.examples)
    images: dict[str, ScannedImage] = {}
    off_grid = Problems(what="pictures")
    for image in found:
        if min(image.header.width, image.header.height) < scale:
            failures.say(f"{image.path} is {image.size}, smaller than {scale}x{scale} pixels")
            continue
        other = images.setdefault(file_key(image.stem), image)
        if other is not image:
            failures.say(f"{image.path} and {other.name} would have one LQ; rename one of them")
        elif arguments.lq_only and not is_multiple(image, scale):
            off_grid.add(
                f"the sides are no multiples of {scale}; without --lq_only GT is written too, "
                "cropped where it has to be",
                f"{image.path} is {image.size}",
            )
    off_grid.raise_if_any()
    if not images:
        failures.raise_if_any()
    if arguments.val >= len(images):
        raise OptionsError(
            f"--val {arguments.val} leaves nothing to train on: there are "
            f"{plural(len(images), 'picture')}"
        )
    parts = [plural(len(images), "picture"), *left_out.describe()]
    log.info("%s: %s", arguments.pictures, ", ".join(parts))
    return list(images.values())


def check(arguments: argparse.Namespace) -> None:
    """Refuse numbers that make no sense, and folders in each other.

    Raises:
        OptionsError: naming them.
    """
    least = 2 if arguments.degradations is None else 1
    for option, value, lowest in (
        ("--scale", arguments.scale, least),
        ("--jobs", arguments.jobs, 1),
        ("--val", arguments.val, 0),
    ):
        if value < lowest:
            raise OptionsError(f"{option} {value}: expected {lowest} or more")
    if arguments.val and arguments.lq_only:
        raise OptionsError("--val parts GT as well; leave out --val or --lq_only")
    pictures = arguments.pictures.resolve()
    for folder in folders(arguments).values():
        place = folder.resolve()
        if place.is_relative_to(pictures):
            raise OptionsError(
                f"{folder} is in {arguments.pictures}, where it would be found as pictures the "
                "next time; name an -o outside of it"
            )
        if pictures.is_relative_to(place):
            raise OptionsError(f"{arguments.pictures} is in {folder}, which is to be written")


def folders(arguments: argparse.Namespace) -> dict[str, Path]:
    """What is written: `gt` and `lq`, or both of `train` and `val`, or `lq` alone."""
    output = arguments.output
    if arguments.lq_only:
        return {"lq": output}
    parts = ("train/", "val/") if arguments.val else ("",)
    return {f"{part}{kind}": output / part / kind for part in parts for kind in ("gt", "lq")}


def make_makers(arguments: argparse.Namespace, recipe: DegradationRecipe | None) -> list[Maker]:
    """One; or that of the pictures to train on, and that of those to validate on.

    Raises:
        OptionsError: if a folder holds something else.
        DiskError: if a folder cannot be written.
    """
    settings: dict[str, Any] = {
        "scale": arguments.scale,
        "filter": arguments.filter,
        "antialias": "on" if arguments.antialias else "off",
    }
    if arguments.degradations is not None:
        settings |= {"degradations": arguments.degradations, "seed": arguments.seed}
    settings_gt = {"scale": arguments.scale}
    # Another number would move pictures from training to validation.
    if arguments.val:
        settings["val"] = arguments.val
        settings_gt["val"] = arguments.val
    places = folders(arguments)
    ledgers = {
        name: Ledger(path, settings_gt if name.endswith("gt") else settings)
        for name, path in places.items()
    }
    parts = dict.fromkeys(name.removesuffix("lq").removesuffix("gt") for name in places)
    return [
        Maker(arguments, ledgers[f"{part}lq"], ledgers.get(f"{part}gt"), recipe) for part in parts
    ]


def share_out(
    images: Sequence[ScannedImage], makers: Sequence[Maker], count: int
) -> list[tuple[ScannedImage, Maker]]:
    """Who makes which picture: `count` of them are for validation. By a hash of the names, so that
    the pictures of one folder or one day are not all of them.
    """
    if not count:
        return [(image, makers[0]) for image in images]
    training, validation = makers
    chosen = {image for image in images if validation.lq.lists(lq_name(image))}
    others = [
        image
        for image in sorted(images, key=lambda image: name_seed(lq_name(image)))
        if image not in chosen and not training.lq.lists(lq_name(image))
    ]
    chosen.update(others[: max(0, count - len(chosen))])
    return [(image, validation if image in chosen else training) for image in images]


def name_seed(name: str, seed: int = 0) -> int:
    """Of the name, so that further pictures change nothing of what the others get."""
    return hash_seed(seed, zlib.crc32(os.fsencode(same_everywhere(name))))


def make_all(
    work: Sequence[tuple[ScannedImage, Maker]], jobs: int, failures: Failures
) -> tuple[int, int]:
    """Make all of them, several at once, and return how many had to be made and how many had
    not.
    """
    # The pictures share the cores, and a large one does not take them all.
    torch.set_num_threads(max(1, usable_cores() // jobs))
    made = 0
    present = 0
    done = 0
    last_line = time.monotonic()
    bar = ProgressBar(len(work), 0)
    pool = ThreadPoolExecutor(jobs)
    try:
        futures = {pool.submit(maker.make, image): image for image, maker in work}
        for future in as_completed(futures):
            done += 1
            try:
                is_new = future.result()
                made += is_new
                present += not is_new
            # Whatever does not concern this picture alone is raised again.
            except Exception as error:  # noqa: BLE001
                failures.add(str(futures[future].path), error)
            bar.advance()
            bar.say(visible(futures[future].name))
            if not console.is_terminal and time.monotonic() - last_line > LOG_EVERY_S:
                last_line = time.monotonic()
                log.info("%d of %d pictures", done, len(work))
    finally:
        # After Ctrl-C, those at hand are finished and the others are not begun.
        pool.shutdown(cancel_futures=True)
        bar.close()
    return made, present


def report(work: Sequence[tuple[ScannedImage, Maker]], scale: int) -> None:
    """Say what is in the folders, and what remains there of pictures that are gone."""
    for maker in dict.fromkeys(maker for _, maker in work):
        mine = [image for image, other in work if other is maker]
        images = [image for image in mine if maker.lq.lists(lq_name(image))]
        cropped = sum(not is_multiple(image, scale) for image in images)
        note = f", {cropped} of them cropped to multiples of {scale}" if cropped else ""
        if maker.gt is not None:
            log.info("%s: %s%s", maker.gt.folder, plural(len(images), "picture"), note)
        log.info("%s: %s", maker.lq.folder, plural(len(images), "picture"))
        for ledger, names in (
            (maker.lq, {lq_name(image) for image in mine}),
            (maker.gt, {gt_name(image, scale) for image in mine}),
        ):
            rest = [] if ledger is None else ledger.others(names)
            if ledger is not None and rest:
                log.warning(
                    "%s: %s whose GT is gone, %s for example; delete what is not wanted",
                    ledger.folder,
                    plural(len(rest), "picture"),
                    visible(rest[0]),
                )


def run(arguments: argparse.Namespace) -> int:
    """Make the data set, and say what was made."""
    check(arguments)
    recipe = find_recipe(arguments)
    failures = Failures()
    images = find_images(arguments, failures)
    work = share_out(images, make_makers(arguments, recipe), arguments.val)
    made, present = make_all(work, arguments.jobs, failures)
    log.info("%d made, %d were there already", made, present)
    report(work, arguments.scale)
    failures.raise_if_any()
    return 0


def main(argv: list[str] | None = None) -> int:
    """Return the exit code."""
    arguments = parse(argv)
    setup_logging()
    return run_plainly(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
