"""What somebody else sees of a process: the memory that it holds, and how busy the card is."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

# Seconds between two looks. The peak of a step lasts for a good part of it.
INTERVAL_S = 0.01


@dataclass(frozen=True)
class Look:
    """One look.

    Attributes:
        time: seconds, as `time.time` counts.
        held: bytes.
        busy: share of the time that kernels ran on the card, 0 to 1; NaN where nobody knows.
    """

    time: float
    held: float
    busy: float = math.nan


# Bytes and the busy share of a process of this number.
View = Callable[[int], tuple[float, float]]


def resident_view(pid: int) -> tuple[float, float]:
    """Resident memory of a process.

    Raises:
        psutil.Error: once it has ended.
    """
    return float(psutil.Process(pid).memory_info().rss), math.nan


def card_view(uuid: str) -> View | None:
    """What a card holds more than now, as NVML counts. None without NVML, or for a card that it
    does not know.

    The difference is taken because NVML counts what the driver keeps for itself as used, and cannot
    tell processes apart in a container. So other programs must be quiet meanwhile.

    Args:
        uuid: of the card, as torch says it.
    """
    try:
        import pynvml  # pyright: ignore[reportMissingImports] (optional)
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        # torch's numbers are others than NVML's where CUDA_VISIBLE_DEVICES is set; this one stays
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        handle = pynvml.nvmlDeviceGetHandleByUUID(name)
        before = int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
    except pynvml.NVMLError:
        return None

    def look(_: int) -> tuple[float, float]:
        held = float(pynvml.nvmlDeviceGetMemoryInfo(handle).used) - before
        try:
            busy = int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100
        except pynvml.NVMLError:  # a part of a card does not tell
            busy = math.nan
        return held, busy

    return look


@dataclass
class Watcher:
    """Looks at a process, again and again, until it is stopped.

    Args:
        pid: of the process.
        view: how; None sees nothing.
    """

    pid: int
    view: View | None
    seen: list[Look] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        if self.view is not None:
            self._thread.start()

    def _watch(self) -> None:
        assert self.view is not None
        while not self._end.wait(INTERVAL_S):
            try:
                held, busy = self.view(self.pid)
            # The process is gone, or the driver does not answer: what was seen is what there is.
            except Exception:  # noqa: BLE001
                return
            self.seen.append(Look(time.time(), held, busy))

    def stop(self) -> None:
        """Look no more."""
        self._end.set()
        if self.view is not None:
            self._thread.join()

    def peak_between(self, first: float, last: float) -> float:
        """Most bytes held between two times; NaN if nobody looked."""
        return max((one.held for one in self.seen if first <= one.time <= last), default=math.nan)

    def busy_between(self, first: float, last: float) -> float:
        """Mean share of the time that kernels ran between two times; NaN if nobody knows."""
        shares = [one.busy for one in self.seen if first <= one.time <= last]
        known = [share for share in shares if math.isfinite(share)]
        return sum(known) / len(known) if known else math.nan
