"""Commands that may take a time, and no longer."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

# Of a command's output: enough for any traceback, and no more than that of megabytes of it.
KEPT_BYTES = 2**18
# Seconds between asking a process to end and ending it: train.py finishes its step and saves.
PATIENCE_S = 5.0
# Seconds that are waited for the last words of a process that has ended.
LAST_WORDS_S = 2.0
# Unix alone has groups of processes.
HAS_GROUPS = hasattr(os, "killpg")


@dataclass(frozen=True)
class Ending:
    """How a command ended.

    Attributes:
        code: its exit code; minus the number of the signal that ended it.
        timed_out: whether it was ended here because its time was up.
        seconds: that it took.
        output: its last words, standard output and error together.
    """

    code: int
    timed_out: bool
    seconds: float
    output: str

    def last_lines(self, count: int) -> list[str]:
        """The end of the output, without empty lines."""
        return [line for line in self.output.splitlines() if line.strip()][-count:]

    def describe(self, limit_s: float) -> str:
        """What went wrong, as the end of a sentence; empty if nothing did."""
        if self.timed_out:
            return f"was ended after {limit_s:.0f} s, the time that it was given"
        if self.code >= 0:
            return f"ended with exit code {self.code}" if self.code else ""
        name = _signal_name(-self.code)
        # What the kernel does to the largest process when main memory is used up.
        hint = "; the system does so when main memory runs out" if name == "SIGKILL" else ""
        return f"was ended by {name}{hint}"


class Command:
    """A running command, whose last words are kept and whose children end with it.

    Args:
        command: program and arguments.
        own_group: gives it a group of processes of its own, which Ctrl-C on the terminal does not
            reach, and by which even what outlives its parent is found at the end.
        cwd: working folder.
        environment: None for that of this process.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        own_group: bool = False,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._grouped = own_group and HAS_GROUPS
        self._start = time.monotonic()
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=self._grouped,
        )
        # Knows the process by more than its number, which the system may give to another one.
        self._identity = psutil.Process(self._process.pid)
        self._kept = bytearray()
        assert self._process.stdout is not None
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), name="output", daemon=True
        )
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process.poll() is None

    def wait(self, limit_s: float, *, polite: bool = False) -> Ending:
        """Wait for the end, and bring it about when the time is up; nothing is left running.

        Args:
            limit_s: seconds from now.
            polite: interrupt first, as Ctrl-C does, and wait for `PATIENCE_S`.
        """
        timed_out = False
        try:
            self._process.wait(max(0.0, limit_s))
        except subprocess.TimeoutExpired:
            timed_out = True
            if polite:
                self._interrupt()
        finally:
            self.end()
        seconds = time.monotonic() - self._start
        self._reader.join(LAST_WORDS_S)
        output = bytes(self._kept).decode(errors="replace")
        return Ending(self._process.returncode, timed_out, seconds, output)

    def end(self) -> None:
        """End the process and all that came of it."""
        # The children are looked up before their parent ends, after which nobody knows them.
        family = self._family()
        if self._grouped:
            # Finds those too whose parents have ended already.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        for member in family:
            with contextlib.suppress(psutil.Error):
                member.kill()
        psutil.wait_procs(family, timeout=PATIENCE_S)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def _family(self) -> list[psutil.Process]:
        try:
            return [*self._identity.children(recursive=True), self._identity]
        except psutil.Error:
            return []

    def _interrupt(self) -> None:
        if sys.platform == "win32":
            return
        self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_S)

    def _read(self, pipe: IO[Any]) -> None:
        # Read whether it is kept or not: a process whose pipe is full stands still.
        with contextlib.suppress(OSError, ValueError):
            while chunk := os.read(pipe.fileno(), 2**16):
                self._kept += chunk
                if len(self._kept) > 2 * KEPT_BYTES:
                    del self._kept[:-KEPT_BYTES]


def run_command(
    command: Sequence[str],
    limit_s: float,
    *,
    own_group: bool = False,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Ending:
    """Run a command for `limit_s` seconds at most."""
    started = Command(command, own_group=own_group, cwd=cwd, environment=environment)
    return started.wait(limit_s)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
