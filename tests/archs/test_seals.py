"""The checksum in our weights files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from traiNNer.archs.seals import BLANK, SEAL, read_seal, sealed
from traiNNer.archs.weight_files import read_weights
from traiNNer.utils.errors import CheckpointError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    content = save({"a.weight": torch.arange(8.0)}, metadata={"arch": "x", SEAL: BLANK})
    path = tmp_path / "net.safetensors"
    path.write_bytes(sealed(content)[0])
    return path


def test_a_sealed_file_is_read_as_any_other(path: Path) -> None:
    digest, right = read_seal(path)
    assert right
    assert digest is not None
    assert len(digest) == 64
    assert torch.equal(load_file(path)["a.weight"], torch.arange(8.0))
    assert torch.equal(read_weights(path)["a.weight"], torch.arange(8.0))


def test_no_flipped_bit_of_the_weights_is_read(path: Path) -> None:
    whole = path.read_bytes()
    digest = read_seal(path)[0]
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        assert read_seal(path) != (digest, True), place
    # The last byte is one of a weight.
    with pytest.raises(CheckpointError, match=r"net\.safetensors cannot be read: it is damaged"):
        read_weights(path)


def test_files_of_others_hold_none(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(save({"a": torch.zeros(2)}))
    assert read_seal(path) == (None, False)
    assert list(read_weights(path)) == ["a"]
    path.write_bytes(b"\xff" * 40)
    assert read_seal(path) == (None, False)
