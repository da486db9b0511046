"""How far a long test is, and how it is stopped between two frames."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from types import FrameType

from traiNNer.engine.interrupts import EXIT_INTERRUPTED, Interrupts
from traiNNer.engine.logs import console
from traiNNer.engine.progress import ProgressBar, duration

log = logging.getLogger(__name__)
# Where there is no terminal, the log of a film of an hour should stay readable.
_LOG_EVERY_S = 60


class Stop(Interrupts):
    """While the context is active, Ctrl-C and SIGTERM take effect at `check` alone, where no thread
    is in the midst of something. Once more ends the program at once."""

    def check(self) -> None:
        """Between two frames.

        Raises:
            KeyboardInterrupt: if somebody wants the run to stop.
        """
        if self.requested:
            raise KeyboardInterrupt

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            # Threads may hang in a decoder, which an ordinary exit would wait for.
            os._exit(EXIT_INTERRUPTED)
        self.requested = True
        with contextlib.suppress(OSError):  # the terminal may be gone
            sys.stderr.write(
                f"\n{signal.Signals(number).name}: stopping after this frame; once more ends at "
                "once\n"
            )
            sys.stderr.flush()


class Pace:
    """The bar, with the frames per second and the time that is left; without a terminal a line now
    and then.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._bar = ProgressBar(total, 0)
        self._start = time.perf_counter()
        self._last_line = self._start

    def advance(self, scene: str) -> None:
        """One frame more, of that scene."""
        self._done += 1
        now = time.perf_counter()
        # Some clocks tick in milliseconds: the first frame may take no time by them.
        rate = self._done / max(now - self._start, 1e-9)
        text = f"{scene}: {rate:.2f} frames/s, {duration((self._total - self._done) / rate)} left"
        self._bar.advance()
        self._bar.say(text)
        if not console.is_terminal and now - self._last_line > _LOG_EVERY_S:
            self._last_line = now
            log.info("%d of %d frames, %s", self._done, self._total, text)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()
