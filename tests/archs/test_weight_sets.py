"""Which of the sets of weights in a checkpoint is taken."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from traiNNer.archs import build_network
from traiNNer.archs.loading import load_model, load_weights
from traiNNer.utils.errors import CheckpointError

NETWORK = build_network("compact", scale=2, num_feat=8, num_conv=1)
WANTED: dict[str, Tensor] = NETWORK.state_dict()
OTHER: dict[str, Tensor] = {key: weight + 1 for key, weight in WANTED.items()}
COUNT = torch.tensor(3)


def under(prefix: str, weights: Mapping[str, Tensor] = WANTED) -> dict[str, Tensor]:
    return {prefix + key: weight for key, weight in weights.items()}


# As trainers and wrappers save them: the wanted weights, and others beside them.
FILES: dict[str, dict[str, Any]] = {
    "compile(ddp)": under("_orig_mod.module."),
    "ddp(compile)": under("module._orig_mod."),
    "averaged": dict(AveragedModel(NETWORK).state_dict()),
    "averaged(compile)": {"n_averaged": COUNT} | under("module._orig_mod."),
    "lightning": {"state_dict": under("model."), "epoch": 3},
    "lightning with a loss": {"state_dict": under("net_g.") | {"loss.vgg.0.weight": COUNT}},
    "lightning with an average": {
        "state_dict": under("net_g.", OTHER) | under("ema.module.") | {"ema.n_averaged": COUNT}
    },
    "a gan by prefixes": {
        "state_dict": under("generator.", OTHER)
        | under("generator_ema.")
        | under("discriminator.", OTHER)
        | {"step_counter": COUNT}
    },
    "a gan without an average": {
        "state_dict": under("discriminator.", OTHER) | under("generator.") | {"step_counter": COUNT}
    },
    "a gan by containers": {"d": OTHER, "g": OTHER, "g_ema": WANTED},
    "generator": {"discriminator": under("module.", OTHER), "generator": under("module.")},
    "netG": {"netD": OTHER, "netG": under("module.")},
    "ema": {"ema": WANTED},
    "model_ema": {"model": OTHER, "model_ema": WANTED},
    "state_dict_ema": {"state_dict": OTHER, "state_dict_ema": WANTED},
    "ema_state_dict": {"ema_state_dict": WANTED, "state_dict": OTHER},
    "nested": {"model": {"state_dict": OTHER}, "ema": {"state_dict": WANTED, "decay": 0.9}},
    "an average beside": under("online_model.", OTHER) | under("ema_model.") | {"initted": COUNT},
    "names without dots": under("model.", OTHER)
    | {"model_ema." + key.replace(".", ""): weight for key, weight in WANTED.items()}
    | {"model_ema.num_updates": COUNT},
    "plain beside an average": OTHER | under("ema."),
    "plain beside others": WANTED | {"n_averaged": COUNT} | under("discriminator.", OTHER),
    "a part of an average": {"params_ema": dict(list(WANTED.items())[1:]), "params": WANTED},
    "with an optimizer": {"net": WANTED, "optimizer": {"state": {0: {"exp_avg": COUNT}}}},
}


def equal(network: nn.Module) -> bool:
    weights = {key.removeprefix("network."): w for key, w in network.state_dict().items()}
    return all(torch.equal(weight, weights[key]) for key, weight in WANTED.items())


@pytest.mark.parametrize("name", FILES)
def test_the_right_weights_are_taken(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(FILES[name], path)
    network = build_network("compact", scale=2, num_feat=8, num_conv=1)
    assert load_weights(network, path, strict=True).complete
    assert equal(network)
    assert equal(load_model(path).network)


def test_the_choice_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    path = tmp_path / "net.pth"
    torch.save({"params": OTHER, "params_ema": WANTED}, path)
    line = f"{path}: the averaged weights 'params_ema' are taken; beside them lie 'params'"
    load_model(path)
    assert line in caplog.messages
    caplog.clear()
    load_weights(build_network("compact", scale=2, num_feat=8, num_conv=1), path, strict=True)
    assert line in caplog.messages
    caplog.clear()
    torch.save(WANTED, path)
    load_model(path)
    assert not caplog.messages, "there was no choice"


def test_a_refusal_names_what_was_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"state_dict": under("net_g.")}, path)
    wider = build_network("compact", scale=2, num_feat=12, num_conv=1)
    with pytest.raises(CheckpointError, match=r"the weights 'state_dict' \(net_g\.\*\) are taken"):
        load_weights(wider, path, strict=True)
    torch.save({"params": {key.replace("body", "bodies"): w for key, w in WANTED.items()}}, path)
    with pytest.raises(CheckpointError, match=r"bodies\.0\.weight is like the missing body\.0\."):
        load_weights(wider, path, strict=True)


def test_a_part_of_a_network_is_not_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(under("network.inner.") | {"head.weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not recognized"):
        load_model(path)


def test_an_optimizer_holds_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}, path)
    for load in (load_model, lambda path: load_weights(NETWORK, path, strict=True)):
        with pytest.raises(CheckpointError, match=r"holds no weights \(it has: optimizer\)"):
            load(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.",
        b"\x80\x02h\xff.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"\x80\x02" + b"(" * 1000 + b"l" * 1000 + b".",
        b".",
        bytes(1000),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".ckpt"])
def test_any_malformed_pickle_is_one_sentence(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"net\{suffix}") as error:
        load_model(path)
    assert "\n" not in str(error.value)
