"""Reading checkpoints, fitting them to networks, and what is said when that fails."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.support import ROOT
from traiNNer.archs import build_network
from traiNNer.archs.catalogue import LEFT_OUT
from traiNNer.archs.loading import load_model, load_weights
from traiNNer.archs.weight_files import read_metadata, read_weights
from traiNNer.utils.errors import CheckpointError


class RunsCode:
    """Pickles into a call, as a malicious checkpoint would."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(Path.cwd() / "was_run"),)


def small(scale: int = 2, num_feat: int = 16, num_conv: int = 2) -> nn.Module:
    return build_network("compact", scale=scale, num_feat=num_feat, num_conv=num_conv)


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def equal(one: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[key]) for key, value in one.state_dict().items())


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "compact.safetensors"
    save_file(weights_of(small()), path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
@pytest.mark.parametrize(
    "container", ["params_ema", "params-ema", "params", "state_dict", "model", "model_state_dict"]
)
def test_weights_are_unwrapped(tmp_path: Path, container: str, suffix: str) -> None:
    network = small()
    path = tmp_path / f"net{suffix}"
    torch.save(
        {container: {f"module.{k}": v for k, v in weights_of(network).items()}, "epoch": 3}, path
    )
    read = read_weights(path)
    assert list(read) == list(network.state_dict())


def test_smoothed_weights_go_first(tmp_path: Path) -> None:
    plain = small()
    smooth = small()
    path = tmp_path / "both.pth"
    torch.save({"params": weights_of(plain), "params_ema": weights_of(smooth)}, path)
    network = small()
    load_weights(network, path, strict=True)
    assert equal(network, smooth)


def test_missing_file(tmp_path: Path) -> None:
    for read in (read_weights, read_metadata, load_model):
        with pytest.raises(CheckpointError, match=r"no\.pth does not exist\. Check the path"):
            read(tmp_path / "no.pth")
    with pytest.raises(CheckpointError, match="is a folder"):
        read_weights(tmp_path)


def test_other_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"onnx")
    with pytest.raises(
        CheckpointError, match=r"not a kind of checkpoint that is read: \.safetensors"
    ):
        read_weights(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_empty_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.touch()
    with pytest.raises(CheckpointError, match="is empty"):
        read_weights(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    "text", ["<!DOCTYPE html><html>not found</html>", "version https://git-lfs.github.com/spec/v1"]
)
def test_text_in_place_of_weights(tmp_path: Path, text: str, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"it is a text file.*Fetch it again"):
        read_weights(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_file_cut_short(tmp_path: Path, suffix: str, share: float) -> None:
    whole = tmp_path / f"whole{suffix}"
    path = tmp_path / f"cut{suffix}"
    if suffix == ".pth":
        torch.save(weights_of(small()), whole)
    else:
        save_file(weights_of(small()), whole)
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=r"it is damaged or cut short .* earlier checkpoint"):
        read_weights(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_not_run(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "evil.pth"
    if zipped:
        torch.save({"params": weights_of(small()), "extra": RunsCode()}, path)
    else:
        path.write_bytes(pickle.dumps({"extra": RunsCode()}))
    with pytest.raises(
        CheckpointError, match=r"holds Python code.*not read.*weights_only=False.*safetensors"
    ):
        read_weights(path)
    assert not (tmp_path / "was_run").exists()


def test_file_without_weights(tmp_path: Path) -> None:
    path = tmp_path / "state.pth"
    torch.save({"epoch": 3, "iter": 7}, path)
    with pytest.raises(CheckpointError, match=r"holds no weights \(it has: epoch, iter\)"):
        read_weights(path)


def test_metadata(tmp_path: Path, checkpoint: Path) -> None:
    path = tmp_path / "named.safetensors"
    save_file(weights_of(small()), path, metadata={"arch": "compact", "iteration": "7"})
    assert read_metadata(path) == {"arch": "compact", "iteration": "7"}
    assert read_metadata(checkpoint) == {}


def test_whole_load(tmp_path: Path) -> None:
    network = small()
    other = small()
    path = tmp_path / "a.safetensors"
    save_file(weights_of(other), path)
    report = load_weights(network, path, strict=True)
    assert report.complete
    assert equal(network, other)
    assert report.summary() == f"{path}: 11 of the network's 11 weights match."


def test_strict_load_says_what_differs_and_what_the_file_holds(checkpoint: Path) -> None:
    network = small(num_conv=3)
    before = weights_of(network)
    with pytest.raises(CheckpointError) as caught:
        load_weights(network, checkpoint, strict=True, what="network_g (compact x2)")
    message = str(caught.value)
    assert "network_g (compact x2) cannot be loaded from" in message
    assert "9 of the network's 14 weights match" in message
    assert "body.6.weight: file 12x16x3x3, network 16x16x3x3" in message
    assert "are not in the file (body.7.weight" in message
    assert "The file holds Compact x2." in message
    assert "strict_load_g: false" in message
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_checkpoint_of_another_architecture(checkpoint: Path) -> None:
    span = build_network("span", scale=2, feature_channels=16)
    for strict in (True, False):
        with pytest.raises(
            CheckpointError, match=r"span x2 cannot be loaded.* 0 of .*file holds Compact x2.*type"
        ):
            load_weights(span, checkpoint, strict=strict, what="span x2")


def test_what_the_file_holds_is_read_from_our_metadata_first(tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    save_file({"some.weight": torch.zeros(1)}, path, metadata={"arch": "safmn", "scale": "3"})
    with pytest.raises(CheckpointError, match=r"The file holds safmn x3\."):
        load_weights(small(), path, strict=True)


def test_unknown_weights(tmp_path: Path) -> None:
    path = tmp_path / "strange.safetensors"
    save_file({"some.weight": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="What the file holds is not recognized"):
        load_weights(small(), path, strict=True)
    with pytest.raises(
        CheckpointError, match=r"architecture that is not recognized \(some\.weight\)"
    ):
        load_model(path)


def test_partial_load_takes_what_fits_and_says_so(
    checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = small(scale=4)
    report = load_weights(network, checkpoint, strict=False, what="network_g")
    assert [key for key, _, _ in report.mismatched] == ["body.6.weight", "body.6.bias"]
    assert len(report.matched) == 9
    assert torch.equal(
        network.get_parameter("body.0.weight"), read_weights(checkpoint)["body.0.weight"]
    )
    assert "network_g was loaded in part" in caplog.text


def test_names_of_other_trainers_are_understood(tmp_path: Path) -> None:
    """The names of Real-ESRGAN's checkpoints, which differ from those of spandrel's class."""
    source = build_network("esrgan", scale=4, num_filters=8, num_blocks=2)
    names = {
        "model.0": "conv_first",
        "model.3": "conv_up1",
        "model.6": "conv_up2",
        "model.8": "conv_hr",
    }
    names |= {"model.10": "conv_last", "model.1.sub.2": "conv_body"}
    weights: dict[str, Tensor] = {}
    for key, value in weights_of(source).items():
        stem, kind = key.rsplit(".", 1)
        if stem in names:
            weights[f"{names[stem]}.{kind}"] = value
        else:
            _, _, _, block, dense, conv, _ = stem.split(".")
            weights[f"body.{block}.{dense.lower()}.{conv}.{kind}"] = value
    path = tmp_path / "realesrgan.pth"
    torch.save({"params_ema": weights}, path)
    network = build_network("esrgan", scale=4, num_filters=8, num_blocks=2)
    assert load_weights(network, path, strict=True).complete
    assert equal(network, source)


def test_model_of_spandrel(checkpoint: Path) -> None:
    loaded = load_model(checkpoint)
    assert (loaded.scale, loaded.name, loaded.size_multiple) == (2, "Compact", 1)
    assert not loaded.network.training
    assert loaded.network(torch.rand(1, 3, 5, 7)).shape == (1, 3, 10, 14)


def test_model_with_a_change_of_ours(tmp_path: Path) -> None:
    source = build_network("uformer_t", scale=1).eval()
    path = tmp_path / "uformer.safetensors"
    save_file(weights_of(source), path)
    loaded = load_model(path)
    lq = torch.rand(1, 3, 40, 130)
    with torch.no_grad():
        assert torch.allclose(loaded.network(lq), source(lq), atol=1e-5)


def test_model_of_ours_is_built_from_its_metadata(tmp_path: Path) -> None:
    """Half of the heads: nothing in the weights of this network would tell."""
    source = build_network("seemore_t", scale=3, recursive=1, embedding_dim=12, num_layers=2).eval()
    path = tmp_path / "seemore.safetensors"
    parameters = json.dumps({"recursive": 1, "embedding_dim": 12, "num_layers": 2})
    save_file(
        weights_of(source),
        path,
        metadata={"arch": "seemore_t", "scale": "3", "parameters": parameters},
    )
    loaded = load_model(path)
    assert (loaded.name, loaded.scale, loaded.min_size) == ("seemore_t", 3, 16)
    lq = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(loaded.network(lq), source(lq))


def test_metadata_that_cannot_be_built(tmp_path: Path) -> None:
    path = tmp_path / "new.safetensors"
    for metadata, why in (
        (
            {"arch": "compakt", "scale": "2"},
            r"says that it holds 'compakt' \(scale 2\).*did you mean compact",
        ),
        ({"arch": "compact", "scale": "5"}, r"cannot be built at scale 5"),
        ({"arch": "compact"}, r"scale not given"),
        ({"arch": "compact", "scale": "2", "parameters": "{"}, r"which cannot be built"),
    ):
        save_file(weights_of(small()), path, metadata=metadata)
        with pytest.raises(CheckpointError, match=why):
            load_model(path)


def test_models_that_map_no_image_to_an_image_are_refused(tmp_path: Path) -> None:
    from spandrel.architectures.LaMa import LaMa

    path = tmp_path / "lama.pth"
    torch.save(LaMa().state_dict(), path)
    with pytest.raises(
        CheckpointError, match=r"holds LaMa, which is not supported: inpainting"
    ) as caught:
        load_model(path)
    assert LEFT_OUT["LaMa"] in str(caught.value)


def test_gray_models_are_refused(tmp_path: Path) -> None:
    from spandrel.architectures.Compact import Compact

    path = tmp_path / "gray.pth"
    torch.save(
        Compact(num_in_ch=1, num_out_ch=1, num_feat=8, num_conv=2, upscale=2).state_dict(), path
    )
    with pytest.raises(
        CheckpointError, match=r"images of 1 channels in and 1 out; only 3 and 3 \(RGB\)"
    ):
        load_model(path)


def test_building_a_network_does_not_import_all_of_spandrel() -> None:
    """And whoever asks for the rest of spandrel afterwards gets it, with the same classes."""
    code = """
import sys
from tests.support import ROOT
from traiNNer.archs import build_network
network = build_network("compact", scale=2)
assert "torchvision" not in sys.modules and "spandrel.architectures.SwinIR" not in sys.modules
from spandrel import ModelLoader
import spandrel
assert len(spandrel.MAIN_REGISTRY) > 30
assert type(ModelLoader().load_from_state_dict(network.state_dict()).model) is type(network)
assert spandrel.architectures.Compact.Compact is type(network)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
