"""Sections with a `type`: their other keys are the keyword arguments of the registered class of
that name.
"""

from __future__ import annotations

import collections.abc
import inspect
import json
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, create_model, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, to_jsonable_python

from traiNNer.options.problems import OptionProblems
from traiNNer.options.problems import restate as restate
from traiNNer.utils.registry import Registry, UnknownNameError

_COLLECTING = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


class Section(BaseModel):
    """A section of the options: frozen, unknown keys forbidden, the text under each field is its
    documentation.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        hide_input_in_errors=True,
    )


class Component(Section):
    """A section with `type: name`. Fields declared here are the program's; the rest belongs to the
    named class.
    """

    # Checked by `_check` and not by pydantic: what is allowed depends on `type`.
    model_config = ConfigDict(extra="allow")

    registry: ClassVar[Registry[Any]]
    injected: ClassVar[frozenset[str]] = frozenset()
    """Arguments of the class that the program fills in, so that they are no options."""

    type: str

    @property
    def params(self) -> dict[str, Any]:
        """The keyword arguments for the registered class that were given in the options."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def entry(self) -> Any:
        """The registered class or spec, as the given arguments make it."""
        return self.entry_for(self.type, self.params)

    @classmethod
    def entry_for(cls, name: str, parameters: dict[str, Any]) -> Any:
        """What is registered as `name`, and what its arguments are checked against; `parameters`
        are those arguments.

        Raises:
            ValidationError: in sections where arguments tell more of it, if they tell something
                impossible.
        """
        del parameters
        return cls.registry[name]

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, data: Any, handler: Callable[[Any], Any]) -> Any:
        if isinstance(data, cls):
            return data
        if not isinstance(data, dict):
            raise PydanticCustomError("section_type", "expected a section with `type: name`")
        fields = {key: value for key, value in data.items() if key in cls.model_fields}
        extras = {key: value for key, value in data.items() if key not in cls.model_fields}
        problems = OptionProblems()
        section: Any = None
        with problems.collecting():
            section = handler(fields)
        name = data.get("type")
        if isinstance(name, str):
            try:
                name = cls.registry.canonical(name)
            except UnknownNameError as error:
                problems.add_unknown_name(("type",), error)
            else:
                with problems.collecting(own_names=tuple(cls.model_fields)):
                    extras = check_parameters(cls.entry_for(name, extras), extras, cls.injected)
        problems.raise_if_any(cls.__name__)
        values = {key: getattr(section, key) for key in section.model_fields_set} | {"type": name}
        # All of it is checked. To call the class would enter this validator again.
        return cls.model_construct(_fields_set=None, **values, **extras)


def check_parameters(
    entry: Any, values: dict[str, Any], injected: frozenset[str]
) -> dict[str, Any]:
    """The `values` by name, checked and converted as the signature of `entry` wants them.

    Raises:
        ValidationError: for names that the entry does not take (with the names it does take in
            `ctx["allowed"]`), values of the wrong type, and required ones that are missing.
    """
    model = parameter_model(entry, injected)
    problems = OptionProblems()
    allowed = list(model.model_fields)
    for name in values:
        if name not in model.model_fields:
            problems.add((name,), "unknown key", values[name], "extra_forbidden", allowed=allowed)
    arguments = {name: value for name, value in values.items() if name in model.model_fields}
    result: Any = None
    with problems.collecting():
        # By way of JSON, in which strict validation takes a list for a tuple, as YAML has it.
        result = model.model_validate_json(json.dumps(to_jsonable_python(arguments)))
    problems.raise_if_any(str(entry))
    return {name: getattr(result, name) for name in arguments}


@cache
def parameter_model(entry: Any, injected: frozenset[str]) -> type[BaseModel]:
    """A pydantic model with one field for each keyword argument of `entry` that options may set."""
    fields: dict[str, Any] = {}
    hints = _type_hints(entry)
    for parameter in inspect.signature(entry).parameters.values():
        # Whatever goes through *args and **kwargs has no name and no type to be checked against.
        if parameter.name in injected or parameter.kind in _COLLECTING:
            continue
        required = parameter.default is parameter.empty
        annotation = _without_tensors(hints.get(parameter.name, parameter.annotation), parameter)
        # Many signatures have None for a value that is left out, and do not say so.
        if not required and parameter.default is None:
            annotation = annotation | None if annotation is not Any else annotation
        # `...` is how pydantic spells "required".
        fields[parameter.name] = (annotation, ... if required else parameter.default)
    config = ConfigDict(
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        arbitrary_types_allowed=True,
    )
    return create_model(getattr(entry, "__name__", "Parameters"), __config__=config, **fields)


def parameter_docs(entry: Any) -> dict[str, str]:
    """The lines of the `Args:` section of a class's docstring, by argument."""
    docs: dict[str, str] = {}
    text = getattr(entry, "documentation", None)  # of a spec; a class is documented itself
    _, _, block = (text if isinstance(text, str) else inspect.getdoc(entry) or "").partition(
        "Args:\n"
    )
    name = ""
    for line in block.splitlines():
        if not line.strip() or not line.startswith(" "):
            break
        # A line that goes on is indented deeper than the four blanks of an argument.
        if line.startswith("     ") and name:
            docs[name] += " " + line.strip()
            continue
        name, colon, text = line.strip().partition(":")
        name = name.split(" ")[0]
        if not colon:
            break
        docs[name] = text.strip()
    return docs


def parameter_fields(entry: Any, injected: frozenset[str]) -> dict[str, FieldInfo]:
    """Name to type, default and description of every option that `entry` takes."""
    docs = parameter_docs(entry)
    fields = dict(parameter_model(entry, injected).model_fields)
    for name, info in fields.items():
        info.description = info.description or docs.get(name)
    return fields


def _type_hints(entry: Any) -> dict[str, Any]:
    if not inspect.isclass(entry):
        return {}  # an ArchSpec: its signature holds evaluated annotations
    try:
        return typing.get_type_hints(entry.__init__, include_extras=True)
    except (NameError, TypeError):
        return {}


def _without_tensors(annotation: Any, parameter: inspect.Parameter) -> Any:
    """`annotation` with torch.Tensor taken out of unions; a type guessed from the default where
    there is none.
    """
    if annotation is parameter.empty or isinstance(annotation, str):
        return _guess(parameter.default)
    origin = typing.get_origin(annotation)
    args = typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        members = [_without_tensors(a, parameter) for a in args if a is not torch.Tensor]
        return typing.Union[tuple(members)]  # noqa: UP007 (built from a tuple)
    if origin in (collections.abc.Iterable, collections.abc.Sequence):
        return list[_without_tensors(args[0], parameter)]
    if origin is tuple:
        return tuple[tuple(a if a is Ellipsis else _without_tensors(a, parameter) for a in args)]
    return annotation


def _guess(default: Any) -> Any:
    if isinstance(default, bool | int | float | str):
        return type(default)
    if isinstance(default, list | tuple):
        return list[Any]
    return Any
