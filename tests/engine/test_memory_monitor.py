"""The thread that watches the memory, in runs and alone."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.engine.test_recipes import Stop
from tests.engine.witness import Witness, card, curves
from tests.support import make_pairs, run_training, small_options
from traiNNer.automations import CpuMemory, MemoryLook, SimulatedMemory
from traiNNer.engine.memory_monitor import MOST_LOOKS, MemoryMonitor
from traiNNer.engine.part import Part
from traiNNer.engine.run import Run
from traiNNer.utils.shape import Shape

# So often that a step of a few milliseconds is seen.
OFTEN = 100
Capture = pytest.CaptureFixture[str]


def monitors() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "memory-monitor"]


class Visit(Part):
    """Another program holds memory of the card from one step to another; each step takes a
    moment.
    """

    name = "visit"

    def __init__(self, begin: int, end: int, size: float) -> None:
        self.begin = begin
        self.end = end
        self.size = size
        self.held = 0.0

    def after_step(self, run: Run, result: Any) -> None:
        self.held = self.size if self.begin <= run.iteration < self.end else 0.0
        time.sleep(5 / OFTEN)


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    options = small_options(make_pairs(tmp_path / "data", count=6, lq_size=48))
    options["val"] = {"val_enabled": False}
    options["datasets"]["train"]["num_worker_per_gpu"] = 0
    options["train"]["total_iter"] = 70
    return options


def visited(visit: Visit) -> Witness:
    return Witness(card(Shape(32, 8), outside=lambda _step: visit.held))


@pytest.mark.parametrize("beside", [False, True])
def test_a_program_is_made_room_for_and_leaves_again(
    options: dict[str, Any], beside: bool, capfd: Capture
) -> None:
    automations: dict[str, Any] = {"enabled": True}
    automations["MemoryPressureController"] = {"poll_hz": OFTEN}
    if beside:
        fit = {"pace": "at_once", "adjustment_frequency": 1}
        automations["DynamicBatchAndPatchSizeOptimizer"] = fit
    options["training_automations"] = automations
    options["datasets"]["train"] |= {"lq_size": 32, "batch_size_per_gpu": 4}
    visit = Visit(30, 45, 0.0)
    witness = visited(visit)
    visit.size = 0.25 * witness.memory.total
    assert run_training(options, memory=witness.memory, parts=[witness, visit]) == 0
    assert not monitors()
    shares = [witness.memory.needs(shape)[1] / witness.memory.total for shape in witness.entered]
    assert 0.8 <= shares[28] <= 0.87
    # Seen behind step 30, and answered by the next one: no step was too large.
    assert max(shares[31:44]) + 0.25 <= 0.96
    assert shares[-1] >= 0.75
    told = capfd.readouterr().err
    assert "memory pressure: " in told
    assert "-> low" in told
    assert "was given back; others hold" in told
    levels, rooms = curves("pressure/level", "pressure/headroom_gib")
    assert max(levels) >= 2
    assert levels[-1] == 0
    assert min(rooms) < 0.05


def test_no_thread_is_left_however_a_run_ends(options: dict[str, Any]) -> None:
    options["training_automations"] = {
        "enabled": True,
        "MemoryPressureController": {"poll_hz": OFTEN},
    }

    class Break(Part):
        name = "break"

        def after_step(self, run: Run, result: Any) -> None:
            raise ValueError("broken")

    assert run_training(options, memory=visited(Visit(0, 0, 0)).memory, parts=[Stop(3)]) == 130
    assert not monitors()
    assert run_training(options, memory=visited(Visit(0, 0, 0)).memory, parts=[Break()]) == 1
    assert not monitors()


def test_looks_are_handed_over_once_and_old_ones_are_forgotten() -> None:
    memory = SimulatedMemory(card(Shape(32, 8)))
    monitor = MemoryMonitor(memory, 1000)
    monitor.start()
    time.sleep(0.3)
    looks = monitor.drain()
    monitor.stop()
    monitor.stop()
    assert 3 <= len(looks) <= MOST_LOOKS
    seconds = [look.seconds for look in looks]
    assert seconds == sorted(seconds)
    assert looks[0].look == memory.look()
    monitor.drain()
    time.sleep(0.01)
    assert monitor.drain() == []


def test_a_memory_that_cannot_be_seen_ends_the_watch_and_not_the_run(caplog: Any) -> None:
    class Blind(SimulatedMemory):
        def look(self) -> MemoryLook:
            raise RuntimeError("the driver is gone")

    monitor = MemoryMonitor(Blind(card(Shape(32, 8))), 1000)
    monitor.start()
    time.sleep(0.1)
    assert not monitors()
    assert monitor.drain() == []
    assert caplog.text.count("no longer watched between steps: the driver is gone") == 1


def test_main_memory_is_what_the_system_has_left() -> None:
    """Of a CPU's budget others take nothing; of what there is they do."""
    calm = CpuMemory().look()
    assert calm.available is not None
    assert calm.headroom <= calm.available
    assert replace(calm, available=2**20).headroom == 2**20
    assert replace(calm, available=None).headroom == calm.total - calm.reserved
