"""Memory of a CUDA or ROCm device, as PyTorch's caching allocator and the driver see it."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable
from typing import Any

import torch

from traiNNer.utils.errors import OptionsError
from traiNNer.utils.memory import MemoryLook, MemoryReading
from traiNNer.utils.text import GIB, gib

log = logging.getLogger(__name__)

# Taken for the process's own part of what is outside its allocator, where NVML cannot tell: a CUDA
# context with cuDNN and cuBLAS loaded takes 0.3 to 0.6 GiB.
ASSUMED_CONTEXT_BYTES = GIB // 2


def import_pynvml() -> Any:
    """The module `pynvml`; None, with a line in the log, where it is not installed."""
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        log.debug("pynvml is not installed")
        return None


class CudaMemory:
    """Peaks from the caching allocator, everything else from the driver.

    With a limit, the card plays one of `limit_bytes`: the process cannot reserve more than that
    less its own context, and other programs count only as far as they leave less free than the
    limit.

    Args:
        device: the card; its context must exist, or comes to exist.
        limit_bytes: the most that this process may use, CUDA's context included. None: the whole
            card.
        cuda: what is asked: `torch.cuda`, or something with the few functions that are used here.
        import_nvml: gives the NVML library, or None.

    Raises:
        OptionsError: if the limit is above the card or below what the process holds already.
    """

    def __init__(
        self,
        device: torch.device,
        limit_bytes: int | None = None,
        *,
        cuda: Any = torch.cuda,
        import_nvml: Callable[[], Any] = import_pynvml,
    ) -> None:
        self.device = device
        self._cuda = cuda
        self._nvml = open_nvml(device, import_nvml(), cuda)
        self._limited = limit_bytes is not None
        free, self._card = cuda.mem_get_info(device)
        stats = cuda.memory_stats(device)
        reserved = stats.get("reserved_bytes.all.current", 0)
        self._context = self._context_bytes(self._card - free, reserved)
        self._total = self._card if limit_bytes is None else self._cap(limit_bytes)
        self._retries = stats.get("num_alloc_retries", 0)
        self._baseline = stats.get("allocated_bytes.all.current", 0)

    @property
    def total(self) -> int:
        """Bytes of the card, or the limit."""
        return self._total

    def start_window(self) -> None:
        """Reset the allocator's peaks; what is allocated now is the baseline."""
        self._cuda.reset_peak_memory_stats(self.device)
        stats = self._cuda.memory_stats(self.device)
        # this counter is cumulative and cannot be reset, so differences are taken
        self._retries = stats.get("num_alloc_retries", 0)
        self._baseline = stats.get("allocated_bytes.all.current", 0)

    def read(self) -> MemoryReading:
        """One look at the allocator's counters and one at the driver's; no synchronisation."""
        stats = self._cuda.memory_stats(self.device)
        return MemoryReading(
            stats.get("allocated_bytes.all.peak", 0),
            stats.get("reserved_bytes.all.peak", 0),
            self._outside(stats.get("reserved_bytes.all.current", 0)),
            self._total,
            stats.get("num_alloc_retries", 0) - self._retries,
            self._baseline,
        )

    def look(self) -> MemoryLook:
        """The same counters as they stand now; both calls take a lock of their own."""
        stats = self._cuda.memory_stats(self.device)
        reserved = stats.get("reserved_bytes.all.current", 0)
        allocated = stats.get("allocated_bytes.all.current", 0)
        return MemoryLook(allocated, reserved, self._outside(reserved), self._total)

    def release(self) -> None:
        """Give the allocator's unused segments back to the driver."""
        self._cuda.empty_cache()

    def describe(self) -> str:
        """The card, the limit, and who else is on it."""
        limit = f", limited to {gib(self._total)}" if self._limited else ""
        return f"{gib(self._card)} of GPU memory{limit}; {self.others()}"

    def others(self) -> str:
        """The other programs on the card and what they hold, or why that is not known."""
        if self._nvml is None:
            return "other programs are counted but not named (no NVML: pip install nvidia-ml-py)"
        names = [
            f"{self._nvml.name(process.pid)} (pid {process.pid}, {gib(process.usedGpuMemory or 0)})"
            for process in self._nvml.processes()
            if process.pid != os.getpid()
        ]
        return (
            f"also on the card: {', '.join(names)}" if names else "no other program is on the card"
        )

    def _outside(self, reserved: int) -> int:
        """Bytes of the card that the allocator does not hold; under a limit only those that it
        cannot do without.
        """
        free, _ = self._cuda.mem_get_info(self.device)
        outside = max(0, self._card - free - reserved)
        if not self._limited:
            return outside
        others = max(0, outside - self._context)
        # the card is larger than the limit: others take from it only what is then missing
        return self._context + max(0, self._total - (self._card - others))

    def _context_bytes(self, used: int, reserved: int) -> int:
        held: int | None = None
        if self._nvml is not None:
            pid = os.getpid()
            held = next((p.usedGpuMemory for p in self._nvml.processes() if p.pid == pid), None)
        if held is None:  # another name space of process ids, or no NVML
            return max(0, min(used - reserved, ASSUMED_CONTEXT_BYTES))
        return max(0, held - reserved)

    def _cap(self, limit: int) -> int:
        if limit > self._card:
            raise OptionsError(
                f"the memory limit of {gib(limit)} is above what the card has, {gib(self._card)}"
            )
        if limit <= self._context:
            raise OptionsError(
                f"the memory limit of {gib(limit)} is below CUDA's own context, "
                f"{gib(self._context)}"
            )
        # the fraction bounds the allocator alone, and the context counts against the limit too
        fraction = (limit - self._context) / self._card
        self._cuda.set_per_process_memory_fraction(fraction, self.device)
        return limit


class _Nvml:
    """The little of NVML that is used here."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library = library
        self._handle = handle

    def processes(self) -> list[Any]:
        """Programs with memory on the card: objects with `pid` and `usedGpuMemory` (bytes or
        None).
        """
        library = self._library
        try:
            computing = list(library.nvmlDeviceGetComputeRunningProcesses(self._handle))
            # a desktop and games are listed here only
            return computing + list(library.nvmlDeviceGetGraphicsRunningProcesses(self._handle))
        except library.NVMLError as error:
            log.debug("NVML does not list the processes: %s", error)
            return []

    def name(self, pid: int) -> str:
        """File name of a program."""
        try:
            name = self._library.nvmlSystemGetProcessName(pid)
        except self._library.NVMLError:
            return "a program"
        text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
        return text.replace("\\", "/").rsplit("/", 1)[-1]


def open_nvml(device: torch.device, library: Any, cuda: Any = torch.cuda) -> _Nvml | None:
    """NVML's view of the card that torch calls `device`; None, with a line in the log, where there
    is no such thing.

    Args:
        device: the card.
        library: the module `pynvml`, or None.
        cuda: knows the card's identity: `torch.cuda`.
    """
    if library is None:
        return None
    try:
        library.nvmlInit()
        # CUDA_VISIBLE_DEVICES makes torch's numbers differ from NVML's; the uuid stays
        uuid = str(cuda.get_device_properties(device).uuid)
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        handle = library.nvmlDeviceGetHandleByUUID(name)
    except (library.NVMLError, AttributeError) as error:
        log.info("NVML does not know this card (%s); other programs on it are not named", error)
        return None
    return _Nvml(library, handle)
