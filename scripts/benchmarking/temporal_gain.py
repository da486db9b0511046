#!/usr/bin/env python3
"""What the neighbours of a frame are worth: one network on single frames and on stacks of them,
trained equally long.

Each contestant is `train.py` as a user starts it, on the demo video (photographs under a moving
camera, LQ out of H.264), with the demo's options: the same patches, batch, losses and moving
average, a rate that falls to zero at the end. A short pilot run says how long a step takes; the run
proper has as many steps as fit into the time. A stack of one frame is the network itself on single
frames. Beside them: bicubic interpolation, which is not trained.

`--noise` is the control: grain of its own on every LQ frame, which neighbours must help against, if
they are used.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

import traiNNer.metrics  # noqa: F401 - fills the registry
from traiNNer.data import PairedVideoDataset
from traiNNer.demo.video import SCALE, make_demo_video
from traiNNer.engine.report import BICUBIC, compare
from traiNNer.engine.scoring import middle_frame
from traiNNer.ops.resize import resize
from traiNNer.utils.device import choose_device, describe_device
from traiNNer.utils.errors import TraiNNerError
from traiNNer.utils.images import read_image, write_image
from traiNNer.utils.registry import METRICS

ROOT = Path(__file__).resolve().parents[2]
JUDGED = ("psnr", "ssim", "flicker")
STEP = re.compile(r"^(\S+ \S+) INFO: (\d+)/\d+  ", re.M)


@dataclass(frozen=True)
class Contestant:
    """A network in the table."""

    label: str
    network: dict[str, Any]
    frames: int
    target: str = "center"


def contestants(
    arch: str, parameters: dict[str, Any], frames: list[int], others: list[str]
) -> list[Contestant]:
    """The network over each number of frames, and the temporal networks of that name."""
    stacks = [
        Contestant(
            f"{arch}, {count} frame{'s' * (count > 1)}",
            {"type": "temporal_stack", "arch": arch, "frames": count, **parameters},
            count,
        )
        for count in frames
    ]
    clips = [
        Contestant(name, {"type": name}, 5, "all" if name == "recurrent" else "center")
        for name in others
    ]
    return stacks + clips


def make_options(
    one: Contestant, arguments: argparse.Namespace, seed: int, data: Path, folder: Path
) -> dict[str, Any]:
    """The demo's options, on clips."""
    options = yaml.safe_load((ROOT / "options" / "demo.yml").read_text())
    for key in ("training_automations", "vram_limit_gib"):
        del options[key]
    roots = {
        part: {
            f"dataroot_{kind}": str(data / part / name)
            for kind, name in (("gt", "gt"), ("lq", f"lq_x{SCALE}"))
        }
        for part in ("train", "val")
    }
    clips = {"type": "PairedVideoDataset", "clip_size": one.frames, "target": one.target}
    options |= {
        "name": "gain",
        "scale": SCALE,
        "manual_seed": seed,
        "num_gpu": 0 if arguments.cpu else "auto",
        "network_g": one.network,
        "path": {"experiments_root": str(folder / "experiments"), "tb_root": str(folder / "tb")},
    }
    train = {
        "lq_size": arguments.lq_size,
        "batch_size_per_gpu": arguments.batch,
        "num_worker_per_gpu": 1,
    }
    options["datasets"] = {
        "train": clips | roots["train"] | train,
        "val": {
            "name": "val",
            "type": "PairedVideoDataset",
            "clip_size": one.frames,
            **roots["val"],
        },
    }
    options["val"] = {"val_freq": 10**9, "metrics": {name: {"type": name} for name in JUDGED}}
    options["logger"] = {"print_freq": 10, "save_checkpoint_freq": 10**9}
    return options


def run(options: dict[str, Any], folder: Path, steps: int) -> float:
    """Train, and give the seconds of a step.

    Raises:
        RuntimeError: if the run fails.
    """
    options["train"]["total_iter"] = steps
    options["train"]["warmup_iter"] = min(50, steps // 10)
    file = folder / "options.yml"
    file.write_text(yaml.safe_dump(options))
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "-opt", str(file)],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(
            f"the run of {options['network_g']} failed:\n{(done.stdout + done.stderr)[-2000:]}"
        )
    seen = STEP.findall((folder / "experiments" / "gain" / "log" / "train.log").read_text())
    (first, start) = seen[0]
    (last, end) = seen[-1]
    # Of one clock, so the zone cancels out.
    form = "%Y-%m-%d %H:%M:%S,%f"
    clock = [datetime.strptime(text, form) for text in (first, last)]  # noqa: DTZ007
    return (clock[1] - clock[0]).total_seconds() / max(1, int(end) - int(start))


def scores(folder: Path) -> dict[str, float]:
    """The scores of the last validation."""
    events = EventAccumulator(str(folder / "tb" / "gain"), size_guidance={"scalars": 0}).Reload()
    return {name: events.Scalars(f"val/val/{name}")[-1].value for name in JUDGED}


@dataclass(frozen=True)
class Result:
    """What one run came to."""

    steps: int
    step_s: float
    scores: dict[str, float]


def measure(one: Contestant, arguments: argparse.Namespace, seed: int, data: Path) -> Result:
    """Train for the time, and judge."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = make_options(one, arguments, seed, data, folder)
        pilot = run(options | {"val": {"val_enabled": False}}, folder, 60)
        steps = max(100, round(arguments.seconds / pilot))
        seconds = run(options, folder, steps)
        return Result(steps, seconds, scores(folder))


def add_noise(data: Path, folder: Path, sigma: float) -> Path:
    """A copy of the data set in the folder, with Gaussian noise on LQ, of its own on every
    frame.
    """
    random = np.random.default_rng(0)
    copy = folder / "noisy"
    shutil.copytree(data, copy)
    for path in sorted(copy.glob(f"*/lq_x{SCALE}/*/*.png")):
        frame = read_image(path)
        write_image(
            path,
            (frame + random.normal(0, sigma, frame.shape)).round().clip(0, 255).astype(np.uint8),
        )
    return copy


def score_bicubic(data: Path) -> dict[str, float]:
    """The validation frames enlarged by antialiased bicubic interpolation."""
    frames = PairedVideoDataset(
        SCALE, str(data / "val" / "gt"), str(data / "val" / f"lq_x{SCALE}"), 1, "center"
    )
    metrics = {name: METRICS[name](scale=SCALE) for name in JUDGED}

    def enlarged(lq: Tensor) -> Tensor:
        frame = middle_frame(lq)
        return resize(frame, (frame.shape[-2] * SCALE, frame.shape[-1] * SCALE))

    return dict(compare("val", frames, {"itself": enlarged}, metrics).results[BICUBIC].means)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--arch", default="compact", help="a network that can be stacked (default: compact)"
    )
    parser.add_argument(
        "--parameters",
        type=yaml.safe_load,
        default={"num_feat": 24, "num_conv": 6},
        metavar="YAML",
        help="of the network (default: the demo's, {num_feat: 24, num_conv: 6})",
    )
    parser.add_argument(
        "--frames", type=int, nargs="+", default=[1, 3, 5], help="of the stacks (default: 1 3 5)"
    )
    parser.add_argument(
        "--others", nargs="*", default=[], metavar="NAME", help="further temporal networks"
    )
    parser.add_argument(
        "--seconds", type=float, default=75, help="of training for each (default: 75, the demo's)"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0], help="one run with each (default: 0)"
    )
    parser.add_argument("--lq_size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument(
        "--data", type=Path, help="the demo video (default: made in a temporary folder)"
    )
    parser.add_argument(
        "--noise",
        type=float,
        default=0,
        metavar="SIGMA",
        help="of Gaussian noise on LQ, in levels of 255 (default: 0)",
    )
    parser.add_argument("--cpu", action="store_true", help="on the CPU even if there is a GPU")
    arguments = parser.parse_args(argv)
    device = choose_device(0 if arguments.cpu else "auto")
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or Path(folder) / "demo_video"
        try:
            make_demo_video(data)
            if arguments.noise:
                data = add_noise(data, Path(folder), arguments.noise)
            bicubic = score_bicubic(data)
            rows = [
                (one, [measure(one, arguments, seed, data) for seed in arguments.seeds])
                for one in contestants(
                    arguments.arch, arguments.parameters, arguments.frames, arguments.others
                )
            ]
        except (TraiNNerError, RuntimeError) as error:
            print(error, file=sys.stderr)
            return 1
    print(
        f"{describe_device(device)}, torch {torch.__version__}: {arguments.seconds:g} s of "
        f"training each, lq_size {arguments.lq_size}, batch {arguments.batch}, noise "
        f"{arguments.noise:g}, seeds {arguments.seeds}\n"
    )
    print("| network | steps | ms a step | PSNR dB | SSIM | flicker | PSNR of each seed |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print(
        f"| bicubic | | | {bicubic['psnr']:.2f} | {bicubic['ssim']:.4f} | {bicubic['flicker']:.3f} "
        "| |"
    )
    for one, results in rows:
        steps = statistics.mean(result.steps for result in results)
        step_s = statistics.mean(result.step_s for result in results)
        psnr, ssim, flicker = (
            statistics.mean(result.scores[name] for result in results) for name in JUDGED
        )
        each = " ".join(f"{result.scores['psnr']:.2f}" for result in results)
        figures = [
            f"{steps:.0f}",
            f"{1000 * step_s:.1f}",
            f"{psnr:.2f}",
            f"{ssim:.4f}",
            f"{flicker:.3f}",
            each,
        ]
        print(f"| {one.label} | {' | '.join(figures)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
