"""Readings, what running out looks like, and the backends: real on the CPU, with a stand-in driver
for CUDA.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from traiNNer.automations import (
    CardModel,
    CpuMemory,
    CudaMemory,
    MemoryBackend,
    MemoryLook,
    MemoryReading,
    Shape,
    SimulatedMemory,
    is_out_of_memory,
)
from traiNNer.automations.cpu_memory import (
    FIRST_WINDOWS,
    M_MMAP_THRESHOLD,
    M_TRIM_THRESHOLD,
    NEVER,
    LinuxProbe,
    SamplingProbe,
    available_bytes,
    counts_what_is_mapped,
)
from traiNNer.utils.errors import OptionsError

MIB = 2**20
GIB = 2**30


def test_readings() -> None:
    reading = MemoryReading(1, 60, 20, 100)
    assert reading.used_share == 0.8
    merged = MemoryReading.merged([reading, MemoryReading(5, 10, 30, 90, 2)])
    assert merged == MemoryReading(5, 60, 30, 90, 2)


def real_failure() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB"
        ),
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you ..."
        ),
        RuntimeError(
            "DefaultCPUAllocator: not enough memory: you tried to allocate 4294967296 bytes."
        ),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("HIP out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        real_failure(),
    ],
)
def test_out_of_memory(error: BaseException) -> None:
    assert is_out_of_memory(error)
    wrapped = RuntimeError("the compiled function failed")
    wrapped.__cause__ = error
    assert is_out_of_memory(wrapped)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed."),
        RuntimeError("DataLoader worker (pid(s) 3) exited unexpectedly"),
        MemoryError("Caught MemoryError in DataLoader worker process 0."),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        ValueError("out of memory"),
        KeyboardInterrupt(),
        None,
    ],
)
def test_not_out_of_memory(error: BaseException | None) -> None:
    assert not is_out_of_memory(error)


def test_a_tensor_on_the_cpu_is_in_the_peak() -> None:
    memory = CpuMemory(64 * GIB)
    memory.start_window()
    before = memory.read().allocated_peak
    tensor = torch.ones(96 * MIB // 4)
    held = memory.read().allocated_peak
    del tensor
    after = memory.read()
    assert held - before >= 90 * MIB
    assert after.allocated_peak >= held - MIB  # the peak stays
    assert after.reserved_peak == after.allocated_peak
    assert after.outside == 0
    memory.release()
    memory.start_window()
    assert memory.read().allocated_peak - before < 30 * MIB  # and is forgotten


def test_the_budget_is_checked_and_described() -> None:
    with pytest.raises(
        OptionsError, match=r"budget of 0.00 GiB is below the .* that the process holds before"
    ):
        CpuMemory(1 * MIB)
    assert "data-loading workers come on top" in CpuMemory(64 * GIB).describe()
    chosen = CpuMemory()
    assert "50% of what is available" in chosen.describe()
    assert chosen.total < available_bytes() * 1.5


def sampling_probe(info: SimpleNamespace) -> SamplingProbe:
    """A probe whose thread has ended: its samples are taken by hand."""
    process = SimpleNamespace(memory_info=lambda: info)
    probe = SamplingProbe(SimpleNamespace(Process=lambda: process))
    probe.close()
    return probe


def test_systems_without_a_resettable_peak_are_sampled() -> None:
    info = SimpleNamespace(rss=100)
    probe = sampling_probe(info)
    memory = CpuMemory(1000, probe)
    for resident in (100, 300, 200):
        info.rss = resident
        probe.sample()
    assert memory.read().allocated_peak == 300
    memory.start_window()
    assert memory.read().allocated_peak == 200
    assert "looked at every 5 ms" in memory.describe()


def test_what_a_step_leaves_is_not_taken_for_what_its_pixels_took() -> None:
    """Else a network whose optimizer takes most of the budget would never leave its first shape."""
    info = SimpleNamespace(rss=100)
    memory = CpuMemory(1000, sampling_probe(info))
    memory.start_window()
    info.rss = 700  # weights were there; now gradients and the optimizer's state too
    assert memory.read().baseline == 100
    assert memory.read().baseline == 100  # reading changes nothing
    memory.start_window()
    assert memory.read().baseline == 700


class Heap:
    """A process of 500 bytes whose heap keeps what steps have freed, and a little more each time.

    Args:
        growth: bytes that a step takes beyond the one before it since the last trim.
    """

    def __init__(self, growth: int = 0) -> None:
        self.process = 500
        self.growth = growth
        self.trims = 0
        self.largest = 0
        self._kept = 0
        self._peak = 500

    def step(self, taken: int) -> None:
        self._kept = max(taken, self._kept + self.growth if self._kept else taken)
        self._peak = max(self._peak, self.process + self._kept)

    def reset(self) -> None:
        self._peak = self.process + self._kept

    def read(self) -> tuple[int, int]:
        return self.process + self._kept, self._peak

    def trim(self) -> None:
        self.trims += 1
        self._kept = 0

    def keep_blocks(self, largest: int) -> None:
        self.largest = largest


def peaks_of(memory: CpuMemory, heap: Heap, taken: int, steps: int) -> list[int]:
    peaks: list[int] = []
    for _ in range(steps):
        memory.start_window()
        heap.step(taken)
        peaks.append(memory.read().reserved_peak)
    return peaks


def test_a_step_finds_what_the_one_before_it_has_freed() -> None:
    """Memory that is given back is filled with zeros before it is given again."""
    heap = Heap()
    memory = CpuMemory(10_000, heap)
    assert heap.largest == 100
    assert set(peaks_of(memory, heap, 1000, 50)) == {1500}
    assert heap.trims == FIRST_WINDOWS
    assert memory.read().baseline == 500, "what is kept is not what the next step begins with"
    heap.largest = 0
    memory.release()
    assert heap.largest == 100, "limits are looked at again"
    heap.process = 700  # a larger optimizer's state
    heap.trims = 0
    assert set(peaks_of(memory, heap, 2000, 50)) == {2700}
    assert heap.trims == FIRST_WINDOWS
    assert memory.read().baseline == 700


def test_a_heap_that_scatters_is_trimmed() -> None:
    heap = Heap(growth=15)
    memory = CpuMemory(10_000, heap)
    assert max(peaks_of(memory, heap, 1000, 200)) <= 1500 + 50 + 15
    assert 30 < heap.trims < 70


def test_before_large_steps_the_heap_is_trimmed_each_time() -> None:
    heap = Heap(growth=5)
    memory = CpuMemory(10_000, heap)
    assert set(peaks_of(memory, heap, 4000, 50)) == {4500}
    assert heap.trims == 50


@pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
def test_where_mapped_memory_counts_none_is_kept(tmp_path: Path) -> None:
    resource = importlib.import_module("resource")
    if counts_what_is_mapped():
        pytest.skip("on this machine it counts from the beginning")
    settings: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda *setting: settings.append(setting))
    probe = LinuxProbe(library=library)
    probe.keep_blocks(10 * MIB)
    assert settings[-2:] == [(M_MMAP_THRESHOLD, 10 * MIB), (M_TRIM_THRESHOLD, NEVER)]
    probe.keep_blocks(100 * MIB)
    assert settings[-2] == (M_MMAP_THRESHOLD, 32 * MIB)
    former = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (2**40, former[1]))  # as of ulimit -d
    try:
        probe.keep_blocks(10 * MIB)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, former)
    assert settings[-2:] == [(M_MMAP_THRESHOLD, 2 * MIB), (M_TRIM_THRESHOLD, 4 * MIB)]
    overcommit = tmp_path / "proc/sys/vm/overcommit_memory"
    overcommit.parent.mkdir(parents=True)
    overcommit.write_text("2\n")
    assert counts_what_is_mapped(tmp_path)
    overcommit.write_text("0\n")
    assert not counts_what_is_mapped(tmp_path)


def test_a_kernel_that_does_not_reset_peaks_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tpython\n")
    with pytest.raises(OSError, match="VmRSS"):
        LinuxProbe(tmp_path)
    with pytest.raises(OSError, match="missing"):
        LinuxProbe(tmp_path / "missing")


def fake_root(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    files = {
        "proc/meminfo": "MemTotal: 999 kB\nMemAvailable: 8388608 kB\n",
        "proc/self/cgroup": cgroup,
    } | files
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_limits_of_containers_count(tmp_path: Path) -> None:
    assert available_bytes(fake_root(tmp_path / "none", "0::/\n", {})) == 8 * GIB
    two = {
        "sys/fs/cgroup/a/memory.max": f"{4 * GIB}\n",
        "sys/fs/cgroup/a/memory.current": f"{2 * GIB}\n",
        "sys/fs/cgroup/a/memory.stat": f"anon 5\ninactive_file {1 * GIB}\n",
        "sys/fs/cgroup/a/b/memory.max": "max\n",
        "sys/fs/cgroup/a/b/memory.current": "1\n",
        "sys/fs/cgroup/a/b/memory.stat": "inactive_file 0\n",
    }
    assert available_bytes(fake_root(tmp_path / "two", "0::/a/b\n", two)) == 3 * GIB
    one = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{1 * GIB}\n",
        "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 0\n",
    }
    assert available_bytes(fake_root(tmp_path / "one", "9:cpu:/\n8:memory:/gone\n", one)) == 1 * GIB


class FakeCuda:
    """The calls of torch.cuda that are used, over numbers."""

    card = 24 * GIB
    free = 20 * GIB
    allocated = 2 * GIB
    reserved = 3 * GIB
    fraction = 1.0
    retries = 0

    def mem_get_info(self, device: torch.device) -> tuple[int, int]:
        return self.free, self.card

    def memory_stats(self, device: torch.device) -> dict[str, int]:
        return {
            "allocated_bytes.all.current": self.allocated,
            "allocated_bytes.all.peak": 5 * GIB,
            "reserved_bytes.all.peak": 6 * GIB,
            "reserved_bytes.all.current": self.reserved,
            "num_alloc_retries": self.retries,
        }

    def reset_peak_memory_stats(self, device: torch.device) -> None:
        """Nothing to reset."""

    def set_per_process_memory_fraction(self, fraction: float, device: torch.device) -> None:
        self.fraction = fraction

    def get_device_properties(self, device: torch.device) -> SimpleNamespace:
        return SimpleNamespace(uuid="abc")


CARD = torch.device("cuda", 0)


def cuda_memory(cuda: FakeCuda, limit: int | None = None, library: Any = None) -> CudaMemory:
    return CudaMemory(CARD, limit, cuda=cuda, import_nvml=lambda: library)


def test_cuda_counts_what_others_hold() -> None:
    cuda = FakeCuda()
    memory = cuda_memory(cuda)
    assert memory.read() == MemoryReading(5 * GIB, 6 * GIB, 1 * GIB, 24 * GIB, 0, 2 * GIB)
    assert memory.look() == MemoryLook(2 * GIB, 3 * GIB, 1 * GIB, 24 * GIB)
    assert memory.look().used_share == pytest.approx(4 / 24)
    cuda.retries = 2
    cuda.allocated = 4 * GIB
    assert memory.read().alloc_retries == 2
    assert memory.read().baseline == 2 * GIB
    memory.start_window()
    assert memory.read().alloc_retries == 0
    assert memory.read().baseline == 4 * GIB
    assert "not named (no NVML: pip install nvidia-ml-py)" in memory.describe()


def test_a_limit_makes_the_card_a_smaller_one() -> None:
    cuda = FakeCuda()
    memory = cuda_memory(cuda, 8 * GIB)
    assert memory.total == 8 * GIB
    assert cuda.fraction == pytest.approx((8 - 0.5) / 24)
    # its context alone: there is room for what others hold beside the limit
    assert memory.read().outside == memory.look().outside == GIB // 2
    cuda.free = 1 * GIB  # others take 19.5 GiB of 24: 4.5 are left of the 8
    assert memory.read().outside == pytest.approx(GIB // 2 + 3.5 * GIB)
    with pytest.raises(OptionsError, match=r"25.00 GiB is above what the card has, 24.00 GiB"):
        cuda_memory(cuda, 25 * GIB)
    with pytest.raises(OptionsError, match="below CUDA's own context"):
        cuda_memory(cuda, GIB // 4)


class NVMLError(Exception):
    """What the library raises."""


def nvml_library(processes: list[SimpleNamespace], **changes: Any) -> SimpleNamespace:
    functions = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: processes,
        "nvmlDeviceGetGraphicsRunningProcesses": lambda handle: [],
        "nvmlSystemGetProcessName": lambda pid: b"/usr/bin/game",
    }
    return SimpleNamespace(**(functions | changes))


def test_nvml_names_the_others() -> None:
    library = nvml_library(
        [
            SimpleNamespace(pid=1, usedGpuMemory=2 * GIB),
            SimpleNamespace(pid=os.getpid(), usedGpuMemory=4 * GIB),
        ]
    )
    memory = cuda_memory(FakeCuda(), 8 * GIB, library)
    assert "also on the card: game (pid 1, 2.00 GiB)" in memory.describe()
    # the context as NVML counts it: 4 GiB less the 3 reserved
    assert memory.read().outside == 1 * GIB


def test_a_card_that_nvml_does_not_know_is_used_without_it() -> None:
    def unknown(uuid: str) -> str:
        raise NVMLError(uuid)

    memory = cuda_memory(FakeCuda(), None, nvml_library([], nvmlDeviceGetHandleByUUID=unknown))
    assert "not named" in memory.describe()


def simulated() -> SimulatedMemory:
    return SimulatedMemory(CardModel(24 * GIB, GIB, 64 * 2**10, noise=0.01, outside=GIB))


@pytest.mark.parametrize(
    ("make", "work"),
    [
        (simulated, lambda memory: memory.step(Shape(64, 8))),
        (lambda: cuda_memory(FakeCuda()), lambda memory: None),
        (
            lambda: CpuMemory(1000, sampling_probe(SimpleNamespace(rss=100))),
            lambda memory: None,
        ),
    ],
)
def test_looking_changes_no_reading(
    make: Callable[[], MemoryBackend], work: Callable[[Any], None]
) -> None:
    alone = make()
    watched = make()
    with watching(watched) as looks:
        for _ in range(50):
            readings: list[MemoryReading] = []
            for memory in (alone, watched):
                memory.start_window()
                work(memory)
                readings += [memory.read(), memory.read()]
            assert len(set(readings)) == 1
    assert len(looks) > 1
    assert all(look.total == alone.total for look in looks)


def test_looking_moves_no_peak_of_the_process() -> None:
    memory = CpuMemory(64 * GIB)
    memory.start_window()
    baseline = memory.read().baseline
    tensor = torch.ones(64 * MIB // 4)
    peak = memory.read().allocated_peak
    with watching(memory) as looks:
        while len(looks) < 20:
            time.sleep(0.001)
    del tensor
    assert looks[-1].allocated > baseline
    assert memory.read().baseline == baseline
    # the kernel counts pages in batches for each core, so its figures wander a little
    assert abs(memory.read().allocated_peak - peak) <= 8 * MIB


@contextmanager
def watching(memory: MemoryBackend) -> Iterator[list[MemoryLook]]:
    """A thread that looks all the time."""
    looks: list[MemoryLook] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            looks.append(memory.look())

    thread = threading.Thread(target=watch)
    thread.start()
    while not looks:
        time.sleep(0.001)
    try:
        yield looks
    finally:
        stop.set()
        thread.join()
