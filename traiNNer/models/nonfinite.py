"""Steps whose gradients are not finite: skipped, counted, reported with their images, and given up
on after many.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from traiNNer.utils.errors import TrainingError

log = logging.getLogger(__name__)


class NonFiniteGuard:
    """Counts the steps that were skipped. Nothing waits for the device until `flush`.

    Args:
        limit: non-finite steps in a row after which `flush` gives up.
        scaled: whether a GradScaler is at work, which meets overflows on purpose.
        phase: whose gradients these are, for messages.
        optimizer_option: where its learning rate is set, for messages.
    """

    def __init__(
        self,
        limit: int,
        *,
        scaled: bool,
        phase: str = "generator",
        optimizer_option: str = "train.optim_g",
    ) -> None:
        self.limit = limit
        self.phase = phase
        self.total = 0
        self.in_a_row = 0
        self._optimizer_option = optimizer_option
        self._scaled = scaled
        self._pending: list[tuple[Tensor, list[str]]] = []

    def note(self, skipped: Tensor, paths: list[str]) -> None:
        """Take in a step.

        Args:
            skipped: whether its gradients were not finite, a flag on the device.
            paths: of its images.
        """
        self._pending.append((skipped, paths))

    @property
    def is_full(self) -> bool:
        """Whether it is time to look."""
        return len(self._pending) >= self.limit

    def flush(self) -> None:
        """Read the checks since the last call (one synchronisation) and report.

        Raises:
            TrainingError: after `limit` non-finite steps in a row.
        """
        if not self._pending:
            return
        flags = torch.stack([bad for bad, _ in self._pending]).tolist()
        skipped = [paths for bad, (_, paths) in zip(flags, self._pending, strict=True) if bad]
        for bad in flags:
            self.in_a_row = self.in_a_row + 1 if bad else 0
        self._pending.clear()
        if not skipped:
            return
        self.total += len(skipped)
        if self.in_a_row >= self.limit:
            raise TrainingError(
                f"the gradients of the {self.phase} were not finite for {self.in_a_row} iterations "
                f"in a row; the weights are those before them. Lower {self._optimizer_option}.lr, "
                "set train.grad_clip: true, or, in mixed precision, amp_bf16: true or use_amp: "
                "false."
            )
        if self._scaled:
            log.info(
                "fp16: %d overflows in the %s, the loss scale was lowered", len(skipped), self.phase
            )
        else:
            log.warning(
                "%d steps with non-finite gradients skipped (%d in all) in the %s; images of the "
                "last: %s",
                len(skipped),
                self.total,
                self.phase,
                ", ".join(skipped[-1][:16]),
            )

    def state_dict(self) -> dict[str, int]:
        """The counts."""
        self.flush()
        return {"total": self.total, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Set the counts."""
        self.total = state["total"]
        self.in_a_row = state["in_a_row"]
