"""Log messages: to the terminal in colour, to a pipe as plain lines, and to a file in the run's
folder.
"""

from __future__ import annotations

import logging
import sys
import warnings
from logging.handlers import MemoryHandler
from pathlib import Path, PurePath
from typing import Any

from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table

from traiNNer.utils.names import visible


def plain_console(**settings: Any) -> Console:
    """A console that shows text as it is: names of files may look like rich's markup, as `[b]`, or
    like its names of emoji, as `:b:`.
    """
    return Console(markup=False, emoji=False, highlight=False, **settings)


# The terminal. Tables and progress bars go through it so that log lines do not tear them.
console = plain_console(stderr=True)


class _Formatter(logging.Formatter):
    """Shows what no terminal can, as names of files may hold it, as escapes."""

    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.args, tuple):
            # A message may have several lines, a path not.
            record.args = tuple(
                visible(str(part)) if isinstance(part, PurePath) else part for part in record.args
            )
        return visible(super().format(record), keep="\n\t")


class _FileHandler(logging.FileHandler):
    """A log file that stops, with one plain line, when the disk is full."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002
        logging.getLogger().removeHandler(self)
        error = sys.exc_info()[1]
        sys.stderr.write(f"cannot write the log file {self.baseFilename}: {error}; it ends here\n")


class _ShortFormatter(_Formatter):
    """Time and message; the level of what is more than a message. Lines of a run fit into 120
    columns.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        level = "" if record.levelno == logging.INFO else f" {record.levelname}:"
        return f"{record.asctime}{level} {record.message}"

    def usesTime(self) -> bool:  # noqa: N802
        return True


class _StartOfLog(MemoryHandler):
    """What was said before the run had a folder, kept for its log file."""

    def __init__(self) -> None:
        super().__init__(capacity=10_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False)


def setup_logging() -> None:
    """Send messages from INFO up to the terminal (standard error), and keep them for
    `log_to_file`.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    if console.is_terminal:
        handler: logging.Handler = RichHandler(console=console, show_path=False, markup=False)
        handler.setFormatter(_Formatter("%(message)s", datefmt="%H:%M:%S"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_ShortFormatter(datefmt="%H:%M:%S"))
    root.addHandler(handler)
    root.addHandler(_StartOfLog())
    root.setLevel(logging.WARNING)
    logging.getLogger("traiNNer").setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler.step\(\)`")


def log_to_file(path: Path) -> None:
    """Write messages to `path` as well, appending, those since `setup_logging` included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    for start in [h for h in root.handlers if isinstance(h, _StartOfLog)]:
        root.removeHandler(start)
        start.setTarget(handler)
        start.flush()


def print_table(table: Table) -> None:
    """Print to standard output, as wide as the table needs where nobody watches."""
    output = plain_console()
    if not output.is_terminal:
        output = plain_console(width=200)
    output.print(table)
