"""Several processes that train together, as torchrun starts them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support import ROOT

TIMEOUT_S = 120


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_team(commands: Sequence[Sequence[str]], cwd: Path) -> list[subprocess.Popen[str]]:
    """A process for each command line of Python, that train together."""
    shared = {
        "WORLD_SIZE": str(len(commands)),
        "LOCAL_WORLD_SIZE": str(len(commands)),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    processes: list[subprocess.Popen[str]] = []
    for rank, command in enumerate(commands):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=cwd,
            env=os.environ | shared | own,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
    return processes


def ended(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, standard output and errors of each, once all have ended."""
    try:
        outputs = [process.communicate(timeout=TIMEOUT_S) for process in processes]
    finally:
        for process in processes:
            process.kill()
    codes = [process.returncode for process in processes]
    return [(code, *output) for code, output in zip(codes, outputs, strict=True)]


def train_together(
    size: int, *arguments: str, cwd: Path, script: str = "train.py"
) -> list[tuple[int, str, str]]:
    """What `torchrun --nproc-per-node SIZE SCRIPT ARGUMENTS` runs, to its end."""
    return ended(start_team([[str(ROOT / script), *arguments]] * size, cwd))
