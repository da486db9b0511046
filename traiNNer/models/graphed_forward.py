"""A network whose passes are replayed as CUDA graphs once the shape of its input has settled: the
host then starts one graph in place of hundreds of kernels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from traiNNer.models.memory_needs import release_memory
from traiNNer.models.rewind import Rewind
from traiNNer.utils.device import Runtime
from traiNNer.utils.out_of_memory import first_line

log = logging.getLogger(__name__)
# Calls of one shape before it is captured. While sizes grow they move sooner than that, and a
# capture costs as much as five steps.
CALLS_UNTIL_SETTLED = 50
# Calls of other shapes in a row that a graph outlives: a step may be made in parts now and then.
MOST_STRANGE = 4
# Captures that fail, at whatever shapes, before it is not tried again: another thread may have
# disturbed one of them.
MOST_FAILURES = 3

Forward = Callable[[Tensor], Tensor]


class GraphedForward:
    """Calls a network, by a graph where there is one for the shape of the input.

    There is one graph at a time. It is left when the shape has changed, and its memory with it.
    Passes without gradients, or of a network that is not in training mode, go through the network
    itself.
    A graph writes gradients into the same memory each time, so they have to be added to gradients
    that are there: see `Phase.keeps_gradients`.

    Args:
        network: in training mode, on a CUDA device.
        runtime: device and precision.
        capture: makes of network and input what gives the same results; torch's own way.

    """

    def __init__(
        self,
        network: nn.Module,
        runtime: Runtime,
        capture: Callable[[nn.Module, Tensor, Runtime], Forward] | None = None,
    ) -> None:
        self._network = network
        self._runtime = runtime
        self._capture = capture or capture_passes
        self._layout: tuple[Any, ...] = ()
        self._calls = 0
        self._strange = 0
        self._failures = 0
        self._graph: Forward | None = None

    def __call__(self, lq: Tensor) -> Tensor:
        """What the network makes of `lq`, a tensor of its own."""
        if not (torch.is_grad_enabled() and self._network.training):
            return self._network(lq)
        layout = (lq.shape, lq.stride(), lq.dtype)
        if layout != self._layout:
            self._strange += 1
            if self._graph is not None and self._strange <= MOST_STRANGE:
                return self._network(lq)
            self._layout = layout
            self._calls = 0
            self._graph = None
        self._strange = 0
        self._calls += 1
        if self._calls == CALLS_UNTIL_SETTLED + 1 and self._failures < MOST_FAILURES:
            self._graph = self._try_capture(lq)
        if self._graph is None:
            return self._network(lq)
        # The graph writes its next result over this one, and a discriminator comes later.
        return self._graph(lq).clone()

    @property
    def is_active(self) -> bool:
        """Whether there is a graph."""
        return self._graph is not None

    def leave(self) -> None:
        """Memory ran out, or the sizes move: no graph at this shape any more."""
        self._graph = None

    def _try_capture(self, lq: Tensor) -> Forward | None:
        # The graph has memory of its own beside what is cached now.
        release_memory(self._runtime.device)
        # Passes that warm up count for no statistics and no random numbers.
        rewind = Rewind([self._network], self._runtime.device)
        rewind.mark()
        try:
            return self._capture(self._network, lq, self._runtime)
        except (RuntimeError, AssertionError) as error:
            complaint = first_line(error)
        finally:
            rewind.restore()
        # Outside the except block, whose frames hold the attempt's tensors.
        release_memory(self._runtime.device)
        self._failures += 1
        log.warning(
            "use_cuda_graphs: no graph at this shape; training goes on without (%s)", complaint
        )
        return None


def open_forward(network: nn.Module, runtime: Runtime, *, graphs: bool) -> Forward:
    """What calls a network in a step: itself, or compiled, or by CUDA graphs."""
    if runtime.compile:
        return torch.compile(network)
    if not graphs:
        return network
    if runtime.device.type != "cuda":
        log.warning("use_cuda_graphs: there is no CUDA device here; training goes on without")
        return network
    return GraphedForward(network, runtime)


def capture_passes(network: nn.Module, lq: Tensor, runtime: Runtime) -> Forward:
    """Forward and backward pass of a network at the shape of `lq` as CUDA graphs, by torch's
    `make_graphed_callables`.
    """
    own_forward = vars(network).get("forward")
    precision = torch.autocast(
        "cuda",
        dtype=runtime.amp_dtype,
        enabled=runtime.amp_dtype is not None,
        # Weights that were cast once would stay what they were at the capture.
        cache_enabled=False,
    )
    try:
        with precision:
            torch.cuda.make_graphed_callables(
                network, (lq.detach().clone(),), allow_unused_input=True
            )
        # torch has put it into the network, where validation would meet it too.
        return network.forward
    finally:
        if own_forward is None:
            vars(network).pop("forward", None)
        else:
            network.forward = own_forward
