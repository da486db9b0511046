"""Ctrl-C, SIGTERM and a closed terminal: the first asks a training to end after its step, the
second to give that step up, the third ends the program at once.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from traiNNer.utils.errors import StopRequested

EXIT_INTERRUPTED = 130
# Windows has no SIGHUP.
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


# Seconds after a request after which a wait is broken off. Reading that goes on gives a batch
# before, and the step is finished; what waits longer is stuck in a call of the system, where an
# exception does no harm.
PATIENCE_S = 1.0


class Interrupts:
    """While the context is active, `requested` tells whether somebody wants the run to stop.

    Where `is_quiet` is set, somebody else says what a signal does.

    Contexts may be nested. Outside of `saving`, where there is nothing to save, a signal raises
    KeyboardInterrupt.
    """

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self.requested = False
        self.is_quiet = False
        self._patience_s = patience_s
        self._saves = False
        self._waits = False
        self._is_nudge = False
        self._gives_up = False
        self._wants_out = False
        self._told = threading.Event()
        self._telling = threading.RLock()
        self._depth = 0
        self._former: dict[signal.Signals, Any] = {}
        self._ears: tuple[socket.socket, socket.socket] | None = None

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
        self._listen()
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
        if self._ears is not None:
            signal.set_wakeup_fd(-1)
            for end in self._ears:
                end.close()
            self._ears = None

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

    @contextmanager
    def giving_up(self) -> Iterator[None]:
        """Work that can be given up without harm: the first half of a step, which changes no
        weights.

        Raises:
            StopRequested: out of it, where somebody asked a second time.
        """
        self._gives_up = True
        try:
            if self._wants_out:
                raise StopRequested
            yield
        finally:
            self._gives_up = False

    def _listen(self) -> None:
        """Have a thread hear of signals at once: the handlers wait until the main thread is back
        from whatever library it is in, which may be many seconds.
        """
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        try:
            signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        except ValueError:  # no main thread of the main interpreter
            reader.close()
            writer.close()
            return
        self._ears = (reader, writer)
        threading.Thread(target=self._hear, args=(reader,), daemon=True).start()

    def _hear(self, reader: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while heard := reader.recv(1):
                number = heard[0]
                if self._saves and number in [int(each) for each in _SIGNALS]:
                    self._tell(signal.Signals(number).name)

    def _tell(self, name: str) -> None:
        """Say once what a signal does."""
        # The listener or the handler, whichever is first; a handler may interrupt itself.
        with self._telling:
            if self._told.is_set():
                return
            if self.is_quiet:
                return
            with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
                sys.stderr.write(
                    f"\n{name}: finishing this step and saving; once more gives this step up\n"
                )
                sys.stderr.flush()
            self._told.set()

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
            if self._wants_out or not self._saves:
                os._exit(EXIT_INTERRUPTED)
            self._wants_out = True
            if self._gives_up or self._waits:
                raise StopRequested
            return
        self.requested = True
        if not self._saves:
            raise KeyboardInterrupt
        self._tell(name)
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
