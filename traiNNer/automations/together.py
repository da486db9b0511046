"""All automations of a run as one: within what all of them allow, the smallest wish decides."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from traiNNer.automations.base import Automation, AutomationContext, Decision, StepReport
from traiNNer.automations.pressure import TimedLook
from traiNNer.automations.shape_bounds import ShapeBounds
from traiNNer.automations.state import from_state, to_state
from traiNNer.utils.errors import CheckpointError, OptionsError
from traiNNer.utils.registry import AUTOMATIONS
from traiNNer.utils.shape import Shape

log = logging.getLogger(__name__)


class Automations:
    """The automations that take part in a run, in the order of the options.

    Each allows some shapes and may wish for one. The bounds of all intersect; of the wishes,
    brought inside, the one with the fewest pixels is in force, for each automation has a reason not
    to ask for more. The others go on learning from the readings.

    Args:
        automations: by name; at least one.

    Raises:
        OptionsError: if two of them allow no common shape.

    Attributes:
        parts: the automations by name.
    """

    def __init__(self, automations: Mapping[str, Automation]) -> None:
        if not automations:
            raise ValueError("expected at least one automation")
        self.parts = dict(automations)
        self._context = next(iter(self.parts.values())).context
        self._wishes: dict[str, Shape] = {}
        self._decider = ""
        self._bounds = self._context.bounds
        self._allowed: tuple[ShapeBounds, ...] = ()
        self._shape = self._context.start
        self._begin()

    @classmethod
    def build(cls, active: Mapping[str, dict[str, Any]], context: AutomationContext) -> Automations:
        """What the options switch on.

        Args:
            active: parameters by name; see `TrainingAutomations.active`.
            context: what network, images, options and device allow.

        Raises:
            OptionsError: for parameters that cannot be served, alone or together.
        """
        parts: dict[str, Automation] = {}
        for name, given in active.items():
            others = tuple(other for other in active if other != name)
            parts[name] = AUTOMATIONS[name](replace(context, companions=others), **given)
        return cls(parts)

    @property
    def bounds(self) -> ShapeBounds:
        """The shapes that all of them allow now."""
        return self._bounds

    @property
    def shape(self) -> Shape:
        """What is asked for now."""
        return self._shape

    def before_training(self, *, resumed: bool = False) -> Shape | None:
        """The shape to begin or to resume with; None leaves what the options say.

        Args:
            resumed: the run goes on in another process than that of the state.
        """
        self._begin(resumed=resumed)
        # Bounds that hold one lq_size alone are a wish without a word.
        has_wish = bool(self._wishes) or self._bounds != self._context.bounds
        return self._shape if has_wish else None

    def watch(self, looks: Sequence[TimedLook]) -> Decision | None:
        """Before a step: how the memory looked since the step before."""
        return self._settle({name: part.watch(looks) for name, part in self.parts.items()})

    def after_step(self, report: StepReport) -> Decision | None:
        """After every change of the weights. A decision takes effect from the next batch on.

        Raises:
            OptionsError: if the bounds have moved so that two automations allow no common shape.
        """
        decisions = {name: part.after_step(report) for name, part in self.parts.items()}
        return self._settle(decisions)

    def after_out_of_memory(self, shape: Shape, fitted: Shape) -> Decision | None:
        """After a step at `shape` ran out of memory and was repeated in chunks, the largest of them
        being `fitted`.

        Raises:
            TrainingError: if nothing smaller is possible.
        """
        decisions = {
            name: part.after_out_of_memory(shape, fitted) for name, part in self.parts.items()
        }
        return self._settle(decisions)

    def shape_of_batch(self, shape: Shape, position: int) -> Shape:
        """What the batch that begins at `position` of the samples is to be; `shape`, where nobody
        wants another one.
        """
        for part in self.parts.values():
            shape = part.shape_of_batch(shape, position)
        return shape

    def scalars(self) -> dict[str, float]:
        """Points for TensorBoard, by tag."""
        points: dict[str, float] = {}
        for part in self.parts.values():
            points |= part.scalars()
        return points

    def state_dict(self) -> dict[str, Any]:
        """The state of each, and who wishes for what."""
        return {
            "automations": {name: part.state_dict() for name, part in self.parts.items()},
            "wishes": to_state(dict[str, Shape], self._wishes),
            "decider": self._decider,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave. What was switched on or off since then is said in the
        log.

        Raises:
            CheckpointError: if a state is not one of this version.
        """
        states: Mapping[str, Any] = state["automations"]
        wishes: dict[str, Shape] = from_state(dict[str, Shape], state["wishes"])
        for name, part in self.parts.items():
            if name not in states:
                log.warning("%s is not in the checkpoint: it begins anew", name)
                continue
            try:
                part.load_state_dict(states[name])
            except (KeyError, TypeError, ValueError) as error:
                raise CheckpointError(
                    f"the checkpoint's state of {name} cannot be read: {error!r}. It may be of "
                    "another version; to go on from its weights alone, begin a new run with them "
                    "as pretrained weights"
                ) from error
            if name in wishes:
                self._wishes[name] = wishes[name]
        for name in states:
            if name not in self.parts:
                log.warning("%s is in the checkpoint and not enabled now: it is left out", name)
        self._decider = str(state["decider"])
        self._begin()

    def _begin(self, *, resumed: bool = False) -> None:
        """Ask everyone for the shape to begin or to go on with."""
        for name, part in self.parts.items():
            # what the part itself says goes before a wish from a checkpoint: on another card it has
            # found another shape
            shape = part.before_training(resumed=resumed)
            if shape is not None:
                self._wishes[name] = shape
        self._allowed = ()  # tell the bounds anew: a state may have been loaded
        self._settle({})

    def _settle(self, decisions: Mapping[str, Decision | None]) -> Decision | None:
        """Intersect the bounds, choose among the wishes, and tell everyone; None if nothing
        changes.
        """
        news = {name: decision for name, decision in decisions.items() if decision is not None}
        allowed = tuple(part.bounds for part in self.parts.values())
        # this is every step but a few
        if not news and allowed == self._allowed:
            return None
        # a wish stays until its automation replaces it, in force or not
        self._wishes |= {name: decision.shape for name, decision in news.items()}
        if allowed != self._allowed:
            self._bounds = intersection(self.parts)
            self._allowed = allowed
            for name, part in self.parts.items():
                inside = part.narrow(self._bounds)
                if inside is not None:
                    news[name] = inside
                    self._wishes[name] = inside.shape
        before = self._shape
        wishes = {name: self._wishes[name] for name in self.parts if name in self._wishes}
        self._decider = smallest_wish(wishes, self._bounds, self._decider)
        wish = self._wishes.get(self._decider, self._context.start)
        self._shape = self._bounds.nearest(wish)
        for part in self.parts.values():
            part.follow(self._shape)
        decision = news.get(self._decider)
        # a wish that was renewed just now is passed on even at the same shape: it was a decision
        if decision is None and self._shape == before:
            return None
        return self._sign(decision, before)

    def _sign(self, decision: Decision | None, before: Shape) -> Decision:
        """The decision in force: whose it is, and why where it is not simply what was just
        decided.
        """
        shape = self._shape
        decider = self._decider
        if decision is not None and decision.shape == shape:
            reason = decision.reason
            share = decision.predicted_share
        else:
            estimates = [part.predict(shape) for part in self.parts.values()]
            share = next((estimate for estimate in estimates if estimate is not None), None)
            reason = "asks for the fewest pixels now" if decision is None else decision.reason
        if not decider:
            outside = [n for n, part in self.parts.items() if not part.bounds.contains(before)]
            decider = outside[0] if outside else next(iter(self.parts))
            reason = "the bounds have moved"
        elif shape != self._wishes[decider]:
            reason = f"{reason}, brought inside {self._bounds.describe()}"
        if len(self.parts) > 1:
            reason = f"{decider}: {reason}"
        return Decision(shape, reason, share, decider, "" if decision is None else decision.speed)


def smallest_wish(wishes: Mapping[str, Shape], bounds: ShapeBounds, present: str) -> str:
    """Whose wish has the fewest pixels inside the bounds, of equal ones that of `present`; empty
    where nobody wishes.
    """

    def size(name: str) -> tuple[int, bool]:
        inside = bounds.nearest(wishes[name])
        return inside.pixels(bounds.frames, bounds.size_multiple), name != present

    return min(wishes, key=size, default="")


def intersection(parts: Mapping[str, Automation]) -> ShapeBounds:
    """The shapes that all of them allow.

    Raises:
        OptionsError: if there is none, naming who allows what and what each end is due to.
    """
    bounds = [part.bounds for part in parts.values()]
    try:
        return functools.reduce(ShapeBounds.intersected, bounds)
    except OptionsError as error:
        names = _opponents(parts) or tuple(parts)
        lines = [f"{name} allows {parts[name].bounds.describe()}" for name in names]
        raise OptionsError(
            "the automations allow no common shape:\n" + "\n".join(lines) + "\nwiden the bounds "
            "of one of them, or switch it off (enabled: false)"
        ) from error


def _opponents(parts: Mapping[str, Automation]) -> tuple[str, str] | None:
    """The first two that allow nothing in common; None where it takes more than two."""
    for one, other in itertools.combinations(parts, 2):
        try:
            parts[one].bounds.intersected(parts[other].bounds)
        except OptionsError:
            return one, other
    return None
