#!/usr/bin/env python3
"""Make LQ of GT frames as a streaming service would: smaller, then through a real video encoder and
its decoder.

GT_ROOT holds a folder of numbered frames for each scene, as extract_frames.py writes them. Each
scene is shrunk by antialiased bicubic interpolation (as Matlab's imresize does it), encoded at one
of the named rates, and decoded again to OUT/lq/SCENE/NUMBER.png. Where several codecs or rates are
named, the scenes are dealt out evenly, in an order that depends on --seed and their names; --all
makes every scene at every rate instead, in OUT/lq_CODEC_RATE. What each scene got, and what it
cost, is in OUT/stream_pairs.json.

GT is used where it is, unless a side is no multiple of twice the scale (4:2:0 video needs even
sides): then all of GT is written to OUT/gt, cropped at the right and at the bottom.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rich.console import Console
from rich.table import Table

from traiNNer.data.scan import ScannedImage, scan_folder
from traiNNer.demo.photographs import shrink
from traiNNer.engine.command_line import run_plainly
from traiNNer.engine.progress import ProgressBar
from traiNNer.utils.arithmetic import round_down
from traiNNer.utils.errors import DataError, DiskError, OptionsError
from traiNNer.utils.images import read_image
from traiNNer.utils.seeds import hash_seed
from traiNNer.video.writing import (
    CODECS,
    PRESETS,
    Compression,
    Encoding,
    Frame,
    require_encoder,
    staging,
    write_frame,
)

RECORD = "stream_pairs.json"
# In pixels; smaller frames are refused by libx265, and no network wants them.
LEAST_LQ_SIDE = 32
UNITS = {"": 1, "k": 1000, "m": 1_000_000}


# Writes a frame to a file; the suffix says how.
WriteFrame = Callable[[Path, Frame], None]


class Scene(NamedTuple):
    """The frames of a folder in order, and the width and height that GT is cropped to."""

    name: str
    frames: list[ScannedImage]
    size: tuple[int, int]

    @property
    def cropped(self) -> bool:
        """Whether GT is not used as it is."""
        header = self.frames[0].header
        return self.size != (header.width, header.height)


class Job(NamedTuple):
    """A scene, how it is encoded, and the name of the root below OUT."""

    scene: Scene
    encoding: Encoding
    root: str
    write_gt: bool


class Workplace(NamedTuple):
    """What the jobs share.

    Attributes:
        folder: where they write.
        scale: GT is this many times larger than LQ.
        fps: frames per second.
        write: writes a frame.
        bar: is told of each frame.
        stop: set when the jobs are to end at their next frame.
    """

    folder: Path
    scale: int
    fps: Fraction
    write: WriteFrame
    bar: ProgressBar
    stop: threading.Event


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "gt_root",
        type=Path,
        metavar="GT_ROOT",
        help="folder with a folder of frames for each scene",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="where to write")
    parser.add_argument(
        "--scale", type=int, default=2, help="GT is this many times larger (default: %(default)s)"
    )
    parser.add_argument(
        "--codec", nargs="+", default=["h264"], choices=CODECS, help="one or more (default: h264)"
    )
    rates = parser.add_mutually_exclusive_group(required=True)
    rates.add_argument(
        "--bitrate",
        nargs="+",
        type=parse_bitrate,
        help="of LQ, in bits per second, such as 800k 1.5M; with --fps",
    )
    rates.add_argument(
        "--crf",
        nargs="+",
        type=float,
        help="constant quality, 0 (lossless) to 51; means another for each codec",
    )
    parser.add_argument(
        "--gop",
        type=int,
        default=48,
        help="frames between key frames, at most (default: %(default)s)",
    )
    parser.add_argument(
        "--preset", default="medium", choices=PRESETS, help="of the encoder (default: %(default)s)"
    )
    parser.add_argument(
        "--fps",
        type=parse_rate,
        default="24000/1001",
        help="frames per second (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="deals out the rates (default: %(default)s)"
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="every scene at every rate, each rate in a root of its own",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=min(8, os.cpu_count() or 1),
        help="scenes at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what a former call wrote to OUT"
    )
    return parser.parse_args(argv)


def parse_bitrate(text: str) -> int:
    """Bits per second from 800k, 1.5M or 800000."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([km]?)", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is no bitrate; write 800k or 1.5M")
    return round(float(match[1]) * UNITS[match[2]])


def parse_rate(text: str) -> Fraction:
    """Frames per second from 24000/1001, 25 or 23.976."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(
            f"'{text}' is no frame rate; write 24000/1001 or 25"
        ) from error
    if not 1 <= rate <= 1000:
        raise argparse.ArgumentTypeError(
            f"{text} frames per second are not possible; 1 to 1000 are"
        )
    return rate


def find_scenes(root: Path, scale: int) -> list[Scene]:
    """The scenes below a folder, by name.

    Raises:
        DataError: naming frames that are unusable, missing within a scene or of another size than
            the scene's first.
    """
    folders: dict[str, list[ScannedImage]] = {}
    for image in scan_folder(root):
        folders.setdefault(image.name.rpartition("/")[0], []).append(image)
    if "" in folders:
        # Pictures of all kinds would pass for one scene.
        raise DataError(
            f"{root} holds frames itself ({folders[''][0].name}); give the folder that holds the "
            "folder of each scene"
        )
    return [make_scene(root / name, name, images, scale) for name, images in folders.items()]


def make_scene(folder: Path, name: str, images: list[ScannedImage], scale: int) -> Scene:
    """The images of a folder as a scene."""
    numbered: dict[int, ScannedImage] = {}
    for image in images:
        digits = re.search(r"\d+$", Path(image.name).stem)
        if digits is None:
            raise DataError(
                f"{image.path}: the name of a frame ends in its number, such as 00000.png"
            )
        number = int(digits[0])
        if number in numbered:
            raise DataError(
                f"{folder}: {Path(image.name).name} and {numbered[number].path.name} have one "
                "number"
            )
        numbered[number] = image
    frames = [numbered[number] for number in sorted(numbered)]
    first = min(numbered)
    last = max(numbered)
    if len(frames) != last - first + 1:
        missing = next(number for number in range(first, last) if number not in numbered)
        raise DataError(
            f"{folder}: frame {missing} of {first} to {last} is missing; scenes have no gaps"
        )
    odd = next((frame for frame in frames if frame.size != frames[0].size), None)
    if odd is not None:
        raise DataError(
            f"{odd.path} is {odd.size}, the scene's first frame {frames[0].size}; split the scene "
            "there"
        )
    # LQ needs even sides, so GT needs sides of twice the scale.
    multiple = 2 * scale
    header = frames[0].header
    size = (round_down(header.width, multiple), round_down(header.height, multiple))
    if min(size) < LEAST_LQ_SIDE * scale:
        raise DataError(
            f"{folder}: frames of {frames[0].size} are too small; LQ needs {LEAST_LQ_SIDE} pixels "
            "a side"
        )
    return Scene(name, frames, size)


def encodings(arguments: argparse.Namespace) -> list[Encoding]:
    """Every codec at every rate.

    Raises:
        OptionsError: naming a value that is not allowed.
        DataError: if an encoder is missing.
    """
    if arguments.scale < 1 or arguments.workers < 1:
        raise OptionsError("--scale and --workers must be at least 1")
    for codec in arguments.codec:
        require_encoder(codec)
    if arguments.crf:
        rates: list[dict[str, Any]] = [{"crf": crf} for crf in arguments.crf]
    else:
        rates = [{"bitrate": bitrate} for bitrate in arguments.bitrate]
    common = {"gop": arguments.gop, "preset": arguments.preset}
    variants = [Encoding(codec, **rate, **common) for codec in arguments.codec for rate in rates]
    # A rate that was named twice would get twice as many scenes.
    return list(dict.fromkeys(variants))


def plan(scenes: list[Scene], variants: list[Encoding], seed: int, everything: bool) -> list[Job]:
    """Which scene is encoded how."""
    crop = any(scene.cropped for scene in scenes)
    if everything:
        roots = [f"lq_{variant.codec}_{variant.rate}" for variant in variants]
        return [
            Job(scene, variant, root, crop and root == roots[0])
            for variant, root in zip(variants, roots, strict=True)
            for scene in scenes
        ]
    # By a hash, so that scenes of one film, which have similar names, get different rates.
    order = sorted(scenes, key=lambda scene: (hash_seed(seed, *scene.name.encode()), scene.name))
    dealt = {scene.name: variants[place % len(variants)] for place, scene in enumerate(order)}
    return [Job(scene, dealt[scene.name], "lq", crop) for scene in scenes]


def shrunk_frames(job: Job, place: Workplace) -> Iterator[Frame]:
    """LQ before it is encoded, frame by frame; GT is written on the way where it is cropped."""
    width, height = job.scene.size
    for image in job.scene.frames:
        if place.stop.is_set():
            raise KeyboardInterrupt
        gt = read_gt(image)[:height, :width]
        if job.write_gt:
            place.write(place.folder / "gt" / job.scene.name / f"{image.path.stem}.png", gt)
        yield shrink(gt, place.scale)


def make_pair(job: Job, place: Workplace) -> dict[str, Any]:
    """Write the frames of a job; returns the scene's entry of the record."""
    scene = job.scene
    size = (scene.size[0] // place.scale, scene.size[1] // place.scale)
    compression = Compression(size, place.fps, job.encoding)
    frames = compression.run(shrunk_frames(job, place))
    squares = 0.0
    for image, (clean, lq) in zip(scene.frames, frames, strict=True):
        squares += float(np.square(lq.astype(np.float32) - clean).mean(dtype=np.float64))
        place.write(place.folder / job.root / scene.name / f"{image.path.stem}.png", lq)
        place.bar.advance()
    count = len(scene.frames)
    bits_per_pixel = compression.bits / (count * size[0] * size[1])
    error = squares / count
    return {
        "scene": scene.name,
        "root": job.root,
        "codec": job.encoding.codec,
        "rate": job.encoding.rate,
        "frames": count,
        "lq_size": list(size),
        "bits_per_pixel": round(bits_per_pixel, 4),
        "kbit_per_s": round(float(compression.bits / count * place.fps) / 1000, 1),
        "psnr": round(10 * float(np.log10(255**2 / error)), 2) if error else None,
    }


def read_gt(image: ScannedImage) -> Frame:
    """8 bit, whatever the file has."""
    pixels = read_image(image.path)
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    # 257 is 65535 / 255: white stays white.
    return np.round(pixels / 257.0).astype(np.uint8)


def check_places(gt_root: Path, out: Path, targets: list[str], overwrite: bool) -> None:
    """Refuse to write over GT, over a former call's output without `overwrite`, or over somebody
    else's.

    Raises:
        OptionsError: naming what is in the way.
    """
    # Resolved, because a link may lead to GT by another name.
    source = gt_root.resolve()
    place = out.resolve()
    if place == source or source in place.parents:
        raise OptionsError(
            f"--out {out} lies within GT_ROOT, where it would be taken for GT next time; choose "
            "another"
        )
    there = [out / target for target in targets if (out / target).exists()]
    for target in there:
        if source == target.resolve() or target.resolve() in source.parents:
            raise OptionsError(
                f"{target} would be replaced, and GT_ROOT is in it; choose another --out"
            )
    if there and not overwrite:
        raise OptionsError(f"{there[0]} is there already; --overwrite replaces it")
    # Even --overwrite replaces only what this program has written.
    if there and not (out / RECORD).is_file():
        raise OptionsError(
            f"{there[0]} was not made by this program (there is no {out / RECORD}); choose another "
            "--out"
        )


def install(folder: Path, out: Path, targets: list[str]) -> None:
    """Move what was made to its place; what a former call made goes to the trash, which is in
    `folder`.

    Raises:
        DiskError: if that fails.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        # The former roots too: LQ of another rate would lie beside the new ones.
        for number, target in enumerate(dict.fromkeys([*targets, *former_roots(out)])):
            if (out / target).exists():
                (out / target).rename(folder / f"trash{number}")
            if target in targets:
                (folder / target).rename(out / target)
    except OSError as error:
        raise DiskError(f"cannot write {out}: {error.strerror or error}") from error


def former_roots(out: Path) -> list[str]:
    """The roots that a former call made, as far as they look like its own."""
    try:
        roots = json.loads((out / RECORD).read_bytes())["roots"]
        # A record that was edited could name any folder, and these are thrown away.
        return [root for root in roots if re.fullmatch(r"lq(_h26[45]_[\w.]+)?", root)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def make_all(
    jobs: list[Job], folder: Path, arguments: argparse.Namespace, write: WriteFrame
) -> list[dict[str, Any]]:
    """Run the jobs, several at a time; returns their entries of the record."""
    bar = ProgressBar(sum(len(job.scene.frames) for job in jobs), 0)
    stop = threading.Event()
    place = Workplace(folder, arguments.scale, arguments.fps, write, bar, stop)
    bar.say(f"frames of {len(jobs)} scenes")
    try:
        with ThreadPoolExecutor(arguments.workers) as pool:
            # Threads are enough: encoding, decoding and compressing PNG all run without Python.
            waiting = [pool.submit(make_pair, job, place) for job in jobs]
            try:
                return [future.result() for future in waiting]
            finally:  # after the first error or Ctrl-C the others end at their next frame
                stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
    finally:
        bar.close()


def print_table(entries: list[dict[str, Any]]) -> None:
    """What each scene got."""
    table = Table(
        "scene", "codec", "rate", "frames", "LQ size", "bit/pixel", "kbit/s", "PSNR to the clean LQ"
    )
    for entry in entries:
        table.add_row(
            entry["scene"],
            entry["codec"],
            entry["rate"],
            str(entry["frames"]),
            "x".join(map(str, entry["lq_size"])),
            f"{entry['bits_per_pixel']:.3f}",
            f"{entry['kbit_per_s']:.0f}",
            "lossless" if entry["psnr"] is None else f"{entry['psnr']:.2f} dB",
        )
    # In a pipe rich takes 80 columns, which would break the names of scenes.
    # Names of scenes are no markup.
    console = Console(width=None if sys.stdout.isatty() else 140, markup=False, emoji=False)
    console.print(table)


def run(arguments: argparse.Namespace, write: WriteFrame = write_frame) -> int:
    """Make the pairs and print what was made."""
    out: Path = arguments.out
    variants = encodings(arguments)
    scenes = find_scenes(arguments.gt_root, arguments.scale)
    jobs = plan(scenes, variants, arguments.seed, arguments.all)
    roots = list(dict.fromkeys(job.root for job in jobs))
    targets = [*roots, *(["gt"] if jobs[0].write_gt else []), RECORD]
    check_places(arguments.gt_root, out, targets, arguments.overwrite)
    # What is needed to make the same pairs again.
    record: dict[str, Any] = {
        "gt": str((out / "gt" if jobs[0].write_gt else arguments.gt_root).absolute()),
        "roots": roots,
        "scale": arguments.scale,
        "fps": str(arguments.fps),
        "gop": arguments.gop,
        "preset": arguments.preset,
        "seed": arguments.seed,
    }
    with staging(out) as folder:
        record["scenes"] = make_all(jobs, folder, arguments, write)
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        install(folder, out, targets)
    print_table(record["scenes"])
    print(f"{len(scenes)} scenes, scale {arguments.scale}. GT: {record['gt']}")
    print("LQ: " + ", ".join(str((out / root).absolute()) for root in roots))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Return the exit code."""
    arguments = parse(argv)
    return run_plainly(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main())
