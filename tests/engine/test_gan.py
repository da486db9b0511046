"""Adversarial training through the whole program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from tests.engine.test_recipes import Stop
from tests.engine.witness import Witness, card
from tests.support import load_script, make_pairs, run_training, small_options, write_options
from traiNNer.utils.shape import Shape

Capture = pytest.CaptureFixture[str]
NETWORKS = ("net_g", "net_g_ema", "net_d")


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    options = small_options(make_pairs(tmp_path / "data", count=6))
    options["network_d"] = {"type": "unet_sn", "num_feat": 4}
    options["train"] |= {
        "total_iter": 8,
        "optim_d": {"type": "adam", "lr": 1e-3},
        "losses": [{"type": "l1"}, {"type": "gan", "loss_weight": 0.1}],
        "scheduler": {"type": "CosineAnnealingLR"},
        "net_d_iters": 2,
        "net_d_init_iters": 1,
    }
    options["logger"] = {"print_freq": 1, "save_checkpoint_freq": 4}
    return options


def weights(run: str, iteration: int) -> dict[str, dict[str, torch.Tensor]]:
    models = Path("experiments") / run / "models"
    return {name: load_file(models / f"{name}_{iteration}.safetensors") for name in NETWORKS}


@pytest.mark.parametrize("kind", ["unet_sn", "vgg"])
def test_a_run_against_a_discriminator_resumes_bit_for_bit(
    options: dict[str, Any], kind: str
) -> None:
    options["network_d"]["type"] = kind
    gan = {"type": "gan", "loss_weight": 0.1, "relativistic": kind == "vgg", "r1_weight": 0.1}
    options["train"]["losses"] = [{"type": "l1"}, gan]
    assert run_training(options) == 0
    half = options | {"name": "half"}
    assert run_training(half, parts=[Stop(5)]) == 130
    assert run_training(half, "--auto_resume") == 0
    whole = weights("small", 8)
    resumed = weights("half", 8)
    for name in NETWORKS:
        assert all(torch.equal(value, resumed[name][key]) for key, value in whole[name].items())
    log = Path("experiments/small/log/train.log").read_text(encoding="utf-8")
    for label in ("gan", "gan_d_real", "gan_d_fake", "d_r1"):
        assert f"{label} " in log
    with safe_open("experiments/small/models/net_d_8.safetensors", "pt") as file:
        assert file.metadata()["discriminator"] == kind
        assert "arch" not in file.metadata()
    # From another run's weights, both networks.
    models = "experiments/small/models"
    third = options | {"name": "third"}
    third["path"] = {
        "pretrain_network_g": f"{models}/net_g_8.safetensors",
        "pretrain_network_d": f"{models}/net_d_8.safetensors",
    }
    assert run_training(third, "--set", "train.total_iter=1") == 0
    first = weights("third", 1)["net_g"]
    # The first iteration changes the discriminator alone.
    assert all(torch.equal(value, whole["net_g"][key]) for key, value in first.items())


def test_both_phases_fill_a_card(options: dict[str, Any]) -> None:
    options["training_automations"] = {
        "enabled": True,
        "DynamicBatchAndPatchSizeOptimizer": {"pace": "at_once", "adjustment_frequency": 1},
    }
    options["train"] |= {"total_iter": 60, "net_d_iters": 1, "net_d_init_iters": 0}
    options["val"] = {"val_enabled": False}
    witness = Witness(card(Shape(32, 4)))
    assert run_training(options, memory=witness.memory, parts=[witness]) == 0
    assert 0.82 <= witness.memory.share(witness.entered[-1]) <= 0.87


def test_the_planner_counts_both_networks(options: dict[str, Any], capfd: Capture) -> None:
    plan = load_script("scripts/plan_vram.py").main
    both = write_options(Path("both.yml"), options)
    assert plan(["-opt", str(both), "--vram", "8"]) == 0
    with_critic = capfd.readouterr().out
    # Gradients of gradients keep what the first backward pass went through.
    gan = {"type": "gan", "loss_weight": 0.1, "r1_weight": 1.0, "r2_weight": 1.0}
    options["train"]["losses"] = [{"type": "l1"}, gan]
    options["network_d"]["num_feat"] = 32
    several = [step_mib_of(options, weight, plan, capfd) for weight in (0.0, 1.0)]
    assert several[1] > several[0] + 1
    options["network_d"]["num_feat"] = 4
    del options["network_d"], options["train"]["optim_d"]
    options["train"]["losses"] = [{"type": "l1"}]
    alone = write_options(Path("alone.yml"), options)
    assert plan(["-opt", str(alone), "--vram", "8"]) == 0
    assert step_mib(with_critic) > step_mib(capfd.readouterr().out)


def step_mib_of(options: dict[str, Any], weight: float, plan: Any, capfd: Capture) -> float:
    options["train"]["losses"][1] |= {"r1_weight": weight, "r2_weight": weight}
    assert plan(["-opt", str(write_options(Path("slope.yml"), options)), "--vram", "8"]) == 0
    return step_mib(capfd.readouterr().out)


def step_mib(table: str) -> float:
    (row,) = [line for line in table.splitlines() if "a step of the options" in line]
    return float(row.split("│")[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network_d": None}, "network_d is missing: the loss gan needs a discriminator"),
        ({"losses": [{"type": "l1"}]}, "no loss asks it; add {type: gan"),
        ({"optim_d": None}, "train.optim_d is missing: required with network_d"),
        ({"losses": [{"type": "gan"}]}, "a loss that compares with GT is needed beside"),
        ({"network_d": {"type": "unet_sm"}}, "unknown discriminator; did you mean unet_sn?"),
        ({"network_d": {"type": "patchgan"}, "lq": 8}, "the discriminator patchgan needs at least"),
        ({"losses": [{"type": "l1"}, {"type": "gan", "gan_type": "x"}]}, "gan_type"),
        (
            {"losses": [{"type": "l1"}, {"type": "gan", "gt_usm": True}]},
            "train.losses.1.gt_usm = true: a discriminator sees GT as it is",
        ),
        (
            {"losses": [{"type": "l1", "gt_usm": True}, {"type": "gan"}], "lq": 8},
            "the loss l1 needs at least",
        ),
    ],
)
def test_what_does_not_go_together_is_told(
    options: dict[str, Any], change: dict[str, Any], message: str, capfd: Capture
) -> None:
    for key, value in change.items():
        if key == "lq":
            options["datasets"]["train"]["lq_size"] = value
        elif key == "network_d":
            options[key] = value
        else:
            options["train"][key] = value
    assert run_training(options, "--check") == 2
    error = capfd.readouterr().err
    assert message in error
    assert "Traceback" not in error
