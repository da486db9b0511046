"""Walks the schema by key: which section is where, what a key is called, its type and its
default.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from traiNNer.options.components import Component


def inner_sections(annotation: Any) -> list[type[BaseModel]]:
    """The section classes inside an annotation: itself, members of unions, items of lists and
    values of dicts.
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [s for part in typing.get_args(annotation) for s in inner_sections(part)]


def is_collection(annotation: Any) -> bool:
    """Whether the sections in `annotation` are items of a list or a dict."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return any(is_collection(part) for part in typing.get_args(annotation))
    return origin in (list, dict)


def section_at(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel] | None:
    """The section class at `path` (list indices and free labels included), None where there is
    none.
    """
    current: type[BaseModel] | None = model
    steps = list(path)
    while steps and current is not None:
        step = str(steps.pop(0))
        info = current.model_fields.get(step)
        if info is None:
            current = _extra_section(current)
            continue
        inner = inner_sections(info.annotation)
        # A list's number and a free label are steps of the path, and no keys of the schema.
        if is_collection(info.annotation) and steps:
            steps.pop(0)
        current = inner[0] if inner else None
    return current


def _extra_section(model: type[BaseModel]) -> type[BaseModel] | None:
    hints = typing.get_type_hints(model, include_extras=False)
    inner = inner_sections(hints.get("__pydantic_extra__"))
    return inner[0] if inner else None


def walk(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of the schema with its field, depth first; list items and labels are written `[]`
    and `<label>`.
    """
    for name, info in model.model_fields.items():
        key = f"{prefix}{name}"
        yield key, info
        insides = {list: f"{key}[].", dict: f"{key}.<label>."}
        for section in inner_sections(info.annotation):
            yield from walk(section, insides.get(typing.get_origin(info.annotation), f"{key}."))
    # A component's further keys depend on its type; they have pages of their own.
    extra = _extra_section(model) if not issubclass(model, Component) else None
    if extra is not None:
        label = f"{prefix}{getattr(model, 'prefixes', ('<label>',))[0]}*"
        yield label, FieldInfo(annotation=extra, default=None, description=extra.__doc__)
        yield from walk(extra, f"{label}.")


def all_keys(model: type[BaseModel]) -> list[str]:
    """Every key of the schema, dotted."""
    return [key for key, _ in walk(model)]


def type_text(annotation: Any) -> str:
    """An annotation in words that a YAML author understands."""
    origin = typing.get_origin(annotation)
    args = typing.get_args(annotation)
    if origin is None:
        return _plain_type_text(annotation)
    if origin is Literal:
        return " or ".join(str(a) for a in args)
    if origin in (typing.Union, types.UnionType):
        # Whole numbers of different bounds are both "whole number".
        return " or ".join(dict.fromkeys(type_text(a) for a in args))
    # YAML has no tuples: what becomes one is written as a list.
    if origin in (list, tuple):
        return f"list of {type_text(args[0])}" if args else "list"
    if origin is dict:
        return f"{type_text(args[1])} by label"
    return type_text(args[0]) if origin is typing.Annotated else _name(annotation)


def _plain_type_text(annotation: Any) -> str:
    """The words for an annotation without parts."""
    words = {
        type(None): "null",
        int: "whole number",
        float: "number",
        bool: "true or false",
        str: "text",
        Any: "any value",
    }
    if annotation in words:
        return words[annotation]
    if isinstance(annotation, type) and issubclass(annotation, Component):
        return "section with a type"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return _name(annotation)


def _name(annotation: Any) -> str:
    return str(getattr(annotation, "__name__", annotation))


def limits_text(info: FieldInfo) -> str:
    """The bounds of a field, for example "at least 1", or nothing."""
    words = {
        "ge": "at least",
        "gt": "more than",
        "le": "at most",
        "lt": "less than",
        "min_length": "at least",
    }
    limits: list[str] = []
    for rule in info.metadata:
        for name, text in words.items():
            bound = getattr(rule, name, None)
            if bound is None:
                continue
            if name != "min_length":
                limits.append(f"{text} {bound}")
            # A text's shortest length says no more than that it is not empty.
            elif is_collection(info.annotation):
                limits.append(f"{text} {bound} item")
    # pydantic keeps a bound twice where an alias of the type and the field both have it.
    return ", ".join(dict.fromkeys(limits))


def described_type(info: FieldInfo) -> str:
    """A field's type and bounds in words, for example "whole number, at least 1"."""
    limits = limits_text(info)
    return f"{type_text(info.annotation)}{f', {limits}' if limits else ''}"
