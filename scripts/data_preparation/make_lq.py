#!/usr/bin/env python3
"""Make LQ images out of GT by shrinking or by a recipe of degradations, for training and
validation: LQ/a/b.png for each GT/a/b.jpg.

Sub-folders and names are kept. LQ is PNG, with 8 or 16 bits as its GT (8, where it is degraded).
With --degradations, a picture's name and --seed decide all that is drawn for it. Started again with
the same arguments, it goes on where it was stopped, and makes anew what has changed. It replaces
nothing that it has not made itself: LQ has to be a new or empty folder the first time.

GT has to be a multiple of the scale in width and height. With --crop_gt FOLDER, such a GT is
written there (cropped at the right and lower edge, and copied as it is where nothing has to be
cut), to be used in place of the first one.
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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
import yaml
from pydantic import ValidationError

from traiNNer.data.degrading import DegradationRecipe
from traiNNer.data.header_cache import FileStamp
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
from traiNNer.utils.files import write_atomic
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
    parser.add_argument("--gt", type=Path, required=True, metavar="FOLDER", help="the pictures")
    parser.add_argument("--lq", type=Path, required=True, metavar="FOLDER", help="where to write")
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
        "--crop_gt",
        type=Path,
        metavar="FOLDER",
        help="write there GT whose sides are multiples of the scale",
    )
    parser.add_argument(
        "--jobs", type=int, default=usable_cores(), help="pictures at once (default: all cores)"
    )
    return parser.parse_args(argv)


class Maker:
    """Makes the LQ, and if asked the cropped GT, of one picture after the other.

    Args:
        arguments: of the command line.
        lq: the folder for LQ.
        gt: the folder for the cropped GT, None to make none.
        recipe: makes LQ; None shrinks.
    """

    def __init__(
        self,
        arguments: argparse.Namespace,
        lq: Ledger,
        gt: Ledger | None,
        recipe: DegradationRecipe | None,
    ) -> None:
        self._arguments = arguments
        self._lq = lq
        self._gt = gt
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
        needs_lq = not self._lq.has(name, image.stamp, (width, height))
        needs_gt = self._gt is not None and not self._gt.has(name_gt, image.stamp, size_gt)
        if not needs_lq and not needs_gt:
            return False
        gt = read_image(image.path)[: height * scale, : width * scale]
        # GT first: LQ without its GT would be found by the scan.
        if needs_gt and self._gt is not None:
            path = self._gt.claim(name_gt, image.stamp)
            if is_multiple(image, scale):
                write_atomic(path, image.path.read_bytes())
            else:
                write_image(path, np.ascontiguousarray(gt))
        if needs_lq:
            write_image(self._lq.claim(name, image.stamp), self._lq_of(gt, name))
        return True

    def _lq_of(self, gt: Pixels, name: str) -> Pixels:
        arguments = self._arguments
        if self._recipe is None:
            return shrink(gt, arguments.scale, arguments.filter, antialias=arguments.antialias)
        # Of the name, so that further pictures change nothing of what the others get.
        seed = hash_seed(arguments.seed, zlib.crc32(os.fsencode(same_everywhere(name))))
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


def find_images(arguments: argparse.Namespace) -> list[ScannedImage]:
    """The pictures to shrink.

    Raises:
        DataError: listing all that is wrong with them.
    """
    scale = arguments.scale
    problems = Problems()
    left_out = LeftOut()
    images = scan_into(arguments.gt, problems, left_out)
    names: dict[str, ScannedImage] = {}
    for image in images:
        other = names.setdefault(file_key(image.stem), image)
        if other is not image:
            kind = "two images of one name, which would have one LQ; rename or remove one"
            problems.add(kind, f"{other.path} and {image.name}")
        if min(image.header.width, image.header.height) < scale:
            problems.add(f"smaller than {scale}x{scale} pixels", f"{image.path} is {image.size}")
        elif arguments.crop_gt is None and not is_multiple(image, scale):
            problems.add(
                f"the sides are no multiples of {scale}; --crop_gt FOLDER writes GT that is "
                "cropped, to be used in place of this one",
                f"{image.path} is {image.size}",
            )
    problems.raise_if_any()
    parts = [plural(len(images), "picture"), *left_out.describe()]
    log.info("%s: %s", arguments.gt, ", ".join(parts))
    return images


def check(arguments: argparse.Namespace) -> None:
    """Refuse numbers that make no sense, and folders in each other.

    Raises:
        OptionsError: naming them.
    """
    least = 2 if arguments.degradations is None else 1
    if arguments.scale < least:
        raise OptionsError(f"--scale {arguments.scale}: expected {least} or more")
    if arguments.jobs < 1:
        raise OptionsError(f"--jobs {arguments.jobs}: expected 1 or more")
    folders = {"--gt": arguments.gt, "--lq": arguments.lq}
    if arguments.crop_gt is not None:
        folders["--crop_gt"] = arguments.crop_gt
    places = {option: folder.resolve() for option, folder in folders.items()}
    for option, place in places.items():
        for other, folder in places.items():
            if other != option and place.is_relative_to(folder):
                raise OptionsError(
                    f"{option} {folders[option]} is in {other} {folders[other]}, where it would "
                    "be found as a part of that set; name folders beside each other"
                )


def make_all(
    images: Sequence[ScannedImage],
    make: Callable[[ScannedImage], bool],
    jobs: int,
    failures: Failures,
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
    bar = ProgressBar(len(images), 0)
    pool = ThreadPoolExecutor(jobs)
    try:
        futures = {pool.submit(make, image): image for image in images}
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
                log.info("%d of %d pictures", done, len(images))
    finally:
        # After Ctrl-C, those at hand are finished and the others are not begun.
        pool.shutdown(cancel_futures=True)
        bar.close()
    return made, present


def run(arguments: argparse.Namespace) -> int:
    """Make LQ, and say what was made."""
    check(arguments)
    recipe = find_recipe(arguments)
    images = find_images(arguments)
    scale = arguments.scale
    settings = {
        "scale": scale,
        "filter": arguments.filter,
        "antialias": "on" if arguments.antialias else "off",
    }
    if arguments.degradations is not None:
        settings |= {"degradations": arguments.degradations, "seed": arguments.seed}
    lq = Ledger(arguments.lq, settings)
    gt = None if arguments.crop_gt is None else Ledger(arguments.crop_gt, {"scale": scale})
    failures = Failures()
    maker = Maker(arguments, lq, gt, recipe)
    made, present = make_all(images, maker.make, arguments.jobs, failures)
    log.info("%s: %d made, %d were there already", arguments.lq, made, present)
    for ledger, names in (
        (lq, {lq_name(image) for image in images}),
        (gt, {gt_name(image, scale) for image in images}),
    ):
        rest = [] if ledger is None else ledger.others(names)
        if ledger is not None and rest:
            log.warning(
                "%s: %s whose GT is gone, %s for example; delete what is not wanted",
                ledger.folder,
                plural(len(rest), "picture"),
                visible(rest[0]),
            )
    failures.raise_if_any()
    return 0


def main(argv: list[str] | None = None) -> int:
    """Return the exit code."""
    arguments = parse(argv)
    setup_logging()
    return run_plainly(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
