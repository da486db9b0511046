"""The samples of a step, and a step whose samples do not come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support import make_pairs
from traiNNer.data import Batch, DynamicDataLoaderWrapper, PairedImageDataset
from traiNNer.engine.interrupts import Interrupts, StopRequested
from traiNNer.engine.progress import Stopwatch
from traiNNer.engine.stream import StepStream


def test_no_batch_is_shorter_than_the_network_can_be_trained_on(tmp_path: Path) -> None:
    data = make_pairs(tmp_path)
    dataset = PairedImageDataset(2, str(data / "gt"), str(data / "lq"))

    def read(batch_size: int, accum: int, effective: int | None) -> list[list[int]]:
        """The sizes of the batches of four steps; the patch changes after the second."""
        loader = DynamicDataLoaderWrapper(
            dataset, batch_size=batch_size, lq_size=16, seed=3, num_workers=0
        )
        stream = StepStream(loader, Stopwatch(), accum, effective, Interrupts(), min_batch=2)
        sizes: list[list[int]] = []
        for step in range(4):
            if step == 2:
                loader.set_lq_size(24)
            batches = stream.next_step()
            assert batches is not None
            sizes.append([len(batch) for batch in batches])
        return sizes

    for effective in (3, 7):
        steps = read(2, 1, effective)
        assert [sum(step) for step in steps] == [effective] * 4
        assert all(size >= 2 for step in steps for size in step)
    assert read(2, 2, None) == [[2, 2]] * 4
    # One sample of the former patch size was left, and went with the next two.
    assert all(size >= 2 for step in read(3, 1, None) for size in step)


class Stuck(PairedImageDataset):
    """Somebody presses Ctrl-C while a certain sample is read."""

    stuck_at: int | None = None
    read = 0

    def __getitem__(self, index: Any) -> Any:
        self.read += 1
        if self.read == self.stuck_at:
            raise StopRequested
        return super().__getitem__(index)


def paths(batches: list[Batch] | None) -> list[str]:
    assert batches is not None
    return [path for batch in batches for path in batch.lq_paths]


@pytest.mark.parametrize("effective", [None, 6])
def test_a_step_that_was_broken_off_is_read_again(tmp_path: Path, effective: int | None) -> None:
    data = make_pairs(tmp_path)

    def stream(dataset: PairedImageDataset) -> StepStream:
        loader = DynamicDataLoaderWrapper(dataset, batch_size=2, lq_size=16, seed=3, num_workers=0)
        return StepStream(loader, Stopwatch(), 3, effective, Interrupts())

    whole = stream(PairedImageDataset(2, str(data / "gt"), str(data / "lq")))
    steps = [paths(whole.next_step()) for _ in range(3)]
    dataset = Stuck(2, str(data / "gt"), str(data / "lq"))
    # In the second batch of the second step, so that its first one counts as consumed.
    dataset.stuck_at = 9
    broken = stream(dataset)
    assert paths(broken.next_step()) == steps[0]
    assert broken.next_step() is None
    assert broken.loader.samples_consumed == 6
    state = broken.state_dict()
    again = stream(PairedImageDataset(2, str(data / "gt"), str(data / "lq")))
    again.load_state_dict(state)
    assert [paths(again.next_step()) for _ in range(2)] == steps[1:]
