"""What a network's class takes: its parameters, with types that options can be checked against."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence

from torch import nn

# What the classes call what the framework itself decides: images have three channels.
INPUTS = (
    *("in_nc", "in_ch", "in_chans", "dd_in", "num_in_ch", "in_channels", "inp_channels"),
    *("img_channel", "n_colors"),
)
OUTPUTS = ("out_nc", "out_ch", "out_chans", "num_out_ch", "out_channels")
CHANNELS = INPUTS + OUTPUTS

_SCALARS = (int, float, bool, str, type(None))
_COLLECTIONS = (list, tuple, Sequence, typing.Union, types.UnionType)


def class_parameters(network_class: Callable[..., nn.Module]) -> dict[str, inspect.Parameter]:
    """The parameters by name of a class, or of a function that builds one, with evaluated
    annotations.
    """
    is_class = inspect.isclass(network_class)
    init = _constructor(network_class) if is_class else network_class
    hints = _type_hints(init)
    # The first one of a class is `self`.
    parameters = list(inspect.signature(init).parameters.values())[is_class:]
    return {p.name: p.replace(annotation=hints.get(p.name, p.empty)) for p in parameters}


def checkable_type(parameter: inspect.Parameter, default: object) -> object:
    """The class's own annotation where pydantic can check it, else one from the kind of the
    default.
    """
    if parameter.annotation is not parameter.empty and _checkable(parameter.annotation):
        return parameter.annotation
    # Most classes have no annotations at all, and None says nothing of what else is allowed.
    if default is None or default is parameter.empty:
        return int | float | str | bool | None
    if isinstance(default, (list, tuple)):
        kinds = {type(item) for item in default}
        kind = kinds.pop() if len(kinds) == 1 else int | float
        return list[kind] if isinstance(default, list) else tuple[kind, ...]
    return type(default)


def as_the_class_wants(value: object, default: object) -> object:
    """A copy of a sequence, of the class's kind: YAML makes lists, and a class may concatenate
    tuples.
    """
    if not isinstance(value, (list, tuple)):
        return value
    return tuple(value) if isinstance(default, tuple) else list(value)


def _constructor(network_class: type[nn.Module]) -> Callable[..., object]:
    """The `__init__` that names its parameters: an adapter's may pass on whatever its base
    takes.
    """
    for cls in network_class.__mro__:
        init = cls.__dict__.get("__init__")
        if init is not None and not _passes_on(init):
            return init
    raise AssertionError(f"{network_class.__name__} names no parameters")


def _passes_on(init: Callable[..., object]) -> bool:
    parameters = inspect.signature(init).parameters.values()
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def _type_hints(init: Callable[..., object]) -> dict[str, object]:
    """The evaluated annotations of a constructor; none where they name what only a type checker can
    import.
    """
    try:
        return typing.get_type_hints(init)
    except NameError:
        return {}


def _checkable(annotation: object) -> bool:
    """Whether pydantic can check values against `annotation` without knowing a third party's
    classes.
    """
    if annotation in _SCALARS or annotation is None:
        return True
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return True
    if origin in _COLLECTIONS:
        return all(a is Ellipsis or _checkable(a) for a in typing.get_args(annotation))
    return False
