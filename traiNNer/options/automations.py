"""The section of the automations: one sub-section for each, checked against the class that its name
registers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from traiNNer.options.components import Section, check_parameters, restate
from traiNNer.options.problems import problem
from traiNNer.utils.registry import AUTOMATIONS, Registry


class TrainingAutomations(Section):
    """What changes how a run goes while it goes: one section for each automation."""

    model_config = ConfigDict(extra="allow")

    registry: ClassVar[Registry[Any]] = AUTOMATIONS
    injected: ClassVar[frozenset[str]] = frozenset({"context"})
    """Arguments of automations that the program fills in."""

    enabled: bool = False
    """Switch for all automations."""

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, data: Any, handler: Callable[[Any], Any]) -> Any:
        if not isinstance(data, dict):
            return handler(data)
        errors: list[InitErrorDetails] = []
        sections: dict[str, Any] = {}
        for key, value in data.items():
            if key in cls.model_fields:
                sections[key] = value
            elif key not in AUTOMATIONS:
                allowed = [*cls.model_fields, *AUTOMATIONS]
                errors.append(
                    problem((key,), "unknown key", value, "extra_forbidden", allowed=allowed)
                )
            elif not isinstance(value, dict):
                errors.append(problem((key,), "expected a section (`key: value` lines)", value))
            else:
                name = AUTOMATIONS.canonical(key)
                if name in sections:
                    errors.append(
                        problem((key,), f"another name of {name}, which stands here too", value)
                    )
                try:
                    sections[name] = check_parameters(AUTOMATIONS[name], value, cls.injected)
                except ValidationError as error:
                    errors += [restate(e, at=(key,)) for e in error.errors()]
        try:
            checked = handler(sections)
        except ValidationError as error:
            errors += [restate(e) for e in error.errors()]
            checked = None
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return checked

    @property
    def usual_pace(self) -> Literal["at_once", "measured"]:
        """The pace of growth where the automation of the sizes is not told one: what a stage or a
        draw of sizes leaves it to do is done at once.
        """
        others = {"ProgressiveSizes", "RandomSizes"}
        return "measured" if others.isdisjoint(self.active) else "at_once"

    @property
    def active(self) -> dict[str, dict[str, Any]]:
        """The parameters of the automations that take part, by name."""
        sections: dict[str, dict[str, Any]] = (
            dict(self.__pydantic_extra__ or {}) if self.enabled else {}
        )
        return {
            name: parameters
            for name, parameters in sections.items()
            if parameters.get("enabled", True)
        }
