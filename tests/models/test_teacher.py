"""A network learns from another one's pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.engine.test_recipes import Stop
from tests.models.test_sr_model import CPU, make_batch, make_options
from tests.support import (
    load_script,
    make_pairs,
    run_training,
    save_checkpoint,
    small_options,
    write_options,
)
from traiNNer.archs import build_network
from traiNNer.models import SRModel
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import Runtime

TEACHER = {"type": "compact", "num_feat": 8, "num_conv": 1}


def make_model(distillation: dict[str, Any] | None, **more: Any) -> SRModel:
    torch.manual_seed(0)
    options = {
        "name": "t",
        "scale": 2,
        "datasets": make_options().model_dump(mode="json")["datasets"],
        "network_g": {"type": "compact", "num_feat": 8, "num_conv": 1},
        "network_g_teacher": TEACHER,
        "path": {"pretrain_network_g_teacher": "teacher.safetensors"},
        "train": {
            "total_iter": 10,
            "ema_decay": 0,
            "optim_g": {"type": "sgd", "lr": 0.5},
            "losses": [{"type": "l1"}, {"type": "mse", "loss_weight": 0.5}],
            "distillation": distillation,
        },
    } | more
    checked = TrainingOptions.model_validate(options)
    network = build_network("compact", scale=2, num_feat=8, num_conv=1)
    return SRModel(checked, Runtime(CPU), network)


def expected_step(model: SRModel, share: float, *, is_beside: bool) -> list[torch.Tensor]:
    lq, gt = make_batch(2, 16).pair
    made = model.main.module(lq)
    with torch.no_grad():
        taught = model.networks["net_g_teacher"].module(lq)
    if is_beside:
        pairs = ((gt, 1.0), (taught, share))
    else:
        pairs = ((share * taught + (1 - share) * gt, 1.0),)
    loss = torch.zeros(())
    for target, weight in pairs:
        loss = loss + weight * (made - target).abs().mean()
        loss = loss + weight * 0.5 * (made - target).square().mean()
    weights = list(model.main.module.parameters())
    gradients = torch.autograd.grad(loss, weights)
    return [w.detach() - 0.5 * g for w, g in zip(weights, gradients, strict=True)]


@pytest.mark.parametrize(
    ("distillation", "share", "is_beside"),
    [
        (None, 1.0, False),
        ({"share": 0.25}, 0.25, False),
        ({"mode": "beside", "share": 0.5}, 0.5, True),
    ],
)
def test_a_step_is_that_of_the_formula(
    distillation: dict[str, Any] | None, share: float, is_beside: bool
) -> None:
    model = make_model(distillation)
    teacher = model.networks["net_g_teacher"].module
    before = [weight.clone() for weight in teacher.parameters()]
    expected = expected_step(model, share, is_beside=is_beside)
    result = model.step([make_batch(2, 16)])
    for ours, theirs in zip(model.main.module.parameters(), expected, strict=True):
        torch.testing.assert_close(ours.detach(), theirs, rtol=1e-5, atol=1e-6)
    assert set(result.losses) == (
        {"l1", "mse", "l1_teacher", "mse_teacher"} if is_beside else {"l1", "mse"}
    )
    assert not teacher.training
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))
    assert all(weight.grad is None for weight in teacher.parameters())


def test_its_share_falls_until_only_the_truth_counts() -> None:
    model = make_model({"share": 0.8, "until": 0.5})
    teacher = model.networks["net_g_teacher"].module
    asked: list[int] = []
    teacher.register_forward_hook(lambda *_: asked.append(model.iteration))
    for iteration in range(8):
        expected = expected_step(model, max(0.0, 0.8 * (1 - iteration / 5)), is_beside=False)
        asked.clear()
        model.step([make_batch(2, 16)])
        # Nobody is asked whose word does not count.
        assert bool(asked) == (iteration < 5)
        for ours, theirs in zip(model.main.module.parameters(), expected, strict=True):
            torch.testing.assert_close(ours.detach(), theirs, rtol=1e-5, atol=1e-6)


def test_smaller_chunks_learn_the_same() -> None:
    calm, disturbed = (make_model({"share": 0.5}) for _ in range(2))
    teacher = disturbed.networks["net_g_teacher"].module
    forward = teacher.forward
    calls: list[int] = []

    def fail_once(lq: torch.Tensor) -> torch.Tensor:
        calls.append(len(lq))
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
        return forward(lq)

    teacher.forward = fail_once  # type: ignore[method-assign]
    for model in (calm, disturbed):
        model.step([make_batch(4, 16)])
    assert calls == [4, 2, 2]
    for one, other in zip(
        calm.main.module.parameters(), disturbed.main.module.parameters(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    options = small_options(make_pairs(tmp_path / "data", count=6))
    save_checkpoint(tmp_path / "teacher.safetensors", seed=3)
    options["network_g"] = {"type": "compact", "num_feat": 4, "num_conv": 1}
    options["network_g_teacher"] = TEACHER
    options["path"] = {"pretrain_network_g_teacher": str(tmp_path / "teacher.safetensors")}
    options["train"] |= {"total_iter": 8, "distillation": {"until": 0.9}}
    options["logger"] = {"print_freq": 1, "save_checkpoint_freq": 4}
    return options


def test_a_run_resumes_bit_for_bit(options: dict[str, Any]) -> None:
    assert run_training(options) == 0
    half = options | {"name": "half"}
    assert run_training(half, parts=[Stop(5)]) == 130
    assert run_training(half, "--auto_resume") == 0
    whole, resumed = (
        load_file(f"experiments/{name}/models/net_g_8.safetensors") for name in ("small", "half")
    )
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    assert not list(Path("experiments/small/models").glob("*teacher*"))
    # It was the teacher of the file that taught.
    del options["train"]["distillation"]
    options |= {"name": "other"}
    save_checkpoint(Path(options["path"]["pretrain_network_g_teacher"]), seed=4)
    assert run_training(options) == 0
    other = load_file("experiments/other/models/net_g_8.safetensors")
    assert not all(torch.equal(value, other[key]) for key, value in whole.items())


def test_the_planner_counts_it(options: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> None:
    plan = load_script("scripts/plan_vram.py").main
    options["network_g_teacher"] = {"type": "esrgan"}

    def step_mib() -> float:
        assert plan(["-opt", str(write_options(Path("o.yml"), options)), "--vram", "8"]) == 0
        table = capfd.readouterr().out
        (row,) = [line for line in table.splitlines() if "a step of the options" in line]
        return float(row.split("│")[2])

    taught = step_mib()
    for section, key in (("train", "distillation"), ("path", "pretrain_network_g_teacher")):
        del options[section][key]
    del options["network_g_teacher"]
    # 16.7 million weights of 4 bytes.
    assert taught - step_mib() > 60


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network_g_teacher": None}, "there is no network_g_teacher; set it, or leave this out"),
        ({"path": {}}, "pretrain_network_g_teacher is missing: required with network_g_teacher"),
        ({"network_g_teacher": {"type": "deform_align"}}, "takes clips, and compact does not"),
        ({"network_g_teacher": {"type": "nafnet"}}, "works at scale 1, and scale is 2"),
        (
            {"network_g_teacher": {"type": "swin2sr_s"}, "lq": 12},
            "needs sides that are a multiple of 8",
        ),
        ({"share": 1.5}, "train.distillation.share"),
    ],
)
def test_what_does_not_go_together_is_told(
    options: dict[str, Any],
    changes: dict[str, Any],
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    options["datasets"]["train"]["lq_size"] = changes.pop("lq", 16)
    if "share" in changes:
        options["train"]["distillation"]["share"] = changes.pop("share")
    options |= changes
    assert run_training(options) == 2
    assert message in " ".join(capfd.readouterr().err.split())
