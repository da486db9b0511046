"""Going back to before a failed attempt at a phase."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import _SpectralNorm

from traiNNer.utils.errors import TrainingError


class Rewind:
    """What an attempt at a phase changes besides gradients: random generators, running statistics,
    power iterations.

    Weights and optimizer state are not copied, for that would take the memory that is missing. They
    need not be: state that a failed first step began is dropped, and a fused step allocates nothing
    but that. Whether another one stopped after it had changed something is known from the tensors'
    version counters.

    It is made once for each phase; walking the modules at every step took 3 ms for esrgan and
    10 ms for dat.

    Args:
        networks: those that the attempt runs through.
        device: where they are.
        optimizer: the one that the attempt steps.
    """

    def __init__(
        self, networks: Iterable[nn.Module], device: torch.device, optimizer: torch.optim.Optimizer
    ) -> None:
        self._device = device
        self._optimizer = optimizer
        # The copies are made here and overwritten at each mark: a step allocates nothing for them.
        self._buffers = [(buffer, buffer.clone()) for buffer in _changing_buffers(networks)]
        self._state = optimizer.state
        self._counted: list[Tensor] = []
        self._with_state: set[Tensor] = set()
        self._changes = 0
        self._cpu_generator = torch.get_rng_state()
        self._cuda_generator: Tensor | None = None

    def mark(self) -> None:
        """Remember how things are now."""
        self._cpu_generator = torch.get_rng_state()
        if self._device.type == "cuda":
            self._cuda_generator = torch.cuda.get_rng_state(self._device)
        for buffer, copy in self._buffers:
            copy.copy_(buffer)
        if not self._is_current():
            self._take_stock()
        self._changes = self._count_changes()

    def restore(self) -> None:
        """Undo what has happened since `mark`.

        Raises:
            TrainingError: if the optimizer stopped half-way, after it had changed weights.
        """
        if self._count_changes() != self._changes:
            name = type(self._optimizer).__name__
            other = _less_hungry_step(self._optimizer)
            raise TrainingError(
                f"out of memory half-way through the step of {name}: some weights are changed and "
                "others not, so it cannot be repeated. The last checkpoint is good: go on with "
                f"--auto_resume and a lower target_vram_usage or batch_size_per_gpu{other}"
            )
        for parameter in set(self._optimizer.state) - self._with_state:
            del self._optimizer.state[parameter]
        torch.set_rng_state(self._cpu_generator)
        if self._cuda_generator is not None:
            torch.cuda.set_rng_state(self._cuda_generator, self._device)
        for buffer, copy in self._buffers:
            buffer.copy_(copy)

    def take_back_statistics(self, skipped: Tensor) -> None:
        """The running statistics are those at `mark` where the step was left out: what made its
        gradients infinite is in them too.

        Args:
            skipped: a flag on the device, so that nobody waits for it.
        """
        for buffer, copy in self._buffers:
            # In place: the weights are changed by now, so nothing may run out of memory here.
            torch.where(skipped, copy, buffer, out=buffer)

    def _is_current(self) -> bool:
        """Whether the tensors that are counted are still those that the optimizer uses: loading a
        state gives it others, and its first step gives it more.
        """
        state = self._optimizer.state
        return state is self._state and len(state) == len(self._with_state) and bool(self._counted)

    def _take_stock(self) -> None:
        self._state = self._optimizer.state
        self._with_state = set(self._state)
        weights = [p for group in self._optimizer.param_groups for p in group["params"]]
        slots = [slot for values in self._state.values() for slot in values.values()]
        self._counted = weights + [slot for slot in slots if isinstance(slot, Tensor)]

    def _count_changes(self) -> int:
        """How often weights, and the state that they had at `mark`, were changed so far."""
        return sum(tensor._version for tensor in self._counted)  # noqa: SLF001


def _changing_buffers(networks: Iterable[nn.Module]) -> Iterator[Tensor]:
    """The buffers that training forward passes write to; masks and position indices are none."""
    for network in networks:
        for module in network.modules():
            if isinstance(module, _BatchNorm | _SpectralNorm):
                yield from module.buffers(recurse=False)


def _less_hungry_step(optimizer: torch.optim.Optimizer) -> str:
    """What else would do, as the end of a sentence; nothing where the step takes no memory."""
    if optimizer.defaults.get("fused"):
        return ""
    if "fused" in optimizer.defaults:
        return ", or leave foreach and fused out of train.optim_g: a fused step needs no memory"
    return ", or take AdamW, whose step needs no memory"
