"""Saying that something is waited for, while the one who waits cannot say it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil

log = logging.getLogger(__name__)
# Seconds without a batch after which that is said: more than slow disks ever need for one.
LONG_WAIT_S = 60.0
# Psutil's words for processes that do not run: stopped by a signal, or waiting for a disk.
_FROZEN = {psutil.STATUS_STOPPED: "stopped", psutil.STATUS_DISK_SLEEP: "waiting for a disk"}


class LongWait:
    """A thread beside the waits for batches, which says when one of them is long.

    Args:
        pids: of the processes that are waited for.
        after_s: seconds after which it is said, and again after twice as many.
        poll_s: seconds between two looks.
    """

    def __init__(
        self, pids: Sequence[int], after_s: float = LONG_WAIT_S, poll_s: float = 1.0
    ) -> None:
        self._pids = pids
        self._after_s = after_s
        self._poll_s = poll_s
        self._since: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A wait."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._since = None

    def end(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        limit = self._after_s
        seen: float | None = None
        while not self._ended.wait(self._poll_s):
            since = self._since
            if since is None or since != seen:
                limit = self._after_s
                seen = since
            if since is not None and time.monotonic() - since >= limit:
                log.warning("%s", _complaint(limit, self._pids))
                limit *= 2


def _complaint(seconds: float, pids: Sequence[int]) -> str:
    states = [state for pid in pids if (state := _FROZEN.get(_status(pid))) is not None]
    readers = "the processes that read images" if pids else "those that read images"
    known = f" ({len(states)} of {len(pids)} are {states[0]})" if states else ""
    return (
        f"no batch for {seconds:.0f} s: {readers}{known} give none. A disk or "
        "a network drive may not answer; Ctrl-C saves at the last finished step and ends."
    )


def _status(pid: int) -> str:
    try:
        return psutil.Process(pid).status()
    except psutil.Error:
        return ""
