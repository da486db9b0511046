"""A part that stands at the network's door, and a card that judges what enters."""

from __future__ import annotations

from torch import Tensor, nn

from traiNNer.automations import CardModel, SimulatedMemory
from traiNNer.engine.part import Part
from traiNNer.engine.run import Run
from traiNNer.models import StepResult
from traiNNer.utils.shape import Shape


class Witness(Part):
    """Notes the shape of every tensor that enters the network, and lets a simulated card judge it.

    Attributes:
        memory: the card; hand it to the run as well.
        entered: shapes, in order.
        reported: what entered last in each step, beside what the step's result says of it.
        used: indices of the samples that steps were made of, in order.
        worker_pids: process ids of the loader's workers, after each step.
    """

    name = "witness"

    def __init__(self, card: CardModel) -> None:
        self.memory = SimulatedMemory(card)
        self.entered: list[Shape] = []
        self.reported: list[tuple[Shape, Shape]] = []
        self.worker_pids: set[tuple[int, ...]] = set()

    def start(self, run: Run) -> None:
        run.recipe.main.module.register_forward_pre_hook(self.enter)

    def after_step(self, run: Run, result: StepResult) -> None:
        self.reported.append((self.entered[-1], result.shape))
        self.worker_pids.add(run.stream.loader.worker_pids)

    def enter(self, network: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        # What is validated is not trained, and no step of the card.
        if network.training:
            shape = Shape(arguments[0].shape[-1], arguments[0].shape[0])
            self.entered.append(shape)
            self.memory.step(shape)


def card(largest: Shape, frames: int = 1, persistent: float = 2e8, **settings: object) -> CardModel:
    """A card that is 85 % full at about `largest`."""
    per_pixel = 1e5
    total = int((persistent + per_pixel * largest.pixels(frames)) / 0.85)
    return CardModel(total, persistent, per_pixel, frames=frames, **settings)  # type: ignore[arg-type]


def curves(*tags: str, run: str = "small") -> list[list[float]]:
    """The values of TensorBoard's curves."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(f"tb_logger/{run}", size_guidance={"scalars": 0}).Reload()
    return [[point.value for point in events.Scalars(tag)] for tag in tags]
