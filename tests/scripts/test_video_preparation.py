"""The programs that prepare video: scenes out of films, LQ as a stream would send it, the demo's
video.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.processes import run_python
from tests.support import load_script, run_command
from traiNNer.demo.photographs import find_photographs, shrink
from traiNNer.demo.video import FRAMES
from traiNNer.engine.command_line import run_plainly
from traiNNer.utils.errors import DataError, DiskError, OptionsError
from traiNNer.utils.images import read_image, write_image
from traiNNer.video.colors import Frame, FrameToRgb, rgb_to_frame
from traiNNer.video.tags import VideoColors
from traiNNer.video.writing import FILM_RATE, Compression, Encoding, VideoWriter, write_frame

av = pytest.importorskip("av")

extract_frames = load_script("scripts/data_preparation/extract_frames.py")
make_stream_pairs = load_script("scripts/data_preparation/make_stream_pairs.py")
make_demo = load_script("scripts/data_preparation/make_demo_video.py")

WIDTH = 192
HEIGHT = 128


def photograph(name: str) -> Frame:
    """A picture of the scikit-image package, at most 400 pixels high."""
    rgb = read_image(find_photographs() / name)
    ratio = min(1.0, 400 / rgb.shape[0])
    size = (round(rgb.shape[1] * ratio), round(rgb.shape[0] * ratio))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def pan(name: str, count: int, speed: float, start: tuple[int, int] = (0, 0)) -> list[Frame]:
    """A window that moves to the right by `speed` pixels a frame, and back again at the border."""
    rgb = photograph(name)
    room = rgb.shape[1] - WIDTH
    frames = []
    for number in range(count):
        x = round(start[0] + number * speed) % (2 * room)
        x = min(x, 2 * room - x)
        frames.append(np.ascontiguousarray(rgb[start[1] : start[1] + HEIGHT, x : x + WIDTH]))
    return frames


def flash(frames: list[Frame], at: int, length: int) -> list[Frame]:
    """Some frames much brighter."""
    lit = [
        (f.astype(np.float32) * 2.5 + 60).clip(0, 255).astype(np.uint8)
        for f in frames[at : at + length]
    ]
    return frames[:at] + lit + frames[at + length :]


def write_video(path: Path, frames: list[Frame], **changes: object) -> Path:
    settings: dict[str, Any] = {"crf": 16, "gop": 8, "preset": "veryfast"} | changes
    encoding = Encoding(**settings)
    with VideoWriter(
        path, (frames[0].shape[1], frames[0].shape[0]), Fraction(25), encoding
    ) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(one.astype(float) - other).mean()))


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty folder; the one of the test holds a cache."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


@pytest.fixture(scope="module")
def film() -> list[Frame]:
    """A slow pan with a flash that becomes a fast one; a cut at 40; a short shot at 64; a last one
    at 68.
    """
    return [
        *flash(pan("astronaut.png", 25, 1.3), 10, 2),
        *pan("astronaut.png", 15, 20.0, start=(32, 0)),
        *pan("coffee.png", 24, 2.0, start=(40, 90)),
        *pan("chelsea.png", 4, 2.0),
        *pan("astronaut.png", 14, 1.0, start=(30, 200)),
    ]


@pytest.fixture(scope="module")
def video(film: list[Frame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("film") / "film.mp4", film)


class TestCuts:
    def cuts(
        self, frames: list[Frame], threshold: float = extract_frames.CUT_THRESHOLD
    ) -> list[int]:
        marked_frames = extract_frames.find_cuts(((frame, False) for frame in frames), threshold)
        return [number for number, (_, cut) in enumerate(marked_frames) if cut]

    def test_only_cuts_cut(self, film: list[Frame]) -> None:
        assert self.cuts(film) == [0, 40, 64, 68]

    @pytest.mark.parametrize("speed", [0, 3, 12, 24])
    def test_pans_do_not_cut(self, speed: float) -> None:
        for name in ("brick.png", "camera.png", "coffee.png"):
            assert self.cuts(pan(name, 24, speed)) == [0]

    @pytest.mark.parametrize("length", [1, 2, 4])
    @pytest.mark.parametrize("name", ["camera.png", "chelsea.png", "coffee.png"])
    def test_flashes_do_not_cut(self, name: str, length: int) -> None:
        assert self.cuts(flash(pan(name, 24, 2), 12, length)) == [0]

    def test_cuts_in_the_dark(self) -> None:
        frames = [*pan("camera.png", 15, 2), *pan("coffee.png", 15, 2)]
        noise = np.random.default_rng(0).normal(0, 3, (len(frames), HEIGHT, WIDTH, 3))
        dark = [
            (f * 0.15 + n).clip(0, 255).astype(np.uint8) for f, n in zip(frames, noise, strict=True)
        ]
        assert self.cuts(dark) == [0, 15]

    def test_another_size_and_a_gap_are_new_scenes(self) -> None:
        still = pan("coffee.png", 12, 0)
        smaller = [cv2.resize(frame, (WIDTH // 2, HEIGHT // 2)) for frame in still]
        marked_frames = list(
            extract_frames.find_cuts(((f, n == 5) for n, f in enumerate([*still, *smaller])), 0.16)
        )
        assert [number for number, (_, cut) in enumerate(marked_frames) if cut] == [0, 5, 12]

    def test_waits_for_few_frames(self) -> None:
        count = 0

        def frames() -> Iterator[tuple[Frame, bool]]:
            nonlocal count
            for frame in pan("coffee.png", 30, 1):
                count += 1
                yield frame, False

        for number, _ in enumerate(extract_frames.find_cuts(frames(), 0.16)):
            assert count <= number + 1 + extract_frames.AHEAD


class TestExtractFrames:
    def test_scenes(
        self, video: Path, film: list[Frame], place: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert extract_frames.main([str(video), "-o", str(place)]) == 0
        counts = {path.name: len(list(path.iterdir())) for path in sorted(place.iterdir())}
        assert counts == {"film_scene0001": 40, "film_scene0002": 24, "film_scene0003": 14}
        assert names(place / "film_scene0003") == [f"{number:05}.png" for number in range(14)]
        for scene, first in (("0001", 0), ("0002", 40), ("0003", 68)):
            for number in (0, 5, 13):
                rgb = read_image(place / f"film_scene{scene}" / f"{number:05}.png")
                assert psnr(rgb, film[first + number]) > 30
        output = capsys.readouterr().out
        assert output.replace("│", " ").splitlines()[3].split() == [
            "film.mp4",
            "82",
            "3",
            "78",
            "1",
            "0",
        ]
        assert f"78 frames, scenes: 3, in {place}" in output

        again = [str(video), "-o", str(place), "--min-scene", "20"]
        assert extract_frames.main(again) == 2
        assert "film_scene0001 is there already; --overwrite replaces" in capsys.readouterr().err
        assert len(list(place.iterdir())) == 3
        assert extract_frames.main([*again, "--overwrite"]) == 0
        assert sorted(path.name for path in place.iterdir()) == ["film_scene0001", "film_scene0002"]

    def test_part_of_a_video(self, video: Path, film: list[Frame], place: Path) -> None:
        options = [
            "--every",
            "2",
            "--start",
            "1.68",
            "--end",
            "2.48",
            "--format",
            "webp",
        ]  # frames 42 to 61
        assert extract_frames.main([str(video), "-o", str(place), *options]) == 0
        assert names(place) == [f"film_scene0001/{number:05}.webp" for number in range(10)]
        assert psnr(read_image(place / "film_scene0001" / "00003.webp"), film[48]) > 30
        assert psnr(read_image(place / "film_scene0001" / "00003.webp"), film[49]) < 30
        limited = place / "limited"
        assert extract_frames.main([str(video), "-o", str(limited), "--max-frames", "12"]) == 0
        assert len(names(limited)) == 12

    def test_duplicates(self, place: Path) -> None:
        moving = pan("coffee.png", 12, 3)
        telecine = [
            frame for number, frame in enumerate(moving) for _ in range(2 if number % 4 == 0 else 1)
        ]
        path = write_video(place / "telecine.mkv", telecine)
        assert extract_frames.main([str(path), "-o", str(place / "all")]) == 0
        assert len(names(place / "all")) == 15
        assert extract_frames.main([str(path), "-o", str(place / "out"), "--skip-duplicates"]) == 0
        assert len(names(place / "out")) == 12

    @pytest.mark.parametrize(
        ("damage", "words", "kept"),
        [
            (lambda data: data[: len(data) * 6 // 10], "cut short", (20, 50)),
            (
                lambda data: data[: len(data) // 2] + bytes(2000) + data[len(data) // 2 + 2000 :],
                "damaged",
                (30, 81),
            ),
        ],
    )
    def test_damage(
        self,
        damage: Callable[[bytes], bytes],
        words: str,
        kept: tuple[int, int],
        video: Path,
        place: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        path = place / "bad.mp4"
        path.write_bytes(damage(video.read_bytes()))
        command = [str(path), "-o", str(place / "out"), "--min-scene", "1"]
        assert extract_frames.main(command) == 2
        output = capsys.readouterr().err
        assert words in output
        assert "bad.mp4" in output
        assert "--keep-going" in output
        assert names(place / "out") == []
        assert extract_frames.main([*command, "--keep-going"]) == 0
        assert kept[0] <= len(names(place / "out")) <= kept[1]

    @pytest.mark.parametrize("content", [b"", b"not a video " * 100, None])
    def test_no_video(
        self, content: bytes | None, place: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        if content is not None:
            (place / "text.mp4").write_bytes(content)
        assert (
            extract_frames.main([str(place / "text.mp4"), "-o", str(place / "out"), "--keep-going"])
            == 2
        )
        output = capsys.readouterr().err
        assert "text.mp4" in output
        assert "Traceback" not in output
        assert names(place / "out") == []

    def test_bad_options(
        self, video: Path, place: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for options, words in (
            (["--every", "0"], "at least 1"),
            (["--cut-threshold", "2"], "from 0 to 1"),
            (["--start", "3", "--end", "2"], "before --end"),
            ([], "two of the videos are called film"),
            (["--min-scene", "1000"], "nothing was written: no scene has 1000 frames"),
        ):
            videos = [str(video)] if options else [str(video), str(video.with_suffix(".mkv"))]
            assert extract_frames.main([*videos, "-o", str(place), *options]) == 2
            assert words in capsys.readouterr().err

    def test_interrupted(self, video: Path, place: Path) -> None:
        def interrupted(path: Path, rgb: Frame) -> None:
            write_frame(path, rgb)
            if path.stem == "00007":
                raise KeyboardInterrupt

        arguments = extract_frames.parse([str(video), "-o", str(place)])
        assert run_plainly(lambda: extract_frames.run(arguments, write=interrupted)) == 130
        assert list(place.iterdir()) == []

    def test_help_as_a_program(self, place: Path) -> None:
        run = run_command("scripts/data_preparation/extract_frames.py", "--help", cwd=place)
        assert (run.returncode, run.stderr) == (0, "")
        assert "with a new folder at every cut" in run.stdout


def write_scenes(root: Path, count: int = 14, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """Three scenes of GT, numbered from 3."""
    for name in ("astronaut", "chelsea", "coffee"):
        for number, frame in enumerate(pan(f"{name}.png", count, 1.7)):
            write_image(root / name / f"{number + 3:05}.png", frame[: size[1], : size[0]])
    return root


class TestStreamPairs:
    def test_pairs(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        gt = write_scenes(place / "gt")
        out = place / "out"
        command = [
            str(gt),
            "-o",
            str(out),
            "--codec",
            "h264",
            "h265",
            "--crf",
            "18",
            "30",
            "--preset",
            "fast",
        ]
        assert make_stream_pairs.main(command) == 0
        assert names(out / "lq") == names(gt)
        assert sorted(path.name for path in out.iterdir()) == ["lq", "stream_pairs.json"]
        record = json.loads((out / "stream_pairs.json").read_text())
        assert record["gt"] == str(gt)
        assert {(s["codec"], s["rate"]) for s in record["scenes"]} < {
            (codec, rate) for codec in ("h264", "h265") for rate in ("crf18", "crf30")
        }
        assert len({(s["codec"], s["rate"]) for s in record["scenes"]}) == 3
        for scene in record["scenes"]:
            clean = [
                shrink(read_image(path), 2) for path in sorted((gt / scene["scene"]).iterdir())
            ]
            lq = [read_image(path) for path in sorted((out / "lq" / scene["scene"]).iterdir())]
            assert all(
                psnr(a, b) > psnr(a, c) for a, b, c in zip(clean[1:], lq[1:], lq[:-1], strict=True)
            )
            assert scene["psnr"] == pytest.approx(psnr(np.array(lq), np.array(clean)), abs=0.01)
            assert 24 < scene["psnr"] < 45
            assert 0.02 < scene["bits_per_pixel"] < 3
        output = capsys.readouterr().out
        assert f"3 scenes, scale 2. GT: {gt}" in output
        assert f"{record['scenes'][0]['kbit_per_s']:.0f}" in output

        before = {name: (out / "lq" / name).read_bytes() for name in names(out / "lq")}
        assert make_stream_pairs.main(command) == 2
        assert "lq is there already; --overwrite replaces it" in capsys.readouterr().err
        assert make_stream_pairs.main([*command, "--overwrite", "--workers", "3"]) == 0
        assert before == {name: (out / "lq" / name).read_bytes() for name in names(out / "lq")}
        everything = [
            str(gt),
            "-o",
            str(out),
            "--crf",
            "20",
            "40",
            "--all",
            "--overwrite",
            "--preset",
            "veryfast",
        ]
        assert make_stream_pairs.main(everything) == 0
        assert sorted(path.name for path in out.iterdir()) == [
            "lq_h264_crf20",
            "lq_h264_crf40",
            "stream_pairs.json",
        ]
        psnrs = [s["psnr"] for s in json.loads((out / "stream_pairs.json").read_text())["scenes"]]
        assert all(low < high - 2 for high, low in zip(psnrs[:3], psnrs[3:], strict=True))

    def test_crops_and_bitrates(self, place: Path) -> None:
        gt = write_scenes(place / "gt", size=(WIDTH - 1, HEIGHT - 3))
        out = place / "out"
        command = [
            str(gt),
            "-o",
            str(out),
            "--bitrate",
            "60k",
            "1.5M",
            "--fps",
            "25",
            "--gop",
            "6",
            "--all",
        ]
        assert make_stream_pairs.main(command) == 0
        record = json.loads((out / "stream_pairs.json").read_text())
        assert record["gt"] == str(out / "gt")
        assert names(out / "gt") == names(gt) == names(out / "lq_h264_60k")
        cropped, original = (read_image(root / "coffee" / "00005.png") for root in (out / "gt", gt))
        assert np.array_equal(cropped, original[: HEIGHT - 4, : WIDTH - 4])
        assert read_image(out / "lq_h264_60k" / "coffee" / "00005.png").shape == (
            HEIGHT // 2 - 2,
            WIDTH // 2 - 2,
            3,
        )
        rates = {s["scene"]: s["kbit_per_s"] for s in record["scenes"] if s["rate"] == "60k"}
        assert all(20 < rate < 130 for rate in rates.values())
        assert all(
            s["kbit_per_s"] > 2 * rates[s["scene"]]
            for s in record["scenes"]
            if s["rate"] == "1500k"
        )

    def test_bad_input(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        gt = write_scenes(place / "gt", count=4)
        (place / "other" / "lq").mkdir(parents=True)
        small = place / "small" / "scene" / "0.png"
        write_image(small, np.zeros((40, 200, 3), np.uint8))

        def refused(*arguments: str | Path, out: Path = place / "out") -> str:
            command = [*map(str, arguments), "-o", str(out)]
            assert (
                make_stream_pairs.main([*command, *([] if "--crf" in command else ["--crf", "23"])])
                == 2
            )
            output = capsys.readouterr().err
            assert "Traceback" not in output
            return output

        assert "holds frames itself (00003.png)" in refused(gt / "coffee")
        assert "lies within GT_ROOT" in refused(gt, out=gt / "pairs")
        assert "was not made by this program" in refused(gt, "--overwrite", out=place / "other")
        assert "LQ needs 32 pixels a side" in refused(small.parents[1])
        assert "crf 99 is outside of 0" in refused(gt, "--crf", "99")
        assert "does not exist" in refused(place / "none")
        (gt / "coffee" / "00004.png").unlink()
        assert "frame 4 of 3 to 6 is missing" in refused(gt)
        shutil.copy(small, gt / "coffee" / "00004.png")
        assert "00004.png is 200x40, the scene's first frame 192x128" in refused(gt)
        assert not (place / "out").exists()

    def test_missing_encoder(self, place: Path) -> None:
        gt = str(write_scenes(place / "gt", 2))
        command = [gt, "-o", str(place / "out"), "--codec", "h265", "--crf", "20"]
        run = run_python(
            "from traiNNer.video.writing import CODECS\n"
            "from tests.support import load_script\n"
            "CODECS['h265'] = 'libnowhere'\n"
            "script = load_script('scripts/data_preparation/make_stream_pairs.py')\n"
            f"print(script.main({command!r}))"
        )
        assert run.stdout.split() == ["2"]
        assert "no encoder libnowhere, which h265 needs; it has h264 (libx264)" in run.stderr

    def test_interrupted(self, place: Path) -> None:
        def interrupted(path: Path, rgb: Frame) -> None:
            raise KeyboardInterrupt

        gt = write_scenes(place / "gt")
        arguments = make_stream_pairs.parse([str(gt), "-o", str(place / "out"), "--crf", "20"])
        assert run_plainly(lambda: make_stream_pairs.run(arguments, write=interrupted)) == 130
        assert [path.name for path in place.iterdir()] == ["gt"]


class TestVideoWriter:
    @pytest.mark.parametrize(
        ("suffix", "codec"), [(".mp4", "h264"), (".mkv", "h265"), (".mov", "h265")]
    )
    def test_colours_and_tags(self, suffix: str, codec: str, place: Path) -> None:
        patches = np.array(
            [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [200, 100, 50]],
            np.uint8,
        )
        frame = np.kron(patches.reshape(1, 6, 3), np.ones((64, 32, 1), np.uint8))
        path = write_video(place / "new" / f"colours{suffix}", [frame] * 5, codec=codec, crf=4)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            assert (
                context.colorspace,
                context.color_primaries,
                context.color_trc,
                context.color_range,
            ) == (1, 1, 1, 1)
            assert stream.average_rate == 25
            frames = [FrameToRgb(context.name)(decoded) for decoded in container.decode(stream)]
        assert len(frames) == 5
        middles = frames[2][32, 16::32].astype(int)
        assert np.abs(middles - patches).max() <= 3
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    def test_chroma_lies_on_even_columns(self) -> None:
        def red(column: int) -> np.ndarray:
            rgb = np.full((16, 64, 3), 100, np.uint8)
            rgb[:, column] = (200, 100, 100)
            plane = rgb_to_frame(rgb, "yuv420p").planes[2]
            return (
                np.frombuffer(bytes(plane), np.uint8)
                .reshape(-1, plane.line_size)[4, :32]
                .astype(int)
                - 128
            )

        assert red(32)[16] > 2 * max(red(32)[15], red(32)[17])
        assert np.array_equal(red(33)[16:17], red(33)[17:18])

    @pytest.mark.parametrize("full_range", [False, True])
    def test_no_level_is_lost(self, full_range: bool) -> None:
        rgb = photograph("coffee.png")[:, :598]
        for pixel_format, least in (("yuv420p", 36), ("yuv444p", 50)):
            back = FrameToRgb("h264")(
                rgb_to_frame(rgb, pixel_format, VideoColors(full_range=full_range))
            )
            assert psnr(back, rgb) > least
            assert np.abs((back.astype(float) - rgb).mean((0, 1))).max() < 0.2

    def test_odd_sides(self, place: Path) -> None:
        frame = pan("coffee.png", 1, 0)[0][:-1, :-1]
        with pytest.raises(
            DataError, match=r"yuv420p needs even sides, but frames are 191x127; pad or crop"
        ):
            VideoWriter(place / "odd.mp4", (191, 127), FILM_RATE, Encoding(crf=20))
        with VideoWriter(
            place / "odd.mp4", (191, 127), FILM_RATE, Encoding(crf=10), pad=True
        ) as writer:
            writer.write(frame)
        with av.open(str(place / "odd.mp4")) as container:
            decoded = FrameToRgb("h264")(next(container.decode(video=0)))
        assert decoded.shape == (128, 192, 3)
        assert psnr(decoded[:-1, :-1], frame) > 33

    def test_whole_or_not_at_all(self, place: Path) -> None:
        path = place / "out.mp4"
        path.write_bytes(b"before")
        frame = pan("coffee.png", 1, 0)[0]
        writer = VideoWriter(path, (WIDTH, HEIGHT), FILM_RATE, Encoding(crf=20))
        with contextlib.suppress(KeyboardInterrupt), writer:
            writer.write(frame)
            raise KeyboardInterrupt
        with pytest.raises(DataError, match="not a single frame"), writer:
            pass
        with pytest.raises(ValueError, match="expected uint8"), writer:
            writer.write(frame[:10])
        assert [(file.name, file.read_bytes()) for file in place.iterdir()] == [
            ("out.mp4", b"before")
        ]
        with pytest.raises(DiskError, match="cannot write"):
            write_video(path / "below.mp4", [frame])

    def test_refusals(self, place: Path) -> None:
        with pytest.raises(OptionsError, match="cannot tell the container"):
            VideoWriter(place / "out.txt", (64, 64), FILM_RATE, Encoding(crf=20))
        with pytest.raises(DataError, match="libx265 refuses frames of 8x8"):
            list(
                Compression((8, 8), FILM_RATE, Encoding("h265", crf=20)).run(
                    [np.zeros((8, 8, 3), np.uint8)]
                )
            )
        for wrong in (
            {"codec": "h263", "crf": 1},
            {},
            {"crf": 1, "bitrate": 9000},
            {"crf": 1, "preset": "quick"},
        ):
            with pytest.raises(OptionsError):
                Encoding(**wrong)  # pyright: ignore


class TestDemoVideo:
    def test_whole_set(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        root = place / "datasets" / "demo_video"
        assert make_demo.main(["-o", str(root)]) == 0
        assert capsys.readouterr().out.startswith(f"made {root}: ")
        assert [path.name for path in root.parent.iterdir()] == ["demo_video"]
        scenes = {
            split: {path.name for path in (root / split / "gt").iterdir()}
            for split in ("train", "val")
        }
        assert len(scenes["train"]) >= 8
        assert len(scenes["val"]) == 3
        assert not scenes["train"] & scenes["val"]
        for split in scenes:
            assert names(root / split / "gt") == names(root / split / "lq_x2")
            assert len(names(root / split / "gt")) == FRAMES * len(scenes[split])
        assert sum(path.stat().st_size for path in root.rglob("*.png")) < 40e6
        gt = [read_image(path) for path in sorted((root / "val" / "gt" / "coffee").iterdir())]
        lq = [read_image(path) for path in sorted((root / "val" / "lq_x2" / "coffee").iterdir())]
        assert {frame.shape for frame in gt} == {(192, 256, 3)}
        assert {frame.shape for frame in lq} == {(96, 128, 3)}
        assert all(25 < psnr(shrink(one, 2), other) < 42 for one, other in zip(gt, lq, strict=True))
        # Every frame shows the same sharp things at another place between the pixels.
        sharpness = [
            float(cv2.Laplacian(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), cv2.CV_32F)[40:-40].std())
            for f in gt
        ]
        assert max(sharpness) < 1.25 * min(sharpness)
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) for frame in gt]
        shifts = [cv2.phaseCorrelate(one, two)[0] for one, two in pairwise(grey)]
        assert all(0.3 < np.hypot(*shift) < 5 for shift in shifts)
        assert len({round(shift[0] % 1, 1) for shift in shifts}) > 2
        assert make_demo.main(["-o", str(root)]) == 0
        assert capsys.readouterr().out.startswith("already there: ")
