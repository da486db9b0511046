"""Another patch size for each batch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from traiNNer.automations.base import Automation, AutomationContext
from traiNNer.automations.progressive_sizes import require_size
from traiNNer.automations.shape_bounds import ShapeBounds
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import AUTOMATIONS
from traiNNer.utils.seeds import hash_seed
from traiNNer.utils.shape import Shape


@AUTOMATIONS.register("RandomSizes")
class RandomSizes(Automation):
    """Each batch has a size drawn from a list, and as many samples as have the pixels of a batch of
    the largest. DynamicBatchAndPatchSizeOptimizer, where it is enabled too, fits that one to the
    memory; else its batch is that of the options.

    The samples are read at the largest size and cropped, so the draws cost reading and change
    neither which samples come nor their order. A draw depends on the seed and on the batch's place
    in the data alone.

    Args:
        context: what network, images, options and device allow.
        enabled: whether it takes part in the run.
        sizes: sides in LQ pixels, all of them as likely.
    """

    def __init__(
        self,
        context: AutomationContext,
        *,
        enabled: bool = True,
        sizes: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2)],
    ) -> None:
        super().__init__(context, enabled=enabled)
        if len(set(sizes)) < len(sizes):
            raise OptionsError(f"sizes: {sizes} names a size twice; all are drawn as often")
        for size in sizes:
            require_size(size, context.bounds, "sizes")
        self.sizes = tuple(sizes)

    @property
    def bounds(self) -> ShapeBounds:
        """The largest size alone: that is what is read."""
        largest = max(self.sizes)
        return self.context.bounds.narrowed(min_lq_size=largest, max_lq_size=largest)

    def describe(self) -> str:
        """The sizes."""
        return f"{', '.join(map(str, self.sizes))} px, another for each batch"

    def shape_of_batch(self, shape: Shape, position: int) -> Shape:
        """A size, and the samples that have the pixels of `shape`."""
        size = self.sizes[hash_seed(self.context.seed, position) % len(self.sizes)]
        samples = shape.batch_size * shape.lq_size**2 // size**2
        return Shape(size, samples)
