"""Pictures, datasets, options and commands for the tests."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file

import train
from traiNNer.archs import build_network
from traiNNer.engine import session
from traiNNer.engine.command_line import run_plainly
from traiNNer.engine.logs import setup_logging
from traiNNer.engine.part import Part
from traiNNer.engine.preparation import prepared
from traiNNer.utils.images import write_image
from traiNNer.utils.memory import MemoryBackend

ROOT = Path(__file__).resolve().parents[1]


def texture(height: int, width: int, seed: int) -> np.ndarray:
    """A picture with structure at several scales, `(height, width, 3)` uint8, the same for the same
    seed.
    """
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 8.0
    waves = [
        np.sin(x * f + p) * np.cos(y * g + q) for f, g, p, q in generator.uniform(0.2, 2.5, (9, 4))
    ]
    channels = np.stack([sum(waves[i::3]) for i in range(3)], axis=-1)
    noise = generator.normal(0, 0.1, (height, width, 3))
    return np.clip((channels + noise) * 32 + 128, 0, 255).astype(np.uint8)


def make_pairs(
    root: Path, *, count: int = 4, lq_size: int = 48, scale: int = 2, seed: int = 0
) -> Path:
    """Pairs in root/gt and root/lq: squares of texture, and the mean of each scale x scale cell of
    them.
    """
    for number in range(count):
        gt = texture(lq_size * scale, lq_size * scale, seed + number)
        cells = gt.reshape(lq_size, scale, lq_size, scale, 3).astype(np.float64)
        write_image(root / "gt" / f"{number:03}.png", gt)
        write_image(
            root / "lq" / f"{number:03}.png", cells.mean(axis=(1, 3)).round().astype(np.uint8)
        )
    return root


def save_checkpoint(path: Path, seed: int, num_feat: int = 8, scale: int = 2) -> Path:
    """A small network of random weights, in a file that says what it is."""
    torch.manual_seed(seed)
    parameters = {"num_feat": num_feat, "num_conv": 1}
    network = build_network("compact", scale=scale, **parameters)
    metadata = {"arch": "compact", "parameters": json.dumps(parameters), "scale": str(scale)}
    save_file(dict(network.state_dict()), path, metadata)
    return path


def load_script(name: str) -> ModuleType:
    """A script of the top folder as a module; `import test` would find the standard library's."""
    spec = importlib.util.spec_from_file_location(f"script_{Path(name).stem}", ROOT / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look
    spec.loader.exec_module(module)
    return module


def run_command(
    script: str, *arguments: str, cwd: Path, timeout_s: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run train.py, test.py or a script as a user does."""
    command = [sys.executable, str(ROOT / script), *arguments]
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(
        command,
        cwd=cwd,
        env=variables,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def small_options(data: Path, **changes: Any) -> dict[str, Any]:
    """Options of a run of seconds on the pairs of `make_pairs`; `changes` replaces or adds
    top-level keys.
    """
    section = {
        "type": "PairedImageDataset",
        "dataroot_gt": str(data / "gt"),
        "dataroot_lq": str(data / "lq"),
    }
    options: dict[str, Any] = {
        "name": "small",
        "scale": 2,
        "num_gpu": 0,
        "datasets": {
            "train": section | {"lq_size": 16, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0},
            "val": dict(section),
        },
        "network_g": {"type": "compact", "num_feat": 8, "num_conv": 2},
        "train": {
            "total_iter": 6,
            "optim_g": {"type": "adamw", "lr": 1e-3},
            "losses": [{"type": "l1"}],
        },
        "val": {"val_freq": 3},
        "logger": {"print_freq": 2, "save_checkpoint_freq": 3},
    }
    return options | changes


def run_training(
    options: dict[str, Any] | Path,
    *arguments: str,
    memory: MemoryBackend | None = None,
    parts: Sequence[Part] = (),
) -> int:
    """What train.py does with these options (or the file of that path) and arguments, with memory
    and parts handed in.
    """
    path = options if isinstance(options, Path) else write_options(Path("o.yml"), options)
    request = train.make_request(train.parse_arguments(["-opt", str(path), *arguments]))

    def action() -> int:
        with prepared(request) as job:
            return session.train(job, memory=memory, more_parts=parts)

    setup_logging()
    return run_plainly(action)


def write_options(path: Path, options: dict[str, Any]) -> Path:
    """Write options as YAML."""
    path.write_text(yaml.safe_dump(options, sort_keys=False), encoding="utf-8")
    return path
