"""Scanning, the cache of headers, pairing, and every message."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from image_sets import MakePairs, save, texture

from traiNNer.data.scan import FileStamp, ScannedImage, pair_folders, scan_folder
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import ImageHeader, read_header


class CountingReader:
    """Reads headers, and remembers the names of the files."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, path: str) -> ImageHeader:
        self.names.append(Path(path).name)
        return read_header(path)

    def scan(self, root: Path) -> tuple[list[ScannedImage], list[str]]:
        """The images of a folder, and the names of the files that were read for them."""
        self.names.clear()
        images = scan_folder(root, self)
        return images, sorted(self.names)


def test_finds_images_below_in_order(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("b.png", "sub/deep/a.png", "a.x.png", ".hidden.png", ".git/c.png", "sub/b.png"):
        save(root / name, texture(8, 12))
    (root / "c.PNG").write_bytes((root / "b.png").read_bytes())
    (root / "notes.txt").write_text("no image")
    images = scan_folder(root)
    assert [image.stem for image in images] == ["a.x", "b", "c", "sub/b", "sub/deep/a"]
    assert images[3].path == root / "sub" / "b.png"
    assert {image.header for image in images} == {ImageHeader(12, 8, 3, 8)}


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    save(tmp_path / "set" / "a.png", texture(8, 8))
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set", target_is_directory=True)
    (tmp_path / "other").mkdir()
    save(tmp_path / "other" / "b.png", texture(8, 8))
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "other", target_is_directory=True)
    assert [image.stem for image in scan_folder(tmp_path / "set")] == ["a", "linked/b"]


def test_headers_are_remembered(make_pairs: MakePairs, cache_home: Path) -> None:
    gt, _ = make_pairs(4)
    reader = CountingReader()
    first, names = reader.scan(gt)
    assert names == ["000.png", "001.png", "002.png", "003.png"]
    assert reader.scan(gt) == (first, [])
    assert len(list((cache_home / "traiNNer" / "scan").glob("*.json"))) == 1


def test_changed_files_are_read_again(make_pairs: MakePairs) -> None:
    gt, _ = make_pairs(4)
    reader = CountingReader()
    reader.scan(gt)
    save(gt / "001.png", texture(16, 24))  # another size in bytes
    os.utime(gt / "002.png", ns=(1, 10**18 + 1))
    (gt / "003.png").unlink()
    save(gt / "new.png", texture(8, 8))
    images, names = reader.scan(gt)
    assert names == ["001.png", "002.png", "new.png"]
    by_stem = {image.stem: image for image in images}
    assert by_stem["001"].header == ImageHeader(24, 16, 3, 8)
    assert by_stem["002"].stamp == FileStamp((gt / "002.png").stat().st_size, 10**18 + 1)
    assert "003" not in by_stem
    assert reader.scan(gt) == (images, [])


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"version": 1, "images": {"000.png": [1]}}', b'{"version": 9}']
)
def test_a_useless_cache_is_ignored(
    make_pairs: MakePairs, cache_home: Path, content: bytes
) -> None:
    gt, _ = make_pairs(2)
    reader = CountingReader()
    first, _ = reader.scan(gt)
    cache = next((cache_home / "traiNNer" / "scan").glob("*.json"))
    cache.write_bytes(content)
    assert reader.scan(gt) == (first, ["000.png", "001.png"])
    assert json.loads(cache.read_bytes())["version"] == 1


def test_a_cache_that_cannot_be_written_is_ignored(make_pairs: MakePairs, cache_home: Path) -> None:
    gt, _ = make_pairs(2)
    cache_home.write_text("a file where the folder should be")
    assert len(scan_folder(gt)) == 2


def test_missing_folder_file_and_empty_folder(tmp_path: Path, make_pairs: MakePairs) -> None:
    gt, _ = make_pairs(1)
    with pytest.raises(
        DataError, match=rf"does not exist:\s+{gt}/x/y \(the nearest folder that exists is {gt}\)"
    ):
        scan_folder(gt / "x" / "y")
    with pytest.raises(
        DataError, match=rf"a file is given where a folder .*:\s+{gt}/000\.png: give {gt}"
    ):
        scan_folder(gt / "000.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError, match=rf"no image in this folder \(what is read: \.png, .*\):\s+{tmp_path}/empty"
    ):
        scan_folder(tmp_path / "empty")


def test_all_unusable_files_are_counted(make_pairs: MakePairs) -> None:
    gt, _ = make_pairs([(8, 8)] * 14)
    for number in range(12):
        (gt / f"{number:03d}.png").write_text("text")
    (gt / "link.png").symlink_to(gt / "nowhere.png")
    with pytest.raises(DataError, match=r"unusable image \(13 times\):") as error:
        scan_folder(gt)
    lines = str(error.value).splitlines()
    assert len(lines) == 1 + 1 + 10 + 1
    assert lines[-1].strip() == "... and 3 more"


def test_pairs_by_stem_in_several_roots(make_pairs: MakePairs) -> None:
    gt_a, lq_a = make_pairs(2, names=["x/a.png", "b.png"], folder="A")
    gt_b, lq_b = make_pairs(1, names=["b.png"], folder="B")
    shutil.move(lq_a / "b.png", lq_a / "b.jpg")
    pairs = pair_folders([gt_a, gt_b], [lq_a, lq_b], 2)
    assert [(p.gt.path, p.lq.path) for p in pairs] == [
        (gt_a / "b.png", lq_a / "b.jpg"),
        (gt_a / "x/a.png", lq_a / "x/a.png"),
        (gt_b / "b.png", lq_b / "b.png"),
    ]
    with pytest.raises(DataError, match="dataroot_gt names 2 folders and dataroot_lq 1"):
        pair_folders([gt_a, gt_b], [lq_a], 2)


def test_everything_wrong_is_in_one_error(tmp_path: Path, make_pairs: MakePairs) -> None:
    gt, lq = make_pairs(5)
    (lq / "000.png").unlink()
    (gt / "001.png").unlink()
    shutil.copy(lq / "002.png", lq / "002.jpg")
    save(lq / "003.png", texture(7, 50))
    (gt / "004.png").write_bytes((gt / "004.png").read_bytes()[:200])
    with pytest.raises(DataError) as error:
        pair_folders([gt, tmp_path / "none"], [lq, lq], 2)
    message = str(error.value)
    assert f"GT without an LQ image of the same name in {lq}:\n    {gt}/000.png" in message
    assert f"LQ without a GT image of the same name in {gt}:\n    {lq}/001.png" in message
    assert (
        f"two images of one name in a folder; remove one (2 times):\n    {lq}/002.jpg and 002.png"
        in message
    )
    assert "are these different pictures?" in message
    assert f"unusable image:\n    {gt}/004.png: the PNG file is cut short" in message
    assert f"does not exist:\n    {tmp_path}/none" in message
    assert f"{lq}/004.png" not in message, (
        "the partner of an unusable image is not one without partner"
    )


@pytest.mark.parametrize(
    ("gt_size", "lq_size", "message"),
    [
        (
            (40, 48),
            (40, 48),
            r"they have the same size; was the same folder given twice, or should scale be 1\?",
        ),
        ((20, 24), (40, 48), r"LQ is larger than GT; are dataroot_gt and dataroot_lq swapped\?"),
        ((80, 96), (20, 24), r"it looks like scale 4"),
        (
            (41, 49),
            (20, 24),
            (
                r"a few pixels are off; crop to a multiple of 2:.* is 49x41, .* is 24x20; crop GT "
                r"to 48x40$"
            ),
        ),
        ((39, 47), (20, 24), r"a few pixels are off; .*; crop GT to 46x38 and LQ to 23x19$"),
        ((48, 40), (20, 24), r"one of them lies on its side"),
        ((90, 30), (20, 24), r"are these different pictures\?"),
    ],
)
def test_size_mismatches(
    tmp_path: Path, gt_size: tuple[int, int], lq_size: tuple[int, int], message: str
) -> None:
    save(tmp_path / "gt" / "a.png", texture(*gt_size))
    save(tmp_path / "lq" / "a.png", texture(*lq_size))
    with pytest.raises(DataError, match=rf"(?s)GT is not 2 x LQ: {message}") as error:
        pair_folders([tmp_path / "gt"], [tmp_path / "lq"], 2)
    assert f"{tmp_path}/gt/a.png is {gt_size[1]}x{gt_size[0]}" in str(error.value)
