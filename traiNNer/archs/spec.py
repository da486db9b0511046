"""What a named network is: its class, its parameters, the scales and sizes that it takes.

The class is looked up when a network is built or its parameters are asked for, not before:
importing spandrel costs more than a second, which a program that only reads options should not pay.
"""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from traiNNer.archs.clips import refuse_clips
from traiNNer.archs.lazy_spandrel import import_module
from traiNNer.utils.errors import OptionsError

_SCALARS = (int, float, bool, str, type(None))
# The names that the classes use for what the framework itself decides: images have three channels.
_INPUTS = (
    "in_nc", "in_ch", "in_chans", "dd_in", "num_in_ch", "in_channels", "inp_channels", "img_channel", "n_colors",
)  # fmt: skip
_OUTPUTS = ("out_nc", "out_ch", "out_chans", "num_out_ch", "out_channels")
_CHANNELS = _INPUTS + _OUTPUTS
_CONSTRUCTOR_ERRORS = (
    AssertionError, ValueError, TypeError, RuntimeError, LookupError, AttributeError, NameError, NotImplementedError,
    ArithmeticError,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ArchSpec:
    """A named network: calling it builds one, `inspect.signature` of it lists the parameters.

    Sizes are pixels of a side of the low-quality image. A network whose class pads inside takes any
    size, and `size_multiple` is what it pads to: other sizes work and waste memory.

    Attributes:
        name: the name in `network_g.type`.
        architecture: the architecture's id in spandrel's main registry.
        class_name: the class; `{scale}` in it is replaced by the scale.
        scale_parameter: what the class calls the scale; None where it has no such parameter.
        scales: the scales that can be built.
        defaults: the variant's parameters where they differ from the class's.
        at_scale: parameters that depend on the scale; they go before `defaults`, and what a user
            sets before them.
        hidden: parameters of the class that a user cannot set, because the scale or this variant
            rests on them.
        adapted: the class is the one in `traiNNer.archs.adapters`, not spandrel's own.
        home: the module that holds the class, where it is ours from the ground up.
        annotations: types of parameters that say more than the class's own, for example bounds.
        temporal: takes clips `(B, T, 3, H, W)` in place of images.
        target: what a temporal network makes: "center", `(B, 3, H * scale, W * scale)`, or "all" of
            the frames, `(B, T, 3, H * scale, W * scale)`. None for images.
        stack: how it sees frames as channels of one image, in `temporal_stack`. "narrow": it takes
            3 for each frame and makes 3. "wide": it adds what it takes to what it makes, or knows
            one number for both, so it makes 3 for each frame, and those of the centre frame are
            used. Empty: its class takes images only.
        stacked_class: the class in `traiNNer.archs.stacked_classes` that takes stacked frames,
            where the network's own takes images only.
        size_multiple: what each side should be a multiple of.
        min_size: the smallest side.
        min_batch: the smallest batch that can be trained on (2 where a batch norm sees one value
            per channel).
        unused_parameters: some parameters never get a gradient, which DistributedDataParallel has
            to be told.
        fp16: safe in half precision.
        bf16: safe in bfloat16.
        spandrel_detects: spandrel rebuilds the network from the weights alone, with equal output.
        source: the paper or project, and the year.
        note: what a user should know, one sentence.
        aliases: further names.
    """

    name: str
    architecture: str
    class_name: str
    scale_parameter: str | None
    scales: tuple[int, ...]
    source: str
    defaults: Mapping[str, object] = field(default_factory=dict)
    at_scale: Mapping[int, Mapping[str, object]] = field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    adapted: bool = False
    home: str = ""
    annotations: Mapping[str, object] = field(default_factory=dict)
    temporal: bool = False
    target: Literal["center", "all"] | None = None
    stack: Literal["", "narrow", "wide"] = ""
    stacked_class: str = ""
    size_multiple: int = 1
    min_size: int = 1
    min_batch: int = 1
    unused_parameters: bool = False
    fp16: bool = True
    bf16: bool = True
    spandrel_detects: bool = True
    note: str = ""
    aliases: tuple[str, ...] = ()

    in_channels: ClassVar[int] = 3
    out_channels: ClassVar[int] = 3
    chosen_by: ClassVar[str | None] = None
    """The parameter that names another network, on which facts and further parameters rest."""

    @property
    def module(self) -> str:
        """The module that holds the class."""
        ours = self.home or ("traiNNer.archs.adapters" if self.adapted else "")
        return ours or f"spandrel.architectures.{self.architecture}"

    @property
    def label(self) -> str:
        """The name in messages."""
        return self.name

    @property
    def stackable(self) -> bool:
        """Whether `temporal_stack` can hand it the frames of a clip as the channels of one
        image.
        """
        return bool(self.stack)

    @property
    def documentation(self) -> str:
        """What explains the parameters, in an `Args:` section: the docstring of a class of ours."""
        if self.chosen_by is not None:
            return inspect.getdoc(type(self)) or ""
        return inspect.getdoc(self.network_class(self.default_scale)) or "" if self.home else ""

    @property
    def default_scale(self) -> int:
        """4 where the network can, else its largest scale below, else its smallest."""
        return max((s for s in self.scales if s <= 4), default=min(self.scales))

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """The parameters that `network_g` may set, in the class's order. Imports the class."""
        return tuple(name for name in self.__signature__.parameters if name != "scale")

    def for_parameters(self, parameters: Mapping[str, object]) -> ArchSpec:
        """The spec that counts with those parameters: itself, unless one of them names another
        network.
        """
        del parameters
        return self

    def frames_of(self, parameters: Mapping[str, object]) -> int | None:
        """How many frames a clip needs to have with those parameters; None for any number, and for
        image networks.
        """
        frames = {**self.defaults, **parameters}.get("frames")
        return frames if isinstance(frames, int) else None

    def network_class(self, scale: int) -> type[nn.Module]:
        """The class for a scale. Imports it."""
        return getattr(import_module(self.module), self.class_name.format(scale=scale))

    @cached_property
    def _class_parameters(self) -> dict[str, inspect.Parameter]:
        """The class's parameters with evaluated annotations, by name."""
        init = _constructor(self.network_class(self.default_scale))
        parameters = dict(list(inspect.signature(init).parameters.items())[1:])
        hints = _type_hints(init)
        return {
            name: p.replace(annotation=hints.get(name, p.empty)) for name, p in parameters.items()
        }

    @cached_property
    def __signature__(self) -> inspect.Signature:
        """`(*, scale: int, ...)`: the parameters a user may set, with the variant's defaults and
        checkable types.
        """
        scale = inspect.Parameter("scale", inspect.Parameter.KEYWORD_ONLY, annotation=int)
        return inspect.Signature([scale, *self._parameters()])

    def _parameters(self) -> list[inspect.Parameter]:
        listed: list[inspect.Parameter] = []
        for name, parameter in self._class_parameters.items():
            default = self.defaults.get(name, parameter.default)
            if (
                name == self.scale_parameter
                or name in self.hidden
                or name in _CHANNELS
                or callable(default)
            ):
                continue
            annotation = self.annotations.get(name) or _annotation(parameter, default)
            kind = inspect.Parameter.KEYWORD_ONLY
            listed.append(inspect.Parameter(name, kind, default=default, annotation=annotation))
        return listed

    def __call__(self, *, scale: int, **parameters: object) -> nn.Module:
        """Build the network for images `(B, 3, H, W)`, or clips, in 0..1, in training mode, with
        fresh weights.

        Raises:
            OptionsError: for a scale that the network has not, an unknown parameter, or values it
                cannot be built of.
        """
        self._check(scale, parameters)
        network = self.build(scale, parameters)
        return network if self.temporal else refuse_clips(network)

    def build(self, scale: int, parameters: Mapping[str, object], frames: int = 1) -> nn.Module:
        """The network as its class is, for the channels of `frames` frames; see `stack` for those
        that it makes.

        Args:
            scale: one of `scales`.
            parameters: some of `parameter_names`, which are not checked here.
            frames: 1, or more where the network is stackable.

        Raises:
            OptionsError: for values it cannot be built of.
        """
        known = self._class_parameters
        values: dict[str, object] = {**self.defaults, **self.at_scale.get(scale, {}), **parameters}
        values.update({name: 3 for name in _CHANNELS if name in known and name not in values})
        for name in _CHANNELS if self.stack == "wide" else _INPUTS:
            if name in values:
                values[name] = _for_frames(values[name], frames)
        if self.scale_parameter is not None:
            values.setdefault(self.scale_parameter, scale)
        arguments = {
            name: _as_the_class_wants(value, known[name].default) for name, value in values.items()
        }
        try:
            if frames > 1 and self.stacked_class:
                stacked_classes = import_module("traiNNer.archs.stacked_classes")
                return getattr(stacked_classes, self.stacked_class)(frames=frames, **arguments)
            return self.network_class(scale)(**arguments)
        except _CONSTRUCTOR_ERRORS as error:
            given = (
                ", ".join(f"{name}: {value}" for name, value in parameters.items())
                or "its defaults"
            )
            why = str(error) or type(error).__name__
            raise OptionsError(
                f"network '{self.label}' cannot be built at scale {scale} with {given}: {why}."
                f" Leave out what you changed to get back to the variant that works."
            ) from error

    def count_parameters(self, scale: int, **parameters: object) -> int:
        """How many weights the network has. Allocates none, except for a class that cannot be built
        without.
        """
        try:
            with torch.device("meta"), _NumbersOnCpu():
                network = self(scale=scale, **parameters)
        except (OptionsError, NotImplementedError):
            network = self(scale=scale, **parameters)
        return sum(parameter.numel() for parameter in network.parameters())

    def _check(self, scale: int, parameters: Mapping[str, object]) -> None:
        if scale not in self.scales:
            raise OptionsError(_unsupported_scale(self, scale))
        for name in parameters:
            if name not in self.parameter_names:
                near = difflib.get_close_matches(name, self.parameter_names, n=2)
                hint = (
                    f"did you mean {' or '.join(near)}?"
                    if near
                    else f"it has: {', '.join(self.parameter_names)}"
                )
                raise OptionsError(f"network '{self.label}' has no parameter '{name}'; {hint}")


class _NumbersOnCpu(TorchFunctionMode):
    """Keeps on the CPU what classes compute settings from, such as rising drop rates."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return func(
            *args, **({"device": "cpu"} if func is torch.linspace else {}), **(kwargs or {})
        )


def _for_frames(channels: Any, frames: int) -> int:
    """The channels of one image, times `frames`. What is beyond a multiple of three is no image and
    is there once.
    """
    beyond = channels % 3
    return (channels - beyond) * frames + beyond


def _unsupported_scale(spec: ArchSpec, scale: int) -> str:
    from traiNNer.archs.catalogue import SPECS

    others = [other.name for other in SPECS if scale in other.scales]
    hint = (
        f" Networks with scale {scale}: {', '.join(others)}."
        if others
        else " No network has that scale."
    )
    return f"network '{spec.label}' cannot be built at scale {scale}; it has {', '.join(map(str, spec.scales))}.{hint}"


def _constructor(network_class: type[nn.Module]) -> Callable[..., object]:
    """The `__init__` that names its parameters: an adapter's may pass on whatever its base
    takes.
    """
    for cls in network_class.__mro__:
        init = cls.__dict__.get("__init__")
        if init is None:
            continue
        if all(
            p.kind is not inspect.Parameter.VAR_KEYWORD
            for p in inspect.signature(init).parameters.values()
        ):
            return init
    raise AssertionError(f"{network_class.__name__} names no parameters")


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
    arguments = typing.get_args(annotation)
    if origin is typing.Literal:
        return True
    if origin in (list, tuple, Sequence, typing.Union, types.UnionType):
        return all(a is Ellipsis or _checkable(a) for a in arguments)
    return False


def _annotation(parameter: inspect.Parameter, default: object) -> object:
    """The class's own annotation where it can be checked, else one from the kind of the default."""
    if parameter.annotation is not parameter.empty and _checkable(parameter.annotation):
        return parameter.annotation
    if default is None or default is parameter.empty:
        return int | float | str | bool | None
    if isinstance(default, (list, tuple)):
        kinds = {type(item) for item in default}
        kind = kinds.pop() if len(kinds) == 1 else int | float
        return list[kind] if isinstance(default, list) else tuple[kind, ...]
    return type(default)


def _as_the_class_wants(value: object, default: object) -> object:
    """A copy of a sequence, of the class's kind: YAML makes lists, and a class may concatenate
    tuples.
    """
    if not isinstance(value, (list, tuple)):
        return value
    return tuple(value) if isinstance(default, tuple) else list(value)
