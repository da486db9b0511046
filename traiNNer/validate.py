"""Whether an installation works: python -m traiNNer.validate

Looks at versions, device, memory and precision, writes and reads pictures and films, makes a
training step, and one that runs out of memory. A line each; the exit code is 1 if one of them
fails. Nothing is left on the disk, and nothing is fetched.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from traiNNer.data.workers import shared_memory
from traiNNer.engine.logs import print_table
from traiNNer.engine.memory_fit import open_memory
from traiNNer.models import SRModel
from traiNNer.ops.degradations.codecs import require_encoder
from traiNNer.options.schema import TrainingOptions
from traiNNer.planning.step_memory import planned_batch
from traiNNer.utils.device import Runtime, choose_device, describe_device, is_emulated
from traiNNer.utils.errors import TraiNNerError
from traiNNer.utils.files import write_atomic
from traiNNer.utils.images import read_image, write_image
from traiNNer.utils.shape import Shape
from traiNNer.utils.text import gib

_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "opencv-python-headless",
    "Pillow",
    "scikit-image",
    "scipy",
    "pydantic",
    "safetensors",
    "spandrel",
    "tensorboard",
)
_CODECS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "mpeg2video", "mpeg4")
# Shared memory below which batches of a usual size do not fit.
_LITTLE_SHARED = 256 * 2**20
_NETWORK = {"type": "compact", "num_feat": 16, "num_conv": 2}


@dataclass(frozen=True)
class Check:
    """A line of the table. What its function returns is told; what it raises is a failure."""

    name: str
    look: Callable[[], str]


def versions() -> str:
    """What is installed.

    Raises:
        TraiNNerError: naming what is not.
    """
    found: list[str] = []
    missing: list[str] = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        raise TraiNNerError(f"missing: {', '.join(missing)}; pip install -r requirements.txt")
    return f"Python {sys.version.split()[0]}, {', '.join(found)}"


def device() -> str:
    """What trains."""
    cuda = torch.version.cuda or "none"
    return f"{describe_device(choose_device('auto'))}; torch was built for CUDA {cuda}"


def memory() -> str:
    """What the automation would fill, and what batches travel through."""
    backend = open_memory(Runtime(choose_device("auto")), None)
    words = "is not measured on this device" if backend is None else backend.describe()
    room = shared_memory()
    if room is None:
        return words
    little = " (little: num_worker_per_gpu: 0 reads without it)" if room < _LITTLE_SHARED else ""
    return f"{words}; {gib(room)} of shared memory{little}"


def precisions() -> str:
    """In which types a product works."""
    place = choose_device("auto")
    told: list[str] = []
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        matrix = torch.ones(16, 16, device=place, dtype=dtype)
        product = float((matrix @ matrix)[0, 0])
        assert product == 16, f"{dtype}: 16 ones add up to {product}"
        slow = ""
        if dtype != torch.float32 and is_emulated(place, dtype):
            slow = " (slowly)"
        told.append(str(dtype).removeprefix("torch.") + slow)
    return ", ".join(told)


def pictures() -> str:
    """A picture of 8 and of 16 bits, written and read.

    Raises:
        TraiNNerError: if it is another one then.
    """
    levels = np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as name:
        for picture in (levels, levels.astype(np.uint16) * 257):
            path = Path(name) / f"{picture.dtype}.png"
            write_image(path, picture)
            if not np.array_equal(read_image(path), picture):
                raise TraiNNerError(f"a PNG of {picture.dtype} is not what was written")
    return "PNG of 8 and 16 bits"


def films() -> str:
    """Which codecs of films there are; none is needed for pictures."""
    there: list[str] = []
    for name in _CODECS:
        try:
            require_encoder(name)
        except TraiNNerError as error:
            if "PyAV" in str(error):
                return "no PyAV, which is needed for films alone: pip install 'av>=18'"
            continue
        there.append(name)
    return ", ".join(there) or "none of the codecs"


def _recipe() -> tuple[SRModel, TrainingOptions]:
    data = {"type": "PairedImageDataset", "dataroot_gt": "gt", "dataroot_lq": "lq", "lq_size": 16}
    options = TrainingOptions.model_validate(
        {
            "name": "validate",
            "scale": 2,
            "network_g": _NETWORK,
            "datasets": {"train": data | {"batch_size_per_gpu": 4}},
            "train": {
                "total_iter": 10,
                "optim_g": {"type": "AdamW", "lr": 1e-3},
                "losses": [{"type": "l1"}],
            },
        }
    )
    torch.manual_seed(0)
    runtime = Runtime(choose_device("auto"))
    return SRModel(options, runtime, SRModel.build_network(options)), options


def step() -> str:
    """A training step changes the weights.

    Raises:
        TraiNNerError: if it does not.
    """
    recipe, options = _recipe()
    first = next(recipe.main.module.parameters())
    before = first.detach().clone()
    result = recipe.step([planned_batch(options, Shape(16, 4))])
    recipe.flush_checks()
    if torch.equal(before, first):
        raise TraiNNerError("the weights are as they were")
    return f"{result.samples} patches of {result.shape.lq_size} px, the weights have changed"


def recovery() -> str:
    """A step that finds no memory for its whole batch is made in parts.

    Raises:
        TraiNNerError: if it is not.
    """
    recipe, options = _recipe()

    def refuse(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with recipe.main.module.register_forward_pre_hook(refuse):
        result = recipe.step([planned_batch(options, Shape(16, 4))])
    recipe.flush_checks()
    phase = next(iter(result.phases.values()))
    if phase.retry is None or result.samples != 4:
        raise TraiNNerError("the step was not repeated in parts")
    return f"all {result.samples} patches, in parts of {result.shape.batch_size}"


def folders() -> str:
    """Whether runs can be written here.

    Raises:
        TraiNNerError: if they cannot.
    """
    place = Path.cwd()
    with tempfile.TemporaryDirectory(prefix=".trainner_", dir=place) as name:
        write_atomic(Path(name) / "file", b"text")
    return f"{place} can be written"


CHECKS = (
    Check("packages", versions),
    Check("device", device),
    Check("memory", memory),
    Check("precision", precisions),
    Check("pictures", pictures),
    Check("films", films),
    Check("training step", step),
    Check("out of memory", recovery),
    Check("folder", folders),
)


def main(argv: list[str] | None = None) -> int:
    """Look at all of it and print it; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    # That memory runs out is what is tried here, and no news.
    logging.getLogger("traiNNer").setLevel(logging.ERROR)
    return report(CHECKS)


def report(checks: tuple[Check, ...]) -> int:
    """Print a line for each check; 1 if one failed, else 0."""
    table = Table("", "", "", box=None, show_header=False)
    failed = 0
    for check in checks:
        try:
            words = check.look()
            sign = "ok"
        # Whatever goes wrong is what somebody wants to know.
        except Exception as error:  # noqa: BLE001
            failed += 1
            words = f"{type(error).__name__}: {error}"
            sign = "FAILS"
        table.add_row(check.name, sign, words)
    print_table(table)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
