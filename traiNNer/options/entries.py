"""What the options name by its type, each with its own arguments: networks, losses, optimizers and
the like; and the kinds of values that sections share.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from traiNNer.options.components import Component
from traiNNer.options.problems import problem, unknown_name
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.files import at_home
from traiNNer.utils.registry import (
    ARCHS,
    DISCRIMINATORS,
    LOSSES,
    METRICS,
    OPTIMIZERS,
    ORDERS,
    PARTS,
    SCHEDULERS,
    SOURCES,
    UnknownNameError,
)

if TYPE_CHECKING:
    from traiNNer.utils.registry import NetworkSpec


def _integral(value: Any) -> Any:
    """`!!float 5e5`, as the field's older files have it, is a whole number too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Integral = BeforeValidator(_integral)
Count = Annotated[int, Integral, Field(ge=0)]
Positive = Annotated[int, Integral, Field(ge=1)]
UserPath = Annotated[str, Field(min_length=1), AfterValidator(at_home)]
Amount = Annotated[float, AfterValidator(_integral), Field(gt=0)]
# Pixels of GT that the blur of gt_usm needs (ops/sharpen.py).
SHARPENED_SIDE = 26


class NetworkOptions(Component):
    """A network of the catalogue (docs/archs.md) and its parameters."""

    registry = ARCHS
    injected = frozenset({"scale"})

    type: str
    """Name of the network, for example span, compact, realplksr."""

    @property
    def entry(self) -> NetworkSpec:
        """The network's spec, with the facts of the network that the parameters make."""
        return self.entry_for(self.type, self.params)

    @classmethod
    def entry_for(cls, name: str, parameters: dict[str, Any]) -> NetworkSpec:
        """The network's spec. Where a parameter names a second network, it is the spec with that
        one's facts.
        """
        spec = ARCHS[name]
        # What a spec refuses, it refuses because of the parameter that names another network.
        key = spec.chosen_by or "type"
        try:
            return spec.for_parameters(parameters)
        except UnknownNameError as error:
            wrong = unknown_name((key,), error)
        except OptionsError as error:
            kind = "value" if key in parameters else "missing"
            wrong = problem((key,), str(error), parameters.get(key), kind)
        raise ValidationError.from_exception_data(cls.__name__, [wrong])


class DiscriminatorOptions(Component):
    """A discriminator and its parameters."""

    registry = DISCRIMINATORS

    type: str
    """Name of the discriminator, for example unet_sn or patchgan."""

    @property
    def min_side(self) -> int:
        """Pixels of GT that each side of a patch must have at least."""
        least_side = getattr(self.entry, "least_side", None)
        if least_side is not None:
            return int(least_side(**self.params))
        return int(getattr(self.entry, "min_side", 1))


class LossOptions(Component):
    """A loss and its weight in the sum."""

    registry = LOSSES

    type: str
    """Name of the loss, for example l1, charbonnier, ms_ssim."""
    loss_weight: float = Field(default=1.0, ge=0)
    """Factor in the sum of the losses. 0 switches the loss off: it is not built."""
    label: str | None = None
    """Name in the log and in TensorBoard. Left out: the type, numbered where a type
    appears twice."""
    gt_usm: bool = False
    """Compare with GT whose edges are made sharper (unsharp masking), as Real-ESRGAN does, where it
    is called l1_gt_usm and percep_gt_usm. Patches have 26 px of GT at least then."""

    @property
    def is_adversarial(self) -> bool:
        """Whether it judges what a discriminator says."""
        return bool(getattr(self.entry, "adversarial", False))

    @cached_property
    def min_side(self) -> int:
        """Pixels of GT that each side of a patch must have at least; 1 of a loss that says nothing
        of it.

        Raises:
            OptionsError: if the loss refuses its arguments.
        """
        blurs = SHARPENED_SIDE if self.gt_usm else 1
        # One that holds a network says it without building that.
        least_side = getattr(self.entry, "least_side", None)
        if least_side is not None:
            return max(blurs, int(least_side(**self.params)))
        # Asked of the loss and not of its class: its arguments may decide.
        return max(blurs, int(getattr(self.entry(**self.params), "min_side", 1)))


class OptimizerOptions(Component):
    """An optimizer of torch.optim or of pytorch-optimizer, and its arguments."""

    registry = OPTIMIZERS
    # Captured graphs and gradients of gradients are nothing that the recipes do.
    injected = frozenset({"params", "capturable", "differentiable"})

    type: str
    """Name of the optimizer, for example AdamW."""
    lr_mul: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default_factory=dict
    )
    """Learning rates of parts of the network, as factors by a part of the names of their weights;
    the first that is in a name counts. 0 leaves weights as they are."""


class SchedulerOptions(Component):
    """One of torch.optim.lr_scheduler's schedulers. Its lengths (T_max, milestones, step_size and
    the like) are in the measure of the run's length, in iterations mostly; those left out become
    the run's.
    """

    registry = SCHEDULERS
    # A resumed scheduler has its state from the checkpoint.
    injected = frozenset({"optimizer", "last_epoch"})

    type: str
    """Name of the scheduler, for example MultiStepLR."""


class MetricOptions(Component):
    """A metric of the validation."""

    registry = METRICS
    injected = frozenset({"scale"})

    type: str
    """Name of the metric, for example psnr or ssim."""


class OrderOptions(Component):
    """In which order the elements of the training set are visited."""

    registry = ORDERS
    injected = frozenset({"length", "seed", "enlarge_ratio"})

    type: str
    """Name of the order: shuffled, or one of an extension's."""


class SourceOptions(Component):
    """Where a dataset's pixels come from."""

    registry = SOURCES

    type: str
    """Name of the source: files, or one of an extension's."""


class PartOptions(Component):
    """A part of the run that an extension registers."""

    registry = PARTS

    type: str
    """Name of the part."""
