"""Pictures with their classes: folders, files of labels, what is held out, what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support import texture
from traiNNer.data import ImageFolderDataset, SampleRequest, create_dataloaders
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import write_image


def make_classes(root: Path, counts: dict[str, int], side: int = 40) -> Path:
    for number, (name, count) in enumerate(counts.items()):
        for index in range(count):
            picture = texture(side, side + 8, 100 * number + index)
            write_image(root / name / f"{index:03}.png", picture)
    return root


def test_folders_are_classes_and_a_share_of_each_is_held_out(tmp_path: Path) -> None:
    root = make_classes(tmp_path, {"cat": 10, "ant": 20})
    whole = ImageFolderDataset(1, str(root))
    assert whole.classes == ["ant", "cat"]
    assert len(whole) == 30
    assert whole.held_out() is None
    part = ImageFolderDataset(1, str(root), val_split=0.2)
    held_out = part.held_out()
    assert held_out is not None
    assert Counter(element.classes[0] for element in held_out.elements) == {0: 4, 1: 2}
    assert sorted(part.lq_paths + held_out.lq_paths) == sorted(whole.lq_paths)
    again = ImageFolderDataset(1, str(root), val_split=0.2)
    assert again.lq_paths == part.lq_paths
    other = ImageFolderDataset(1, str(root), val_split=0.2, split_seed=1)
    assert other.lq_paths != part.lq_paths


@pytest.mark.parametrize("fit", ["resize", "crop"])
def test_a_picture_is_as_large_as_asked_for(tmp_path: Path, fit: Any) -> None:
    root = make_classes(tmp_path, {"a": 2, "b": 2})
    dataset = ImageFolderDataset(1, str(root), fit=fit)
    dataset.require_lq_size(32)
    sample = dataset[SampleRequest(3, 32, 5)]
    assert sample.lq is not None
    assert sample.lq.shape == (3, 32, 32)
    assert sample.lq.dtype == torch.uint8
    assert sample.label == 1
    assert torch.equal(sample.lq, dataset[SampleRequest(3, 32, 5)].lq)  # type: ignore[arg-type]
    seeds = {dataset[SampleRequest(3, 32, seed)].lq.numpy().tobytes() for seed in range(6)}  # type: ignore[union-attr]
    assert len(seeds) > 1
    judged = dataset.for_validation()
    middle = {judged[SampleRequest(3, 32, seed)].lq.numpy().tobytes() for seed in range(6)}  # type: ignore[union-attr]
    assert len(middle) == 1


def test_small_pictures_are_refused_where_patches_are_cut_out(tmp_path: Path) -> None:
    root = make_classes(tmp_path, {"a": 2, "b": 2})
    with pytest.raises(DataError, match="smaller than the patch of 64x64"):
        ImageFolderDataset(1, str(root), fit="crop").require_lq_size(64)
    enlarged = ImageFolderDataset(1, str(root))
    enlarged.require_lq_size(64)
    assert enlarged[SampleRequest(0, 64, 0)].lq.shape == (3, 64, 64)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text",
    [
        "file,label\na/000.png,x|y\na/001.png,y\nb/000.png,x\nb/001.png,\n",
        "file,x,y\na/000.png,1,1\na/001.png,0,1\nb/000.png,1,0\nb/001.png,0,0\n",
    ],
)
def test_a_picture_may_have_several_classes(tmp_path: Path, text: str) -> None:
    root = make_classes(tmp_path / "pictures", {"a": 2, "b": 2})
    labels = tmp_path / "labels.csv"
    labels.write_text(text, encoding="utf-8")
    dataset = ImageFolderDataset(1, str(root), labels=str(labels), multi_label=True)
    assert dataset.classes == ["x", "y"]
    found = [dataset[SampleRequest(index, 32, 0)].label for index in range(4)]
    expected = torch.tensor([[1.0, 1], [0, 1], [1, 0], [0, 0]])
    torch.testing.assert_close(
        torch.stack([label for label in found if label is not None]), expected
    )
    with pytest.raises(DataError, match="multi_label: true"):
        ImageFolderDataset(1, str(root), labels=str(labels))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na/000.png,x\nb/009.png,y\n", "line 3: b/009.png"),
        ("file,label\na/000.png,x\na/000.png,y\n", "names twice"),
        ("file,label\n", "a line for each picture"),
        ("file,x,y\na/000.png,1,maybe\n", "neither 0 nor 1"),
        ("file,x,y\na/000.png,1\n", "too few or too many cells"),
    ],
)
def test_a_wrong_file_of_labels_is_one_message(tmp_path: Path, text: str, message: str) -> None:
    root = make_classes(tmp_path / "pictures", {"a": 2, "b": 2})
    labels = tmp_path / "labels.csv"
    labels.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        ImageFolderDataset(1, str(root), labels=str(labels))


def test_classes_of_one_picture_and_pictures_of_none_are_refused(tmp_path: Path) -> None:
    root = make_classes(tmp_path, {"a": 1, "b": 3})
    write_image(root / "loose.png", np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(DataError) as caught:
        ImageFolderDataset(1, str(root))
    assert "class of one picture" in str(caught.value)
    assert "loose.png" in str(caught.value)
    with pytest.raises(DataError, match="class without a picture"):
        ImageFolderDataset(1, str(root), classes=["a", "b", "c"])
    with pytest.raises(DataError, match="none of the classes"):
        ImageFolderDataset(1, str(root), classes=["b", "c"])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loaders_of_a_folder(tmp_path: Path, num_workers: int) -> None:
    root = make_classes(tmp_path, {"a": 10, "b": 15})
    loaders = create_dataloaders(str(root), 4, 24, num_workers=num_workers, val_split=0.2)
    assert loaders.test is not None
    assert loaders.classes == ("a", "b")
    parts = [loaders.train, loaders.val, loaders.test]
    paths = [path for part in parts for path in part.dataset.lq_paths]
    assert sorted(paths) == sorted(ImageFolderDataset(1, str(root)).lq_paths)
    epochs: list[torch.Tensor] = []
    for _ in range(2):
        batches = list(loaders.train)
        assert len(batches) == len(loaders.train)
        assert all(pictures.shape[1:] == (3, 24, 24) for pictures, _ in batches)
        assert batches[0][0].dtype == torch.float32
        epochs.append(torch.cat([labels for _, labels in batches]))
    assert Counter(epochs[0].tolist()) == Counter(epochs[1].tolist()) == {0: 6, 1: 10}
    assert not torch.equal(epochs[0], epochs[1])
    # Broken off, it begins with a whole epoch the next time.
    for _ in loaders.train:
        break
    assert sum(len(labels) for _, labels in loaders.train) == 16
    judged = [torch.cat([pictures for pictures, _ in loaders.val]) for _ in range(2)]
    assert torch.equal(*judged)
    for part in parts:
        part.close()


def test_folders_of_their_own_are_not_drawn_from(tmp_path: Path) -> None:
    for part, count in {"train": 10, "test": 4}.items():
        make_classes(tmp_path / part, {"a": count, "b": count})
    loaders = create_dataloaders(str(tmp_path), 4, 24, num_workers=0)
    assert loaders.test is not None
    sizes = [len(part.dataset) for part in (loaders.train, loaders.val, loaders.test)]
    assert sizes == [18, 2, 8]
    with pytest.raises(DataError, match="above 0 and below"):
        create_dataloaders(str(tmp_path), 4, 24, val_split=0.7)
