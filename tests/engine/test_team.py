"""Several processes that train together: what one process makes of the same samples, whatever
happens to one of them.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support import ROOT, make_pairs, run_training, small_options, write_options
from tests.teams import ended, start_team, train_together
from traiNNer.data.curriculum import LEAST_BLOCK
from traiNNer.data.order import ShuffledOrder
from traiNNer.engine.preparation import Request, processes_wanted, read_options
from traiNNer.utils.errors import OptionsError

# One-rank shortages in the default suite; the figure in docs/distributed.md is of 100.
DRAWS = 25


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    options = small_options(make_pairs(tmp_path / "data", count=6))
    options["train"] |= {"total_iter": 12, "ema_decay": 0.9, "grad_clip": True}
    options["train"]["scheduler"] = {"type": "CosineAnnealingLR"}
    options["val"] = {"val_enabled": False}
    options["logger"] = {"print_freq": 1, "save_checkpoint_freq": 4}
    return options


def weights(run: str, iteration: int) -> dict[str, torch.Tensor]:
    return load_file(Path("experiments") / run / "models" / f"net_g_{iteration}.safetensors")


def log_of(run: str) -> str:
    return (Path("experiments") / run / "log" / "train.log").read_text(encoding="utf-8")


def assert_near(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    for key, value in first.items():
        torch.testing.assert_close(second[key], value, rtol=1e-5, atol=1e-6, msg=key)


def test_a_step_is_that_of_one_process(tmp_path: Path) -> None:
    """Also where one of them runs out of memory, anywhere."""
    worker = ["-m", "tests.engine.team_worker", str(DRAWS)]
    first, second = ended(start_team([worker, worker], tmp_path))
    assert first[0] == second[0] == 0, first[2][-3000:] + second[2][-3000:]
    assert "shortages" in first[1]


def test_the_run_is_the_same_whatever_the_number_of_processes(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """Four samples a step: by one process, and begun by two, gone on with by four and by one."""
    options["train"]["effective_batch_size"] = 4
    options["datasets"]["train"]["batch_size_per_gpu"] = 4
    assert run_training(options, "--name", "one") == 0
    path = str(write_options(Path("team.yml"), options))
    many = ["-opt", path, "--name", "many", "--auto_resume"]
    for size, until in ((2, 4), (4, 8)):
        # The length of the whole run is the schedule's; --set would be another schedule.
        results = ended(
            start_team(
                [[str(ROOT / "tests" / "engine" / "stopping.py"), str(until), *many]] * size,
                tmp_path,
            )
        )
        assert [code for code, _, _ in results] == [130] * size, results[0][2]
        assert all(not output for code, output, _ in results[1:])
    assert run_training(Path(path), "--name", "many", "--auto_resume") == 0
    assert_near(weights("one", 12), weights("many", 12))
    shown = re.compile(r" (\d+)/12  l1 ([\d.]+).* lq_size 16  batch (\d+)")
    alone = {found[1]: float(found[2]) for found in shown.finditer(log_of("one"))}
    team = {found[1]: float(found[2]) for found in shown.finditer(log_of("many"))}
    assert team.keys() == alone.keys() == {str(number) for number in range(1, 13)}
    for number, loss in alone.items():
        assert team[number] == pytest.approx(loss, abs=2e-5), "the mean over the samples of all"
    assert "batch 2 x 2" in log_of("many")
    assert "batch 1 x 4" in log_of("many")


def test_each_card_is_filled_at_a_common_lq_size(options: dict[str, Any], tmp_path: Path) -> None:
    """What is reported is what entered the network, and no sample is lost or seen twice."""
    options["train"]["total_iter"] = 120
    options["datasets"]["train"]["num_worker_per_gpu"] = 1
    options["training_automations"] = {
        "enabled": True,
        "DynamicBatchAndPatchSizeOptimizer": {"pace": "at_once", "max_batch_size": 24},
    }
    path = str(write_options(Path("o.yml"), options))
    fitting = [str(ROOT / "tests" / "engine" / "team_fitting.py"), "-opt", path]
    results = ended(start_team([fitting, fitting], tmp_path))
    assert [code for code, _, _ in results] == [0, 0], results[0][2][-3000:] + results[1][2][-3000:]
    larger, smaller = (json.loads(output.splitlines()[-1]) for _, output, _ in results)
    entered = list(zip(larger["entered"], smaller["entered"], strict=True))
    assert all(one[0] == other[0] for one, other in entered), "lq_size is common"
    assert entered[-1][0][1] > 1.5 * entered[-1][1][1]
    for report in (larger, smaller):
        assert report["is_honest"]
        assert 0.8 <= report["share"] <= 0.88
    assert larger["failures"] + smaller["failures"] <= 1
    together = [[*one, *other] for one, other in zip(larger["used"], smaller["used"], strict=True)]
    order = ShuffledOrder(6, seed=0)
    place = 0
    for step in together:
        wanted = [order.visit(place + number).index for number in range(len(step))]
        assert sorted(step) == sorted(wanted)
        place += len(step)
    assert larger["samples"] == smaller["samples"] == place
    shown = re.findall(r"lq_size (\d+)  batch (\d+) of (\d+)", log_of("small"))
    assert [list(map(int, sizes)) for sizes in shown] == [
        [*one, one[1] + other[1]] for one, other in entered
    ]


def test_one_that_is_killed_ends_all_and_the_run_goes_on(
    options: dict[str, Any], tmp_path: Path
) -> None:
    options["train"]["total_iter"] = 100_000
    options["logger"]["save_checkpoint_freq"] = 10
    path = str(write_options(Path("o.yml"), options))
    team = start_team([[str(ROOT / "train.py"), "-opt", path]] * 2, tmp_path)
    states = Path("experiments/small/training_states")
    deadline = time.monotonic() + 60
    while not list(states.glob("*.state")) and time.monotonic() < deadline:
        time.sleep(0.05)
    began = time.monotonic()
    os.kill(team[1].pid, signal.SIGKILL)
    first, second = ended(team)
    assert time.monotonic() - began < 30
    assert (first[0], second[0]) == (1, -signal.SIGKILL)
    assert "another process of this training is gone without a word" in first[2]
    assert "Traceback" not in first[2]
    saved = max(int(state.stem) for state in states.glob("*.state"))
    lines = ["--set", f"train.total_iter={saved + 3}"]
    results = train_together(2, "-opt", path, "--auto_resume", *lines, cwd=tmp_path)
    assert [code for code, _, _ in results] == [0, 0], results[0][2]
    assert f"resumed experiments/small/training_states/{saved}.state" in results[0][2]


def test_what_is_wrong_is_told_by_one_of_them(options: dict[str, Any], tmp_path: Path) -> None:
    good = str(write_options(Path("good.yml"), options))
    options["datasets"]["train"]["dataroot_gt"] = "nowhere"
    bad = str(write_options(Path("bad.yml"), options))
    command = [str(ROOT / "train.py"), "-opt"]
    first, second = ended(start_team([[*command, good], [*command, bad]], tmp_path))
    assert first[0] == second[0] == 2
    assert "nowhere" in second[2]
    assert "nowhere" not in first[2]
    assert "Traceback" not in first[2] + second[2]
    wrong = [*command, good, "--set", "train.optim_g.rate=1"]
    first, second = ended(start_team([wrong, wrong], tmp_path))
    assert first[0] == second[0] == 2
    assert (first[2] + second[2]).count("unknown key train.optim_g.rate") == 1
    other = [*command, good, "--set", "train.optim_g.lr=0.5"]
    first, second = ended(start_team([[*command, good], other], tmp_path))
    assert first[0] == second[0] == 2
    assert "process 1 has another hash of the options than process 0" in first[2] + second[2]
    assert not Path("experiments").exists()


LAUNCHING = """
import sys
from traiNNer.engine.launch import run_processes
sys.exit(run_processes([sys.executable, *sys.argv[1:]], 2))
"""


def test_processes_that_were_launched_share_a_fate(options: dict[str, Any], tmp_path: Path) -> None:
    """As with num_gpu: 2, which needs as many GPUs."""
    options["train"]["total_iter"] = 100_000
    path = str(write_options(Path("o.yml"), options))
    command = [sys.executable, "-c", LAUNCHING, str(ROOT / "train.py"), "-opt", path]
    launcher = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(Path("experiments").glob("small/training_states/*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    launcher.send_signal(signal.SIGINT)
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == 130, said[-2000:]
    assert said.count("SIGINT: finishing this step") == 1
    (found,) = re.findall(r"interrupted at iteration (\d+)", said)
    assert Path(f"experiments/small/training_states/{found}.state").exists()


def test_more_gpus_than_there_are(options: dict[str, Any]) -> None:
    count = torch.cuda.device_count() + 2
    path = write_options(Path("o.yml"), options | {"num_gpu": count})
    with pytest.raises(OptionsError, match=f"num_gpu = {count}: torch finds"):
        processes_wanted(read_options(Request(path)))


def test_a_signal_to_one_of_them_ends_all_after_the_same_step(
    options: dict[str, Any], tmp_path: Path
) -> None:
    options["train"]["total_iter"] = 100_000
    path = str(write_options(Path("o.yml"), options))
    team = start_team([[str(ROOT / "train.py"), "-opt", path]] * 2, tmp_path)
    deadline = time.monotonic() + 60
    while not list(Path("experiments").glob("small/training_states/*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    team[1].send_signal(signal.SIGTERM)
    first, second = ended(team)
    assert (first[0], second[0]) == (130, 130), first[2][-2000:]
    assert re.search(r"interrupted at iteration (\d+)", first[2])


def test_a_validation_is_shared(options: dict[str, Any], tmp_path: Path) -> None:
    """Each judges pictures of its own; scores, files and the best weights are those of one
    process, the one before training and the last one too.
    """
    options["train"]["effective_batch_size"] = 4
    options["datasets"]["train"]["batch_size_per_gpu"] = 4
    data = options["datasets"]["train"]
    roots = {key: data[key] for key in ("dataroot_gt", "dataroot_lq")}
    options["datasets"]["val"] = {"type": "PairedImageDataset", **roots}
    metrics = {"psnr": {"type": "psnr"}, "ssim": {"type": "ssim"}}
    options["val"] = {"val_freq": 5, "save_img": True, "metrics": metrics}
    options["val"] |= {"at_start": True, "tb_images": 2}
    path = str(write_options(Path("o.yml"), options))
    assert run_training(Path(path), "--name", "one") == 0
    results = train_together(2, "-opt", path, "--name", "team", cwd=tmp_path)
    assert [code for code, _, _ in results] == [0, 0], results[0][2]
    assert "validation at" not in results[1][2]
    assert scores_of("team") == pytest.approx(scores_of("one"), abs=2e-3)
    assert pictures_of("team") == pictures_of("one")
    assert Path("experiments/team/models/net_g_best.safetensors").exists()


def scores_of(run: str) -> list[float]:
    found = re.findall(
        r"validation at \d+ on val \(6 images, .*: psnr (.*) dB, ssim (.*)", log_of(run)
    )
    assert len(found) == 4, log_of(run)
    return [float(score) for scores in found for score in scores]


def pictures_of(run: str) -> list[str]:
    folder = Path("experiments") / run / "visualization"
    names = sorted(path.name for path in folder.rglob("*.png"))
    assert len(names) == 6 * 4
    return names


def test_a_curriculum_is_that_of_one_process(options: dict[str, Any], tmp_path: Path) -> None:
    """Each process learns of all samples, and reads its own in the order that follows."""
    options["train"]["total_iter"] = 7 * LEAST_BLOCK // 2 // 64
    options["datasets"]["train"] |= {
        "lq_size": 8,
        "batch_size_per_gpu": 64,
        "num_worker_per_gpu": 0,
        "curriculum": {"difficulty": "texture", "start": 0.3, "until": 0.6, "floor": None},
        "report_hardest": True,
    }
    options["logger"] = {"save_checkpoint_freq": 1000, "use_tb_logger": False}
    assert run_training(options, "--name", "one") == 0
    options["datasets"]["train"]["batch_size_per_gpu"] = 32
    path = str(write_options(Path("o.yml"), options))
    results = train_together(2, "-opt", path, "--name", "many", cwd=tmp_path)
    assert [code for code, _, _ in results] == [0, 0], results[0][2][-3000:] + results[1][2][-3000:]
    tables = [
        (Path("experiments") / run / "hardest.csv").read_text(encoding="utf-8")
        for run in ("one", "many")
    ]
    assert tables[0] == tables[1]
    # Rounding, after as many steps: another order would change the third digit.
    last = options["train"]["total_iter"]
    one, many = weights("one", last), weights("many", last)
    for key, value in one.items():
        torch.testing.assert_close(many[key], value, rtol=0, atol=1e-4, msg=key)
