"""Several processes on this machine, one for each GPU, for `num_gpu: n`; torchrun starts them
otherwise. They share one fate: its end, its exit code, Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from types import FrameType

from traiNNer.engine.interrupts import EXIT_INTERRUPTED

# Seconds that the others have to end by themselves once one has ended by an error: they know of it
# at once, and may have a checkpoint to write.
PATIENCE_S = 30.0
# Small against a training, and no load for the system.
_LOOK_EVERY_S = 0.1
# Tells a process that whoever started it holds the other end of its standard input.
_LAUNCHED = "TRAINNER_LAUNCHED"


def run_processes(command: Sequence[str], count: int) -> int:
    """Run `command` in `count` processes that train together, to their end.

    A signal goes on to all of them.

    Returns:
        The exit code of the first that failed; 0 if none did.
    """
    port = _free_port()
    processes: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        for process in processes:
            process.send_signal(number)

    names = ("SIGINT", "SIGTERM", "SIGHUP")
    signals = [getattr(signal, name) for name in names if hasattr(signal, name)]
    former = {number: signal.signal(number, pass_on) for number in signals}
    try:
        for rank in range(count):
            variables = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(count),
                "LOCAL_WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                _LAUNCHED: "1",
            }
            process = subprocess.Popen(  # noqa: S603 (this program again)
                command,
                env=os.environ | variables,
                # What it reads there is that this process is gone.
                stdin=subprocess.PIPE,
                # A terminal's signals would reach it twice.
                start_new_session=True,
            )
            processes.append(process)
        return _watch(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
        for number, handler in former.items():
            signal.signal(number, handler)


def _watch(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait for all of them; behind a failure for a while, then no longer."""
    code = 0
    deadline = None
    while True:
        codes = [process.poll() for process in processes]
        failed = [found for found in codes if found]
        if failed and not code:
            # One that a signal has killed has the code below 0.
            code = failed[0] if failed[0] > 0 else 1
            deadline = time.monotonic() + PATIENCE_S
        if all(found is not None for found in codes):
            return code
        if deadline is not None and code != EXIT_INTERRUPTED and time.monotonic() > deadline:
            return code
        time.sleep(_LOOK_EVERY_S)


def end_with_launcher() -> None:
    """End this process, as by SIGTERM, when whoever started it by `run_processes` is gone."""
    if _LAUNCHED not in os.environ:
        return

    def wait() -> None:
        # Not by Python's own reader, which would be locked when this process ends.
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="launcher", daemon=True).start()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
