"""What the measured worth of a step says about shapes."""

from __future__ import annotations

from traiNNer.automations.base import AutomationContext, StepReport
from traiNNer.automations.goodput import Goodput
from traiNNer.automations.route import HALVES, Route
from traiNNer.automations.shape_bounds import ShapeBounds
from traiNNer.utils.shape import Shape

# Factor from which on smaller steps are worth a move: what is known of the noise scatters.
MUCH_SMALLER = 1.5
# Looks after which steps do not become smaller any more: from then on the noise only grows, and
# what says otherwise is scatter.
FIRST_LOOKS = 3


def can_measure(context: AutomationContext, bounds: ShapeBounds) -> bool:
    """Whether a step is one batch that has two halves."""
    is_one_batch = context.batches_per_step == 1
    return is_one_batch and bounds.max_batch_size >= HALVES * bounds.min_batch_size


def note_worth(goodput: Goodput, route: Route, report: StepReport) -> bool:
    """Take in what a step tells of noise and time.

    Returns:
        Whether lq_size is to grow at a smaller batch from now on, `goodput.batch`.
    """
    pixels = route.model.pixels(report.shape)
    if report.seconds is not None:
        goodput.note_time(pixels, report.seconds)
    if report.cosine is None:
        return False
    goodput.look(report.cosine, pixels / 2)
    if not is_too_large(route, report.shape):
        return False
    each = route.model.pixels(Shape(route.start.lq_size, 1))
    batch = max(HALVES * route.bounds.min_batch_size, int(route.most() // each))
    if batch >= route.start.batch_size:
        return False
    goodput.batch = batch
    return True


def waits_for_worth(route: Route) -> bool:
    """Whether it is measured what a larger step is worth, and the run's end is not near."""
    if route.goodput is None or route.ramp is None:
        return False
    return route.cap.progress < route.ramp.begin


def is_too_large(route: Route, present: Shape) -> bool:
    """Whether much smaller steps make more progress a second than those of `present`."""
    if not waits_for_worth(route) or route.goodput is None or not route.goodput.noise:
        return False
    if route.goodput.looks > FIRST_LOOKS:
        return False
    return route.most() <= route.model.pixels(present) / MUCH_SMALLER


def expected_gain(route: Route, present: Shape, shape: Shape) -> float | None:
    """How many times the progress a second is expected at `shape`; None where nobody measures it,
    or steps grow for another reason.
    """
    if not waits_for_worth(route) or route.goodput is None or not route.goodput.noise:
        return None
    return 1 / route.goodput.cost(route.model.pixels(shape), route.model.pixels(present))


def why_not_larger(route: Route, present: Shape) -> str | None:
    """Why larger steps are not worth it, for the log; None where that is not the reason."""
    if not waits_for_worth(route) or not route.holds_back(present):
        return None
    if route.goodput is None or not route.goodput.noise:
        return "it is not known yet what larger steps are worth (pace: measured)"
    full = route.search.fill(route.target.goal(max_pixels=route.unbanned()))
    gain = None if full is None else expected_gain(route, present, full)
    if gain is None or gain >= 1:
        return "larger steps are not worth it yet (pace: measured)"
    return (
        "larger steps are not worth it yet (pace: measured): with a full memory the same progress "
        f"would take {1 / gain:.1f} x the time"
    )
