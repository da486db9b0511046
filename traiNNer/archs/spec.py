"""What a named network is: its class, its parameters, the scales and sizes that it takes.

The class is looked up when a network is built or its parameters are asked for, not before:
importing spandrel costs more than a second, which a program that only reads options should not pay.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

from torch import nn

from traiNNer.archs.clips import refuse_clips
from traiNNer.archs.lazy_spandrel import import_module
from traiNNer.archs.parameters import (
    CHANNELS,
    INPUTS,
    as_the_class_wants,
    checkable_type,
    class_parameters,
)
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import ARCHS

# What a constructor raises for values that make no sense to it. They are the user's values, so the
# user is told about them; a bug of the class that looks the same is told with its own words.
_CONSTRUCTOR_ERRORS = (
    AssertionError,
    ValueError,
    TypeError,
    RuntimeError,
    LookupError,
    AttributeError,
    NameError,
    NotImplementedError,
    ArithmeticError,
)
# Of the scales that a network can be built at, the one that most are published at.
_USUAL_SCALE = 4


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
        task: "restoration" makes pictures, "classification" logits `(B, classes)`.
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
    task: Literal["restoration", "classification"] = "restoration"
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
        # spandrel's classes explain theirs in forms of their own, if at all.
        if not self.home:
            return ""
        return inspect.getdoc(self.network_class(self.default_scale)) or ""

    @property
    def default_scale(self) -> int:
        """4 where the network can, else its largest scale below, else its smallest."""
        usual = [scale for scale in self.scales if scale <= _USUAL_SCALE]
        # A restorer has scale 1 only, and Real-CUGAN's fast one only 2.
        return max(usual, default=min(self.scales))

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
        # By the name of the parameter, which the classes for clips share.
        frames = {**self.defaults, **parameters}.get("frames")
        return frames if isinstance(frames, int) else None

    def network_class(self, scale: int) -> Callable[..., nn.Module]:
        """The class for a scale, or the function that builds one. Imports it."""
        return getattr(import_module(self.module), self.class_name.format(scale=scale))

    @cached_property
    def class_parameters(self) -> dict[str, inspect.Parameter]:
        """All parameters of the class by name, those too that the program decides. Imports it."""
        return class_parameters(self.network_class(self.default_scale))

    @cached_property
    def __signature__(self) -> inspect.Signature:
        """`(*, scale: int, ...)`: the parameters a user may set, with the variant's defaults and
        checkable types.
        """
        scale = inspect.Parameter("scale", inspect.Parameter.KEYWORD_ONLY, annotation=int)
        return inspect.Signature([scale, *self._parameters()])

    def _parameters(self) -> list[inspect.Parameter]:
        options: list[inspect.Parameter] = []
        decided = {self.scale_parameter, *self.hidden, *CHANNELS}
        for name, parameter in self.class_parameters.items():
            default = self.defaults.get(name, parameter.default)
            # A function, such as a class of layers, has no form in YAML.
            if name in decided or callable(default):
                continue
            annotation = self.annotations.get(name) or checkable_type(parameter, default)
            kind = inspect.Parameter.KEYWORD_ONLY
            options.append(inspect.Parameter(name, kind, default=default, annotation=annotation))
        return options

    def __call__(self, *, scale: int, **parameters: object) -> nn.Module:
        """Build the network for images `(B, 3, H, W)`, or clips, in 0..1, in training mode, with
        fresh weights.

        Raises:
            OptionsError: for a scale that the network does not offer, an unknown parameter, or
                values that it cannot be built with.
        """
        self._check(scale, parameters)
        network = self.build(scale, parameters)
        # Classes for clips refuse images by themselves, with the number of frames they want.
        return network if self.temporal else refuse_clips(network)

    def build(self, scale: int, parameters: Mapping[str, object], frames: int = 1) -> nn.Module:
        """The network as its class is, for the channels of `frames` frames; see `stack` for those
        that it makes.

        Args:
            scale: one of `scales`.
            parameters: some of `parameter_names`, which are not checked here.
            frames: 1, or more where the network is stackable.

        Raises:
            OptionsError: for values that it cannot be built with.
        """
        arguments = _arguments(self, scale, parameters, frames)
        try:
            if frames > 1 and self.stacked_class:
                # By name, because the module imports spandrel.
                stacked_classes = import_module("traiNNer.archs.stacked_classes")
                return getattr(stacked_classes, self.stacked_class)(frames=frames, **arguments)
            return self.network_class(scale)(**arguments)
        except _CONSTRUCTOR_ERRORS as error:
            values = ", ".join(f"{name}: {value}" for name, value in parameters.items())
            why = str(error) or type(error).__name__
            raise OptionsError(
                f"network '{self.label}' cannot be built at scale {scale} with "
                f"{values or 'its defaults'}: {why}. Leave out what you changed to get back to the "
                "variant that works."
            ) from error

    def _check(self, scale: int, parameters: Mapping[str, object]) -> None:
        if scale not in self.scales:
            raise OptionsError(_unsupported_scale(self, scale))
        for name in parameters:
            if name not in self.parameter_names:
                near = difflib.get_close_matches(name, self.parameter_names, n=2)
                hint = f"it has: {', '.join(self.parameter_names)}"
                if near:
                    hint = f"did you mean {' or '.join(near)}?"
                raise OptionsError(f"network '{self.label}' has no parameter '{name}'; {hint}")


def _arguments(
    spec: ArchSpec, scale: int, parameters: Mapping[str, object], frames: int
) -> dict[str, object]:
    """What the class is called with."""
    accepted = spec.class_parameters
    # The later ones win: what a user sets goes before all.
    values: dict[str, object] = {**spec.defaults, **spec.at_scale.get(scale, {}), **parameters}
    values.update({name: 3 for name in CHANNELS if name in accepted and name not in values})
    for name in CHANNELS if spec.stack == "wide" else INPUTS:
        if name in values:
            values[name] = _for_frames(values[name], frames)
    # `at_scale` may have given the class another scale than that of the network.
    if spec.scale_parameter is not None:
        values.setdefault(spec.scale_parameter, scale)
    return {
        name: as_the_class_wants(value, accepted[name].default) for name, value in values.items()
    }


def _for_frames(channels: Any, frames: int) -> int:
    """The channels of one image, times `frames`."""
    # What is beyond a multiple of three is no image, for example a map of the noise, and is there
    # once.
    beyond = channels % 3
    return (channels - beyond) * frames + beyond


def _unsupported_scale(spec: ArchSpec, scale: int) -> str:
    # Who asks for a scale mostly has images; networks of clips would not help them.
    others = [
        name
        for name, other in ARCHS.items()
        if scale in other.scales and not other.temporal and other.task == spec.task
    ]
    hint = " No network has that scale."
    if others:
        hint = f" Networks with scale {scale}: {', '.join(others)}."
    scales = ", ".join(map(str, spec.scales))
    return f"network '{spec.label}' cannot be built at scale {scale}; it has {scales}.{hint}"
