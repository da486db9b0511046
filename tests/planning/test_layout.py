"""The memory layout that is tried, and what is remembered of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support import make_pairs, run_training, small_options, write_options
from traiNNer.archs import build_network
from traiNNer.options.loading import load_options
from traiNNer.options.schema import TrainingOptions
from traiNNer.planning.layout import choose_layout
from traiNNer.utils.device import Runtime
from traiNNer.utils.work import Work

PLAIN = Runtime(torch.device("cpu"))


class Stopwatch:
    """Stands for a trial: steps with channels_last are `times` times as fast."""

    def __init__(self, times: float) -> None:
        self.times = times
        self.trials = 0

    def __call__(self, options: TrainingOptions, runtime: Runtime, seconds: float) -> Work:
        self.trials += 1
        steps = 4 if runtime.channels_last else 2
        each = 0.1 / self.times if runtime.channels_last else 0.1
        return Work(iterations=steps, seconds=steps * each)


def exhausted(options: TrainingOptions, runtime: Runtime, seconds: float) -> Work:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")


@pytest.fixture
def options(tmp_path: Path) -> TrainingOptions:
    return loaded(tmp_path)


def loaded(tmp_path: Path, *overrides: str) -> TrainingOptions:
    small = small_options(make_pairs(tmp_path / "data")) | {"use_channels_last": "auto"}
    return load_options(TrainingOptions, write_options(tmp_path / "o.yml", small), list(overrides))


@pytest.mark.parametrize(("times", "wins"), [(1.4, True), (1.02, False), (0.1, False)])
def test_the_faster_layout_is_taken_and_remembered(
    options: TrainingOptions, tmp_path: Path, times: float, wins: bool
) -> None:
    network = build_network("compact", scale=2)
    watch = Stopwatch(times)
    assert choose_layout(options, PLAIN, network, watch).channels_last is wins
    assert watch.trials == 2
    # A run that goes on computes as before, whatever a trial would say by now.
    assert choose_layout(options, PLAIN, network, Stopwatch(1 / times)).channels_last is wins
    # Of another shape nothing is known.
    other = loaded(tmp_path, "datasets.train.lq_size=24")
    assert choose_layout(other, PLAIN, network, Stopwatch(1.4)).channels_last
    # What is damaged is tried again.
    for path in (tmp_path / "cache" / "traiNNer" / "layouts").iterdir():
        path.write_bytes(b"[1]")
    watch = Stopwatch(1.4)
    assert choose_layout(options, PLAIN, network, watch).channels_last
    assert watch.trials == 2


def test_without_memory_to_try_it_stays_plain_this_time(options: TrainingOptions) -> None:
    network = build_network("compact", scale=2)
    assert not choose_layout(options, PLAIN, network, exhausted).channels_last
    assert choose_layout(options, PLAIN, network, Stopwatch(1.4)).channels_last


def test_what_cannot_be_remembered_is_tried_each_time(
    options: TrainingOptions, tmp_path: Path
) -> None:
    folder = tmp_path / "cache" / "traiNNer"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "layouts").write_text("in the way")
    network = build_network("compact", scale=2)
    watch = Stopwatch(1.4)
    assert choose_layout(options, PLAIN, network, watch).channels_last
    assert choose_layout(options, PLAIN, network, watch).channels_last
    assert watch.trials == 4


def test_what_is_known_to_be_ruinous_is_not_tried(options: TrainingOptions) -> None:
    watch = Stopwatch(1.4)
    network = torch.nn.Conv2d(3, 3, 17)
    assert not choose_layout(options, PLAIN, network, watch).channels_last
    assert watch.trials == 0


def test_a_run_trains_in_the_layout_that_won(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    small = small_options(make_pairs(tmp_path / "data")) | {"use_channels_last": "auto"}
    path = write_options(tmp_path / "o.yml", small)
    told = []
    for _ in range(2):
        assert run_training(path, "--check") == 0
        plan, log = capfd.readouterr()
        told += [line[9:] for line in log.splitlines() if "use_channels_last: auto" in line]
    # The second one has not tried again.
    assert len(told) == 2
    assert len(set(told)) == 1
    assert ("channels_last" in plan) is told[0].endswith("on")
