"""A thread that looks at the memory between steps."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from traiNNer.automations import MemoryBackend, TimedLook
from traiNNer.utils.out_of_memory import first_line

log = logging.getLogger(__name__)

# Looks that wait for a step to take them in. A step may take a minute; what is older is told by
# what came after it.
MOST_LOOKS = 64
# Seconds that the end of a run waits for the thread, which sleeps most of the time.
STOP_S = 2.0


class MemoryMonitor:
    """Looks at the memory some times a second until it is stopped. Where that fails, it is said
    once, and there are no more looks; the run goes on.

    Args:
        memory: is looked at; `look` may be called from any thread.
        per_second: looks.
    """

    def __init__(self, memory: MemoryBackend, per_second: float) -> None:
        self._memory = memory
        self._wait_s = 1 / per_second
        self._looks: deque[TimedLook] = deque(maxlen=MOST_LOOKS)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-monitor", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def drain(self) -> list[TimedLook]:
        """What was seen since the last call, the oldest first."""
        looks: list[TimedLook] = []
        while self._looks:
            looks.append(self._looks.popleft())
        return looks

    def stop(self) -> None:
        """End the thread. It may be called twice."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def _watch(self) -> None:
        while not self._stopping.wait(self._wait_s):
            try:
                self._looks.append(TimedLook(time.monotonic(), self._memory.look()))
            # Whatever a driver or a file system says: the run does not end by it.
            except Exception as error:  # noqa: BLE001
                log.warning("the memory is no longer watched between steps: %s", first_line(error))
                return
