"""From the parts that decisions rest on to plain values, and back.

A part that is a dataclass needs no list of what to save: every field is state, so none can be
forgotten.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    # building one takes milliseconds, using it microseconds
    return TypeAdapter(kind)


def to_state(kind: Any, value: Any) -> Any:
    """`value` as numbers, strings, lists, dictionaries and None: JSON writes it, and torch.load
    reads it with weights_only. `kind` is its type, for example `list[Shape]` or `Shape | None`.
    """
    return _adapter(kind).dump_python(value, mode="json")


def from_state(kind: Any, state: Any) -> Any:
    """The value of type `kind` that `to_state` was given.

    Raises:
        ValueError: naming the fields that are missing or of another kind.
    """
    return _adapter(kind).validate_python(state)
