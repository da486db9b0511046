"""Recipes of degradations: steps, and groups of steps, as `degradations` in a dataset's section has
them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from traiNNer.options.components import Component, Section
from traiNNer.options.degradation_recipes import NAMED_RECIPES
from traiNNer.options.problems import OptionProblems, raise_at
from traiNNer.utils.registry import DEGRADATIONS

Probability = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(gt=0)]
# A step that is repeated more often is a typing error, and would take minutes.
Repeats = Annotated[int, Field(ge=1, le=100)]
Scales = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
GROUPS = ("one_of", "sequence", "shuffle")


class DegradationOptions(Component):
    """One step: `type` names what is done, the other keys are its own."""

    registry = DEGRADATIONS

    type: str
    """What is done, for example jpeg."""
    prob: Probability = 1.0
    """Share of the samples to which it is done."""
    weight: Weight = 1.0
    """How often a group one_of takes it, beside the weights of the others."""
    scales: Scales | None = None
    """Scales at which it is part of the recipe; null is all."""


def _checked(value: Any) -> Any:
    parse_recipe(value)
    return value


Steps = Annotated[list[Any] | str, PlainValidator(_checked)]
"""A recipe as it is written: checked, and left as it is."""


class GroupOptions(Section):
    """Several steps: one of them, all in order, or all in a drawn order."""

    one_of: Steps | None = None
    """Steps of which one is done, drawn by weight."""
    sequence: Steps | None = None
    """Steps that are done in this order."""
    shuffle: Steps | None = None
    """Steps that are done in an order that is drawn anew for each sample."""
    repeat: Repeats | Annotated[list[Repeats], Field(min_length=2, max_length=2)] = 1
    """How many times the group is gone through, each time drawn anew; or the least and the most."""
    prob: Probability = 1.0
    """Share of the samples to which it is done."""
    weight: Weight = 1.0
    """How often a group one_of takes it, beside the weights of the others."""
    scales: Scales | None = None
    """Scales at which it is part of the recipe; null is all."""

    @property
    def kind(self) -> Literal["one_of", "sequence", "shuffle"]:
        """The one of the three keys that it has."""
        if self.one_of is not None:
            return "one_of"
        return "sequence" if self.sequence is not None else "shuffle"

    @property
    def parts(self) -> list[Node]:
        """The steps of the group."""
        return parse_recipe(getattr(self, self.kind))

    @model_validator(mode="after")
    def _of_one_kind(self) -> GroupOptions:
        given = [key for key in GROUPS if getattr(self, key) is not None]
        if len(given) != 1:
            raise PydanticCustomError(
                "group", "a group has exactly one of one_of, sequence and shuffle"
            )
        if isinstance(self.repeat, list) and self.repeat[0] > self.repeat[1]:
            raise PydanticCustomError(
                "group", "repeat is the wrong way round; the smaller number comes first"
            )
        return self


Node: TypeAlias = DegradationOptions | GroupOptions


def parse_recipe(value: Any) -> list[Node]:
    """The steps of a recipe.

    Args:
        value: a list of steps, each a mapping with `type`, `recipe`, or one of `one_of`, `sequence`
            and `shuffle`; or the name of a recipe.

    Raises:
        ValidationError: naming everything that is wrong, and where it stands.
    """
    if isinstance(value, str):
        value = _named(value, ())
    if not isinstance(value, list | tuple) or not value:
        raise_at(
            [()],
            "expected a list of steps, each with `type: name`, or the name of a recipe: "
            f"{', '.join(NAMED_RECIPES)}",
            value,
        )
    problems = OptionProblems()
    nodes: list[Node] = []
    for place, item in enumerate(value):
        with problems.collecting(at=(place,)):
            nodes.append(_parse_node(item))
    problems.raise_if_any("Recipe")
    return nodes


def _parse_node(item: Any) -> Node:
    if isinstance(item, str):
        return GroupOptions(sequence=_named(item, ()))
    if isinstance(item, dict) and "recipe" in item:
        others = {key: value for key, value in item.items() if key != "recipe"}
        if others.keys() & {*GROUPS, "type"}:
            raise_at([()], "`recipe: name` has no steps of its own beside the recipe's", item)
        return GroupOptions(sequence=_named(item["recipe"], ("recipe",)), **others)
    if isinstance(item, dict) and item.keys() & set(GROUPS):
        return GroupOptions.model_validate(item)
    if isinstance(item, dict) and "type" in item:
        return DegradationOptions.model_validate(item)
    raise_at(
        [()],
        "expected a step: `type: name`, `recipe: name`, or a group with one_of, sequence or "
        "shuffle",
        item,
    )
    raise AssertionError("the line above raises")


def _named(name: Any, loc: tuple[str, ...]) -> list[dict[str, Any]]:
    spelling = str(name).lower().replace("-", "_")
    if spelling not in NAMED_RECIPES:
        raise_at([loc], f"there is no such recipe; there are: {', '.join(NAMED_RECIPES)}", name)
    return NAMED_RECIPES[spelling]
