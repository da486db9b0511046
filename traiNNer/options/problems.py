"""How validators say what is wrong, at which key."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError


def problem(
    loc: tuple[str | int, ...], message: str, given: Any, kind: str = "value", **context: Any
) -> InitErrorDetails:
    """What pydantic collects: a sentence, where it belongs, and what was given there."""
    cause = PydanticCustomError(kind, "{message}", {"message": message} | context)  # pyright: ignore[reportArgumentType]
    return InitErrorDetails(type=cause, loc=loc, input=given)


def raise_at(
    locs: list[tuple[str | int, ...]],
    message: str,
    given: Any = None,
    kind: str = "value",
    **context: Any,
) -> None:
    """Raise one sentence at every place of `locs`.

    Raises:
        ValidationError: always.
    """
    errors = [problem(loc, message, given, kind, **context) for loc in locs]
    raise ValidationError.from_exception_data("Options", errors)
