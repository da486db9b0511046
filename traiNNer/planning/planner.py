"""Which shapes fit on which card, worked out before a run and without a GPU.

The steps are those of `step_memory`: the real recipe on tensors without memory. A few shapes teach
the memory model that the automation uses too, the automation's own search picks the shape for a
card, and that very shape is tracked before it is named, so nothing rests on the model alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from traiNNer.automations import (
    AutomationContext,
    DynamicBatchAndPatchSizeOptimizer,
    MemoryModel,
    MemoryReading,
    Shape,
    ShapeBounds,
)
from traiNNer.automations.cuda_memory import ASSUMED_CONTEXT_BYTES
from traiNNer.automations.least_squares import weighted_least_squares
from traiNNer.automations.progressive_sizes import Stage
from traiNNer.automations.shape_search import Estimate, Goal, ShapeSearch
from traiNNer.data import DynamicDatasetWrapper
from traiNNer.data.roots import data_roots
from traiNNer.options.schema import TrainingOptions
from traiNNer.planning.bounds import first_shape, shape_bounds, stages_of
from traiNNer.planning.step_memory import FixedBytes, StepMemory, StepTracker
from traiNNer.utils.errors import OptionsError

AUTOMATION = "DynamicBatchAndPatchSizeOptimizer"
# Side in LQ pixels of the largest patch, where neither images nor options say one.
ASSUMED_LARGEST_LQ = 256
# Shapes that are tracked for a card at most, until one is found where it was expected.
ROUNDS = 8


@dataclass(frozen=True)
class Images:
    """What bounds the patches.

    Attributes:
        largest_lq_size: side in LQ pixels of the largest patch.
        due_to: what that is due to, for the tables.
        note: a sentence for the user where the images themselves were not read; else empty.
    """

    largest_lq_size: int
    due_to: str = "the images"
    note: str = ""


@dataclass(frozen=True)
class CardPlan:
    """What a card can train.

    Attributes:
        card: bytes.
        context: bytes that CUDA's context is assumed to take.
        shape: the shape at the target, or the smallest one where that is above it; None if no step
            fits at all.
        step: bytes that tensors take at the peak of a step at `shape` (of the smallest shape, where
            none fits).
        expected: what the memory model said before that shape was tracked, in bytes; 0 before it
            knew anything.
        bound: what keeps the shape from being larger, or what is wrong.
        needs: bytes of the smallest card that reaches the smallest shape within the target.
    """

    card: int
    context: int
    shape: Shape | None
    step: int
    expected: float
    bound: str
    needs: int

    @property
    def share(self) -> float:
        """The share of the card in use at the peak; above 1 if it does not fit."""
        return (self.context + self.step) / self.card

    @property
    def expected_share(self) -> float:
        """The share that was expected before the shape was tracked."""
        return (self.context + self.expected) / self.card


@dataclass
class MemoryPlan:
    """What is known of a run's memory. Every shape that is asked for is tracked once, and makes the
    model better.

    Attributes:
        options: the checked options.
        images: what bounds the patches.
        network: the shapes that the network takes and the images allow.
        tracker: runs the steps.
        model: learns from them.
        steps: what was tracked, by shape, in that order.
        expected: what the model said of a shape before it was tracked, in bytes.
    """

    options: TrainingOptions
    images: Images
    network: ShapeBounds
    tracker: StepTracker
    model: MemoryModel
    steps: dict[Shape, StepMemory] = field(default_factory=dict)
    expected: dict[Shape, float] = field(default_factory=dict)

    @property
    def fixed(self) -> FixedBytes:
        """What is there whatever the shape is."""
        return self.tracker.fixed

    @property
    def target(self) -> float:
        """The share of a card that is aimed at."""
        return self.automation().target.share

    @property
    def start(self) -> Shape:
        """The shape of the options."""
        train = self.options.datasets.train
        return Shape(train.lq_size, train.batch_size_per_gpu)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Of a run whose patches grow by a plan; empty for any other."""
        return stages_of(self.options)

    def automation(
        self, total: int = 0, lq_size: int | None = None
    ) -> DynamicBatchAndPatchSizeOptimizer:
        """The automation on a card of `total` bytes, with the options' parameters whether it is
        switched on or not; at the patches of `lq_size` alone where that is given.

        Raises:
            OptionsError: for parameters that network or images cannot serve.
        """
        parameters: dict[str, Any] = (self.options.training_automations.model_extra or {}).get(
            AUTOMATION, {}
        )
        if lq_size is not None:
            parameters = parameters | {"min_lq_size": lq_size, "max_lq_size": lq_size}
        context = AutomationContext(self.network, first_shape(self.options), total)
        return DynamicBatchAndPatchSizeOptimizer(context, **parameters)

    def track(self, shape: Shape) -> StepMemory:
        """The memory of a step at `shape`."""
        if shape not in self.steps:
            self.expected[shape] = self.model.predict(shape).bytes if self.model.count else 0.0
            step = self.tracker.track(shape)
            self.steps[shape] = step
            reading = MemoryReading(step.peak, step.peak, 0, 0, baseline=self.fixed.total)
            self.model.observe(shape, reading)
        return self.steps[shape]


def find_images(options: TrainingOptions, largest_lq_size: int | None = None) -> Images:
    """How large patches can be: what the caller says, else what the images' headers say, else an
    assumption.

    Args:
        options: the checked options.
        largest_lq_size: side in LQ pixels of the largest patch, where the user says it.

    Raises:
        DataError: listing everything that is wrong with the training images, where they are there.
    """
    section = options.datasets.train
    if largest_lq_size is not None:
        return Images(largest_lq_size, "--largest-lq")
    missing = [str(root) for root in data_roots(section) if not root.is_dir()]
    if missing:
        bound = (
            (options.training_automations.model_extra or {}).get(AUTOMATION, {}).get("max_lq_size")
        )
        largest = bound or max(ASSUMED_LARGEST_LQ, section.lq_size)
        source = "by max_lq_size" if bound else "as an assumption"
        note = (
            f"the training images are not on this machine ({', '.join(missing)}): lq_size is "
            f"bounded at {largest} {source}, not by them. --largest-lq says how large patches can "
            "be."
        )
        return Images(largest, "max_lq_size" if bound else "assumed", note)
    dataset = section.entry(scale=options.scale, **section.params)
    dataset.require_lq_size(section.lq_size)
    return Images(DynamicDatasetWrapper(dataset, section.lq_size, options.scale).largest_lq_size)


def plan_memory(options: TrainingOptions, images: Images) -> MemoryPlan:
    """Track steps at a few shapes between the bounds and the one of the options.

    Raises:
        OptionsError: for bounds without a shape, and for what cannot be built or tracked.
    """
    tracker = StepTracker(options)
    bounds = shape_bounds(
        options, images.largest_lq_size, tracker.elements_per_pixel, images.due_to
    )
    plan = MemoryPlan(
        options, images, bounds, tracker, MemoryModel(bounds.size_multiple, bounds.frames)
    )
    narrowed = plan.automation().bounds
    side = narrowed.ladder[0]
    batch = narrowed.min_batch_size
    wanted = [
        Shape(s, b)
        for s, b in ((side, batch), (side, 2 * batch), (2 * side, batch), (2 * side, 2 * batch))
    ]
    for shape in (*wanted, Shape(4 * side, 2 * batch)):
        plan.track(narrowed.nearest(shape))
    plan.track(plan.start)
    return plan


def plan_card(
    plan: MemoryPlan,
    card_bytes: int,
    context_bytes: int = ASSUMED_CONTEXT_BYTES,
    lq_size: int | None = None,
) -> CardPlan:
    """The shape that the automation should arrive at on a card, tracked.

    Args:
        plan: of the run.
        card_bytes: memory of the card.
        context_bytes: what of it is taken before any tensor is.
        lq_size: the only patch that is thought of, in a stage of the run; None is any.

    Raises:
        OptionsError: for a card of no memory.
    """
    if card_bytes <= 0:
        raise OptionsError(
            f"a card of {card_bytes} bytes cannot be planned for; expected more than 0"
        )
    automation = plan.automation(card_bytes, lq_size)
    bounds = automation.bounds
    goal = automation.target.goal()
    smallest = plan.track(bounds.smallest).peak
    needs = math.ceil((context_bytes + smallest) / goal.ceiling)
    shape = _fill(plan, automation, goal, context_bytes)
    if shape is not None:
        peak = plan.track(shape).peak
        bound = _bound(bounds, shape, filled=(context_bytes + peak) / card_bytes >= goal.low)
        return CardPlan(card_bytes, context_bytes, shape, peak, plan.expected[shape], bound, needs)
    fits = context_bytes + smallest <= card_bytes
    shape = bounds.smallest if fits else None
    bound = (
        f"the smallest shape is above the target of {automation.target.share:.0%}"
        if fits
        else "does not fit"
    )
    return CardPlan(
        card_bytes, context_bytes, shape, smallest, plan.expected[bounds.smallest], bound, needs
    )


def straight_line(plan: MemoryPlan) -> tuple[float, float]:
    """(fixed bytes, bytes per padded LQ pixel) of the line through what was tracked.

    Small and large shapes weigh the same: errors count in relation to the peaks.
    """
    bounds = plan.network
    rows = [[1.0, float(shape.pixels(bounds.frames, bounds.size_multiple))] for shape in plan.steps]
    peaks = [float(step.peak) for step in plan.steps.values()]
    if len({pixels for _, pixels in rows}) > 1:
        intercept, slope = weighted_least_squares(rows, peaks, [1.0 / peak**2 for peak in peaks])
        if slope > 0 and intercept > 0:
            return intercept, slope
    pixels, peak = max((row[1], peak) for row, peak in zip(rows, peaks, strict=True))
    return float(plan.fixed.total), (peak - plan.fixed.total) / pixels


def _fill(
    plan: MemoryPlan, automation: DynamicBatchAndPatchSizeOptimizer, goal: Goal, context_bytes: int
) -> Shape | None:
    """The shape at the goal, looked for again until tracking confirms it; None if there is none."""
    total = automation.context.total
    ceiling = goal.ceiling

    def estimate(shape: Shape) -> Estimate:
        share = (context_bytes + plan.model.predict(shape).bytes) / total
        return Estimate(share, share)

    bounds = automation.bounds
    start = bounds.nearest(automation.context.start)
    search = ShapeSearch(bounds, start, estimate, plan.model.pixels)
    for _ in range(ROUNDS):
        shape = search.fill(goal)
        if shape is None:
            break
        known = shape in plan.steps
        step = plan.track(shape)
        if known or goal.low <= (context_bytes + step.peak) / total <= ceiling:
            return shape
    fitting = [
        s for s in plan.steps if automation.bounds.contains(s) and estimate(s).expected <= ceiling
    ]
    return max(fitting, key=lambda s: plan.steps[s].peak, default=None)


def _bound(bounds: ShapeBounds, shape: Shape, *, filled: bool) -> str:
    """What keeps a shape from being larger. `filled` says that the target is reached."""
    lq_ends = shape.lq_size == bounds.ladder[-1]
    if filled:
        return (
            f"the memory (lq_size ends at {shape.lq_size}: {bounds.max_lq_due_to})"
            if lq_ends
            else "the memory"
        )
    reasons = bounds.ceiling(shape)
    if (
        not reasons
        and shape.batch_size == bounds.largest_batch(shape.lq_size) < bounds.max_batch_size
    ):
        reasons = [bounds.whole_batch(shape.lq_size)]
    return ", ".join(reasons) or "the memory: the next larger shape is above the target"
