"""What the processes of one training make of a phase together: one gradient, the same everywhere.

Nothing is exchanged while gradients are accumulated, so a process that runs out of memory repeats
its own samples, and the others wait for it in the vote. Only then are gradients summed, each
process's by its share of the step's pixels: they are those of the mean over the samples of all.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from traiNNer.models.memory_needs import with_second_try
from traiNNer.models.objectives import Accumulated
from traiNNer.models.phase import Phase
from traiNNer.utils.errors import StopRequested, TeamError
from traiNNer.utils.team import Team


def join(team: Team, phase: Phase, accumulated: Accumulated, statistics: Sequence[Tensor]) -> None:
    """Have gradients, losses, pixels and running statistics be those of all processes.

    Args:
        team: the processes.
        phase: whose gradients were accumulated.
        accumulated: of this process.
        statistics: buffers that the attempt has changed.

    Raises:
        StopRequested: if one of them wants the run to end; no weight has changed then.
        TeamError: if they have not done the same.
    """
    gradients = [weight.grad for weight in phase.parameters if weight.grad is not None]
    elements = sum(gradient.numel() for gradient in gradients)
    losses = [accumulated.losses[label] for label in sorted(accumulated.losses)]
    bundles = with_second_try(
        lambda: team.make_room([*gradients, *statistics, *losses]),
        phase.parameters[0].device,
        "making room for sums",
    )
    votes = team.vote(accumulated.pixels, accumulated.samples, elements, len(accumulated.losses))
    if votes.wants_end:
        raise StopRequested(is_agreed=True)
    first = votes.values[0]
    alike = slice(1 if team.is_even else 2, 4)
    for rank, said in enumerate(votes.values):
        if said[alike] != first[alike]:
            raise TeamError(
                f"process {rank} has made gradients of {said[1]:.0f} samples for {said[2]:.0f} "
                f"weights with {said[3]:.0f} losses, and process 0 of {first[1]:.0f} for "
                f"{first[2]:.0f} with {first[3]:.0f}: a recipe has to do the same everywhere"
            )
    pixels = int(sum(said[0] for said in votes.values))
    team.average(bundles, accumulated.pixels / pixels)
    accumulated.pixels = pixels
