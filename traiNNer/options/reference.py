"""The schema told to people and editors: `--explain`, docs/options.md, options/schema.json."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from traiNNer.options.components import Component, parameter_fields
from traiNNer.options.fields import (
    inner_sections,
    is_collection,
    limits_text,
    section_at,
    type_text,
    walk,
)
from traiNNer.options.schema import TestOptions, TrainingAutomations, TrainingOptions
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import AUTOMATIONS, UnknownNameError

NAMED = (Component, TrainingAutomations)
INJECTED = TrainingAutomations.injected


def default_text(info: FieldInfo) -> str:
    """A field's default as YAML would have it."""
    if info.is_required():
        return "required"
    if info.default_factory is not None or info.default is PydanticUndefined:
        return "see its keys" if inner_sections(info.annotation) else "empty"
    if info.default is None or isinstance(info.default, bool):
        return {None: "null", True: "true", False: "false"}[info.default]
    return str(list(info.default) if isinstance(info.default, tuple) else info.default)


def explain_key(key: str) -> str:
    """Type, default and meaning of an option, and what a section holds.

    Args:
        key: dotted, for example `train.optim_g` or, for a component's own parameters,
            `train.optim_g.AdamW` or `network_g.span.feature_channels`.

    Raises:
        OptionsError: if there is no such key, naming the nearest ones.
    """
    plain = re.sub(r"\[\d*\]|\.\d+(?=\.|$)|\.<label>", "", key.strip())  # places in lists, labels
    steps = plain.split(".")
    for model in (TrainingOptions, TestOptions):
        section: type[BaseModel] | None = model
        for place, step in enumerate(steps):
            if (
                section is not None
                and issubclass(section, NAMED)
                and step not in section.model_fields
            ):
                return _explain_component(section, steps, place)
            if section is None or (
                step not in section.model_fields and section_at(model, steps[: place + 1]) is None
            ):
                break
            if place == len(steps) - 1:
                return _explain_field(".".join(steps), section, step, section_at(model, steps))
            section = section_at(model, steps[: place + 1])
    known = [name for name, _ in walk(TrainingOptions)]
    near = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
    near += [name for name in known if name.rpartition(".")[2] == steps[-1] and name not in near]
    hint = (
        f"did you mean {' or '.join(near[:4])}?"
        if near
        else f"at the top there are: {', '.join(TrainingOptions.model_fields)}"
    )
    raise OptionsError(f"--explain {key}: there is no such option; {hint}")


def _explain_field(
    key: str, section: type[BaseModel], step: str, inner: type[BaseModel] | None
) -> str:
    info = section.model_fields.get(step)
    lines: list[str] = [key]
    if info is not None:
        limits = limits_text(info)
        lines += [
            f"  type:    {type_text(info.annotation)}{f', {limits}' if limits else ''}",
            f"  default: {default_text(info)}",
            f"  {info.description or ''}",
        ]
    if inner is None:
        return "\n".join(lines)
    many = " each of which" if info is not None and is_collection(info.annotation) else ""
    lines += [
        "",
        f"  {(inner.__doc__ or '').strip()}",
        f"  Its keys{',' if many else ''}{many and ' for'}{many}:",
    ]
    lines += _rows(inner.model_fields)
    if issubclass(inner, Component):
        names = list(inner.registry)
        lines += [
            "",
            f"  Types ({len(names)}): {', '.join(names)}",
            f"  --explain {key}.{names[0]} lists a type's parameters.",
        ]
    return "\n".join(lines)


def _explain_component(
    section: type[Component] | type[TrainingAutomations], steps: list[str], place: int
) -> str:
    try:
        name = section.registry.canonical(steps[place])
    except UnknownNameError as error:
        raise OptionsError(f"--explain {'.'.join(steps)}: {error}") from error
    fields = parameter_fields(section.registry[name], section.injected)
    where = ".".join(steps[:place])
    if place == len(steps) - 1:
        head = f"{where}: {{type: {name}}}" if issubclass(section, Component) else f"{where}.{name}"
        lines = [head, f"  {_summary(section.registry[name])}", "  Its parameters:"]
        return "\n".join(lines + (_rows(fields) or ["    none"]) + _further(section.registry[name]))
    wanted = steps[place + 1]
    if wanted not in fields:
        further = " ".join(_further(section.registry[name])).strip()
        if further:
            raise OptionsError(
                f"--explain: {name} has no parameter '{wanted}' of its own. {further}"
            )
        raise OptionsError(
            f"--explain: {name} has no parameter '{wanted}'; it has: {', '.join(fields) or 'none'}"
        )
    return "\n".join([f"{where}.{wanted} of {name}", *_rows({wanted: fields[wanted]})])


def _further(entry: Any) -> list[str]:
    """What is said of the parameters of the second network that a parameter of the first one
    names.
    """
    chosen_by = getattr(entry, "chosen_by", None)
    if chosen_by is None:
        return []
    return [
        (
            f"  Besides it takes those of the network that `{chosen_by}` names, as in --explain "
            "network_g.span."
        )
    ]


def _rows(fields: Mapping[str, FieldInfo]) -> list[str]:
    width = max((len(name) for name in fields), default=0)
    rows: list[str] = []
    for name, info in fields.items():
        limits = limits_text(info)
        about = f"{type_text(info.annotation)}{f', {limits}' if limits else ''}; default {default_text(info)}"
        rows.append(
            f"    {name:<{width}}  "
            f"{about if not info.is_required() else about.replace('default required', 'required')}"
        )
        if info.description:
            rows.append(f"    {'':<{width}}  {info.description}")
    return rows


def _summary(entry: Any) -> str:
    doc = (
        (entry.__doc__ or "").strip().splitlines()
        if isinstance(entry, type)
        else [getattr(entry, "source", "")]
    )
    return doc[0] if doc else ""


def options_page() -> str:
    """docs/options.md."""
    parts = [
        "# Options",
        "",
        (
            "<!-- made by scripts/options/write_reference.py; edit the texts in "
            "traiNNer/options/schema.py -->"
        ),
        "",
        (
            "Every key of an options file, as `python train.py --explain KEY` tells it too. A file may "
            "begin with"
        ),
        (
            "`extends: base.yml` to share keys with others; `--set a.b.c=value` on the command line "
            "overrides one."
        ),
        "Unknown keys are errors. Names after `type:` are insensitive to case, `_` and `-`.",
        "",
    ]
    for title, model in (("train.py", TrainingOptions), ("test.py", TestOptions)):
        parts += [
            f"## {title}",
            "",
            "| key | type | default | meaning |",
            "| --- | --- | --- | --- |",
        ]
        for key, info in walk(model):
            limits = limits_text(info)
            kind = f"{type_text(info.annotation)}{f', {limits}' if limits else ''}"
            parts.append(
                f"| `{key}` | {kind} | {default_text(info)} | "
                f"{' '.join((info.description or '').split())} |"
            )
        parts.append("")
    parts += ["## Parameters of the types", ""]
    for section in (*_own_components(), TrainingAutomations):
        for name, entry in section.registry.items():
            fields = parameter_fields(entry, section.injected)
            parts += [f"### {section.registry.kind} `{name}`", "", _summary(entry), ""]
            if fields:
                parts += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
                parts += [
                    f"| `{key}` | {type_text(i.annotation)} | {default_text(i)} | "
                    f"{i.description or ''} |"
                    for key, i in fields.items()
                ]
                parts.append("")
    parts += [
        (
            "Networks are listed in [archs.md](archs.md). Optimizers and schedulers are torch's, with "
            "torch's arguments:"
        ),
        "`python train.py --explain train.optim_g.AdamW`.",
        "",
    ]
    return "\n".join(parts)


def _own_components() -> list[type[Component]]:
    """The components whose parameters are ours, and so do not depend on a library's version."""
    from traiNNer.options.schema import DatasetOptions, LossOptions, MetricOptions

    return [DatasetOptions, LossOptions, MetricOptions]


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of an options file, for editors: keys, types, texts, and the names that
    `type` may have.
    """
    schema = model.model_json_schema()
    own = {section.__name__: section for section in _own_components()}
    for name, definition in schema.get("$defs", {}).items():
        section = _component_named(name)
        if section is None:
            continue
        definition["properties"]["type"]["examples"] = list(section.registry)
        if name in own or issubclass(section, tuple(own.values())):
            definition["additionalProperties"] = False
            for entry_name, entry in section.registry.items():
                for key, info in parameter_fields(entry, section.injected).items():
                    about = {"description": f"{info.description or ''} ({entry_name})".strip()}
                    definition["properties"].setdefault(key, about)
    for name, entry in AUTOMATIONS.items():
        if "TrainingAutomations" in schema.get("$defs", {}):
            about = {
                key: {"description": i.description or ""}
                for key, i in parameter_fields(entry, INJECTED).items()
            }
            definition = {"type": "object", "additionalProperties": False, "properties": about}
            schema["$defs"]["TrainingAutomations"]["properties"][name] = definition
    schema["properties"]["extends"] = {
        "description": "Options files below this one, relative to its folder.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    schema["required"] = []  # a preset may leave a key to the file it extends, or to --set
    return schema


def _component_named(name: str) -> type[Component] | None:
    pending = list(Component.__subclasses__())
    while pending:
        section = pending.pop()
        if section.__name__ == name:
            return section
        pending += section.__subclasses__()
    return None
