"""The settings of an upscaler, from what is known of a network and what the options say."""

from __future__ import annotations

from traiNNer.archs.facts import NetworkFacts
from traiNNer.models.upscaler import TileSettings
from traiNNer.options.schema import ValOptions


def tile_settings(facts: NetworkFacts, options: ValOptions) -> TileSettings:
    """The settings of an `Upscaler` for a network."""
    return TileSettings(
        scale=facts.scale,
        size_multiple=facts.size_multiple,
        min_size=facts.min_size,
        tile_size=options.tile_size,
        tile_overlap=options.tile_overlap,
    )
