"""Ctrl-C, SIGTERM and a closed terminal: the first asks a training to save and end, the second ends
the program at once.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

EXIT_INTERRUPTED = 130
# Windows has no SIGHUP.
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


# Seconds after a request after which a wait is broken off. Reading that goes on gives a batch
# before, and the step is finished; what waits longer is stuck in a call of the system, where an
# exception does no harm.
PATIENCE_S = 1.0


class StopRequested(KeyboardInterrupt):
    """Raised out of a wait that somebody wants to end. The step that waited has not begun."""


class Interrupts:
    """While the context is active, `requested` tells whether somebody wants the run to stop.

    Contexts may be nested. Outside of `saving`, where there is nothing to save, a signal raises
    KeyboardInterrupt.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self.requested = False
        self._patience_s = patience_s
        self._saves = False
        self._waits = False
        self._is_nudge = False
        self._depth = 0
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        self._depth += 1
        # Python lets no other thread set handlers.
        if self._depth > 1 or threading.current_thread() is not threading.main_thread():
            return self
        for number in _SIGNALS:
            # nohup makes a program deaf to the closed terminal, and it is to stay so.
            if number.name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if self._depth:
            return
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former.clear()

    @contextmanager
    def saving(self) -> Iterator[None]:
        """While this is active, a signal only asks: whoever looks at `requested` saves and ends."""
        with self:
            self._saves = True
            try:
                yield
            finally:
                self._saves = False

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A wait, which may last for ever, for something without which nothing has begun.

        Raises:
            StopRequested: out of whatever waits, a moment after somebody wanted the run to stop.
        """
        if self.requested:
            raise StopRequested
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self._is_nudge:
            self._is_nudge = False
            if self._waits:
                raise StopRequested
            return
        if self.requested:
            # A terminal that closes and a service manager send SIGHUP on top of another signal.
            if name == "SIGHUP":
                return
            os._exit(EXIT_INTERRUPTED)
        self.requested = True
        if not self._saves:
            raise KeyboardInterrupt
        with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
            sys.stderr.write(
                f"\n{name}: finishing this step and saving; once more ends at once without saving\n"
            )
            sys.stderr.flush()
        threading.Thread(target=self._nudge, args=(signal.Signals(number),), daemon=True).start()

    def _nudge(self, number: signal.Signals) -> None:
        """Have the handler called in the main thread again, as long as that waits for something."""
        while self._saves:
            time.sleep(self._patience_s)
            if not self._waits:
                continue
            self._is_nudge = True
            if hasattr(signal, "pthread_kill"):
                # Sent to the thread, it ends a call of the system that waits.
                signal.pthread_kill(threading.main_thread().ident or 0, number)
            else:
                _thread.interrupt_main(number)
