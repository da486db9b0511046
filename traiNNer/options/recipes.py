"""The recipe that the options name, and what its networks make."""

from __future__ import annotations

from typing import Literal

from pydantic import ValidationError

from traiNNer.options.problems import unknown_name
from traiNNer.utils.registry import RECIPES, UnknownNameError, normalize

DEFAULT_RECIPE = "SRModel"
# What networks make: pictures, or what a picture shows.
Task = Literal["restoration", "classification"]


def known_recipe(name: str) -> str:
    """The recipe's canonical name."""
    # The plain recipe is known to be there. To ask the registry would import the models and torch's
    # compiler with them, which reading options should not wait for.
    if normalize(name) == normalize(DEFAULT_RECIPE):
        return DEFAULT_RECIPE
    try:
        return RECIPES.canonical(name)
    except UnknownNameError as error:
        raise ValidationError.from_exception_data("Options", [unknown_name((), error)]) from None


def task_of(name: str) -> Task | None:
    """What the networks of a recipe make; None of a recipe that does not say, or is not known."""
    if normalize(name) == normalize(DEFAULT_RECIPE):
        return "restoration"
    return RECIPES[name].task if name in RECIPES else None
