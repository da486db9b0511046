"""Passes that are replayed once a shape has settled. The capture is a stand-in that behaves like
torch's: results and gradients lie in the same memory at every call.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models import test_adversary
from tests.models.test_sr_model import make_batch, make_model
from traiNNer.archs import build_network
from traiNNer.models import SRModel
from traiNNer.models.graphed_forward import (
    CALLS_UNTIL_SETTLED,
    MOST_FAILURES,
    MOST_STRANGE,
    GraphedForward,
    open_forward,
)
from traiNNer.utils.device import Runtime

CPU = Runtime(torch.device("cpu"))


def capture(network: nn.Module, lq: Tensor, runtime: Runtime) -> Callable[[Tensor], Tensor]:
    """Like `make_graphed_callables`; its passes to warm up change statistics and draw too."""
    weights = tuple(network.parameters())
    network(lq)
    torch.rand(7)
    kept_result = torch.empty(0)
    kept_gradients = [torch.zeros_like(weight) for weight in weights]

    class Replay(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, given: Tensor, *_: Tensor) -> Tensor:
            ctx.save_for_backward(given)
            with torch.no_grad():
                result = network(given)
            kept_result.resize_(result.shape).copy_(result)
            return kept_result.detach()

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Any:
            with torch.enable_grad():
                result = network(ctx.saved_tensors[0])
            found = torch.autograd.grad(result, weights, gradients[0])
            for kept, gradient in zip(kept_gradients, found, strict=True):
                kept.copy_(gradient)
            return None, *(kept.detach() for kept in kept_gradients)

    def replay(given: Tensor) -> Tensor:
        captured.append(tuple(lq.shape))
        result = Replay.apply(given, *weights)
        assert isinstance(result, Tensor)
        return result

    return replay


captured: list[tuple[int, ...]] = []


def refuse(*_: object) -> Callable[[Tensor], Tensor]:
    captured.append(())
    raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("make", [make_model, test_adversary.make_model])
def test_training_by_graphs_gives_the_same_weights(
    make: Callable[..., SRModel], parts: int
) -> None:
    captured.clear()
    adam = {"type": "adam", "lr": 1e-3}
    plain = make(optim_g=adam)
    graphed = make(optim_g=adam)
    forward = GraphedForward(graphed.main.module, CPU, capture)
    graphed.forward_main = forward
    graphed.runner.graph = forward
    for phase in graphed.phases:
        phase.keeps_gradients = True
    steps = CALLS_UNTIL_SETTLED // parts + 6
    for number in range(steps):
        batches = [make_batch(2, 16, seed=parts * number + part) for part in range(parts)]
        losses = [model.step(batches).losses for model in (plain, graphed)]
        for label, loss in losses[0].items():
            torch.testing.assert_close(losses[1][label], loss)
    assert len(captured) == steps * parts - CALLS_UNTIL_SETTLED
    for ours, theirs in zip(
        graphed.main.module.parameters(), plain.main.module.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def calls(forward: GraphedForward, lq: Tensor, count: int) -> None:
    for _ in range(count):
        forward(lq).sum().backward()


def test_a_graph_is_left_when_the_shape_moves_or_memory_runs_out() -> None:
    captured.clear()
    network = build_network("compact", scale=2, num_feat=4, num_conv=1).train()
    forward = GraphedForward(network, CPU, capture)
    small, large = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 16, 16)
    calls(forward, small, CALLS_UNTIL_SETTLED)
    assert not forward.is_active
    calls(forward, small, 1)
    assert forward.is_active
    calls(forward, large, MOST_STRANGE)
    calls(forward, small, 1)
    assert forward.is_active
    calls(forward, large, MOST_STRANGE + 1)
    assert not forward.is_active
    calls(forward, large, CALLS_UNTIL_SETTLED)
    assert forward.is_active
    with torch.no_grad():
        forward(small)
    network.eval()
    forward(small)
    network.train()
    assert forward.is_active
    forward.leave()
    calls(forward, large, 2 * CALLS_UNTIL_SETTLED)
    assert not forward.is_active
    assert captured == [(1, 3, 8, 8)] * 2 + [(1, 3, 16, 16)]


def test_a_capture_leaves_statistics_and_random_numbers_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    statistics = network[1].running_mean
    assert isinstance(statistics, Tensor)
    forward = GraphedForward(network, CPU, capture)
    torch.manual_seed(0)
    before = torch.get_rng_state(), statistics.clone()
    assert forward._try_capture(torch.rand(2, 3, 8, 8, generator=torch.Generator())) is not None
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(statistics, before[1])


def test_a_capture_that_fails_is_said_and_not_tried_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    captured.clear()
    network = build_network("compact", scale=2, num_feat=4, num_conv=1).train()
    forward = GraphedForward(network, CPU, refuse)
    for size in range(8, 8 + 2 * (MOST_FAILURES + 2), 2):
        calls(forward, torch.rand(1, 3, size, size), CALLS_UNTIL_SETTLED + 2)
    assert captured == [()] * MOST_FAILURES
    assert caplog.text.count("training goes on without (operation not permitted") == MOST_FAILURES


@pytest.mark.gpu
@pytest.mark.parametrize("amp_dtype", [None, torch.bfloat16])
def test_graphs_on_the_gpu_give_the_same_weights(amp_dtype: torch.dtype | None) -> None:
    runtime = Runtime(torch.device("cuda"), amp_dtype)
    adam = {"type": "adamw", "lr": 1e-3}
    plain = make_model(runtime, optim_g=adam)
    options = plain.options.model_copy(update={"use_cuda_graphs": "auto"})
    graphed = SRModel(options, runtime, copy.deepcopy(plain.main.module))
    for number in range(CALLS_UNTIL_SETTLED + 10):
        batches = [make_batch(2, seed=2 * number + part) for part in range(2)]
        plain.step(batches)
        graphed.step(batches)
    assert graphed.runner.graph is not None
    assert graphed.runner.graph.is_active
    for ours, theirs in zip(
        graphed.main.module.parameters(), plain.main.module.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    # torch's own capture is taken back out of the network, which validation calls.
    assert "forward" not in vars(graphed.main.module)


def test_without_a_cuda_device_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    network = nn.Identity()
    assert open_forward(network, CPU, graphs=True) is network
    assert "there is no CUDA device here" in caplog.text
