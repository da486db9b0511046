"""Which device, which precision: decided once, and put into words."""

from __future__ import annotations

import logging
import os
import platform
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import torch
from torch import nn

from traiNNer.utils.team import Team
from traiNNer.utils.text import gib

log = logging.getLogger(__name__)
# Side of the largest kernel whose gradients a CPU computes well in channels_last. Above it they
# take 36 to 70 times as long as in the plain layout (torch 2.15, AVX-512); PLKSR's 17 made a step
# of training 5 to 24 times as long.
WIDEST_ON_CPU = 14


@dataclass(frozen=True)
class Runtime:
    """How tensors are computed with.

    Attributes:
        device: where the networks live.
        amp_dtype: the type of autocast, None for plain float32.
        channels_last: memory layout of networks and images.
        compile: whether networks are compiled.
        team: the processes that train together; this one alone by default.
    """

    device: torch.device
    amp_dtype: torch.dtype | None = None
    channels_last: bool = False
    compile: bool = False
    team: Team = field(default_factory=Team)

    def autocast(self) -> AbstractContextManager[object]:
        """The context for forward passes."""
        if self.amp_dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.amp_dtype)

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format of networks and of images `(B, C, H, W)`."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def for_training(self, network: nn.Module) -> Runtime:
        """This, or without channels_last where it would be ruinous for the network: see
        `WIDEST_ON_CPU`.
        """
        if not self.channels_last or self.device.type != "cpu":
            return self
        widest = max(
            (max(m.kernel_size) for m in network.modules() if isinstance(m, nn.Conv2d)), default=0
        )
        if widest <= WIDEST_ON_CPU:
            return self
        log.info(
            "use_channels_last: not on this CPU, where it would make training with kernels of "
            "%dx%d many times slower",
            widest, widest,
        )  # fmt: skip
        return replace(self, channels_last=False)

    def place(self, network: nn.Module) -> nn.Module:
        """The network itself, its tensors on the device and those with four dimensions in the
        memory format.
        """
        network.to(self.device)
        for tensor in (*network.parameters(), *network.buffers()):
            # `to` would take five dimensions for a volume of images, and refuse.
            if tensor.ndim == 4:
                tensor.data = tensor.data.contiguous(memory_format=self.memory_format)
        return network

    @property
    def precision(self) -> str:
        """fp32, bf16 or fp16."""
        return {None: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[self.amp_dtype]

    def __str__(self) -> str:
        layout = ", channels_last" if self.channels_last else ""
        compiled = ", compiled" if self.compile else ""
        return f"{describe_device(self.device)}, {self.precision}{layout}{compiled}"


def autocast_dtype(*, use_amp: bool, amp_bf16: bool) -> torch.dtype | None:
    """What autocast computes in; None without mixed precision."""
    if not use_amp:
        return None
    return torch.bfloat16 if amp_bf16 else torch.float16


def is_emulated(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether convolutions of this type are converted to float32 and back, element by element.

    Measured on a CPU with AVX2 alone (torch 2.14, 2 cores): a step of training of compact, span_s,
    realplksr_s and nafnet takes 9 to 18 times as long in bf16 as in fp32.
    """
    if device.type != "cpu":
        return False
    asks = {
        torch.bfloat16: "_is_mkldnn_bf16_supported",
        torch.float16: "_is_mkldnn_fp16_supported",
    }
    try:
        return not getattr(torch.ops.mkldnn, asks[dtype])()
    except (AttributeError, RuntimeError):  # a build of torch without oneDNN, which cannot tell
        return False


def choose_device(num_gpu: Literal["auto"] | int, number: int = 0) -> torch.device:
    """auto: CUDA or ROCm, else Apple's MPS, else the CPU. 0: the CPU. 1 and more: a GPU.

    Args:
        num_gpu: as the options say.
        number: of this process on its machine, where several train together.

    Raises:
        ValueError: if a GPU is asked for and there is none, or none for this process.
    """
    if num_gpu != 0:
        if torch.cuda.is_available():
            count = torch.cuda.device_count()
            if number >= count:
                raise ValueError(f"process {number + 1} of this machine has no GPU of {count}")
            if number:
                torch.cuda.set_device(number)
            return torch.device("cuda", torch.cuda.current_device())
        if torch.backends.mps.is_available():
            return torch.device("mps")
        if num_gpu != "auto":
            raise ValueError("torch finds no GPU on this machine (no CUDA, ROCm or MPS device)")
    return torch.device("cpu")


class Cards(Protocol):
    """What is asked of the machine's cards; `torch.cuda` is one."""

    def device_count(self) -> int:
        """How many there are."""
        ...

    def get_device_properties(self, device: int, /) -> Any:
        """`name` and `total_memory` in bytes of one of them."""
        ...


def describe_device(device: torch.device, cards: Cards = torch.cuda) -> str:
    """For example `NVIDIA GeForce RTX 4070 (11.99 GiB)` or `CPU x86_64, 8 threads`; other cards are
    named too.
    """
    if device.type == "cuda":
        used = device.index or 0
        names = [_card(cards, number) for number in range(cards.device_count())]
        text = names.pop(used)
        # A user with a large and a small card should not wonder for days which one it was.
        if names:
            text += f"; not used: {', '.join(names)}; CUDA_VISIBLE_DEVICES chooses the card"
        return text
    if device.type == "mps":
        return "Apple GPU (MPS)"
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads"


def _card(cards: Cards, number: int) -> str:
    properties = cards.get_device_properties(number)
    return f"{properties.name} ({gib(properties.total_memory)})"


def usable_cores() -> int:
    """Cores that this process may use (affinity included)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def configure_backends(*, deterministic: bool, fast_matmul: bool) -> None:
    """torch's global switches: deterministic kernels, TensorFloat-32, cuDNN's search for the
    fastest kernel.
    """
    if deterministic:
        # The larger of the two settings with which cuBLAS repeats itself: 24 MiB, and faster.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Only where it changes something: the call imports torch's compiler, which takes 1.2 s.
    if deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    # The search times the algorithms, so what it chooses may differ from run to run.
    torch.backends.cudnn.benchmark = not deterministic
    torch.set_float32_matmul_precision("high" if fast_matmul else "highest")
