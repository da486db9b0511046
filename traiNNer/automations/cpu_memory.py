"""Resident memory of the training process against a budget: the GPU's game, played on the CPU."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import threading
from pathlib import Path
from typing import Any, Protocol

from traiNNer.utils.errors import OptionsError, TrainingError
from traiNNer.utils.memory import MemoryLook, MemoryReading
from traiNNer.utils.names import visible
from traiNNer.utils.text import gib

# Of what is available when no budget is set: the other half is for the workers that read images,
# which the budget does not count, and for the rest of the system.
DEFAULT_SHARE = 0.5
# Seconds between two samples. A training step on a CPU takes tens of milliseconds and is near its
# peak for a good part of it, so it is not missed; a look takes microseconds.
SAMPLE_S = 0.005
# Numbers of the settings in glibc's malloc.h, which ctypes cannot read.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
# Bytes: the largest that glibc takes for the second, and one for the first that is not reached.
LARGEST_KEPT = 32 * 2**20
NEVER = 2**31 - 1
# Part of the budget up to which a block is kept: where it lies is chance, and moves the peak of a
# step by so much.
KEPT_SHARE = 0.01
# Where freed memory is given back at once: blocks from so many bytes on.
SMALLEST_RETURNED = 2 * 2**20
# Windows at a shape before each of which the heap is trimmed: those that an automation learns from.
FIRST_WINDOWS = 8
# What a step may take beyond the most that it took in those, as a part of the budget, before the
# heap is trimmed again. Freed memory gets scattered: without a bound a step took up to 1.6 times as
# much after some hundred. At 2 % of a small step a trim went before nearly each, and took a fifth
# of the speed (a SPAN of 16 channels, 32 px x 8).
SCATTERED = 0.005
# Part of the budget above which steps are so large that the heap is trimmed before each: what they
# take then scatters by 3 % in place of 5, and a trim takes 1 to 12 ms of their tenths of a second.
LARGE = 0.3


class ResidentProbe(Protocol):
    """Resident memory of this process."""

    def reset(self) -> None:
        """Forget the peak."""
        ...

    def read(self) -> tuple[int, int]:
        """(now, peak since reset), bytes. Changes neither; safe from any thread."""
        ...

    def trim(self) -> None:
        """Give freed memory back to the system."""
        ...

    def keep_blocks(self, largest: int) -> None:
        """Have blocks of up to so many bytes kept when they are freed, until the next trim."""
        ...


class LinuxProbe:
    """The kernel's own account of the peak, in /proc.

    Args:
        process: the process's folder there.
        library: the C library; None takes that of this process.

    Raises:
        OSError: where the kernel does not let the peak be reset.
    """

    def __init__(self, process: Path = Path("/proc/self"), library: Any = None) -> None:
        self._status = process / "status"
        self._clear = process / "clear_refs"
        if library is None and sys.platform == "linux":
            library = ctypes.CDLL(None)
        # musl, the C library of small containers, has no such functions
        self._trim = getattr(library, "malloc_trim", None)
        self._mallopt = getattr(library, "mallopt", None)
        # some containers forbid the first, some kernels lack the second: better known now than
        # in the middle of a run
        self.reset()
        self.read()

    def reset(self) -> None:
        """5 in clear_refs sets the peak to what is resident now."""
        self._clear.write_text("5")

    def read(self) -> tuple[int, int]:
        """VmRSS and VmHWM."""
        sizes: dict[str, int] = {}
        for line in self._status.read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in ("VmRSS", "VmHWM"):
                sizes[name] = int(rest.split()[0]) * 1024
        try:
            return sizes["VmRSS"], sizes["VmHWM"]
        except KeyError as error:
            raise OSError(f"{self._status} has no {error}") from error

    def trim(self) -> None:
        """glibc keeps freed memory until it is asked; musl has nothing to ask."""
        if self._trim is not None:
            self._trim(0)

    def keep_blocks(self, largest: int) -> None:
        """glibc takes at most 32 MiB; none but small ones where freed memory counts as well.

        Blocks that the system gives are filled with zeros first. Where those above 2 MiB were given
        back at once, that happened several times to the same memory within a step, and took up to
        half of the time (scripts/benchmarking/freed_memory.py). Left to itself, glibc chooses the
        threshold by what it sees.
        """
        if self._mallopt is None:
            return
        keeps = not counts_what_is_mapped()
        threshold = min(largest, LARGEST_KEPT) if keeps else 0
        self._mallopt(M_MMAP_THRESHOLD, max(threshold, SMALLEST_RETURNED))
        # The same for the end of the heap.
        self._mallopt(M_TRIM_THRESHOLD, NEVER if keeps else 2 * SMALLEST_RETURNED)


def counts_what_is_mapped(root: Path = Path("/")) -> bool:
    """Whether a limit of this process or of the system counts memory that was given, used or not.

    Freed memory that is kept counts then, and behind an out-of-memory it is too scattered to go on
    with: its pages are given back, and its addresses not.
    """
    resource = importlib.import_module("resource")
    for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        if resource.getrlimit(limit)[0] != resource.RLIM_INFINITY:
            return True
    try:
        return (root / "proc/sys/vm/overcommit_memory").read_text().strip() == "2"
    except OSError:
        return False


class SamplingProbe:
    """For systems whose peak cannot be reset: a thread looks every few milliseconds.

    Args:
        psutil: the module.
    """

    def __init__(self, psutil: Any) -> None:
        self._process = psutil.Process()
        self._peak = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        threading.Thread(target=self._watch, name="resident-memory", daemon=True).start()

    def reset(self) -> None:
        """The peak begins at what is resident now."""
        with self._lock:
            self._peak = int(self._process.memory_info().rss)

    def read(self) -> tuple[int, int]:
        """The resident memory, and the largest of it and of the samples since `reset`."""
        now = int(self._process.memory_info().rss)
        with self._lock:
            return now, max(self._peak, now)

    def trim(self) -> None:
        """These systems give freed memory back by themselves."""

    def keep_blocks(self, largest: int) -> None:
        """They know best."""

    def sample(self) -> None:
        """Take what is resident now into the peak; the thread does it every few milliseconds."""
        now = int(self._process.memory_info().rss)
        with self._lock:
            self._peak = max(self._peak, now)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self.sample()


class CpuMemory:
    """Resident memory of this process against a budget. The memory of data-loading workers is not
    in it.

    Args:
        budget_bytes: what the process may take. None: half of what is available, a container's
            limit included.
        probe: how resident memory is read; None chooses.

    Raises:
        OptionsError: if the budget is below what the process takes already.
    """

    def __init__(self, budget_bytes: int | None = None, probe: ResidentProbe | None = None) -> None:
        self._probe = choose_probe() if probe is None else probe
        resident, _ = self._probe.read()
        self._baseline = resident
        self._windows = 0
        self._usual = 0
        self._chosen = budget_bytes is None
        if budget_bytes is None:
            # what the process holds already is its own, so it counts as available to it
            budget_bytes = int((available_bytes() + resident) * DEFAULT_SHARE)
        self._total = budget_bytes
        if self._total <= resident:
            raise OptionsError(
                f"the memory budget of {gib(self._total)} is below the {gib(resident)} that the "
                "process holds before the first step; raise it"
            )
        self._probe.keep_blocks(int(KEPT_SHARE * self._total))

    @property
    def total(self) -> int:
        """The budget in bytes."""
        return self._total

    def start_window(self) -> None:
        """Forget the peak; what is resident at the last trim is the baseline of the step that
        follows.
        """
        _, peak = self._probe.read()
        if 0 < self._windows <= FIRST_WINDOWS:
            self._usual = max(self._usual, peak)
        trims = self._windows < FIRST_WINDOWS or self._is_scattered(peak)
        if trims:
            self._probe.trim()
        self._probe.reset()
        if trims:
            self._baseline, _ = self._probe.read()
        self._windows += 1

    def _is_scattered(self, peak: int) -> bool:
        """Whether what is kept between steps makes the next one's peak another than it need be."""
        is_large = self._usual - self._baseline > LARGE * self._total
        return is_large or peak > self._usual + SCATTERED * self._total

    def read(self) -> MemoryReading:
        """The peak of the resident memory, as allocated and as reserved: the system does not tell
        them apart.
        """
        _, peak = self._probe.read()
        return MemoryReading(peak, peak, 0, self._total, baseline=self._baseline)

    def look(self) -> MemoryLook:
        """The resident memory now, and what the system has left."""
        resident, _ = self._probe.read()
        return MemoryLook(resident, resident, 0, self._total, available_bytes())

    def release(self) -> None:
        """Give freed memory back to the system; another shape may follow."""
        # Once more, for somebody may have set a limit meanwhile.
        self._probe.keep_blocks(int(KEPT_SHARE * self._total))
        self._probe.trim()
        self._windows = 0
        self._usual = 0

    def others(self) -> str:
        """The largest other programs in main memory."""
        return other_programs()

    def describe(self) -> str:
        """The budget and what it is counted in."""
        origin = f"{DEFAULT_SHARE:.0%} of what is available" if self._chosen else "as set"
        # the kernel's peak is exact; samples may miss one, so the log says how often they are taken
        exact = isinstance(self._probe, LinuxProbe)
        how = "" if exact else f", looked at every {SAMPLE_S * 1000:.0f} ms"
        return (
            f"{gib(self._total)} of main memory ({origin}) for the training process's resident "
            f"memory{how}; data-loading workers come on top"
        )


def other_programs(most: int = 3) -> str:
    """The largest programs in main memory besides this one and its children, in words; empty where
    the system does not tell.
    """
    try:
        psutil = importlib.import_module("psutil")
        processes = list(psutil.process_iter(["pid", "name", "memory_info"]))
        own = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    except (ImportError, OSError):
        return ""
    sizes: list[tuple[int, str]] = []
    for process in processes:
        # A process of somebody else's may not tell its size.
        memory = process.info["memory_info"]
        if memory is not None and process.pid not in own:
            sizes.append((memory.rss, f"{process.info['name']} (pid {process.pid})"))
    largest = sorted(sizes, reverse=True)[:most]
    return ", ".join(f"{visible(name)} {gib(size)}" for size, name in largest)


def choose_probe() -> ResidentProbe:
    """The kernel's peak where it can be reset, else sampling through psutil.

    Raises:
        TrainingError: if there is neither.
    """
    try:
        return LinuxProbe()
    except OSError:
        try:
            return SamplingProbe(importlib.import_module("psutil"))
        except ImportError as error:
            message = "measuring memory on this system needs psutil: pip install psutil"
            raise TrainingError(message) from error


def available_bytes(root: Path = Path("/")) -> int:
    """What can be had without swapping, the limits of the control groups included.

    Raises:
        TrainingError: if the system does not tell.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        available = next(
            int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")
        )
    except (OSError, StopIteration):
        try:
            available = int(importlib.import_module("psutil").virtual_memory().available)
        except ImportError as error:
            message = (
                "cannot tell how much memory is available; set vram_limit_gib, or pip install "
                "psutil"
            )
            raise TrainingError(message) from error
    return min([available, *_cgroup_rooms(root)])


def _cgroup_rooms(root: Path) -> list[int]:
    """What each control group around this process still allows, versions 1 and 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    rooms: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base = root / "sys/fs/cgroup"
            names = ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        inner = base / path.lstrip("/")
        # a group is bound by its own limit and by those of all groups around it
        for folder in (inner, *inner.parents):
            room = _room(folder, *names)
            rooms += [] if room is None else [room]
            if folder == base:
                break
    return rooms


def _room(folder: Path, limit_name: str, usage_name: str) -> int | None:
    """Limit less use of one group, page cache not counted as use; None where there is no limit."""
    try:
        limit = int((folder / limit_name).read_text())  # "max" is no number
        usage = int((folder / usage_name).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    # the kernel drops this part of the page cache before it lets a process fail
    cache = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
    return max(0, limit - (usage - cache))
