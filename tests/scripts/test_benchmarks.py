"""The benchmarks' own parts: what they run is what they say."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import load_script, make_pairs, run_training, small_options, write_options
from traiNNer.options.loading import load_options
from traiNNer.options.schema import TrainingOptions

FPS, GAIN, THROUGHPUT = (
    f"scripts/benchmarking/{name}.py"
    for name in ("realtime_fps", "temporal_gain", "train_throughput")
)


def run(script: str, *arguments: str) -> int:
    return load_script(script).main(list(arguments))


def test_frames_per_second(capsys: pytest.CaptureFixture[str]) -> None:
    networks = ["superultracompact", "temporal_stack:superultracompact:3", "recurrent"]
    quick = [
        "--sizes",
        "16x8",
        "--variants",
        "fp32",
        "amp-bf16-cl",
        "--seconds",
        "0",
        "--rounds",
        "1",
        "--cpu",
    ]
    assert run(FPS, "--networks", *networks, *quick) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "16x8" in line]
    assert [(row[0].strip("| "), row[2]) for row in rows] == [
        (network, variant) for network in networks for variant in ("fp32", "amp-bf16-cl")
    ]
    assert all(float(row[3]) > 0 and float(row[4]) > 0 for row in rows)
    assert [row[5] for row in rows[::2]] == ["1.00"] * 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--networks", "spann"], "did you mean span"),
        (["--networks", "temporal_stack:span:4"], "odd number"),
        (["--sizes", "720p"], "expected WIDTHxHEIGHT"),
        (["--variants", "amp-fp32"], "expected fp32, fp16, bf16, amp-fp16 or amp-bf16"),
    ],
)
def test_what_cannot_be_measured(
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(FPS, "--cpu", *arguments)
    assert said in capsys.readouterr().err


def written(options: dict[str, Any]) -> Path:
    return write_options(Path("gain.yml"), options)


def test_contestants_differ_in_what_they_see_alone(tmp_path: Path) -> None:
    script = load_script(GAIN)
    arguments = SimpleNamespace(cpu=True, lq_size=32, batch=8)
    one, three, recurrent = (
        load_options(
            TrainingOptions,
            written(script.make_options(contestant, arguments, 0, tmp_path, tmp_path)),
            [],
        )
        for contestant in script.contestants(
            "compact", {"num_feat": 24, "num_conv": 6}, [1, 3], ["recurrent"]
        )
    )
    assert one.network_g.params | {"frames": 3} == three.network_g.params
    assert one.model_dump(exclude={"network_g", "datasets"}) == three.model_dump(
        exclude={"network_g", "datasets"}
    )
    assert [options.datasets.train.params["clip_size"] for options in (one, three, recurrent)] == [
        1,
        3,
        5,
    ]
    assert recurrent.datasets.train.params["target"] == "all"


def test_degradations_beside_the_plain_way(capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--steps", "jpeg", "blur", "--rounds", "1", "--batch", "1", "--lq_size", "16"]
    assert run("scripts/benchmarking/degradations.py", *quick) == 0
    told = capsys.readouterr().out
    assert re.search(r"jpeg +[^ ] +[\d.]+", told)
    assert re.search(r"plain.*1\.00", told)


@pytest.mark.slow
def test_gt_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("scripts/benchmarking/gt_alone.py", "--mpixels", "0.1") == 0
    rows = re.findall(
        r"(bicubic|pairs|GT alone) +[^ ] +([\d.]+) +[^ ] +([\d.]+)", capsys.readouterr().out
    )
    assert [row[0] for row in rows] == ["bicubic", "pairs", "GT alone"]


@pytest.mark.parametrize("gan", [[], ["--gan", "patchgan"]])
def test_what_the_framework_adds(gan: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--network", "compact", "--rounds", "1", "--steps", "1", "--batch", "1", "--cpu"]
    assert run("scripts/benchmarking/step_overhead.py", *quick, *gan) == 0
    assert re.search(r"framework / bare: [\d.]+", capsys.readouterr().out)


def test_the_loader_beside_plain_ones(capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--pictures", "2", "--workers", "0", "--rounds", "1", "--seconds", "0.05"]
    assert run("scripts/benchmarking/loader.py", *quick) == 0
    assert re.search(r"ours, later +[^ ] +a thread", capsys.readouterr().out)


@pytest.mark.slow
def test_what_freed_memory_costs(capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--network", "compact", "--lq_size", "32", "--seconds", "0.5", "--rounds", "1"]
    assert run("scripts/benchmarking/freed_memory.py", *quick) == 0
    rows = re.findall(r"(given back|kept|glibc) +[^ ] +([\d.]+)", capsys.readouterr().out)
    assert [row[0] for row in rows] == ["given back", "kept", "glibc"]


@pytest.mark.parametrize(("idle_pixels", "iterations"), [(0, 40), (1024, 20)])
def test_modelled_time_is_all_that_passes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], idle_pixels: int, iterations: int
) -> None:
    """Two seconds of steps of 1,024 pixels, at 20,480 a second."""
    options = small_options(make_pairs(tmp_path / "data", count=4))
    options["datasets"]["train"] |= {"lq_size": 16, "batch_size_per_gpu": 4}
    del options["train"]["total_iter"]
    options["train"]["total_hours"] = 2 / 3600
    options["val"] = {"val_enabled": False}
    clock = load_script("scripts/benchmarking/modelled_time.py").ModelledTime(idle_pixels, 20480)
    assert run_training(options, parts=[clock]) == 0
    (done,) = re.findall(r"done: (\d+) iterations", capfd.readouterr().err)
    assert int(done) == iterations
    assert clock.seconds == pytest.approx(2)


def test_throughput_of_training(capsys: pytest.CaptureFixture[str]) -> None:
    """Each variant trains, and one that does not go with the sizes says why."""
    variants = ["fp32", "fp32-cl", "fp32-unfused", "fp32-gan"]
    quick = ["--lq-size", "16", "--batch", "2", "--seconds", "0", "--rounds", "1", "--cpu"]
    wanted = ["--networks", "superultracompact", "--variants", *variants]
    assert run(THROUGHPUT, *wanted, *quick) == 0
    rows = [line.split() for line in capsys.readouterr().err.splitlines()]
    rows = [row for row in rows if row[0] == "superultracompact"]
    assert [row[1] for row in rows] == variants
    assert all(float(row[2]) > 0 and float(row[3]) > 0 for row in rows)
    assert float(rows[0][4]) == 1
    for arguments, said in (
        (["--networks", "spann"], "did you mean span"),
        (["--variants", "fp64"], "expected fp32, fp16, bf16"),
    ):
        with pytest.raises(SystemExit, match="2"):
            run(THROUGHPUT, "--cpu", *arguments)
        assert said in capsys.readouterr().err
