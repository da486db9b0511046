"""Augmentations of training samples beyond flips and turns."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from traiNNer.options.components import Section

Share = Annotated[float, Field(ge=0, le=1)]


class AugmentationOptions(Section):
    """Shares of the training samples that are augmented in each way; at most 1 together."""

    mixup: Share = 0.0
    """A mean of two samples."""
    cutmix: Share = 0.0
    """A box of another sample."""
    resizemix: Share = 0.0
    """Another sample shrunk into a box."""
    cutblur: Share = 0.0
    """A box of LQ is GT shrunk, or all but the box."""
    cutout: Share = 0.0
    """A box of LQ is black."""
    downup: Share = 0.0
    """LQ shrunk and enlarged again."""

    @property
    def shares(self) -> dict[str, float]:
        """By name, those above 0."""
        values = self.model_dump()
        return {name: share for name, share in values.items() if share > 0}

    @model_validator(mode="after")
    def _together(self) -> AugmentationOptions:
        total = sum(self.shares.values())
        # Tenths do not add up exactly.
        if total > 1 + 1e-9:
            raise PydanticCustomError(
                "shares", "the shares add up to {total}; at most 1", {"total": round(total, 4)}
            )
        return self
