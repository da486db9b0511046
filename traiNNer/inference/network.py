"""Opening the network that the options name, and running it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from traiNNer.archs.facts import NetworkFacts, OpenedNetwork, open_checkpoint
from traiNNer.archs.loading import load_weights
from traiNNer.models import Upscaler
from traiNNer.models.tiles import tile_settings
from traiNNer.options.entries import NetworkOptions
from traiNNer.options.schema import TestOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import CheckpointError

log = logging.getLogger(__name__)


def open_network(options: TestOptions) -> OpenedNetwork:
    """Read the checkpoint that the options name. It is on the CPU, in evaluation mode and not
    compiled, so that it can be exported or averaged as well as run.

    Raises:
        CheckpointError: if it cannot be read, is of no known architecture, or has another scale
            than expected.
    """
    path = Path(options.path.pretrain_network_g or "")
    if options.network_g is not None and options.scale is not None:
        # Plain weights of a network that nobody can guess, such as a temporal one.
        strict = options.path.strict_load_g
        opened = _open_as(options.network_g, options.scale, path, strict=strict)
    else:
        opened = open_checkpoint(path)
    facts = opened.facts
    if options.scale is not None and facts.scale != options.scale:
        raise CheckpointError(
            f"{path} holds {facts.name} at scale {facts.scale}, and the options say scale "
            f"{options.scale}; leave `scale` out to take the checkpoint's"
        )
    return opened


def _open_as(options: NetworkOptions, scale: int, path: Path, *, strict: bool) -> OpenedNetwork:
    """The weights of a file in the network that the options describe."""
    # The registry's entries are specs; the schema knows them as callables only.
    network = cast(nn.Module, options.entry(scale=scale, **options.params))
    report = load_weights(network, path, strict=strict, what="network_g")
    log.info("%s", report.summary())
    facts = NetworkFacts.from_spec(options.entry, scale, options.params)
    return OpenedNetwork(network.eval(), facts)


@dataclass(frozen=True)
class RunningNetwork:
    """A network on its device, and what runs it over images or clips.

    Attributes:
        network: the network, compiled if the runtime says so.
        upscaler: device, precision, tiles.
        facts: what the network takes and makes.
        stays: whether it is on its device all the time, and not only in `on_device`.
    """

    network: nn.Module
    upscaler: Upscaler
    facts: NetworkFacts
    stays: bool = True

    @classmethod
    def start(
        cls, opened: OpenedNetwork, options: TestOptions, runtime: Runtime, *, stays: bool = True
    ) -> RunningNetwork:
        """Bring an open network to its device, if it stays there; nothing is computed before the
        first image.
        """
        facts = opened.facts
        path = options.path.pretrain_network_g
        log.info("%s: %s x%d, %s", path, facts.name, facts.scale, runtime)
        network = opened.network.eval()
        if stays:
            runtime.place(network)
        forward = cast(nn.Module, torch.compile(network)) if runtime.compile else network
        upscaler = Upscaler(runtime, tile_settings(facts, options.val))
        return cls(forward, upscaler, facts, stays)

    def __call__(self, lq: Tensor) -> Tensor:
        """`(B, 3, H, W)` to `(B, 3, H * scale, W * scale)`, both in main memory; tiles visit the
        device.

        For clips `(B, T, 3, H, W)` it gives the frame in the middle, or with target "all" every
        frame, `(B, T, 3, ...)`.

        What overflows in half precision is computed again in float32.
        """
        result = self.upscaler(self.network, lq)
        if self.upscaler.runtime.amp_dtype is None or is_finite(result):
            return result
        log.warning("a result in %s is not finite: computed again in fp32", self.upscaler.runtime)
        precise = Upscaler(replace(self.upscaler.runtime, amp_dtype=None), self.upscaler.settings)
        precise.tile_size = self.upscaler.tile_size
        return precise(self.network, lq)


@contextmanager
def on_device(network: nn.Module, runtime: Runtime, *, stays: bool) -> Iterator[None]:
    """The network is on its device in here, and in main memory afterwards, unless it stays."""
    if stays:
        yield
        return
    runtime.place(network)
    try:
        yield
    finally:
        network.to("cpu")


def is_finite(result: Tensor) -> bool:
    """Whether it is a picture: what is not a number would be black."""
    return bool(result.isfinite().all())


def describe_flaw(result: Tensor) -> str:
    """What is wrong with a result that is not finite."""
    share = 100 * float((~result.isfinite()).float().mean())
    return (
        f"{share:.1f} % of the result is not finite (NaN or infinite), also in fp32; the weights "
        "may be damaged, or not made for such a picture"
    )
