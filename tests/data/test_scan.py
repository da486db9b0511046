"""Scanning, the cache of headers, pairing, and every message."""

from __future__ import annotations

import gc
import json
import os
import shutil
from pathlib import Path

import pytest
from image_sets import MakePairs, save, texture

from traiNNer.data.pairing import pair_folders
from traiNNer.data.scan import ScannedImage, scan_file, scan_folder, scan_into
from traiNNer.data.walk import LeftOut
from traiNNer.utils.errors import DataError
from traiNNer.utils.files import FileStamp
from traiNNer.utils.images import ImageHeader, read_header
from traiNNer.utils.problems import Problems


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


# What a file of two pictures could hold, and what spoils it.
GOOD_CACHE = (
    b'{"version": 3, "headers": [[44, 40, 3, 8, 1, "", ""]], '
    b'"images": {"000.png": [SIZE, TIME, 0], "001.png": [1, 2, 0]}}'
)
SPOILT = (
    (b"[SIZE, TIME, 0]", b"[1]"),
    (b"SIZE", b"true"),
    (b"TIME", b"1.5"),
    (b"[1, 2, 0]", b"[1, 2, 1]"),
    (b"[1, 2, 0]", b"[1, 2, -1]"),
    (b"[1, 2, 0]", b"[1, 2, false]"),
    (b"8, 1,", b"8, 9,"),
    (b"3, 8,", b"3, Infinity,"),
    (b"3, 8,", b"NaN, 8,"),
    (b"44", b'"44"'),
    (b"3, 8,", b"3, true,"),
    (b"44", b"0"),
    (b"44", b"1e400"),
    (b"44", b"4" + b"0" * 200),
    (b'"", ""', b'"", 1'),
    (b', "", ""', b""),
)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b"9" * 5000,
        b'{"version": 9}',
        b'{"version": 3, "headers": [], "images": [1]}',
        *(GOOD_CACHE.replace(old, new) for old, new in SPOILT),
    ],
    ids=range(8 + len(SPOILT)),
)
def test_a_useless_cache_is_ignored(
    make_pairs: MakePairs, cache_home: Path, content: bytes
) -> None:
    gt, _ = make_pairs(2)
    reader = CountingReader()
    first, _ = reader.scan(gt)
    cache = next((cache_home / "traiNNer" / "scan").glob("*.json"))
    cache.write_bytes(stamped(content, gt / "000.png"))
    assert reader.scan(gt) == (first, ["000.png", "001.png"])
    assert json.loads(cache.read_bytes())["version"] == 3


def stamped(content: bytes, path: Path) -> bytes:
    """With what the file is known by."""
    status = path.stat()
    size = str(status.st_size).encode()
    return content.replace(b"SIZE", size).replace(b"TIME", str(status.st_mtime_ns).encode())


def test_files_of_one_kind_share_a_header(tmp_path: Path, cache_home: Path) -> None:
    gt = tmp_path / "set"
    for number in range(3):
        save(gt / f"{number:03d}.png", texture(8, 8))
    reader = CountingReader()
    for _ in range(2):
        images, _ = reader.scan(gt)
        assert len({id(image.header) for image in images}) == 1
    cache = next((cache_home / "traiNNer" / "scan").glob("*.json"))
    content = stamped(GOOD_CACHE, gt / "000.png").replace(b"44, 40", b"55, 66")
    cache.write_bytes(content)
    images, names = reader.scan(gt)
    # What spoils it above is all that keeps it from being believed.
    assert names == ["001.png", "002.png"]
    assert images[0].header == ImageHeader(55, 66, 3, 8)
    assert gc.isenabled()


def test_a_cache_that_cannot_be_written_is_ignored(make_pairs: MakePairs, cache_home: Path) -> None:
    gt, _ = make_pairs(2)
    cache_home.write_text("a file where the folder should be")
    assert len(scan_folder(gt)) == 2


def test_a_folder_in_the_place_of_a_cache_is_ignored(
    make_pairs: MakePairs, cache_home: Path
) -> None:
    gt, _ = make_pairs(2)
    scan_folder(gt)
    cache = next((cache_home / "traiNNer" / "scan").glob("*.json"))
    cache.unlink()
    cache.mkdir()
    assert len(scan_folder(gt)) == 2


def test_what_is_no_data_is_counted_by_suffix_or_not_looked_at(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("a.JPG", "b.jfif", "c.JPE", "d.dib", "sub/e.mpo"):
        save(root / name, texture(8, 8))
    for name in ("f.gif", "g.GIF", "sub/h.psd", "README", "i.a long end of a name"):
        (root / name).write_text("")
    for name in ("@eaDir/a.png", "__MACOSX/._a.png", "lost+found/b.png", "$RECYCLE.BIN/c.png",
                 ".AppleDouble/a.png", "System Volume Information/d.png", "#recycle/e.png",
                 "Thumbs.db", "sub/.DS_Store", "._a.png", "desktop.ini"):  # fmt: skip
        save(root / name, texture(8, 8))
    (root / "again").symlink_to(root, target_is_directory=True)
    problems = Problems()
    left_out = LeftOut()
    images = scan_into(root, problems, left_out)
    assert [image.name for image in images] == ["a.JPG", "b.jfif", "c.JPE", "d.dib", "sub/e.mpo"]
    problems.raise_if_any()
    assert left_out.describe() == [
        "left out: 2 .gif, 2 without a suffix, 1 .psd, 1 linked into itself"
    ]
    assert LeftOut().describe() == []


def test_only_few_kinds_of_what_is_left_out_are_named() -> None:
    left_out = LeftOut()
    for number in range(9):
        left_out.add(f"a.x{number}")
    left_out.add("b.x0")
    (text,) = left_out.describe()
    assert text == "left out: 2 .x0, 1 .x1, 1 .x2, 1 .x3, 1 .x4, 1 .x5, 3 others"


def test_pipes_and_links_in_a_circle_are_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png", texture(8, 8))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DataError, match=r"unusable image \(2 times\)") as error:
        scan_folder(tmp_path)
    assert "loop.png: cannot be read: Too many levels of symbolic links" in str(error.value)
    assert "pipe.png: a pipe, a socket or a device, and no file" in str(error.value)
    problems = Problems()
    assert scan_file(tmp_path / "pipe.png", problems) == []
    assert len(problems.examples) == 1


def test_folders_may_be_deeper_than_calls(tmp_path: Path) -> None:
    depth = 1100
    for _ in range(depth):
        tmp_path = tmp_path / "d"
        # One by one and from within: the whole path is longer than the system takes at once.
        tmp_path.mkdir()
        if len(str(tmp_path)) > 3900:
            break
    save(tmp_path / "a.png", texture(8, 8))
    top = next(parent for parent in tmp_path.parents if parent.name != "d")
    try:
        assert len(scan_folder(top / "d")) == 1
    finally:
        # pytest, which deletes old folders, takes each level for a call.
        (tmp_path / "a.png").unlink()
        while tmp_path != top:
            tmp_path.rmdir()
            tmp_path = tmp_path.parent


def test_a_pair_without_its_unusable_image_is_left_out_where_that_is_asked_for(
    make_pairs: MakePairs,
) -> None:
    gt, lq = make_pairs(3)
    (gt / "001.png").write_text("text")
    unusable = Problems()
    pairs = pair_folders([gt], [lq], 2, unusable=unusable)
    assert [pair.gt.name for pair in pairs] == ["000.png", "002.png"]
    assert len(unusable.examples) == 1
    assert "001.png: not a PNG" in unusable.examples[0]
    for path in gt.iterdir():
        path.write_text("text")
    with pytest.raises(DataError, match=r"unusable image \(3 times\)"):
        pair_folders([gt], [lq], 2, unusable=Problems())


def test_pairs_by_template_mark_and_letters(make_pairs: MakePairs) -> None:
    gt, lq = make_pairs(3, names=["e\u0301/a.png", "e\u0301/b.png", "c.png"])
    (lq / "e\u0301").rename(lq / "\u00e9")
    assert len(pair_folders([gt], [lq], 2)) == 3
    for path in [*lq.rglob("*.png")]:
        path.rename(path.with_name(f"{path.stem}x2.PNG"))
    for template in ("{}x2", None):
        pairs = pair_folders([gt], [lq], 2, template)
        assert [pair.lq.path.stem for pair in pairs] == ["cx2", "ax2", "bx2"]
    with pytest.raises(DataError, match=r"GT without '\{\}x4' in .*lq \(3 times\)"):
        pair_folders([gt], [lq], 2, "{}x4")
    with pytest.raises(DataError, match=r"(?s)LQ without a GT image of the same name"):
        pair_folders([gt], [lq], 2, "{}")


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
