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
from traiNNer.options.dataset_sections import DatasetOptions
from traiNNer.options.degradations import DegradationOptions
from traiNNer.options.entries import LossOptions, MetricOptions
from traiNNer.options.fields import (
    described_type,
    inner_sections,
    is_collection,
    section_at,
    type_text,
    walk,
)
from traiNNer.options.schema import TestOptions, TrainingAutomations, TrainingOptions
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import AUTOMATIONS, RECIPES, UnknownNameError

NAMED = (Component, TrainingAutomations)
INJECTED = TrainingAutomations.injected
# The components whose parameters are ours, and so do not depend on a library's version.
OUR_COMPONENTS: tuple[type[Component], ...] = (DatasetOptions, LossOptions, MetricOptions)
# More names than that are no help; less alike than that, they are other keys.
_MOST_SUGGESTIONS = 4
_LEAST_SIMILARITY = 0.5


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
    # Places in lists and labels are no keys of the schema: losses[0], losses.0, metrics.<label>.
    plain = re.sub(r"\[\d*\]|\.\d+(?=\.|$)|\.<label>", "", key.strip())
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
    keys = [name for name, _ in walk(TrainingOptions)]
    near = difflib.get_close_matches(key, keys, n=3, cutoff=_LEAST_SIMILARITY)
    # Who knows the key but not its section is helped by where it belongs.
    near += [name for name in keys if name.rpartition(".")[2] == steps[-1] and name not in near]
    hint = f"at the top there are: {', '.join(TrainingOptions.model_fields)}"
    if near:
        hint = f"did you mean {' or '.join(near[:_MOST_SUGGESTIONS])}?"
    raise OptionsError(f"--explain {key}: there is no such option; {hint}")


def _explain_field(
    key: str, section: type[BaseModel], step: str, inner: type[BaseModel] | None
) -> str:
    info = section.model_fields.get(step)
    lines: list[str] = [key]
    if info is not None:
        lines += [
            f"  type:    {described_type(info)}",
            f"  default: {default_text(info)}",
            f"  {info.description or ''}",
        ]
    if inner is None:
        return "\n".join(lines)
    many = info is not None and is_collection(info.annotation)
    lines += [
        "",
        f"  {(inner.__doc__ or '').strip()}",
        "  Its keys, for each of which:" if many else "  Its keys:",
    ]
    lines += _rows(inner.model_fields)
    if issubclass(inner, Component):
        names = list(inner.registry)
        lines += [
            "",
            f"  Types ({len(names)}): {', '.join(names) or 'those of extensions'}",
        ]
        if names:
            lines.append(f"  --explain {key}.{names[0]} lists a type's parameters.")
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
    parameter = steps[place + 1]
    if parameter not in fields:
        refusal = f"--explain: {name} has no parameter '{parameter}'"
        further = " ".join(_further(section.registry[name])).strip()
        if further:
            raise OptionsError(f"{refusal} of its own. {further}")
        raise OptionsError(f"{refusal}; it has: {', '.join(fields) or 'none'}")
    return "\n".join([f"{where}.{parameter} of {name}", *_rows({parameter: fields[parameter]})])


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
        default = "required" if info.is_required() else f"default {default_text(info)}"
        rows.append(f"    {name:<{width}}  {described_type(info)}; {default}")
        if info.description:
            rows.append(f"    {'':<{width}}  {info.description}")
    return rows


def _summary(entry: Any) -> str:
    # A spec is an instance, whose docstring would be that of all networks.
    if not isinstance(entry, type):
        return getattr(entry, "source", "")
    lines = (entry.__doc__ or "").strip().splitlines()
    return lines[0] if lines else ""


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
            "Every key of an options file, as `python train.py --explain KEY` tells it too. A file "
            "may begin with"
        ),
        (
            "`extends: base.yml` to share keys with others; `--set a.b.c=value` on the command "
            "line overrides one."
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
            meaning = " ".join((info.description or "").split())
            parts.append(f"| `{key}` | {described_type(info)} | {default_text(info)} | {meaning} |")
        parts.append("")
    parts += ["## Parameters of the types", ""]
    for section in (*OUR_COMPONENTS, DegradationOptions, TrainingAutomations):
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
            "Networks are listed in [archs.md](archs.md). Optimizers are those of torch and of "
            "pytorch-optimizer, schedulers torch's, with their own arguments:"
        ),
        "`python train.py --explain train.optim_g.AdamW`.",
        "",
    ]
    return "\n".join(parts)


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of an options file, for editors: keys, types, texts, and the names that
    `type` may have.
    """
    schema = model.model_json_schema()
    for name, definition in schema.get("$defs", {}).items():
        section = _component_named(name)
        if section is None:
            continue
        # Examples and not an enumeration, because any spelling is accepted.
        definition["properties"]["type"]["examples"] = list(section.registry)
        # Arguments of torch and spandrel change with their versions, and the file would too.
        if issubclass(section, OUR_COMPONENTS):
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
    if "model_type" in schema["properties"]:
        schema["properties"]["model_type"]["examples"] = list(RECIPES)
    schema["properties"]["extends"] = {
        "description": "Options files below this one, relative to its folder.",
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    # A preset may leave a key to the file it extends, or to --set.
    schema["required"] = []
    return schema


def _component_named(name: str) -> type[Component] | None:
    pending = list(Component.__subclasses__())
    while pending:
        section = pending.pop()
        if section.__name__ == name:
            return section
        pending += section.__subclasses__()
    return None
