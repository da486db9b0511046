"""What a teacher has to say in a training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from traiNNer.options.components import Section


class DistillationOptions(Section):
    """How `network_g_teacher` takes part: its pictures of the same LQ are targets."""

    mode: Literal["mix", "beside"] = "mix"
    """mix: what the losses compare with is GT and the teacher's picture, mixed by share. beside:
    the losses are counted once more against the teacher's picture, times share."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of the teacher; 1 with mix leaves GT out."""
    until: Annotated[float, Field(gt=0, le=1)] | None = None
    """The share falls evenly, and is 0 when this part of the run is done: from the teacher to the
    truth. Left out: it stays."""
