"""The section of the curriculum: easy samples first."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from traiNNer.options.components import Section
from traiNNer.options.problems import OptionProblems
from traiNNer.utils.registry import DIFFICULTIES, UnknownNameError


class CurriculumOptions(Section):
    """Easy samples first, all of them later."""

    difficulty: str = "loss"
    """What makes a sample hard: loss (the network's, in that of bicubic), gradient, texture, noise,
    or one of an extension's."""
    start: Annotated[float, Field(gt=0, le=1)] = 0.3
    """The easiest part of the pictures, with which the run begins."""
    until: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The part of the run that is done when all pictures take part."""
    temperature: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How blurred the limit between easy and hard is, in parts of the pictures. 0: sharp."""
    floor: Annotated[int, Field(ge=1)] | None = 4
    """Every picture is seen at least once in so many epochs, however hard. null: when its time has
    come."""

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        problems = OptionProblems()
        try:
            DIFFICULTIES.canonical(self.difficulty)
        except UnknownNameError as error:
            problems.add_unknown_name(("difficulty",), error)
        problems.raise_if_any()
        return self
