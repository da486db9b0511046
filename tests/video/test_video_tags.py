"""What a video says of its colours and of its pixels is heeded, carried on, refused or said."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video.videos import SHARES, film, to_ycbcr, write_video
from traiNNer.utils.errors import DataError
from traiNNer.utils.images import Pixels
from traiNNer.video.files import scan_video
from traiNNer.video.reader import VideoReader
from traiNNer.video.truncation import missing_bytes
from traiNNer.video.writing import Encoding, VideoWriter

COLOUR = (200, 100, 50)
HD = (1280, 720)
SD = (64, 48)


def write_tagged(  # noqa: PLR0913 - what a file may say, each in a test of its own
    path: Path,
    size: tuple[int, int] = SD,
    *,
    coded: int = 6,
    matrix: int = 2,
    primaries: int = 2,
    transfer: int = 2,
    full: bool = False,
    pix_fmt: str = "yuv420p",
) -> Path:
    """Two lossless frames of `COLOUR`, coded by one matrix and tagged with another."""
    shift = 2 if "10" in pix_fmt else 0
    frame = av.VideoFrame(*size, pix_fmt)
    for plane, value in zip(frame.planes, to_ycbcr(COLOUR, coded, full), strict=False):
        kind = np.uint16 if shift else np.uint8
        count = plane.buffer_size // np.dtype(kind).itemsize
        plane.update(np.full(count, value << shift, kind).tobytes())
    with av.open(str(path), "w") as out:
        codec = "ffv1" if "a" in pix_fmt else "libx264"
        options = {"crf": "0", "preset": "ultrafast"} if codec == "libx264" else {}
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        context = stream.codec_context
        context.colorspace = frame.colorspace = matrix
        context.color_range = frame.color_range = 2 if full else 1
        context.color_primaries = primaries
        context.color_trc = transfer
        for number in range(2):
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def shown(path: Path) -> tuple[list[float], tuple[int, int, int, int]]:
    """RGB of the middle pixel by the formulas of the standards, and the tags: no code of ours."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    tags = (frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc)
    full = tags[1] == 2
    y, cb, cr = (
        bytes(plane)[plane.height // 2 * plane.line_size + plane.width // 2]
        for plane in frame.planes
    )
    luma = y / 255 if full else (y - 16) / 219
    blue_difference, red_difference = ((c - 128) / (255 if full else 224) for c in (cb, cr))
    share_r, share_b = SHARES[{6: 5}.get(tags[0], tags[0])]
    red = luma + 2 * (1 - share_r) * red_difference
    blue = luma + 2 * (1 - share_b) * blue_difference
    green = (luma - share_r * red - share_b * blue) / (1 - share_r - share_b)
    return [255 * value for value in (red, green, blue)], tags


def read(path: Path) -> Pixels:
    return VideoReader(scan_video(path)).read(0)


@pytest.mark.parametrize(
    ("size", "coded"), [(HD, 1), ((1280, 536), 1), ((64, 720), 1), (SD, 5), ((720, 576), 5)]
)
def test_untagged_is_what_players_take_it_for(
    tmp_path: Path, size: tuple[int, int], coded: int
) -> None:
    path = write_tagged(tmp_path / "a.mp4", size, coded=coded)
    assert np.abs(read(path)[10, 10] - np.array(COLOUR, int)).max() <= 2
    video = scan_video(path)
    assert any("without a word about the colour matrix" in remark for remark in video.remarks)
    assert (video.colors.matrix == 1) == (coded == 1)


@pytest.mark.parametrize(("codec", "full"), [("h264", False), ("h264", True), ("h265", False)])
@pytest.mark.parametrize("matrix", [1, 5, 6, 9])
def test_colours_are_written_as_they_came(
    tmp_path: Path, codec: str, full: bool, matrix: int
) -> None:
    path = write_tagged(
        tmp_path / "a.mp4",
        coded={6: 5}.get(matrix, matrix),
        matrix=matrix,
        primaries=matrix,
        transfer={9: 14}.get(matrix, 6),
        full=full,
    )
    encoding = Encoding(codec, crf=0, colors=scan_video(path).colors)
    with VideoWriter(tmp_path / "b.mp4", SD, Fraction(25), encoding) as writer:
        for _ in range(12):
            writer.write(read(path))
    before, tags = shown(path)
    after, new_tags = shown(tmp_path / "b.mp4")
    assert new_tags == tags
    np.testing.assert_allclose(after, before, atol=2)
    np.testing.assert_allclose(read(path)[10, 10], before, atol=1)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"transfer": 16, "matrix": 9, "primaries": 9, "pix_fmt": "yuv420p10le"}, "PQ"),
        ({"transfer": 16}, "PQ"),
        ({"transfer": 18, "matrix": 9, "pix_fmt": "yuv420p10le"}, "HLG"),
        ({"matrix": 9, "primaries": 9, "pix_fmt": "yuv420p10le"}, "BT.2020 with 10 bit"),
        ({"matrix": 8}, "YCgCo"),
        ({"matrix": 14}, "ICtCp"),
    ],
)
def test_what_cannot_be_converted_is_refused(
    tmp_path: Path, tags: dict[str, int], words: str
) -> None:
    path = write_tagged(tmp_path / "a.mkv", **tags)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match=rf"a\.mkv: .*{words}.* not read"):
        scan_video(path)


def test_what_is_unusual_is_said(tmp_path: Path) -> None:
    def remarks(name: str, **tags: int | str) -> str:
        path = write_tagged(tmp_path / name, **tags)  # pyright: ignore[reportArgumentType]
        return "; ".join(scan_video(path).remarks)

    assert remarks("plain.mkv", matrix=1) == ""
    assert "colours of BT.2020" in remarks("wide.mkv", matrix=9, primaries=9, transfer=14)
    assert "more than 8 bit" in remarks("deep.mkv", matrix=1, pix_fmt="yuv420p10le")
    assert "alpha, which is dropped" in remarks("alpha.mkv", matrix=1, pix_fmt="yuva420p")
    # What is remembered is said again.
    assert "alpha" in "; ".join(scan_video(tmp_path / "alpha.mkv").remarks)


def test_only_formats_of_videos_are_opened(tmp_path: Path) -> None:
    write_video(tmp_path / "other.mp4", film(3))
    playlists = {
        "concat.mp4": "ffconcat version 1.0\nfile 'other.mp4'\n",
        "list.ts": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n",
    }
    for name, text in playlists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=f"{name}: not a video that can be opened"):
            scan_video(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(DataError, match=r"a\.mp4: is no plain file"):
        scan_video(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_bytes_that_are_missing_are_counted(tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    container = {"movflags": "faststart"} if name.endswith("mp4") else {}
    path = write_video(tmp_path / name, film(8), codec, container=container)
    content = path.read_bytes()
    assert missing_bytes(path) == 0
    path.write_bytes(content + b"xxxxxxxxxxxxxxxx")
    assert missing_bytes(path) == 0
    path.write_bytes(content[:-700])
    assert missing_bytes(path) == 700
    with pytest.raises(DataError, match=f"{name}: the video is cut short: .* 700 bytes"):
        scan_video(path)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([-1, 0, 0, 1], lambda p: p[:, ::-1]),
        ([1, 0, 0, -1], lambda p: p[::-1]),
        ([0, 1, 1, 0], lambda p: p.transpose(1, 0, 2)),
        ([0, -1, -1, 0], lambda p: np.rot90(p, 2).transpose(1, 0, 2)),
        ([0, 1, -1, 0], lambda p: np.rot90(p, -1)),
    ],
)
def test_a_mirrored_picture_is_shown_as_players_show_it(
    tmp_path: Path, matrix: list[int], expected: Callable[[Pixels], Pixels]
) -> None:
    picture = film(1)[0]
    a, b, c, d = (value * 2**16 for value in matrix)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264rgb", rate=25, options={"crf": "0"})
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "rgb24"
        stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 2**30])
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    np.testing.assert_array_equal(read(path), expected(picture))


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le"])
@pytest.mark.parametrize("full", [False, True])
def test_grey_heeds_its_range(tmp_path: Path, pix_fmt: str, full: bool) -> None:
    path = write_tagged(tmp_path / "a.mkv", full=full, pix_fmt=pix_fmt)
    luma = 0.299 * COLOUR[0] + 0.587 * COLOUR[1] + 0.114 * COLOUR[2]
    assert np.abs(read(path)[10, 10] - luma).max() <= 1
    assert not any("matrix" in remark for remark in scan_video(path).remarks)
