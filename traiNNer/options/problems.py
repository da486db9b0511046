"""How validators say what is wrong, at which key: all of it is collected and raised at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString, cast

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from traiNNer.utils.registry import UnknownNameError

Place = tuple[str | int, ...]


def problem(
    loc: Place, message: str, value: Any, kind: str = "value", **context: Any
) -> InitErrorDetails:
    """What pydantic collects: a sentence, where it belongs, and the value there."""
    # The sentence is an argument of a template, because one that has braces would be read as one.
    # The kind is one of a few of our own, which the checker would want as a literal.
    details = {"message": message} | context
    cause = PydanticCustomError(cast("LiteralString", kind), "{message}", details)
    return InitErrorDetails(type=cause, loc=loc, input=value)


def unknown_name(loc: Place, error: UnknownNameError) -> InitErrorDetails:
    """A name that a registry does not have, with those that it has and the nearest of them."""
    return problem(
        loc,
        f"unknown {error.kind}",
        error.name,
        "unknown_type",
        allowed=error.names,
        suggestions=error.suggestions,
    )


def restate(error: Any, own_names: tuple[str, ...] = (), at: Place = ()) -> InitErrorDetails:
    """Re-state one of pydantic's errors, below the key `at`, so that it can be raised again inside
    a validator.

    Args:
        error: one of `ValidationError.errors()`.
        own_names: what an unknown key could have been beside the names that the error lists.
        at: the key that the error's own place is below.
    """
    context = {"message": error["msg"]} | dict(error.get("ctx") or {})
    if own_names and "allowed" in context and error["type"] == "extra_forbidden":
        context["allowed"] = [*own_names, *context["allowed"]]
    cause = PydanticCustomError(error["type"], "{message}", context)
    return InitErrorDetails(type=cause, loc=(*at, *error["loc"]), input=error["input"])


class OptionProblems:
    """Collects what is wrong with a section, for one `ValidationError` at the end.

    A validator that raised at the first problem would hide the others until the user has mended
    that one.
    """

    def __init__(self) -> None:
        self._errors: list[InitErrorDetails] = []

    def add(
        self, loc: Place, message: str, value: Any, kind: str = "value", **context: Any
    ) -> None:
        """Note one more; see `problem`."""
        self._errors.append(problem(loc, message, value, kind, **context))

    def add_unknown_name(self, loc: Place, error: UnknownNameError) -> None:
        """Note a name that a registry does not have; the message will say the nearest ones."""
        self._errors.append(unknown_name(loc, error))

    @contextmanager
    def collecting(self, *, own_names: tuple[str, ...] = (), at: Place = ()) -> Iterator[None]:
        """What a validation inside the block raises is noted, and the block left; see `restate`."""
        try:
            yield
        except ValidationError as error:
            self._errors += [restate(e, own_names, at) for e in error.errors()]

    def raise_if_any(self, title: str = "Options") -> None:
        """Raise what was collected, if anything was.

        Raises:
            ValidationError: with all of it.
        """
        if self._errors:
            raise ValidationError.from_exception_data(title, self._errors)


def raise_at(
    locs: list[Place], message: str, value: Any = None, kind: str = "value", **context: Any
) -> None:
    """Raise one sentence at every place of `locs`.

    Raises:
        ValidationError: always.
    """
    problems = OptionProblems()
    for loc in locs:
        problems.add(loc, message, value, kind, **context)
    problems.raise_if_any()
