"""From a YAML file and `--set` assignments to checked options, or to one list of everything that is
wrong.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from traiNNer.options.extensions import load_extensions
from traiNNer.options.fields import all_keys, section_at
from traiNNer.options.foreign import explain_foreign_key
from traiNNer.options.foreign_names import explain_foreign_name
from traiNNer.options.schema import TestOptions, TrainingOptions
from traiNNer.options.yaml_parser import KeyPath, Position
from traiNNer.options.yaml_reader import (
    RawOptions,
    apply_override,
    read_yaml,
    refuse_broken_text,
)
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import normalize
from traiNNer.utils.text import plural

# What pydantic says of a field without a value.
_MISSING = "Field required"
# A message's line holds that much of a value, which may be a whole section.
_LONGEST_VALUE = 60
# Two screens; whoever has more of them has another kind of file.
_MOST_PROBLEMS = 60
# Higher than difflib's 0.6: keys of a section are often alike (val_freq and print_freq), and to
# suggest a wrong one is worse than to suggest none.
_LEAST_SIMILARITY = 0.75
# A file with so many keys of other trainers was written for one of them.
_MOST_FOREIGN_KEYS = 3
# Keys that say nothing about where they belong.
_EVERYWHERE = ("type", "name", "label", "enabled")
# Keys of three letters begin too many others.
_SHORTEST_BEGINNING = 4

AnyOptions = TypeVar("AnyOptions", TrainingOptions, TestOptions)


def load_options(
    model: type[AnyOptions], path: Path, overrides: Sequence[str] = (), *, name: str | None = None
) -> AnyOptions:
    """Read, merge, override and check the options in `path`. The extensions that they name are
    imported before they are checked.

    Args:
        model: TrainingOptions or TestOptions.
        path: the YAML file.
        overrides: `a.b.c=value` assignments, applied in order.
        name: replaces the option `name`.

    Raises:
        OptionsError: listing every problem with file, line, key, value, what is allowed and the
            nearest name.
    """
    if name is not None:
        refuse_broken_text("--name", name)
    raw = read_yaml(path)
    for assignment in overrides:
        apply_override(raw, assignment)
    if name is not None:
        raw.values["name"] = name
        raw.positions["name",] = Position("--name", 0)
    load_extensions(raw)
    return check_options(model, raw, path)


def check_options(model: type[AnyOptions], raw: RawOptions, path: Path) -> AnyOptions:
    """Check raw values against the schema; see `load_options`."""
    # JSON, in which strict validation takes a list for a tuple and a whole number for a float.
    text = json.dumps(raw.values, default=str)
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        by_key = errors_by_key(model, raw, error)
    problems = _problems(model, raw, by_key, path)
    # Each is worth a line, but not a thousand of them, as of a file that is something else.
    shown = problems[:_MOST_PROBLEMS]
    if len(problems) > len(shown):
        shown.append(f"... and {len(problems) - len(shown)} more")
    if sum(_is_foreign(key, details) for key, details in by_key.items()) > _MOST_FOREIGN_KEYS:
        shown.append(
            "it seems to be another trainer's file; this makes one of ours of it: python "
            f"scripts/options/from_neighbours.py {path} mine.yml"
        )
    lines = "\n".join(f"  {text}" for text in shown)
    raise OptionsError(f"{path}: {plural(len(by_key), 'problem')} in the options\n{lines}")


def options_text(options: BaseModel) -> str:
    """The resolved options as YAML, defaults included."""
    return yaml.safe_dump(
        options.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )


def options_hash(options: BaseModel) -> str:
    """A short hash of the resolved options, the same for the same options."""
    text = json.dumps(options.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def changed_options(before: dict[str, Any], after: BaseModel) -> dict[str, tuple[Any, Any]]:
    """What differs between dumped options and present ones: dotted key to (before, after)."""
    old = dict(_leaves(before))
    new = dict(_leaves(after.model_dump(mode="json")))
    return {key: (old.get(key), new.get(key)) for key in old | new if old.get(key) != new.get(key)}


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        children = list(node.items())
    elif isinstance(node, list):
        children = list(enumerate(node))
    else:
        yield path, node
        return
    for key, child in children:
        yield from _leaves(child, f"{path}.{key}" if path else str(key))


def _problems(
    model: type[BaseModel],
    raw: RawOptions,
    by_key: dict[KeyPath, list[dict[str, Any]]],
    path: Path,
) -> list[str]:
    """One line for each place that is wrong, in the order of the file; and one for all of its keys
    that are other trainers' and of which the same is to be said.
    """
    lines: list[tuple[str, int, str]] = []
    foreign: dict[tuple[str, str], list[KeyPath]] = {}
    for key, details in by_key.items():
        position = raw.position(key)
        if _is_foreign(key, details):
            alike = (position.file, str(explain_foreign_key(key)))
            foreign.setdefault(alike, []).append(key)
        else:
            said = _describe(model, raw, key, details)
            lines.append((position.file, position.line, said))
    for (file, sentence), keys in foreign.items():
        first, *others = sorted(keys, key=lambda key: raw.position(key).line)
        names = [".".join(map(str, first))]
        for key in others:
            line = raw.position(key).line
            names.append(".".join(map(str, key)) + (f" (line {line})" if line else ""))
        said = f"unknown key{'s' if others else ''} {', '.join(names)}: {sentence}"
        lines.append((file, raw.position(first).line, said))
    places = [
        (str(path) if file == "options" else str(Position(file, line)), said)
        for file, line, said in sorted(lines)
    ]
    return [f"{place}: {said}" for place, said in places]


def _is_foreign(key: KeyPath, details: list[dict[str, Any]]) -> bool:
    """Whether it is unknown here, and known to be a key of other trainers."""
    return details[0]["type"] == "extra_forbidden" and explain_foreign_key(key) is not None


def errors_by_key(
    model: type[BaseModel], raw: RawOptions, error: ValidationError
) -> dict[KeyPath, list[dict[str, Any]]]:
    """What is wrong, as pydantic tells it, by the key of the file that it belongs to."""
    by_key: dict[KeyPath, list[dict[str, Any]]] = {}
    for detail in error.errors():
        by_key.setdefault(_real_path(model, raw, detail["loc"]), []).append(dict(detail))
    return by_key


def _describe(
    model: type[BaseModel], raw: RawOptions, loc: KeyPath, errors: list[dict[str, Any]]
) -> str:
    """What is wrong at `loc`: key, value, what is allowed, nearest name."""
    value = raw_value(raw, loc)
    shown = _shown(errors[0].get("input") if value is None else value)
    key = ".".join(map(str, loc)) or "(top level)"
    # Where members of a union refuse a value, each has an error of its own; the first one's kind
    # decides whether they are put together below.
    kind = errors[0]["type"]
    context = errors[0].get("ctx") or {}
    if kind == "missing":
        section = section_at(model, loc[:-1])
        info = section.model_fields.get(str(loc[-1])) if section else None
        about = (info and info.description) or "required"
        # pydantic's own words say less than the field's documentation; a validator's say more.
        if context.get("message", _MISSING) != _MISSING:
            about = context["message"]
        return f"{key} is missing: {about}"
    if kind == "extra_forbidden":
        return f"unknown key {key}{_suggest_key(model, loc, context.get('allowed'))}"
    if kind == "unknown_type":
        return f"{key} = {shown}: {context['message']}{_suggest_name(value, context)}"
    expectations = list(dict.fromkeys(_expectation(e) for e in errors))
    return f"{key} = {shown}: {' or '.join(expectations).replace(' or expected ', ' or ')}"


def _real_path(model: type[BaseModel], raw: RawOptions, loc: tuple[str | int, ...]) -> KeyPath:
    """pydantic's location without the names of union members and validators that it puts in
    between.
    """
    path: list[str | int] = []
    node: Any = raw.values
    for place, step in enumerate(loc):
        # The last step is a key even if it looks like a tag: pydantic puts no tag at the end.
        is_key = place == len(loc) - 1 or not _is_union_tag(step)
        missing = section_at(model, path) is not None and is_key
        if isinstance(node, dict) and (step in node or missing):
            path.append(step)
            node = node.get(step)
        elif isinstance(node, list) and isinstance(step, int):
            path.append(step)
            node = node[step] if step < len(node) else None
        elif node is None and section_at(model, path) is not None:
            # Below a section that was left out.
            path.append(step)
    return tuple(path)


def _is_union_tag(step: str | int) -> bool:
    # For example "literal['auto']" or "function-before[f(), int]". A plain "int" could be a key.
    return isinstance(step, str) and any(mark in step for mark in "[('")


def raw_value(raw: RawOptions, path: KeyPath) -> Any:
    """The value at `path` as the user gave it, None where there is none."""
    node: Any = raw.values
    for step in path:
        try:
            node = node[step]
        except (KeyError, IndexError, TypeError):
            return None
    return node


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


EXPECTATIONS = {
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
    "string_type": "expected text",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
    "dict_type": "expected `key: value` lines",
    "model_type": "expected a section (`key: value` lines)",
    "model_attributes_type": "expected a section (`key: value` lines)",
    "section_type": "expected a section with `type: name`",
    "string_too_short": "expected some text",
    "finite_number": "expected a finite number",
}


def _expectation(error: dict[str, Any]) -> str:
    """What is allowed, in our words."""
    kind = error["type"]
    context = error.get("ctx") or {}
    if kind in EXPECTATIONS:
        return EXPECTATIONS[kind]
    if kind == "literal_error":
        return f"expected {context['expected']}"
    signs = {
        "greater_than_equal": ("ge", "at least"),
        "greater_than": ("gt", "more than"),
        "less_than_equal": ("le", "at most"),
        "less_than": ("lt", "less than"),
    }
    if kind in signs:
        name, words = signs[kind]
        return f"expected {words} {context[name]}"
    if kind == "too_short":
        return f"expected at least {context.get('min_length', 1)} item(s)"
    if kind == "string_pattern_mismatch":
        return "expected letters, digits, and _ . + - or blanks (it names folders)"
    return str(context.get("message") or error["msg"])


def _suggest_key(model: type[BaseModel], loc: KeyPath, allowed: Any) -> str:
    """What the key is called here, if other trainers have it; else the same key in another section
    (wrong indentation), or the nearest keys of this one.
    """
    foreign = explain_foreign_key(loc)
    if foreign is not None:
        return f": {foreign}"
    section = section_at(model, loc[:-1])
    names = list(allowed or (section.model_fields if section else ()))
    key = str(loc[-1])
    elsewhere = [k for k in all_keys(model) if normalize(k.rpartition(".")[2]) == normalize(key)]
    if elsewhere and key not in _EVERYWHERE:
        return f"; that key belongs at {' or '.join(elsewhere[:2])} (check the indentation)"
    near = difflib.get_close_matches(key, names, n=2, cutoff=_LEAST_SIMILARITY)
    if not near and len(key) >= _SHORTEST_BEGINNING:
        near = [name for name in names if name.startswith(key)][:2]
    if near:
        return f"; did you mean {' or '.join(near)}?"
    of_training = section_at(TrainingOptions, loc[:-1])
    if of_training is not None and key in of_training.model_fields:
        return "; it is for train.py, and test.py has no use for it"
    return f"; allowed here: {', '.join(names)}" if names else ""


def _suggest_name(name: Any, context: dict[str, Any]) -> str:
    kind = str(context["message"]).removeprefix("unknown ")
    foreign = explain_foreign_name(kind, str(name))
    if foreign is not None:
        return f": {foreign}"
    if context["suggestions"]:
        return f"; did you mean {' or '.join(context['suggestions'])}?"
    return f"; there are: {', '.join(context['allowed'])}"
