"""train.py as a user meets it: exit codes, messages, files, and runs that go on exactly."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import train
from tests.support import (
    ROOT,
    make_pairs,
    run_command,
    run_training,
    small_options,
    write_options,
)
from traiNNer.engine.part import Part
from traiNNer.engine.run import Run
from traiNNer.engine.saved_state import read_state
from traiNNer.models import StepResult


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return small_options(make_pairs(tmp_path / "data"))


def run(options: dict[str, Any], *arguments: str) -> int:
    return train.main(["-opt", str(write_options(Path("o.yml"), options)), *arguments])


def weights(run_name: str, iteration: int) -> dict[str, dict[str, torch.Tensor]]:
    folder = Path("experiments") / run_name / "models"
    return {
        stem: load_file(folder / f"{stem}_{iteration}.safetensors")
        for stem in ("net_g", "net_g_ema")
    }


def assert_same_weights(first: str, second: str, iteration: int) -> None:
    one = weights(first, iteration)
    other = weights(second, iteration)
    for stem in one:
        assert one[stem].keys() == other[stem].keys()
        for name, weight in one[stem].items():
            assert torch.equal(weight, other[stem][name]), f"{stem} {name}"


def assert_same_state(first: str, second: str, iteration: int) -> None:
    one, other = (
        read_state(Path("experiments") / name / "training_states" / f"{iteration}.state")
        for name in (first, second)
    )
    one_parts = one["parts"]
    other_parts = other["parts"]
    assert one_parts["stream"] == other_parts["stream"]
    assert torch.equal(one_parts["random"]["torch"], other_parts["random"]["torch"])
    one_phase = one_parts["recipe"]["phases"]["generator"]
    other_phase = other_parts["recipe"]["phases"]["generator"]
    assert one_phase["scheduler"] == other_phase["scheduler"]
    slots = zip(
        one_phase["optimizer"]["state"].values(),
        other_phase["optimizer"]["state"].values(),
        strict=True,
    )
    for mine, theirs in slots:
        assert all(torch.equal(mine[key], theirs[key]) for key in mine)


def test_a_run_leaves_what_it_promises(options: dict[str, Any]) -> None:
    options["val"]["save_img"] = True
    assert run(options) == 0
    root = Path("experiments/small")
    names = sorted(p.name for p in (root / "models").iterdir())
    assert names == [
        "net_g_3.safetensors",
        "net_g_6.safetensors",
        "net_g_best.safetensors",
        "net_g_ema_3.safetensors",
        "net_g_ema_6.safetensors",
    ]
    assert sorted(p.name for p in (root / "training_states").iterdir()) == ["3.state", "6.state"]
    assert (root / "visualization/val/000_6.png").is_file()
    log = (root / "log/train.log").read_text()
    assert "4/6  l1 " in log
    assert "lq_size 16  batch 2" in log
    assert "validation   every 3 iterations on 1 set (val: 4 images): psnr, ssim" in log
    assert "type: compact" in (root / "options.yml").read_text()
    assert list(Path("tb_logger/small").glob("events*"))


def test_curves_hold_what_was_logged(options: dict[str, Any]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert run(options) == 0
    events = EventAccumulator("tb_logger/small").Reload()
    tags = events.Tags()
    for tag in (
        "losses/l1",
        "lr/generator",
        "dynamic/lq_size",
        "dynamic/batch_size",
        "val/val/psnr",
        "val/val/ssim",
        "speed/samples_per_s",
        "speed/data_wait_pct",
        "progress/samples",
    ):
        assert tag in tags["scalars"], tag
    assert [e.step for e in events.Scalars("losses/l1")] == [2, 4, 6]
    assert events.Scalars("progress/samples")[-1].value == 12
    assert "val/000" in tags["images"]
    # Eight samples of 32 px GT with LQ above, and what is between them.
    picture = events.Images("train/samples")[0]
    assert (picture.width, picture.height) == (8 * 36, 2 * 32 + 4)


def test_weights_tell_what_they_are(options: dict[str, Any]) -> None:
    from safetensors import safe_open

    assert run(options) == 0
    with safe_open("experiments/small/models/net_g_ema_6.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["arch"] == "compact"
    assert json.loads(metadata["parameters"]) == {"num_feat": 8, "num_conv": 2}
    assert (metadata["scale"], metadata["iteration"], metadata["ema"]) == ("2", "6", "true")
    assert len(metadata["options_hash"]) == 16


def test_only_the_last_checkpoints_are_kept(options: dict[str, Any]) -> None:
    options["logger"] = {"save_checkpoint_freq": 1, "keep_last": 2, "print_freq": 6}
    assert run(options) == 0
    assert sorted(p.name for p in Path("experiments/small/training_states").iterdir()) == [
        "5.state",
        "6.state",
    ]
    kept = sorted(p.name for p in Path("experiments/small/models").glob("net_g_[0-9]*"))
    assert kept == ["net_g_5.safetensors", "net_g_6.safetensors"]


def test_every_checkpoint_is_kept_where_that_is_asked_for(options: dict[str, Any]) -> None:
    options["logger"] = {"save_checkpoint_freq": 1, "keep_last": None, "print_freq": 6}
    assert run(options) == 0
    assert len(list(Path("experiments/small/training_states").iterdir())) == 6
    assert len(list(Path("experiments/small/models").glob("net_g_[0-9]*"))) == 6


def test_weights_may_outlive_their_states(options: dict[str, Any]) -> None:
    logger = {"save_checkpoint_freq": 1, "keep_last": 2, "keep_weights": True, "print_freq": 6}
    options["logger"] = logger
    assert run(options) == 0
    states = Path("experiments/small/training_states")
    assert sorted(path.name for path in states.iterdir()) == ["5.state", "6.state"]
    for name in ("net_g_[0-9]*", "net_g_ema_*"):
        assert len(list(Path("experiments/small/models").glob(name))) == 6
    assert run(options, "--auto_resume", "--set", "train.total_iter=8") == 0


def test_a_fine_tuned_network_is_validated_before_its_first_step(
    options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(options) == 0
    assert "validation at 0" not in capfd.readouterr().err
    start = Path("experiments/small/models/net_g_6.safetensors")
    tuned = options | {"name": "tuned", "path": {"pretrain_network_g": str(start)}}
    # So bad a rate that what it began with stays the best.
    tuned["train"] = options["train"] | {"optim_g": {"type": "adamw", "lr": 0.5}}
    assert run(tuned) == 0
    said = capfd.readouterr().err
    assert "at the start and every 3 iterations" in said
    assert "validation at 0 on val" in said
    assert "the best (psnr" in said
    best = load_file("experiments/tuned/models/net_g_best.safetensors")
    assert all(torch.equal(best[name], value) for name, value in load_file(start).items())
    assert run(tuned, "--set", "val.at_start=false") == 0
    assert "validation at 0" not in capfd.readouterr().err


def test_a_used_name_is_archived_not_deleted(
    options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(options) == 0
    before = weights("small", 6)
    assert run(options, "--set", "manual_seed=5") == 0
    archived = [p for p in Path("experiments").iterdir() if p.name.startswith("small_archived_")]
    assert len(archived) == 1
    assert (
        len([p for p in Path("tb_logger").iterdir() if p.name.startswith("small_archived_")]) == 1
    )
    old = load_file(archived[0] / "models" / "net_g_6.safetensors")
    assert all(torch.equal(old[name], weight) for name, weight in before["net_g"].items())
    message = capfd.readouterr().err
    assert "held a former run: moved to" in message
    assert "--auto_resume" in message


def long_options(options: dict[str, Any], workers: int) -> dict[str, Any]:
    """40 iterations with all that has a memory: EMA, warm-up, schedule, momentum, dropout, several
    epochs.
    """
    options["train"] |= {
        "total_iter": 40,
        "warmup_iter": 30,
        "ema_decay": 0.9,
        "grad_clip": True,
        "scheduler": {"type": "MultiStepLR", "milestones": [10, 25, 35], "gamma": 0.5},
    }
    options["network_g"] = {
        "type": "realplksr_s",
        "dim": 8,
        "n_blocks": 1,
        "dropout": 0.1,
        "norm_groups": 2,
    }
    options["datasets"]["train"]["num_worker_per_gpu"] = workers
    options["val"] = {"val_freq": 15}
    options["logger"] = {"print_freq": 7, "save_checkpoint_freq": 20}
    return options


class StopAt(Part):
    """Somebody presses Ctrl-C at an iteration."""

    name = "stop"

    def __init__(self, iteration: int) -> None:
        self._iteration = iteration

    def after_step(self, run: Run, result: StepResult) -> None:
        run.interrupts.requested |= result.iteration == self._iteration


@pytest.mark.parametrize("workers", [0, 2])
def test_twenty_and_twenty_equal_forty(options: dict[str, Any], workers: int) -> None:
    options = long_options(options, workers)
    assert run(options, "--name", "whole") == 0

    assert run_training(options, "--name", "parts", parts=[StopAt(20)]) == 130
    assert not Path("experiments/parts/training_states/40.state").exists()
    torch.manual_seed(99)  # a new process starts from other random numbers
    assert run(options, "--name", "parts", "--auto_resume") == 0
    assert_same_weights("whole", "parts", 40)
    assert_same_state("whole", "parts", 40)


class StopBefore(Part):
    """Somebody presses Ctrl-C before the samples of a step have come."""

    name = "stop before"

    def __init__(self, iteration: int) -> None:
        self._iteration = iteration

    def before_step(self, run: Run) -> None:
        run.interrupts.requested |= run.iteration == self._iteration


def test_a_run_that_waits_for_samples_is_saved_as_it_is(
    options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    options = long_options(options, 0)
    options["train"]["total_iter"] = 8
    assert run(options, "--name", "whole") == 0
    states = Path("experiments/parts/training_states")
    assert run_training(options, "--name", "parts", parts=[StopBefore(0)]) == 130
    assert not list(states.iterdir())
    assert "there is nothing to save" in capfd.readouterr().err
    assert run_training(options, "--name", "parts", parts=[StopBefore(5)]) == 130
    assert [path.name for path in states.iterdir()] == ["5.state"]
    assert run(options, "--name", "parts", "--auto_resume") == 0
    assert_same_weights("whole", "parts", 8)
    assert_same_state("whole", "parts", 8)


def test_workers_change_nothing(options: dict[str, Any]) -> None:
    torch.set_num_threads(1)  # the number of threads does change the order of sums
    assert run(long_options(options, 0), "--name", "none") == 0
    assert run(long_options(options, 2), "--name", "two") == 0
    assert_same_weights("none", "two", 40)


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_a_kill_at_a_random_moment_costs_nothing_but_time(
    options: dict[str, Any], workers: int
) -> None:
    options = long_options(options, workers)
    options["logger"] = {"print_freq": 5, "save_checkpoint_freq": 2, "keep_last": 2}
    assert run(options, "--name", "whole") == 0
    path = write_options(Path("o.yml"), options)
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        "-opt",
        str(path),
        "--name",
        "killed",
        "--auto_resume",
    ]
    states = Path("experiments/killed/training_states")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not list(states.glob("*.state")) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.2))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list(states.glob("*.state"))
    assert run(options, "--name", "killed", "--auto_resume") == 0
    assert_same_weights("whole", "killed", 40)


def automated_options(folder: Path) -> str:
    """The file of a run of 50 iterations that fits itself to real memory, and has done so by the
    fortieth.
    """
    imports = "import psutil, traiNNer.engine.session; print(psutil.Process().memory_info().rss)"
    held = subprocess.check_output([sys.executable, "-c", imports], cwd=ROOT, text=True)
    options = long_options(small_options(make_pairs(folder / "data", lq_size=64)), workers=1)
    options["vram_limit_gib"] = (int(held) + 420 * 2**20) / 2**30
    options["training_automations"] = {
        "enabled": True,
        "DynamicBatchAndPatchSizeOptimizer": {"pace": "at_once", "adjustment_frequency": 1},
    }
    options["network_g"] = {"type": "compact", "num_feat": 32, "num_conv": 4}
    options["train"]["total_iter"] = 50
    options["val"] = {"val_enabled": False}
    options["logger"] = {"print_freq": 1, "save_checkpoint_freq": 10, "keep_last": 5}
    return str(write_options(Path("o.yml"), options))


@pytest.mark.long
@pytest.mark.skipif(
    sys.platform != "linux", reason="what a process holds is read as Linux tells it"
)
def test_a_run_whose_sizes_have_settled_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """The memory is real, and so are the processes: the second one begins with what a kill at
    iteration 40 leaves.
    """
    path = automated_options(tmp_path)
    whole = run_command("train.py", "-opt", path, "--name", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr

    experiments = Path("experiments")
    shutil.copytree(experiments / "whole", experiments / "killed")
    (experiments / "killed" / "training_states" / "50.state").unlink()
    resumed = run_command(
        "train.py", "-opt", path, "--name", "killed", "--auto_resume", cwd=tmp_path
    )
    assert resumed.returncode == 0, resumed.stderr
    move = re.compile(r"lq_size \d+, batch \d+ -> ")
    lines = whole.stderr.splitlines()
    at_forty = next(number for number, line in enumerate(lines) if "40/50" in line)
    assert move.search("\n".join(lines[:at_forty])), "the automation was at work"
    assert not move.search("\n".join(lines[at_forty:])), "its sizes had settled"
    assert not move.search(resumed.stderr)
    assert_same_weights("whole", "killed", 50)
    assert_same_state("whole", "killed", 50)


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux", reason="what a process holds is read as Linux tells it"
)
def test_an_automated_run_that_was_killed_repeats_its_steps(tmp_path: Path) -> None:
    """A real kill between two checkpoints. What the run had said of the steps after the last one,
    it says again: samples, sizes, losses.
    """
    path = automated_options(tmp_path)
    command = [sys.executable, str(ROOT / "train.py"), "-opt", path, "--name", "killed"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line)
        if " 47/50 " in line:
            process.kill()
    process.wait()
    arguments = (*command[2:], "--auto_resume")
    resumed = run_command("train.py", *arguments, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "40.state: iteration 40" in resumed.stderr
    again = steps(resumed.stderr.splitlines())
    before = steps(said)
    assert {number: before[number] for number in range(41, 48)} == {
        number: again[number] for number in range(41, 48)
    }


def steps(lines: list[str]) -> dict[int, list[str]]:
    """Of each step that was reported: losses, sizes, samples."""
    found: dict[int, list[str]] = {}
    for line in lines:
        number = re.search(r" (\d+)/50 ", line)
        if number is not None:
            clauses = line.split("  ")
            wanted = re.compile(r"(l1|lr|lq_size|batch) |\d+ samples$")
            found[int(number[1])] = [clause for clause in clauses if wanted.match(clause)]
    return found


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_a_signal_finishes_the_step_saves_and_exits_130(
    options: dict[str, Any], number: signal.Signals
) -> None:
    options["train"]["total_iter"] = 100_000
    options["datasets"]["train"]["num_worker_per_gpu"] = 2
    options["logger"] = {"print_freq": 1, "save_checkpoint_freq": 100_000}
    options["val"] = {"val_enabled": False}
    path = write_options(Path("o.yml"), options)
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "-opt", str(path)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "3/100000" in line:
            break
    os.killpg(
        process.pid, number
    )  # as a terminal or a service manager does: the workers get it as well
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 130, rest
    assert f"{number.name}: finishing this step and saving" in rest
    assert "Traceback" not in rest
    assert "--auto_resume goes on from here" in rest
    states = list(Path("experiments/small/training_states").glob("*.state"))
    assert len(states) == 1
    assert read_state(states[0])["parts"]["stream"]["samples_consumed"] == 2 * int(states[0].stem)


def files() -> list[Path]:
    """All that is in the working folder, but for the memory of headers."""
    return [path for path in Path().rglob("*") if path.parts[0] != "cache"]


def test_check_plans_and_leaves_nothing(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    write_options(Path("o.yml"), options)
    before = {path: path.stat().st_mtime_ns for path in files()}
    assert run_training(Path("o.yml"), "--check") == 0
    assert {path: path.stat().st_mtime_ns for path in files()} == before
    plan = capsys.readouterr().out
    assert "compact x2" in plan
    assert "every 3 iterations on 1 set (val: 4 images)" in plan
    assert plan.endswith("\nnothing is wrong, nothing was written\n")
    options["val"]["val_enabled"] = False
    assert run(options, "--check") == 0
    assert "validation   OFF (val.val_enabled is false)" in capsys.readouterr().out


def test_auto_resume_without_a_run_starts_anew(options: dict[str, Any]) -> None:
    assert run(options, "--auto_resume") == 0
    assert "no checkpoint of this run yet" in Path("experiments/small/log/train.log").read_text()


def test_a_finished_run_resumed_is_done_at_once(options: dict[str, Any]) -> None:
    assert run(options) == 0
    assert run(options, "--auto_resume") == 0
    assert run(options, "--auto_resume", "--set", "train.total_iter=8") == 0
    log = Path("experiments/small/log/train.log").read_text()
    assert "6.state was saved with train.total_iter: 6, and now it is 8; the new one counts" in log
    assert Path("experiments/small/models/net_g_8.safetensors").is_file()


def test_pretrained_weights_are_where_a_run_starts(options: dict[str, Any]) -> None:
    assert run(options, "--name", "first") == 0
    source = "experiments/first/models/net_g_6.safetensors"
    options["train"]["optim_g"] = {"type": "sgd", "lr": 1e-30}
    options["path"] = {"pretrain_network_g": source}
    assert run(options, "--name", "second") == 0
    first = weights("first", 6)["net_g"]
    second = weights("second", 6)
    for stem in second:
        assert all(
            torch.allclose(first[name], weight, atol=1e-7) for name, weight in second[stem].items()
        )


def test_accumulated_batches_equal_one_large_batch(options: dict[str, Any]) -> None:
    options["train"] |= {"ema_decay": 0, "optim_g": {"type": "sgd", "lr": 0.1}}
    options["datasets"]["train"]["batch_size_per_gpu"] = 4
    assert run(options, "--name", "large") == 0
    options["datasets"]["train"] |= {"batch_size_per_gpu": 2, "accum_iter": 2}
    assert run(options, "--name", "small2") == 0
    large, small = (
        load_file(f"experiments/{n}/models/net_g_6.safetensors") for n in ("large", "small2")
    )
    for name in large:
        torch.testing.assert_close(large[name], small[name], rtol=1e-4, atol=1e-6)


def test_exit_codes_and_messages_of_the_command(options: dict[str, Any], tmp_path: Path) -> None:
    """One subprocess for the things that only a real process shows."""
    options["scale"] = 3
    path = write_options(tmp_path / "o.yml", options)
    done = run_command("train.py", "-opt", str(path), cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "GT" in done.stderr
