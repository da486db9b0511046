"""Real memory of real processes: running out of it, and filling it to the target."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, make_pairs, small_options, write_options

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="limits and peaks are read as Linux tells them"
)

# train.py with a part of the test's own, in a process of its own.
WITH_A_PART = """
import resource, sys
sys.path.insert(0, {root!r})
import torch
import train
from traiNNer.engine import session
from traiNNer.engine.command_line import run_plainly
from traiNNer.engine.logs import setup_logging
from traiNNer.engine.part import Part
from traiNNer.engine.preparation import prepared

{part}

def run_it():
    with prepared(train.make_request(train.parse_arguments(sys.argv[1:]))) as job:
        return session.train(job, more_parts=[Own()])


setup_logging()
sys.exit(run_plainly(run_it))
"""

# Of what is mapped: there from the beginning, to be lowered later.
MAPPED = """
resource.setrlimit(resource.RLIMIT_DATA, (2**40, resource.RLIM_INFINITY))
"""
LIMITED = """
class Own(Part):
    name = "limit"

    def start(self, run):
        lines = open("/proc/self/status").read().splitlines()
        data = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (data + {room}, resource.RLIM_INFINITY))
"""


def script_with(folder: Path, part: str) -> Path:
    """A script that does what train.py does, with the class `Own` of this text as a further
    part.
    """
    script = folder / "with_a_part.py"
    script.write_text(WITH_A_PART.format(root=str(ROOT), part=part))
    return script


def start(options: dict[str, Any], script: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    command = [
        sys.executable,
        str(script),
        "-opt",
        str(write_options(Path("o.yml"), options)),
        *arguments,
    ]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.long
def test_training_goes_on_where_the_system_gives_no_more_memory(tmp_path: Path) -> None:
    """The budget is far above what the system gives, so growing meets real failures of torch's
    allocator.
    """
    options = small_options(make_pairs(tmp_path / "data", count=4, lq_size=128))
    options["training_automations"] = {
        "enabled": True,
        "DynamicBatchSizeOptimizer": {"pace": "at_once", "max_batch_size": 64},
    }
    options["vram_limit_gib"] = 16
    options["network_g"] = {"type": "compact", "num_feat": 16, "num_conv": 2}
    options["datasets"]["train"] |= {"lq_size": 64}
    options["train"]["total_iter"] = 40
    options["val"] = {"val_freq": 40}
    options["logger"] = {"print_freq": 1, "save_checkpoint_freq": 40}
    process = start(options, script_with(tmp_path, MAPPED + LIMITED.format(room=200 * 2**20)))
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output[-3000:]
    assert "out of memory in the generator" in output
    assert re.search(r"can't allocate memory|bad_alloc", output), "torch's own allocator said so"
    assert "40/40" in output
    shapes = [
        tuple(map(int, found))
        for found in re.findall(
            r"lq_size (\d+)  batch (\d+)(?: \(\d+ accumulated\))?  memory", output
        )
    ]
    assert len(shapes) == 40
    assert shapes[-1] > shapes[0]


@pytest.mark.long
def test_a_real_run_fills_its_budget_to_the_target(tmp_path: Path) -> None:
    """The peak of the whole run, as seen from outside, lies between 78 and 88 % of 1.5 GiB."""
    budget = 3 * 2**29
    options = small_options(make_pairs(tmp_path / "data", count=4, lq_size=128))
    options["training_automations"] = {
        "enabled": True,
        "DynamicBatchAndPatchSizeOptimizer": {"pace": "at_once", "adjustment_frequency": 1},
    }
    options["vram_limit_gib"] = 1.5
    options["network_g"] = {"type": "compact", "num_feat": 16, "num_conv": 2}
    options["datasets"]["train"] |= {"lq_size": 96, "batch_size_per_gpu": 16}
    options["train"]["total_iter"] = 15
    options["val"] = {"val_enabled": False}
    options["logger"] = {"print_freq": 1, "save_checkpoint_freq": 15, "use_tb_logger": False}
    process = start(options, ROOT / "train.py")
    peak = 0
    status = Path(f"/proc/{process.pid}/status")
    log = Path("experiments/small/log/train.log")
    try:
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text())
            peak = max(peak, int(found[1]) * 1024 if found else 0)
            time.sleep(0.003)
    finally:
        process.kill()
        output = process.communicate()[0]
    assert process.returncode == 0, output[-3000:]
    assert 0.78 <= peak / budget <= 0.88, log.read_text()[-3000:]
    used = [float(share) for share in re.findall(r"memory ([\d.]+) %", log.read_text())]
    assert 82 <= used[-1] <= 87
    assert max(used) <= 100 * peak / budget + 1, "what was reported is what the system saw"


TAKEN = """
from traiNNer.models.adversary import Adversary
from traiNNer.models.phase_runner import PhaseRunner

attempt = PhaseRunner.accumulate
phase = Adversary.{phase}
calls = 0
rest = None


def with_less(self, *arguments):
    global calls
    calls += 1
    if calls == {call}:
        take(next(self.network.module.parameters()).device)
    return phase(self, *arguments)


def take(device):  # as if another program took nearly all that is left
    if device.type == "cuda":
        global rest
        total = torch.cuda.mem_get_info()[1]
        rest = 0.75 * torch.cuda.memory_reserved() / total
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1.02 * torch.cuda.memory_reserved() / total)
        return
    lines = open("/proc/self/status").read().splitlines()
    data = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (data + 2 * 2**20, resource.RLIM_INFINITY))


def with_more(self, *arguments):  # and gave some of it back
    if rest is not None:
        torch.cuda.set_per_process_memory_fraction(rest)
    if resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_DATA, (2**40, resource.RLIM_INFINITY))
    return attempt(self, *arguments)


Adversary.{phase} = with_less
PhaseRunner.accumulate = with_more


class Own(Part):
    name = "nothing"
"""
PHASES = {"generator": "deceived", "discriminator": "told"}


def check_taken(
    options: dict[str, Any], folder: Path, phase: str, call: int, before: str = ""
) -> None:
    """Memory is taken away within this phase of step `call`, which is repeated for it."""
    options["network_d"] = {"type": "unet_sn", "num_feat": 24}
    options["train"] |= {
        "optim_d": {"type": "adam", "lr": 1e-4},
        "losses": [{"type": "l1"}, {"type": "gan", "loss_weight": 0.1}],
    }
    options["val"] = {"val_enabled": False}
    part = before + TAKEN.format(phase=PHASES[phase], call=call)
    process = start(options, script_with(folder, part))
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-3000:]
    first = re.search(r"out of memory in the (\w+)", output)
    assert first, output[-3000:]
    assert first[1] == phase
    iterations = options["train"]["total_iter"]
    assert f"{iterations}/{iterations}" in output


@pytest.mark.parametrize("phase", PHASES)
def test_memory_that_is_taken_away_in_a_phase_costs_a_repeat(tmp_path: Path, phase: str) -> None:
    options = small_options(make_pairs(tmp_path / "data", count=4, lq_size=64))
    # Sizes that stay; the automation is on because it has freed memory given back to the system.
    bounds = {"min_lq_size": 32, "max_lq_size": 32, "min_batch_size": 8, "max_batch_size": 8}
    options["training_automations"] = {
        "enabled": True,
        "DynamicBatchAndPatchSizeOptimizer": {"pace": "at_once", **bounds},
    }
    options["network_g"] |= {"num_feat": 16}
    options["datasets"]["train"] |= {"lq_size": 32, "batch_size_per_gpu": 8}
    options["train"]["total_iter"] = 8
    options["logger"] = {"print_freq": 1, "save_checkpoint_freq": 8}
    check_taken(options, tmp_path, phase, call=4, before=MAPPED)


HALVED = """
class Own(Part):
    name = "halving"

    def after_step(self, run, result):
        if result.iteration == 80:  # as if another program took half of the card
            held = torch.cuda.memory_reserved() / torch.cuda.mem_get_info()[1]
            torch.cuda.empty_cache()  # what lies there would be used without asking for more
            torch.cuda.set_per_process_memory_fraction(0.5 * held)
"""


def gpu_options(tmp_path: Path) -> dict[str, Any]:
    options = small_options(
        make_pairs(tmp_path / "data", count=4, lq_size=256), num_gpu=1, vram_limit_gib=4
    )
    options["training_automations"] = {
        "enabled": True,
        "DynamicBatchAndPatchSizeOptimizer": {"pace": "at_once"},
    }
    options["network_g"] = {"type": "compact", "num_feat": 64, "num_conv": 16}
    options["datasets"]["train"] |= {
        "lq_size": 64,
        "batch_size_per_gpu": 4,
        "num_worker_per_gpu": 2,
    }
    options["train"]["total_iter"] = 160
    options["val"] = {"val_enabled": False}
    options["logger"] = {"print_freq": 1, "save_checkpoint_freq": 160, "use_tb_logger": False}
    return options


@pytest.mark.gpu
def test_a_card_is_filled_to_the_target_of_its_limit(tmp_path: Path) -> None:
    process = start(gpu_options(tmp_path), ROOT / "train.py")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-3000:]
    used = [float(share) for share in re.findall(r"memory ([\d.]+) %", output)]
    assert 82 <= used[-1] <= 87


@pytest.mark.gpu
def test_a_card_that_is_taken_away_costs_a_repeat(tmp_path: Path) -> None:
    process = start(gpu_options(tmp_path), script_with(tmp_path, HALVED))
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-3000:]
    assert "out of memory in the generator" in output
    assert "160/160" in output


@pytest.mark.gpu
@pytest.mark.parametrize("phase", PHASES)
def test_a_card_that_is_taken_away_in_a_phase_costs_a_repeat(tmp_path: Path, phase: str) -> None:
    check_taken(gpu_options(tmp_path), tmp_path, phase, call=80)
