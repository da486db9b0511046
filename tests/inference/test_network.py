"""Opening a network needs no device and no tiles; running it adds them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.support import write_options
from traiNNer.archs.facts import NetworkFacts
from traiNNer.inference.network import RunningNetwork, describe_flaw, is_finite, open_network
from traiNNer.models import Upscaler
from traiNNer.models.tiles import tile_settings
from traiNNer.options.loading import load_options
from traiNNer.options.schema import TestOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import CheckpointError
from traiNNer.utils.registry import ARCHS

SMALL = {"num_feat": 8, "num_conv": 1}
METADATA = {"arch": "compact", "scale": "2", "parameters": '{"num_feat": 8, "num_conv": 1}'}


def options_for(weights: Path, **changes: object) -> TestOptions:
    content = {
        "name": "t",
        "num_gpu": 0,
        "datasets": {"test": {"type": "SingleImageDataset", "dataroot_lq": "in"}},
        "path": {"pretrain_network_g": str(weights)},
    }
    return load_options(TestOptions, write_options(Path("t.yml"), content | changes), [])


def save_weights(metadata: dict[str, str] | None) -> Path:
    path = Path("net.safetensors")
    save_file(ARCHS["compact"](scale=2, **SMALL).state_dict(), path, metadata)
    return path


def test_a_checkpoint_and_the_options_tell_the_same() -> None:
    opened = open_network(options_for(save_weights(METADATA)))
    described = {"type": "compact", **SMALL}
    plain = open_network(options_for(save_weights(None), network_g=described, scale=2))
    assert opened.facts == plain.facts == NetworkFacts.from_spec(ARCHS["compact"], 2, SMALL)
    for each in (opened, plain):
        assert not each.network.training
        assert {parameter.device.type for parameter in each.network.parameters()} == {"cpu"}


def test_a_running_network_has_the_tiles_of_the_options() -> None:
    options = options_for(save_weights(METADATA), val={"tile_size": 40, "tile_overlap": 8})
    opened = open_network(options)
    settings = tile_settings(opened.facts, options.val)
    assert (settings.scale, settings.tile_size, settings.tile_overlap) == (2, 40, 8)
    running = RunningNetwork.start(opened, options, Runtime(torch.device("cpu")))
    assert running.upscaler.settings == settings
    assert running(torch.rand(1, 3, 60, 50)).shape == (1, 3, 120, 100)


class Overflowing(nn.Module):
    """Twice as large; infinite in half precision."""

    def forward(self, lq: Tensor) -> Tensor:
        lq = nn.functional.interpolate(lq, scale_factor=2)
        return lq * torch.inf if torch.is_autocast_enabled("cpu") else lq


def test_what_overflows_in_half_precision_is_computed_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    facts = NetworkFacts.from_spec(ARCHS["compact"], 2, SMALL)
    runtime = Runtime(torch.device("cpu"), torch.bfloat16)
    settings = tile_settings(facts, options_for(Path("x.safetensors")).val)
    running = RunningNetwork(Overflowing(), Upscaler(runtime, settings), facts)
    result = running(torch.rand(1, 3, 8, 8))
    assert is_finite(result)
    assert "not finite: computed again in fp32" in caplog.text


def test_the_flaw_of_a_result_is_said_in_numbers() -> None:
    result = torch.zeros(1, 3, 10, 10)
    assert is_finite(result)
    result[0, 0, :3] = torch.nan
    assert not is_finite(result)
    assert describe_flaw(result).startswith("10.0 % of the result is not finite")


def test_another_scale_is_refused() -> None:
    with pytest.raises(
        CheckpointError, match="holds compact at scale 2, and the options say scale 4; leave"
    ):
        open_network(options_for(save_weights(METADATA), scale=4))
