"""Several results averaged: of networks, and of positions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.support import load_script, make_pairs, save_checkpoint, write_options
from traiNNer.archs import build_network
from traiNNer.archs.facts import NetworkFacts
from traiNNer.inference import residents
from traiNNer.inference.ensemble import Ensemble, Member, turned, turned_back
from traiNNer.inference.network import RunningNetwork
from traiNNer.models import TileSettings, Upscaler
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.images import read_image

CPU = torch.device("cpu")
SMALL = {"num_feat": 8, "num_conv": 1}
Capture = pytest.CaptureFixture[str]


def running(network: nn.Module, scale: int = 2, **facts: Any) -> RunningNetwork:
    settings = TileSettings(scale, 1, 1, 0, 0)
    known = NetworkFacts("n", scale, **facts)
    return RunningNetwork(network.eval(), Upscaler(Runtime(CPU), settings), known)


class Level(nn.Module):
    """Answers one level everywhere."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, scale_factor=2) * 0 + self.level


@pytest.mark.parametrize("shape", [(1, 3, 5, 8), (2, 4, 3, 6, 7)])
def test_every_position_is_another_and_is_undone(shape: tuple[int, ...]) -> None:
    picture = torch.rand(shape)
    positions = [turned(picture, number) for number in range(8)]
    for number, position in enumerate(positions):
        assert torch.equal(turned_back(position, number), picture)
        for other in positions[:number]:
            assert position.shape != other.shape or not torch.equal(position, other)


def test_mean_and_deviation_are_those_of_the_results() -> None:
    weights = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    levels = torch.tensor([0.501, 0.502, 0.499], dtype=torch.float64)
    members = [
        Member(running(Level(float(level))), float(weight))
        for level, weight in zip(levels, weights, strict=True)
    ]
    agreement = Ensemble(members, turned=False).judge(torch.rand(1, 3, 4, 6))
    mean = (weights * levels).sum() / 8
    deviation = ((weights * (levels - mean) ** 2).sum() / 8).sqrt()
    assert agreement.mean.shape == agreement.deviation.shape == (1, 3, 8, 12)
    torch.testing.assert_close(agreement.mean, torch.full((1, 3, 8, 12), float(mean)))
    torch.testing.assert_close(
        agreement.deviation, torch.full((1, 3, 8, 12), float(deviation)), rtol=1e-3, atol=0
    )


def test_positions_are_weighed_as_one_network() -> None:
    torch.manual_seed(0)
    network = build_network("compact", scale=2, **SMALL)
    lq = torch.rand(1, 3, 10, 14)
    one = Ensemble([Member(running(network), 1.0)], turned=True)
    with torch.no_grad():
        results = [turned_back(network(turned(lq, number)), number) for number in range(8)]
    torch.testing.assert_close(one(lq), torch.stack(results).mean(0))
    both = Ensemble([Member(running(network), 1.0), Member(running(Level(0.5)), 3.0)], turned=True)
    torch.testing.assert_close(both(lq), 0.25 * one(lq) + 0.75 * 0.5)
    # What does not mind its position agrees with itself.
    plain = Ensemble([Member(running(nn.Upsample(scale_factor=2)), 1.0)], turned=True)
    assert plain.judge(lq).deviation.max() < 1e-6


@pytest.mark.parametrize(
    "other", [{"scale": 4}, {"temporal": True}, {"temporal": True, "frames": 3}]
)
def test_what_does_not_go_together_is_refused(other: dict[str, Any]) -> None:
    members = [Member(running(Level(0)), 1.0), Member(running(Level(0), **other), 1.0)]
    with pytest.raises(OptionsError, match="the members of an ensemble take and make the same"):
        Ensemble(members, turned=False)


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    data = make_pairs(tmp_path / "data", count=2)
    paths = [save_checkpoint(tmp_path / f"{n}.safetensors", n, 8 + n) for n in range(2)]
    return {
        "name": "e",
        "num_gpu": 0,
        "datasets": {
            "test": {
                "type": "PairedImageDataset",
                "dataroot_gt": str(data / "gt"),
                "dataroot_lq": str(data / "lq"),
            }
        },
        "ensemble": [
            {"checkpoint": str(paths[0]), "weight": 3.0},
            {"checkpoint": str(paths[1])},
        ],
        "val": {"metrics": {"psnr": {"type": "psnr"}}},
    }


def run_test(options: dict[str, Any]) -> int:
    script = load_script("test.py")
    return script.main(["-opt", str(write_options(Path("e.yml"), options))])


def test_a_list_of_checkpoints_is_averaged_with_a_map(
    options: dict[str, Any], capfd: Capture
) -> None:
    options["val"] |= {"self_ensemble": "x8", "agreement_map": True}
    assert run_test(options) == 0
    told = capfd.readouterr().err
    assert "the mean of 0.safetensors x 3, 1.safetensors x 1, each x8" in told
    assert told.count("results differ by") == 2
    results = sorted(path.name for path in Path("results/e/test").iterdir())
    maps = sorted(path.name for path in Path("results/e/test_agreement").iterdir())
    assert results == maps == ["000.png", "001.png"]
    picture = read_image(Path("results/e/test_agreement/000.png"))
    assert picture.shape == (96, 96, 3)
    assert picture.max() > 0


def test_a_map_needs_several_results(options: dict[str, Any], capfd: Capture) -> None:
    options["ensemble"] = options["ensemble"][:1]
    options["val"] |= {"agreement_map": True}
    assert run_test(options) == 2
    assert "there is one result only" in capfd.readouterr().err
    options["ensemble"] = [{"file": "a.safetensors"}]
    assert run_test(options) == 2
    assert "ensemble.0.checkpoint is missing" in capfd.readouterr().err


def test_averaged_weights_are_a_checkpoint(tmp_path: Path, capfd: Capture) -> None:
    paths = [save_checkpoint(tmp_path / f"{number}.safetensors", number) for number in range(2)]
    out = tmp_path / "mean.safetensors"
    average = load_script("scripts/average_weights.py").main
    names = list(map(str, paths))
    assert average([*names, "--weights", "1", "3", "-o", str(out)]) == 0
    first, second, mean = map(load_file, (*paths, out))
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, 0.25 * first[name] + 0.75 * second[name])
    with safe_open(out, "pt") as file:
        assert file.metadata()["arch"] == "compact"
        assert "0.safetensors x 0.25" in file.metadata()["averaged"]
    assert average([*names, "--weights", "1", "-o", str(out)]) == 2
    assert average([*names, "--weights", "1", "-1", "-o", str(out)]) == 2
    assert average([*names, "-o", str(tmp_path / "mean.pth")]) == 2
    other = save_checkpoint(tmp_path / "other.safetensors", 0, 12)
    capfd.readouterr()
    assert average([names[0], str(other), "-o", str(out)]) == 2
    assert "are not of one network" in capfd.readouterr().err


class Bench(Runtime):
    """A device that notes which networks come to it."""

    def place(self, network: nn.Module) -> nn.Module:
        assert isinstance(network, Level)
        arrivals.append(network.level)
        return network


arrivals: list[float] = []


@pytest.mark.parametrize(
    ("parallel", "free", "staying"),
    [(1, 0, 0), (2, 0, 1), (3, 0, 3), (9, 0, 3), ("auto", 6, 3), ("auto", 4, 1), ("auto", 1, 0)],
)
def test_as_many_members_stay_as_asked_for_or_as_fit(
    parallel: Any, free: int, staying: int
) -> None:
    networks = [nn.Linear(256, 1, bias=False) for _ in range(3)]  # 1 KiB each
    places = residents.find_places(networks, [Runtime(CPU)], parallel, lambda _: free * 1024)
    assert [place.stays for place in places] == [order < staying for order in range(3)]


def test_members_that_do_not_stay_come_once_for_each_picture() -> None:
    arrivals.clear()
    members = [
        Member(replace(running(Level(level)), stays=level == 0.0), 1.0) for level in (0.0, 0.3, 0.6)
    ]
    for member in members:
        member.network.upscaler.runtime = Bench(CPU)
    ensemble = Ensemble(members, turned=True)
    for _ in range(2):
        result = ensemble(torch.rand(1, 3, 4, 4))
        torch.testing.assert_close(result, torch.full_like(result, 0.3))
    assert arrivals == [0.3, 0.6] * 2


def test_members_on_several_devices_give_the_same_mean() -> None:
    torch.manual_seed(0)
    networks = [build_network("compact", scale=2, **SMALL) for _ in range(3)]
    places = residents.find_places(networks, [Runtime(CPU), Runtime(CPU)], "auto")
    assert all(place.stays for place in places)
    members = [Member(running(network), 1.0 + n) for n, network in enumerate(networks)]
    lq = torch.rand(1, 3, 9, 12)
    alone = Ensemble(members, turned=True).judge(lq)
    beside = Ensemble(members, turned=True, devices=2).judge(lq)
    torch.testing.assert_close(beside.mean, alone.mean)
    torch.testing.assert_close(beside.deviation, alone.deviation)
