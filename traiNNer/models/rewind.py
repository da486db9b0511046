"""Going back to before a failed attempt at a phase."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Elements of the largest buffer that is taken for something that training changes. Statistics and
# power iterations have at most a number for each input of a channel (9,216 for 1,024 channels of
# 3 x 3); masks of attention, which stay, have millions.
MOST_STATISTICS = 2**16


@dataclass(frozen=True)
class Generators:
    """The state of the random generators that a network on a device draws from."""

    cpu: Tensor
    cuda: Tensor | None

    @classmethod
    def of(cls, device: torch.device) -> Generators:
        """As they are now."""
        is_cuda = device.type == "cuda"
        return cls(torch.get_rng_state(), torch.cuda.get_rng_state(device) if is_cuda else None)

    def set(self, device: torch.device) -> None:
        """Have them be so again."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, device)


class Rewind:
    """What accumulating the gradients of a phase changes besides them: random generators, running
    statistics, power iterations.

    It is made once for each phase; walking the modules at every step took 3 ms for esrgan and
    10 ms for dat.

    Args:
        networks: those that the attempt runs through.
        device: where they are.
    """

    def __init__(self, networks: Iterable[nn.Module], device: torch.device) -> None:
        self._device = device
        buffers = [buffer for network in networks for buffer in network.buffers()]
        self._buffers = [buffer for buffer in buffers if buffer.numel() <= MOST_STATISTICS]
        # The copies are made here and overwritten at each mark: a step allocates nothing for them.
        self._copies = [buffer.clone() for buffer in self._buffers]
        self._changing: list[tuple[Tensor, Tensor]] | None = None
        self._generators = Generators.of(device)

    def mark(self) -> None:
        """Remember how things are now."""
        self._generators = Generators.of(self._device)
        _copy(self._buffers, self._copies)

    def restore(self) -> None:
        """Undo what has happened since `mark`."""
        self._generators.set(self._device)
        _copy(self._copies, self._buffers)

    def take_back_statistics(self, skipped: Tensor) -> None:
        """The buffers are those at `mark` where the step was left out: what made its gradients
        infinite is in them too. It may be done twice.

        Args:
            skipped: a flag on the device, so that nobody waits for it.
        """
        for buffer, copy in self._changed_pairs():
            # In place: the weights are changed by now, so nothing should ask for memory here.
            torch.where(skipped, copy, buffer, out=buffer)

    @property
    def changing(self) -> list[Tensor]:
        """The buffers that the first attempt has changed, but for counters."""
        return [buffer for buffer, _ in self._changed_pairs() if buffer.is_floating_point()]

    def _changed_pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Buffers and their copies. Looked for once: of the buffers that are copied, few change."""
        if self._changing is None:
            pairs = zip(self._buffers, self._copies, strict=True)
            self._changing = [pair for pair in pairs if bool((pair[0] != pair[1]).any())]
        return self._changing


@torch.no_grad()
def _copy(sources: list[Tensor], targets: list[Tensor]) -> None:
    """Those of one type in one launch. By way of `data`, so that a graph which was made before does
    not take the statistics for changed: a batch norm's gradient does not depend on them.
    """
    for dtype in {source.dtype for source in sources}:
        torch._foreach_copy_(  # pyright: ignore[reportPrivateImportUsage]
            [target.data for target in targets if target.dtype is dtype],
            [source for source in sources if source.dtype is dtype],
        )
