#!/usr/bin/env python3
"""What machine this is, asked in a process of its own.

Whoever touches the card holds a context on it from then on, which would take half a GiB of what is
measured; and a driver that hangs must not take the report with it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from scripts.benchmarking.report.processes import run_command
from scripts.benchmarking.report.results import write_json

ROOT = Path(__file__).resolve().parents[3]
# Starting CUDA on a machine with many cards takes several seconds.
LIMIT_S = 60.0
PACKAGES = "some packages are missing: pip install -r requirements.txt"


@dataclass
class Machine:
    """What is measured on.

    Attributes:
        kind: cuda, mps or cpu, as torch says.
        name: of the device, with its memory.
        total_bytes: memory of the device, as its driver says; of the machine for a CPU.
        uuid: by which NVML knows the card.
        facts: for readers, by name.
    """

    kind: str = "cpu"
    name: str = ""
    total_bytes: int = 0
    uuid: str = ""
    facts: dict[str, str] = field(default_factory=dict)


class MachineError(RuntimeError):
    """It cannot be told what machine this is."""


def ask(path: Path, *, cpu: bool, limit_s: float = LIMIT_S) -> Machine:
    """Have a process look and write `path`.

    Raises:
        MachineError: with a sentence, if it does not come to that.
    """
    command = [sys.executable, str(Path(__file__).resolve()), "--out", str(path)]
    ending = run_command(command + ["--cpu"] * cpu, limit_s, own_group=True)
    complaint = ending.describe(limit_s)
    if complaint:
        lines = "\n".join(ending.last_lines(5))
        raise MachineError(f"looking at the machine {complaint}:\n{lines}")
    return load_machine(path)


def load_machine(path: Path) -> Machine:
    """What was found out before."""
    return Machine(**json.loads(path.read_text(encoding="utf-8")))


def look(*, cpu: bool) -> Machine:
    """Ask torch and the driver. This starts CUDA in this process."""
    import psutil
    import torch

    from traiNNer.utils.device import choose_device, describe_device, usable_cores
    from traiNNer.utils.text import gib

    device = choose_device(0 if cpu else "auto")
    memory = psutil.virtual_memory().total
    machine = Machine(device.type, describe_device(device), memory)
    facts = {"device": machine.name}
    if device.type == "cuda":
        facts |= _card_facts(machine, device)
    facts |= {
        "processor": f"{_processor()}, {usable_cores()} cores, {gib(memory)}",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "torch": torch.__version__,
        "traiNNer": _revision(),
        "measured": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    }
    machine.facts = facts
    return machine


def _card_facts(machine: Machine, device: Any) -> dict[str, str]:
    import torch

    from traiNNer.utils.text import gib

    properties = torch.cuda.get_device_properties(device)
    free, machine.total_bytes = torch.cuda.mem_get_info(device)
    machine.uuid = str(getattr(properties, "uuid", ""))
    capability = f"{properties.major}.{properties.minor}"
    cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else "none"
    return {
        "card": f"{gib(machine.total_bytes)}, {gib(free)} of them free, compute capability "
        f"{capability}, {properties.multi_processor_count} multiprocessors",
        "CUDA": f"{torch.version.cuda or torch.version.hip}, cuDNN {cudnn}, driver {_driver()}",
    }


def _driver() -> str:
    """The driver's version, as NVML says."""
    try:
        import pynvml  # pyright: ignore[reportMissingImports] (optional)

        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
    except Exception as error:  # noqa: BLE001 (a fact less is no reason to stop)
        return f"unknown ({type(error).__name__})"
    return version.decode() if isinstance(version, bytes) else str(version)


def _processor() -> str:
    """The processor's name on Linux, its architecture elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _revision() -> str:
    """The commit that is checked out."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "not a git checkout"
    return done.stdout.strip()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file")
    parser.add_argument("--cpu", action="store_true", help="the CPU even if there is a GPU")
    arguments = parser.parse_args(argv)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        machine = look(cpu=arguments.cpu)
    except ModuleNotFoundError as error:
        print(f"{error}: {PACKAGES}")
        return 1
    write_json(arguments.out, asdict(machine))
    return 0


if __name__ == "__main__":
    sys.exit(main())
