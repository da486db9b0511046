"""Signals: before there is anything to save, while a step is made, and while nothing comes."""

from __future__ import annotations

import signal
import sys
import time

import pytest

from traiNNer.engine.interrupts import Interrupts, StopRequested

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
