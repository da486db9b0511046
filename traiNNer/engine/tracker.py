"""Curves and pictures for TensorBoard."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from traiNNer.utils.errors import DiskError
from traiNNer.utils.names import visible

log = logging.getLogger(__name__)


class Tracker:
    """Writes scalars, pictures and text; does nothing when switched off, and before `open`.

    Args:
        folder: where the curves go, None to write none.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._writer: Any = None
        self._is_full = False
        self._former_hook = threading.excepthook

    def open(self, first_step: int = 0) -> None:
        """Begin to write. Points of `first_step` and later that an earlier, interrupted run wrote
        are dropped.
        """
        if self._folder is None:
            return
        # TensorBoard is imported for those who want it: it takes a second.
        from torch.utils.tensorboard import SummaryWriter

        threading.excepthook = self._thread_ended
        purge = first_step if first_step > 1 else None
        folder = str(self._folder)
        self._writer = self._guarded(lambda: SummaryWriter(folder, purge_step=purge))

    @property
    def is_open(self) -> bool:
        """Whether anything is written."""
        return self._writer is not None

    def scalars(self, values: dict[str, float], step: int) -> None:
        """One point for each tag."""
        if self._writer is not None:
            for tag, value in values.items():
                self._guarded(
                    lambda tag=tag, value=value: self._writer.add_scalar(visible(tag), value, step)
                )

    def image(self, tag: str, picture: Tensor, step: int) -> None:
        """A picture `(3, H, W)` in [0, 1]."""
        if self._writer is not None:
            self._guarded(lambda: self._writer.add_image(visible(tag), picture, step))

    def text(self, tag: str, text: str, step: int) -> None:
        """A text in Markdown."""
        if self._writer is not None:
            # TensorBoard's files hold text alone, and names of files need not be text.
            shown = visible(text, keep="\n\t")
            self._guarded(lambda: self._writer.add_text(visible(tag), shown, step))

    def flush(self) -> None:
        """Make everything visible to a reader now."""
        if self._writer is not None:
            self._guarded(self._writer.flush)

    def close(self) -> None:
        """Write out and end; a disk that is full by now is only said."""
        writer = self._writer
        self._writer = None
        if writer is None:
            return
        try:
            writer.close()
        except OSError as error:
            if not self._is_full:
                log.warning(
                    "cannot write the TensorBoard curves in %s: %s",
                    self._folder,
                    error.strerror or error,
                )
        finally:
            threading.excepthook = self._former_hook

    def _thread_ended(self, args: threading.ExceptHookArgs) -> None:
        """TensorBoard's thread ends with a traceback when the disk is full; the next call here
        raises the same.
        """
        if not isinstance(args.exc_value, OSError):
            self._former_hook(args)

    def _guarded(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except OSError as error:
            self._is_full = True
            raise DiskError(
                f"cannot write the TensorBoard curves in {self._folder}: "
                f"{error.strerror or error}; make room, choose another folder with path.tb_root, "
                "or switch them off with logger.use_tb_logger: false"
            ) from error
