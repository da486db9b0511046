"""traiNNer: super-resolution training that fits itself to the GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from traiNNer.fitting import fit_memory

__version__ = "0.1.0"
__all__ = ["fit_memory"]


def __getattr__(name: str) -> Any:
    """`fit_memory` when it is asked for: it imports torch, which takes seconds."""
    if name == "fit_memory":
        from traiNNer.fitting import fit_memory

        return fit_memory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
