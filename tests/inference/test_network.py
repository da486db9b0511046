"""Opening a network needs no device and no tiles; running it adds them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.support import write_options
from traiNNer.archs.facts import NetworkFacts
from traiNNer.inference.network import RunningNetwork, open_network
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


def test_another_scale_is_refused() -> None:
    with pytest.raises(
        CheckpointError, match="holds compact at scale 2, and the options say scale 4; leave"
    ):
        open_network(options_for(save_weights(METADATA), scale=4))
