"""Ctrl-C and SIGTERM: the first asks the loop to finish its step and save, the second ends the
program at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Any

EXIT_INTERRUPTED = 130


class Interrupts:
    """While the context is active, `requested` tells whether somebody wants the run to stop."""

    def __init__(self) -> None:
        self.requested = False
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            os._exit(EXIT_INTERRUPTED)
        self.requested = True
        name = signal.Signals(number).name
        with contextlib.suppress(OSError):  # the terminal may be gone
            sys.stderr.write(
                f"\n{name}: finishing this step and saving; once more ends at once without saving\n"
            )
            sys.stderr.flush()
