"""Every frame of a video by its number is the one that decoding from the beginning gives; and what
is wrong with a file is named.
"""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.processes import run_without_av
from tests.video.videos import (
    damage,
    decode_all,
    film,
    write_colours,
    write_lossless,
    write_sound,
    write_video,
)
from traiNNer.utils.errors import DataError
from traiNNer.video.files import Video, decode, scan_video
from traiNNer.video.reader import VideoReader

GOP_OF_8 = "bframes=3:b-adapt=0:scenecut=0:keyint=8"
KINDS: dict[str, dict[str, Any]] = {
    "h264.mp4": {"codec": "libx264", "b_frames": 3},
    "h264_open_gop.mkv": {
        "codec": "libx264",
        "x264-params": f"open-gop=1:b-pyramid=normal:{GOP_OF_8}",
    },
    "h264_refresh.mkv": {
        "codec": "libx264",
        "x264-params": "intra-refresh=1:bframes=0:scenecut=0:keyint=12",
    },
    "h264.avi": {"codec": "libx264", "b_frames": 2},
    "h264.ts": {"codec": "libx264", "b_frames": 2},
    "hevc_open_gop.mp4": {
        "codec": "libx265",
        "x265-params": f"log-level=none:open-gop=1:pools=none:{GOP_OF_8}",
    },
    "mpeg4.avi": {"codec": "mpeg4", "b_frames": 2},
    "mpeg4_plain.avi": {"codec": "mpeg4", "b_frames": 0},
    "mpeg2.mpg": {"codec": "mpeg2video", "b_frames": 2},
    "vp8.webm": {"codec": "libvpx", "auto-alt-ref": "1", "lag-in-frames": "16"},
    "vp9.webm": {"codec": "libvpx-vp9", "deadline": "good", "cpu-used": "8", "lag-in-frames": "16"},
    "mjpeg.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "ffv1.mkv": {"codec": "ffv1", "pix_fmt": "bgr0"},
}


@pytest.mark.parametrize("name", KINDS)
def test_any_frame_in_any_order(tmp_path: Path, name: str) -> None:
    path = write_video(tmp_path / name, film(50), **KINDS[name])
    expected = list(decode_all(path))
    assert len({picture.tobytes() for picture in expected}) == 50
    video = scan_video(path)
    assert (len(video), video.width, video.height, video.fps) == (50, 64, 48, Fraction(25))
    assert not video.variable_rate
    reader = VideoReader(video)
    for number in (*range(50), *reversed(range(50)), *random.Random(0).sample(range(50), 50)):
        np.testing.assert_array_equal(reader.read(number), expected[number])
    reader.close()
    np.testing.assert_array_equal(reader.read(30), expected[30])
    reader.close()


def test_a_frame_is_decoded_from_the_keyframe_before_it(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", film(96), **{"x264-params": f"open-gop=1:{GOP_OF_8}"})
    decoded: list[int] = []

    def spy(*arguments: Any) -> Iterator[Any]:
        for frame in decode(*arguments):
            decoded.append(frame.pts)
            yield frame

    reader = VideoReader(scan_video(path), keep=5, decode=spy)
    for number in (80, 41, 6, 70):
        decoded.clear()
        reader.read(number)
        assert len(decoded) <= 8
    decoded.clear()
    for first in range(60):
        for number in range(first, first + 5):
            reader.read(number)
    assert len(decoded) == 64, "forward, and overlapping windows: each frame once"
    decoded.clear()
    reader.read(90)
    assert len(decoded) <= 8, "what lies between is jumped over"


def test_the_index_is_remembered(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", film(30), times=[*range(10), *range(20, 60, 2)])
    first = scan_video(path)
    assert first.variable_rate
    caches = list((tmp_path / "cache" / "traiNNer" / "scan").glob("*.json"))
    assert len(caches) == 1
    assert caches[0].stat().st_size < 500
    # Nonsense of the same size and age: if the file were read again, it would be refused.
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = scan_video(path)
    for name in Video.__slots__:
        assert np.array_equal(getattr(first, name), getattr(again, name)), name
    caches[0].write_text('{"version": 1, "stamp": 3}')
    write_video(path, film(30))
    assert len(scan_video(path)) == 30
    os.utime(path, ns=(1, 10**18))
    write_video(path, film(12))
    assert len(scan_video(path)) == 12
    with pytest.raises(DataError, match=r"a\.mp4: was changed since it was checked"):
        VideoReader(first).read(0)


@pytest.mark.parametrize("matrix", [1, 5, 9, 2])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv420p"])
def test_colours(tmp_path: Path, matrix: int, full: bool, pix_fmt: str) -> None:
    colours = [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 255),
        (0, 0, 0),
        (200, 100, 50),
        (20, 60, 120),
    ]
    path = write_colours(tmp_path / "a.mkv", colours, matrix, full, pix_fmt)
    video = scan_video(path)
    assert video.matrix == matrix
    middles = VideoReader(video).read(0)[16, 16::32]
    np.testing.assert_allclose(middles.astype(int), colours, atol=3)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_applied(tmp_path: Path, rotation: int) -> None:
    picture = film(1)[0]
    path = write_video(
        tmp_path / "a.mkv", [picture] * 9, "ffv1", pix_fmt="bgr0", gop=3, rotation=rotation
    )
    video = scan_video(path)
    turned = np.rot90(picture, rotation // 90)
    assert (video.height, video.width) == turned.shape[:2]
    for number in (0, 7, 3):
        np.testing.assert_array_equal(VideoReader(video).read(number), turned)


def test_an_odd_rotation_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", film(3), rotation=29.5)
    with pytest.raises(
        DataError, match=r"a\.mkv: the picture is rotated by 29 degrees; encode it anew"
    ):
        scan_video(path)


def test_variable_rate(tmp_path: Path) -> None:
    times = [0, 1, 2, 5, 6, 10, 11, 12, 13, 14]
    pictures = film(10)
    video = scan_video(write_lossless(tmp_path / "a.mkv", pictures, times=times))
    assert video.variable_rate
    for number in (9, 3, 5):
        np.testing.assert_array_equal(VideoReader(video).read(number), pictures[number])
    assert not scan_video(write_lossless(tmp_path / "b.mkv", film(10), fps=60)).variable_rate, (
        "16 and 17 ms"
    )


@pytest.mark.parametrize("name", ["a.mp4", "fast.mp4", "a.mkv", "a.avi"])
def test_cut_short(tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    container = {"movflags": "faststart"} if name == "fast.mp4" else {}
    path = write_video(tmp_path / name, film(75), codec, container=container)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    with pytest.raises(
        DataError,
        match=rf"{name}: .*(cut short|cannot? be opened|can be opened).*; copy or download",
    ):
        scan_video(path)


def read_or_none(reader: VideoReader, number: int) -> Any:
    try:
        return reader.read(number)
    except DataError:
        return None


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_damage_is_found_when_it_is_read(tmp_path: Path, name: str) -> None:
    options: dict[str, Any] = {
        "a.mp4": {"codec": "libx264", "x264-params": "cabac=0"},
        "a.avi": {"codec": "mpeg4"},
        "a.mkv": {"codec": "ffv1", "pix_fmt": "bgr0", "level": "3", "slicecrc": "1"},
    }[name]
    path = write_video(tmp_path / name, film(60), **options)
    expected = list(decode_all(path))
    damage(path, packet=26)
    reader = VideoReader(scan_video(path))
    frames = [read_or_none(reader, number) for number in range(60)]
    failed = [number for number, frame in enumerate(frames) if frame is None]
    first = failed[0] - failed[0] % 12
    last = failed[-1] - failed[-1] % 12 + 12
    assert first <= 26 < last <= first + 24, "only the group that is damaged, and what refers to it"
    for number in (*range(first), *range(last, 60)):
        np.testing.assert_array_equal(frames[number], expected[number])
    assert read_or_none(reader, failed[0]) is None, "not even when asked again"
    with pytest.raises(DataError, match=rf"{name}: frame {failed[0]} of 60 cannot be decoded \("):
        reader.read(failed[0])


def test_no_videos_at_all(tmp_path: Path) -> None:
    def message(name: str, content: bytes = b"") -> str:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError) as error:
            scan_video(tmp_path / name)
        return str(error.value)

    assert "a.mp4: the file is empty (0 bytes)" in message("a.mp4")
    assert "b.mkv: not a video that can be opened (Invalid data found" in message(
        "b.mkv", b"no video" * 100
    )
    with pytest.raises(DataError, match=r"c\.mp4: cannot be read: No such file"):
        scan_video(tmp_path / "c.mp4")
    shutil.copy(write_video(tmp_path / "d.mp4", film(3)), tmp_path / "e.mp4")
    run = run_without_av(
        "from pathlib import Path; from traiNNer.video.files import Video, decode, scan_video\n"
        f"scan_video(Path({str(tmp_path / 'e.mp4')!r}))"
    )
    assert re.search(
        r'DataError: .*e\.mp4: .* not installed: pip install "av>=18" \(or', run.stderr
    )


def test_sound_alone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.mp4: there is no picture in this file"):
        scan_video(write_sound(tmp_path / "a.mp4"))


def test_a_size_that_changes(tmp_path: Path) -> None:
    small, large = (write_video(tmp_path / f"{h}.ts", film(8, h, 64)) for h in (48, 96))
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    reader = VideoReader(scan_video(both))
    np.testing.assert_array_equal(reader.read(3), VideoReader(scan_video(small)).read(3))
    with pytest.raises(DataError, match=r"both\.ts: a frame is 64x96 and the first one is 64x48"):
        reader.read(12)
