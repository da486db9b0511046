"""test.py on scenes: every frame, its time and its sound come out, in memory that does not grow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.processes import run_python, run_without_av
from tests.support import ROOT, load_script, texture, write_options
from traiNNer.archs.facts import NetworkFacts, OpenedNetwork
from traiNNer.data import SingleVideoDataset
from traiNNer.engine.command_line import run_plainly
from traiNNer.inference.failures import Failures
from traiNNer.inference.network import RunningNetwork, open_network
from traiNNer.inference.scenes import upscale_scenes
from traiNNer.inference.windows import Windows, upscale_frames
from traiNNer.models import TileSettings, Upscaler
from traiNNer.options.loading import load_options
from traiNNer.options.schema import TestOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.images import Pixels, read_image, write_image
from traiNNer.utils.registry import ARCHS
from traiNNer.video.colors import rgb_to_frame
from traiNNer.video.files import scan_video
from traiNNer.video.reader import VideoReader
from traiNNer.video.scenes import mirrored

Capture = pytest.CaptureFixture[str]
WIDTH = 64
HEIGHT = 48
FRAMES = 30
FILM_RATE = Fraction(24000, 1001)
WEIGHTS = Path("net.safetensors")


def save_network(path: Path, kind: str = "compact", scale: int = 2, **parameters: Any) -> nn.Module:
    """A checkpoint of a small network with random weights."""
    torch.manual_seed(0)
    network = ARCHS[kind](scale=scale, **parameters)
    metadata = {"arch": kind, "scale": str(scale), "parameters": json.dumps(parameters)}
    save_file(network.state_dict(), path, metadata)
    return network.eval()


@pytest.fixture
def network() -> nn.Module:
    return save_network(WEIGHTS, num_feat=8, num_conv=1)


def pan(frames: int = FRAMES, width: int = WIDTH, height: int = HEIGHT) -> list[Pixels]:
    """A window that moves over a texture."""
    wide = texture(height, width + 2 * frames, seed=1)
    return [np.ascontiguousarray(wide[:, 2 * k : 2 * k + width]) for k in range(frames)]


def write_film(  # noqa: PLR0913 - what a film may have, each in a test of its own
    path: Path,
    frames: Sequence[Pixels],
    *,
    codec: str = "libx264",
    audio: Sequence[str] = ("aac",),
    rate: Fraction = FILM_RATE,
    times: Sequence[int] | None = None,
    rotation: int = 0,
    begin: int = 0,
) -> Path:
    """A film with a tone in each of its audio streams; `times` and `begin` in units of 1 / rate
    seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        video = out.add_stream(
            codec, rate=rate, options={"crf": "10"} if codec == "libx264" else {}
        )
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.thread_count = 1
        if rotation:
            video.set_display_rotation(rotation)
        sounds = [out.add_stream(name, rate=48000, layout="mono") for name in audio]
        out.start_encoding()
        for time_, picture in zip(times or range(len(frames)), frames, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = begin + time_
            frame.time_base = 1 / rate
            out.mux(video.encode(frame))
        out.mux(video.encode())
        seconds = float((times[-1] + 1 if times else len(frames)) / rate)
        for number, sound in enumerate(sounds):
            size = sound.codec_context.frame_size or 1024
            for place in range(0, int(seconds * 48000) - size, size):
                tone = np.sin(np.arange(place, place + size) * (0.03 + 0.02 * number))
                kind = sound.codec_context.format.name
                wave = {"fltp": tone, "s16": tone * 9000, "u8": tone * 100 + 128}[kind]
                wave = wave.astype({"fltp": np.float32, "s16": np.int16, "u8": np.uint8}[kind])
                piece = av.AudioFrame.from_ndarray(wave[None], format=kind, layout="mono")
                piece.rate = 48000
                piece.time_base = Fraction(1, 48000)
                piece.pts = place + round(begin / rate * 48000)
                out.mux(sound.encode(piece))
            out.mux(sound.encode())
    return path


def video_options(
    root: Path | str = "in", val: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    section = {"type": "SingleVideoDataset", "dataroot_lq": str(root)}
    options = {
        "name": "t",
        "num_gpu": 0,
        "datasets": {"test": section},
        "path": {"pretrain_network_g": str(WEIGHTS)},
    }
    return options | {"val": val or {}} | changes


def run(options: dict[str, Any], *arguments: str) -> int:
    return load_script("test.py").main(
        ["-opt", str(write_options(Path("t.yml"), options)), *arguments]
    )


OUT = Path("results/t/test")


def packets(path: Path, kind: str = "audio") -> list[tuple[int, Fraction, bytes]]:
    """Stream, time in seconds and content of each packet."""
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        contents = [
            (p.stream_index, p.pts * p.time_base, bytes(p))
            for p in container.demux(*streams)
            if p.size
        ]
    first = min(stream for stream, _, _ in contents) if contents else 0
    return sorted((stream - first, at, content) for stream, at, content in contents)


def times(path: Path) -> list[Fraction]:
    return [at for _, at, _ in sorted(packets(path, "video"), key=lambda packet: packet[1])]


def upscaled(network: nn.Module, frame: Pixels) -> Pixels:
    with torch.no_grad():
        sr = network(torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float().div(255))
    return (sr[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def test_a_film_keeps_its_frames_its_timing_and_its_sound(
    network: nn.Module, capfd: Capture
) -> None:
    source = write_film(Path("in/film.mp4"), pan(), audio=("aac", "aac"))
    assert run(video_options()) == 0
    result = OUT / "film.mp4"
    assert [path.name for path in OUT.iterdir()] == ["film.mp4"]
    with av.open(str(result)) as new, av.open(str(source)) as old:
        stream = new.streams.video[0]
        before = old.streams.video[0]
        assert (stream.frames, stream.width, stream.height) == (FRAMES, 2 * WIDTH, 2 * HEIGHT)
        assert stream.average_rate == FILM_RATE
        assert stream.duration * stream.time_base == before.duration * before.time_base
        assert abs(new.duration - old.duration) < 1000
        assert stream.codec_context.name == "h264"
    assert times(result) == times(source)
    assert len(packets(result)) > 80
    assert packets(result) == packets(source)
    output = capfd.readouterr().err
    assert "compact takes single images, so the frames go through it one by one" in output
    assert "30 frames in" in output


def test_frames_of_a_folder_become_frames_of_the_same_names(network: nn.Module) -> None:
    scenes = {"one": pan(4), "deep/two": pan(3, 40, 50)}
    for scene, frames in scenes.items():
        for number, frame in enumerate(frames):
            write_image(Path("in") / scene / f"shot_{number + 8:03}.png", frame)
    assert run(video_options()) == 0
    for scene, frames in scenes.items():
        names = sorted(path.name for path in (OUT / scene).iterdir())
        assert names == [f"shot_{number + 8:03}.png" for number in range(len(frames))]
        for name, frame in zip(names, frames, strict=True):
            assert np.array_equal(read_image(OUT / scene / name), upscaled(network, frame))
    assert [path.name for path in OUT.iterdir() if path.name.startswith(".")] == []
    (OUT / "one" / "shot_008.png").write_bytes(b"former")
    assert run(video_options()) == 0
    assert np.array_equal(
        read_image(OUT / "one" / "shot_008.png"), upscaled(network, scenes["one"][0])
    )


def test_frames_of_a_video_are_those_of_the_network(network: nn.Module) -> None:
    write_film(Path("in/film.mkv"), pan(6), codec="ffv1", audio=())
    assert run(video_options("in/film.mkv", {"save_as": "frames"})) == 0
    reader = VideoReader(scan_video(Path("in/film.mkv")))
    for number in range(6):
        result = read_image(OUT / "film" / f"{number:08}.png")
        assert np.array_equal(result, upscaled(network, reader.read(number)))
    assert len(list((OUT / "film").iterdir())) == 6


def planes(frame: av.VideoFrame) -> list[Pixels]:
    return [
        np.frombuffer(bytes(p), np.uint8).reshape(-1, p.line_size)[:, : p.width]
        for p in frame.planes
    ]


def test_a_folder_becomes_a_video_at_the_rate_that_is_given(network: nn.Module) -> None:
    frames = pan(5)
    for number, frame in enumerate(frames):
        write_image(Path(f"in/one/{number}.png"), frame)
    assert run(video_options("in", {"save_as": "video", "video_crf": 0, "video_fps": 23.976})) == 0
    with av.open(str(OUT / "one.mp4")) as container:
        assert container.streams.video[0].average_rate == FILM_RATE
        decoded = [planes(frame) for frame in container.decode(video=0)]
    assert len(decoded) == 5
    for number, frame in enumerate(frames):
        sr = planes(rgb_to_frame(upscaled(network, frame), "yuv420p"))  # what 4:2:0 leaves of it
        assert all(map(np.array_equal, decoded[number], sr))


@pytest.mark.parametrize(("codec", "name"), [("h264", "h264"), ("h265", "hevc")])
def test_a_variable_rate_stays_as_it_is(network: nn.Module, codec: str, name: str) -> None:
    shown = [0, 1, 2, 5, 6, 10, 11, 12, 20, 22, 23, 30]
    source = write_film(Path("in/phone.mp4"), pan(12), times=shown, rate=Fraction(25))
    assert run(video_options("in", {"video_codec": codec})) == 0
    assert times(OUT / "phone.mp4") == times(source) == [Fraction(at, 25) for at in shown]
    assert packets(OUT / "phone.mp4") == packets(source)
    with av.open(str(OUT / "phone.mp4")) as container:
        assert container.streams.video[0].codec_context.name == name


def test_a_turned_film_is_written_as_it_is_shown(network: nn.Module) -> None:
    write_film(Path("in/phone.mp4"), pan(3), rotation=90)
    assert run(video_options()) == 0
    with av.open(str(OUT / "phone.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (2 * HEIGHT, 2 * WIDTH, 0)


def test_sound_that_mp4_does_not_take_makes_it_mkv(network: nn.Module, capfd: Capture) -> None:
    source = write_film(
        Path("in/old.avi"), pan(10), codec="mpeg4", audio=("pcm_u8",), rate=Fraction(25)
    )
    assert run(video_options()) == 0
    assert (
        ".mp4 does not take its sound (pcm_u8), so the result is a .mkv" in capfd.readouterr().err
    )
    result = OUT / "old.mkv"
    assert b"".join(content for *_, content in packets(result)) == b"".join(
        content for *_, content in packets(source)
    )
    assert len(times(result)) == 10
    assert abs(times(result)[-1] - Fraction(9, 25)) <= Fraction(1, 1000)


def test_a_broadcast_whose_clock_begins_anywhere(network: nn.Module) -> None:
    source = write_film(Path("in/tv.ts"), pan(10), rate=Fraction(25), audio=("mp2",), begin=1000)
    assert run(video_options()) == 0
    result = OUT / "tv.mp4"
    before = times(source)
    after = times(result)
    assert before[0] >= 40
    assert after[0] < 1
    assert [round(float(at - after[0]), 4) for at in after] == [
        round(float(at - before[0]), 4) for at in before
    ]
    old = packets(source)
    new = packets(result)
    assert [content for *_, content in old] == [content for *_, content in new]
    assert float(new[0][1] - after[0]) == pytest.approx(float(old[0][1] - before[0]), abs=1e-4)


def test_matroska_keeps_subtitles_titles_and_chapters(network: nn.Module) -> None:
    film = write_film(Path("film.mkv"), pan(10))
    Path("in").mkdir()
    with av.open(str(film)) as old, av.open("in/film.mkv", "w") as new:
        copies = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        copies[1].metadata["language"] = "fre"
        new.metadata["title"] = "A film"
        words = new.add_mux_stream("subrip")
        words.time_base = Fraction(1, 1000)
        chapter = {
            "id": 1,
            "start": 0,
            "end": 200,
            "time_base": Fraction(1, 1000),
            "metadata": {"title": "One"},
        }
        new.set_chapters([chapter])  # pyright: ignore[reportArgumentType]
        for packet in old.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                new.mux(packet)
        line = av.Packet(b"Hello.")
        line.stream = words
        line.pts = 100
        line.dts = 100
        line.duration = 150
        line.time_base = Fraction(1, 1000)
        new.mux(line)
    assert run(video_options()) == 0
    with av.open(str(OUT / "film.mkv")) as result:
        assert [stream.type for stream in result.streams] == ["video", "audio", "subtitle"]
        assert result.streams.audio[0].language == "fre"
        assert result.metadata["title"] == "A film"
        assert result.chapters()[0]["metadata"]["title"] == "One"
    assert [content for *_, content in packets(OUT / "film.mkv", "subtitle")] == [b"Hello."]
    assert packets(OUT / "film.mkv") == packets(Path("in/film.mkv"))


def test_odd_sides_stay_as_they_are(capfd: Capture) -> None:
    save_network(WEIGHTS, scale=1, num_feat=8, num_conv=1)
    write_image(Path("in/one/0.png"), pan(1, 65, 49)[0])
    assert run(video_options("in", {"save_as": "video"})) == 0
    assert (
        "65x49 is odd, so the colours keep their full resolution (yuv444p)"
        in capfd.readouterr().err
    )
    with av.open(str(OUT / "one.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.width, context.height, context.pix_fmt) == (65, 49, "yuv444p")


class Clips(nn.Module):
    """Stands for a network of clips: every pixel of a result is the mean of what it was made of."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target
        self.seen: list[list[int]] = []

    def forward(self, x: Tensor) -> Tensor:
        numbers = (x[0, :, 0, 0, 0] * 255).round().int().tolist()
        self.seen.append(numbers)
        enlarged = x.repeat_interleave(2, -1).repeat_interleave(2, -2)
        return enlarged[:, x.shape[1] // 2] if self.target == "center" else enlarged


def clip_network(target: str, frames: int | None) -> tuple[RunningNetwork, Clips]:
    network = Clips(target)
    upscaler = Upscaler(
        Runtime(torch.device("cpu"), None, False, False), TileSettings(2, 1, 1, 0, 0)
    )
    facts = NetworkFacts("clips", 2, temporal=True, target=target, frames=frames)  # type: ignore
    return RunningNetwork(network, upscaler, facts), network


@pytest.mark.parametrize("length", [1, 2, 3, 5, 9, 31])
@pytest.mark.parametrize(
    ("target", "size"), [("center", 5), ("center", 1), ("all", 2), ("all", 5), ("all", 8)]
)
def test_every_frame_once_and_from_within_its_window(target: str, size: int, length: int) -> None:
    write_scene(Path("in"), length)
    dataset = SingleVideoDataset(2, "in", clip_size=size)
    network, clips = clip_network(target, None)
    windows = Windows.of(network.facts, dataset)
    read = 0

    def frames() -> Iterator[Tensor]:
        nonlocal read
        for number in range(length):
            read += 1
            yield torch.full((3, 4, 4), number, dtype=torch.uint8)

    results: list[int] = []
    for sr in upscale_frames(network, frames(), length, windows):
        assert sr.shape == (1, 3, 8, 8)
        results.append(round(float(sr.mean() * 255)))
        assert read <= len(results) + size  # no more than a window ahead
    assert results == list(range(length))
    for place, seen in enumerate(clips.seen):
        start = place * windows.kept - windows.first
        assert seen == [mirrored(start + k, length) for k in range(size)]
    if target == "all" and size >= 5:
        assert windows.first >= size // 4
        assert size - windows.first - windows.kept >= size // 4


def write_scene(folder: Path, frames: int, side: int = 4, scale: int = 1) -> Path:
    for number, frame in enumerate(pan(frames, side, side)):
        write_image(folder / f"{number:04}.png", frame.repeat(scale, 0).repeat(scale, 1))
    return folder


def test_a_network_of_clips_through_the_command(capfd: Capture) -> None:
    write_scene(Path("in/one"), 7, 32)
    network = save_network(
        WEIGHTS, "temporal_stack", arch="compact", num_feat=8, num_conv=1, frames=3
    )
    assert run(video_options()) == 0
    assert (
        "sees 3 frames at a time, for the one in the middle; clip_size: 5 does not count"
        in capfd.readouterr().err
    )
    frames = [
        torch.from_numpy(read_image(Path(f"in/one/{k:04}.png")).copy()).permute(2, 0, 1)
        for k in range(7)
    ]
    for k in range(7):
        clip = torch.stack([frames[mirrored(n, 7)] for n in (k - 1, k, k + 1)])[None].float() / 255
        with torch.no_grad():
            sr = (network(clip)[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        assert np.abs(read_image(OUT / f"one/{k:04}.png").astype(int) - sr).max() <= 1
    save_network(WEIGHTS, "recurrent", num_feat=8, num_blocks=1)
    assert run(video_options()) == 0
    assert len(list((OUT / "one").iterdir())) == 7
    images = {"test": {"type": "SingleImageDataset", "dataroot_lq": "in/one"}}
    assert run(video_options(datasets=images)) == 2
    output = capfd.readouterr().err
    assert "datasets.test gives single images, and recurrent takes clips" in output
    assert "use type: SingleVideoDataset" in output


def test_pairs_are_measured_by_scene(network: nn.Module, capfd: Capture) -> None:
    frames = {"a": pan(4, 32, 32), "b": pan(3, 40, 36)[::-1]}
    squares: dict[str, list[float]] = {}
    for scene, pictures in frames.items():
        for number, lq in enumerate(pictures):
            gt = lq.repeat(2, 0).repeat(2, 1)
            write_image(Path(f"lq/{scene}/{number}.png"), lq)
            write_image(Path(f"gt/{scene}/{number}.png"), gt)
            error = (upscaled(network, lq)[2:-2, 2:-2] / 255.0 - gt[2:-2, 2:-2] / 255.0) ** 2
            squares.setdefault(scene, []).append(-10 * np.log10(error.mean()))
    section = {
        "type": "PairedVideoDataset",
        "dataroot_gt": "gt",
        "dataroot_lq": "lq",
        "clip_size": 3,
    }
    metrics = {"psnr": {"type": "psnr"}, "flicker": {"type": "flicker"}}
    assert run(video_options(datasets={"test": section}, val={"metrics": metrics})) == 0
    output = capfd.readouterr().out
    lines = {
        row[0]: row
        for row in ([c.strip() for c in line.split("│")[1:-1]] for line in output.splitlines())
        if row
    }
    for scene, scores in squares.items():
        assert lines[scene][1] == str(len(scores))
        assert float(lines[scene][2]) == pytest.approx(np.mean(scores), abs=2e-4)
        assert float(lines[scene][3]) > 0
    mean = lines["mean of all frames"]
    assert mean[1] == "7"
    assert float(mean[2]) == pytest.approx(np.mean([*squares["a"], *squares["b"]]), abs=2e-4)
    assert len(list((OUT / "a").iterdir())) == 4
    assert run(video_options(datasets={"test": section}, val={"save_img": False}, name="u")) == 0
    assert not Path("results/u").exists()


class CtrlC(nn.Module):
    """A network during whose twentieth frame somebody presses Ctrl-C."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 20:
            os.kill(os.getpid(), signal.SIGINT)
        return self.network(x)


@pytest.mark.parametrize("save_as", ["video", "frames"])
def test_an_interruption_leaves_nothing(network: nn.Module, save_as: str, capfd: Capture) -> None:
    write_film(Path("in/a.mp4"), pan(3))
    write_film(Path("in/film.mp4"), pan())
    written = write_options(Path("t.yml"), video_options(val={"save_as": save_as}))
    options = load_options(TestOptions, written, [])
    opened = open_network(options)
    pressed = OpenedNetwork(CtrlC(opened.network), opened.facts)
    runner = RunningNetwork.start(pressed, options, Runtime(torch.device("cpu")))
    dataset = SingleVideoDataset(2, "in")

    def upscale() -> int:
        upscale_scenes("test", dataset, runner, options, OUT, Failures())
        return 0

    assert run_plainly(upscale) == 130
    assert "interrupted" in capfd.readouterr().err
    assert [path.stem for path in OUT.iterdir()] == ["a"]  # what was whole before stays
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigterm_leaves_nothing_either(network: nn.Module) -> None:
    write_film(Path("in/film.mp4"), pan(20) * 40)
    command = [
        sys.executable,
        str(ROOT / "test.py"),
        "-opt",
        str(write_options(Path("t.yml"), video_options())),
    ]
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(OUT.glob(".film.*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(OUT.glob(".film.*"))
    process.send_signal(signal.SIGTERM)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert list(OUT.iterdir()) == []


def assert_refused(code: int, capfd: Capture, *words: str, expected: int = 2) -> None:
    message = capfd.readouterr().err
    assert code == expected, message
    assert "Traceback" not in message
    for word in words:
        assert word in message, f"{word!r} is not in:\n{message}"


def test_a_full_disk_is_a_plain_message(network: nn.Module, capfd: Capture) -> None:
    resource = pytest.importorskip("resource")
    write_film(Path("in/film.mp4"), pan())
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    for save_as in ("video", "frames"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, former[1]))
        try:
            code = run(video_options(val={"save_as": save_as, "video_crf": 0}))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, former)
        assert_refused(code, capfd, "cannot write", "film", "File too large", expected=1)
        assert list(OUT.iterdir()) == []


def test_damage_is_named_and_leaves_nothing(network: nn.Module, capfd: Capture) -> None:
    path = write_film(Path("in/film.mkv"), pan())
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][20]
        position = packet.pos
        size = packet.size
    assert position is not None
    content = bytearray(path.read_bytes())
    for place in range(position + size // 4, position + size):
        content[place] ^= 0x5A
    path.write_bytes(content)
    assert_refused(
        run(video_options()), capfd, "film.mkv: frame", "cannot be decoded", "copy or download"
    )
    assert list(OUT.iterdir()) == []
    whole = write_film(Path("in/film.mp4"), pan()).read_bytes()
    path.unlink()
    Path("in/film.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    assert_refused(run(video_options()), capfd, "film.mp4", "copy or download it again")


def test_other_scenes_are_done_and_names_may_be_any(network: nn.Module, capfd: Capture) -> None:
    names = ["[b] :fire: [red]", "n" * 251, os.fsdecode(b"caf\xe9\n"), "\u00e9"]
    for name in names:
        write_film(Path("in/film.mp4"), pan(2)).rename(f"in/{name}.mp4")
    # Cut short, and one of the same name for macOS in another folder.
    (Path("in") / "cut.mp4").write_bytes(Path("in/[b] :fire: [red].mp4").read_bytes()[:900])
    write_scene(Path("in/sub"), 2, 16)
    write_scene(Path(f"more/{'n' * 255}"), 1, 16)
    write_scene(Path("more/E\u0301"), 1, 16)
    options = video_options()
    options["datasets"]["test"]["dataroot_lq"] = ["in", "more"]
    assert run(options) == 2
    said = capfd.readouterr().err
    assert "all is done but 1 thing:\n    in/cut.mp4" in said
    assert "the result of more/E\u0301 is called E\u0301_2" in said
    expected = [f"{name}.mp4" for name in names] + ["sub", "n" * 255, "E\u0301_2"]
    assert sorted(path.name for path in OUT.iterdir()) == sorted(expected)
    assert "Traceback" not in said


def command_of(options: dict[str, Any]) -> str:
    """Code that runs test.py and prints its exit code at the end."""
    path = str(write_options(Path(f"{len(list(Path().glob('*.yml')))}.yml"), options))
    return (
        "from tests.support import load_script\n"
        f"print(load_script('test.py').main(['-opt', {path!r}]))\n"
    )


def test_without_pyav_frames_work_and_videos_are_refused_at_the_start(network: nn.Module) -> None:
    write_film(Path("in/film.mp4"), pan(3))
    write_scene(Path("frames/one"), 2, 32)
    to_video = command_of(video_options("frames", {"save_as": "video"}))
    to_frames = command_of(video_options("frames"))
    process = run_without_av(command_of(video_options()) + to_video + to_frames)
    assert process.stdout.split() == ["2", "2", "0"], process.stderr
    assert "film.mp4: video needs PyAV" in process.stderr
    assert process.stderr.count('pip install "av>=18" (or') == 2
    assert "Traceback" not in process.stderr


def test_an_encoder_that_is_missing_is_named_at_the_start(network: nn.Module) -> None:
    write_film(Path("in/film.mp4"), pan(3))
    process = run_python(
        "from traiNNer.video.writing import CODECS\n"
        "CODECS['h265'] = 'libnowhere'\n" + command_of(video_options("in", {"video_codec": "h265"}))
    )
    assert process.stdout.split() == ["2"], process.stderr
    message = "no encoder libnowhere, which h265 needs; it has h264 (libx264)"
    assert message in process.stderr
    assert not OUT.exists()


def test_a_scene_is_not_replaced_by_its_result(network: nn.Module, capfd: Capture) -> None:
    Path("results/t/test/one/again").mkdir(parents=True)
    write_scene(Path("results/t/again/one"), 2, 32)
    datasets = {
        "test": {"type": "SingleVideoDataset", "dataroot_lq": "results/t/again", "name": "again"}
    }
    assert_refused(
        run(video_options(datasets=datasets)),
        capfd,
        "the result would replace the scene it is made of",
    )


def peak_kib(frames: int) -> int:
    """Of a process that upscales a film of so many frames."""
    write_film(Path(f"in{frames}/film.mp4"), pan(20, 128, 96) * (frames // 20))
    options = write_options(Path(f"{frames}.yml"), video_options(f"in{frames}", name=f"m{frames}"))
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.support import load_script\n"
        f"assert load_script('test.py').main(['-opt', {str(options)!r}]) == 0\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if "
        "line.startswith('VmHWM')))"
    )
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's figures")
def test_memory_does_not_grow_with_the_film(network: nn.Module) -> None:
    short = peak_kib(20)
    long = peak_kib(200)
    assert long < 1.1 * short, f"{short} KiB for 20 frames and {long} KiB for 200"
