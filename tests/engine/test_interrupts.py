"""Signals: before there is anything to save, while a step is made, and while nothing comes."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.support import make_pairs, run_training, small_options
from traiNNer.engine.interrupts import Interrupts, StopRequested
from traiNNer.engine.part import Part
from traiNNer.engine.run import Run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
# Long enough for any machine: the tests end as soon as the signal has worked.
LONG_S = 60.0


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_before_there_is_something_to_save(name: str) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt) as error:
        signal.raise_signal(number)
    assert error.type is KeyboardInterrupt
    assert interrupts.requested
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_step_is_finished(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with Interrupts() as interrupts, interrupts.saving():
        assert not interrupts.requested
        signal.raise_signal(getattr(signal, name))
        assert interrupts.requested
        # A terminal that closes sends this one besides.
        signal.raise_signal(signal.SIGHUP)
    assert f"{name}: finishing this step and saving" in capfd.readouterr().err


def test_a_wait_without_an_end_is_broken_off() -> None:
    interrupts = Interrupts(patience_s=0.01)

    def wait() -> None:
        with interrupts.waiting():
            signal.raise_signal(signal.SIGTERM)
            time.sleep(LONG_S)

    with interrupts.saving(), pytest.raises(StopRequested):
        wait()


def test_a_wait_is_not_begun_when_the_run_is_to_stop() -> None:
    interrupts = Interrupts()
    interrupts.requested = True
    with pytest.raises(StopRequested), interrupts.waiting():
        raise AssertionError("waited")


def test_nohup_stays_deaf_to_a_closed_terminal() -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            signal.raise_signal(signal.SIGHUP)
        assert not interrupts.requested
    finally:
        signal.signal(signal.SIGHUP, former)


def test_a_second_one_gives_up_what_may_be_given_up() -> None:
    interrupts = Interrupts()

    def accumulate() -> None:
        with interrupts.giving_up():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("went on")

    with interrupts.saving(), pytest.raises(StopRequested):
        accumulate()


def test_a_second_one_lets_the_weights_be_changed_and_gives_up_what_comes_next() -> None:
    interrupts = Interrupts()
    with interrupts.saving():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(StopRequested), interrupts.giving_up():
            raise AssertionError("began")


def test_the_message_does_not_wait_for_the_main_thread(capfd: pytest.CaptureFixture[str]) -> None:
    with Interrupts() as interrupts, interrupts.saving():
        # As a library holds the main thread, with Python's handlers waiting.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            assert interrupts._ears is not None
            interrupts._ears[1].send(bytes([signal.SIGINT]))
            assert interrupts._told.wait(LONG_S)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        assert not interrupts.requested
    assert "SIGINT: finishing this step and saving; once more gives this step up" in (
        capfd.readouterr().err
    )


class Impatient(Part):
    """Presses Ctrl-C twice within the forward pass of a step."""

    name = "impatient"

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def start(self, run: Run) -> None:
        forward = run.recipe.forward_main  # pyright: ignore[reportAttributeAccessIssue]

        def pressed(lq: Tensor) -> Tensor:
            output = forward(lq)
            if run.iteration == self.iteration - 1:
                torch.rand(3)  # what dropout would have drawn
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
            return output

        run.recipe.forward_main = pressed  # pyright: ignore[reportAttributeAccessIssue]


def test_a_step_that_was_given_up_is_made_again_bit_for_bit(tmp_path: Path) -> None:
    options = small_options(make_pairs(tmp_path / "data"))
    assert run_training(options, "--name", "straight") == 0
    assert run_training(options, "--name", "stopped", parts=[Impatient(5)]) == 130
    states = sorted(Path("experiments/stopped/training_states").glob("*.state"))
    assert [path.stem for path in states] == ["3", "4"]
    assert run_training(options, "--name", "stopped", "--auto_resume") == 0
    for file in ("net_g_6", "net_g_ema_6"):
        straight, stopped = (
            load_file(f"experiments/{name}/models/{file}.safetensors")
            for name in ("straight", "stopped")
        )
        assert all(torch.equal(straight[name], stopped[name]) for name in straight)
