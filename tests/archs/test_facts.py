"""The facts of an open network are those of its spec, wherever it was found."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from traiNNer.archs.facts import NetworkFacts, open_checkpoint
from traiNNer.utils.registry import ARCHS


def save(
    path: Path, kind: str, scale: int = 2, metadata: bool = True, **parameters: object
) -> Path:
    """A checkpoint of ours, or plain weights as other projects leave them."""
    network = ARCHS[kind](scale=2, **parameters)
    tags = {"arch": kind, "scale": "2", "parameters": json.dumps(parameters)}
    save_file(network.state_dict(), path, tags if metadata else None)
    return path


def test_a_checkpoint_of_ours_has_the_facts_of_its_spec(tmp_path: Path) -> None:
    path = save(tmp_path / "net.safetensors", "compact", num_feat=8, num_conv=1)
    opened = open_checkpoint(path)
    assert opened.facts == NetworkFacts.from_spec(ARCHS["compact"], 2, {})
    assert not opened.network.training
    assert opened.network(torch.rand(1, 3, 8, 9)).shape == (1, 3, 16, 18)


def test_facts_that_rest_on_the_parameters(tmp_path: Path) -> None:
    parameters = {"arch": "compact", "num_feat": 8, "num_conv": 1, "frames": 3}
    path = save(tmp_path / "net.safetensors", "temporal_stack", **parameters)
    facts = open_checkpoint(path).facts
    assert facts.name == "temporal_stack"
    assert (facts.temporal, facts.target, facts.frames) == (True, "center", 3)
    assert facts.size_multiple == ARCHS["compact"].size_multiple


def test_foreign_weights_promise_what_every_variant_can(tmp_path: Path) -> None:
    path = save(tmp_path / "net.safetensors", "plksr_tiny", metadata=False)
    facts = open_checkpoint(path).facts
    assert (facts.name, facts.scale, facts.temporal) == ("PLKSR", 2, False)
    assert ARCHS["plksr_tiny"].fp16
    assert not ARCHS["realplksr"].fp16
    assert not facts.fp16, "nobody knows which of them it is"
