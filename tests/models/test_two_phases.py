"""Each phase owns its optimizer, guard, loss scale and memory peak; networks follow their roles."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.models.test_sr_model import make_batch, make_options
from tests.models.two_phases import TwoPhases
from traiNNer.archs import build_network
from traiNNer.automations import CardModel, SimulatedMemory
from traiNNer.models import Chunk, Losses, Objective, Role
from traiNNer.models.chunks import Memo
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import TrainingError
from traiNNer.utils.shape import Shape

CPU = torch.device("cpu")
FULL = "CUDA out of memory. Tried to allocate 1.00 GiB."


def make_recipe(runtime: Runtime | None = None, **train: Any) -> TwoPhases:
    torch.manual_seed(0)
    options = make_options(**{"optim_g": {"type": "adamw", "lr": 1e-3}} | train)
    network = build_network(options.network_g.type, scale=options.scale, **options.network_g.params)
    return TwoPhases(options, runtime or Runtime(CPU), network)


def replace_losses(recipe: TwoPhases, phase: str, losses: Callable[[Chunk], Losses]) -> None:
    next(p for p in recipe.phases if p.name == phase).objectives = (Objective(losses),)


def all_weights(recipe: TwoPhases) -> dict[str, list[torch.Tensor]]:
    return {
        network.name: [tensor.clone() for tensor in network.module.state_dict().values()]
        for network in recipe.networks
    }


def assert_close(first: TwoPhases, second: TwoPhases) -> None:
    """But for the running statistics of batch norms, which see one chunk at a time."""
    for a, b in zip(first.networks, second.networks, strict=True):
        pairs = zip(a.module.parameters(), b.module.parameters(), strict=True)
        for ours, theirs in pairs:
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_the_second_phase_reuses_what_the_first_one_made() -> None:
    recipe = make_recipe()
    result = recipe.step([make_batch(4), make_batch(2, seed=1)])
    assert recipe.generated == [4, 2], "nothing was made twice"
    assert set(result.losses) == {"l1", "gan", "real", "fake"}
    assert list(result.phases) == ["generator", "critic"]


@pytest.mark.parametrize("faulty", ["generator", "critic"])
def test_non_finite_steps_of_each_phase_are_counted_apart_and_end_the_run(faulty: str) -> None:
    recipe = make_recipe(max_nonfinite_steps=3)
    losses = {"generator": recipe.generator_losses, "critic": recipe.critic_losses}[faulty]
    replace_losses(
        recipe,
        faulty,
        lambda chunk: {label: loss * torch.nan for label, loss in losses(chunk).items()},
    )
    before = all_weights(recipe)
    recipe.step([make_batch()])
    recipe.step([make_batch()])
    recipe.flush_checks()
    totals = {phase.name: phase.guard.total for phase in recipe.phases}
    assert totals == {"generator": 0, "critic": 0} | {faulty: 2}
    untouched = {"generator": "net_g", "critic": "net_d"}[faulty]
    weights = [n for n, _ in recipe.networks[untouched].module.named_parameters()]
    now = recipe.networks[untouched].module.state_dict()
    names = list(now)
    for name in weights:
        assert torch.equal(now[name], before[untouched][names.index(name)])
    message = f"gradients of the {faulty} were not finite for 3 iterations"
    with pytest.raises(TrainingError, match=message):  # noqa: PT012 (whichever looks)
        recipe.step([make_batch()])
        recipe.flush_checks()


def test_each_loss_scale_is_updated_once_a_step() -> None:
    recipe = make_recipe(Runtime(CPU, torch.float16))
    for step in range(1, 4):
        recipe.step([make_batch(3), make_batch(2)])
        counts = [phase.scaler.state_dict()["_growth_tracker"] for phase in recipe.phases]
        assert counts == [step, step]
    assert recipe.phases[0].scaler is not recipe.phases[1].scaler


def test_an_overflow_of_one_phase_lowers_its_own_scale_alone() -> None:
    recipe = make_recipe(Runtime(CPU, torch.float16))
    losses = recipe.critic_losses
    replace_losses(
        recipe, "critic", lambda chunk: {n: loss * 1e38 for n, loss in losses(chunk).items()}
    )
    recipe.step([make_batch()])
    generator, critic = (phase.scaler.get_scale() for phase in recipe.phases)
    assert critic == generator / 2


class Scarce:
    """Lets a phase's losses run out of memory on more than `limit` samples, after the work."""

    def __init__(self, recipe: TwoPhases, phase: str, limit: int) -> None:
        self.attempts: list[list[int]] = []
        self._limit = limit
        self._losses = {"generator": recipe.generator_losses, "critic": recipe.critic_losses}[phase]
        replace_losses(recipe, phase, self)

    def __call__(self, chunk: Chunk) -> Losses:
        self.attempts.append(list(chunk.batch.indices))
        losses = self._losses(chunk)
        if len(chunk.batch) > self._limit:
            raise torch.OutOfMemoryError(FULL)
        return losses


@pytest.mark.parametrize("scarce", ["generator", "critic"])
def test_out_of_memory_repeats_that_phase_alone_on_the_same_samples(scarce: str) -> None:
    plain = make_recipe()
    recipe = make_recipe()
    # Batch norms would tell chunks from the whole batch, which is not what is asked here.
    for each in (plain, recipe):
        each.net_d.module.eval()
    attempts = Scarce(recipe, scarce, limit=2)
    plain.step([make_batch(4)])
    result = recipe.step([make_batch(4)])
    assert attempts.attempts == [[0, 1, 2, 3], [0, 1], [2, 3]]
    (retry,) = result.retries
    assert retry.phase == scarce
    assert (retry.asked, retry.fitted, retry.failures) == (Shape(8, 4), Shape(8, 2), 1)
    if scarce == "critic":
        assert recipe.generated == [4], "the generator's output was cut, not made again"
    else:
        assert recipe.generated == [4, 2, 2], "the failed attempt, then its repeat"
        assert recipe.judged == [[0, 1, 2, 3]], "the critic takes the whole batch"
    assert_close(plain, recipe)
    for phase, other in zip(plain.phases, recipe.phases, strict=True):
        steps = [float(s["step"]) for s in other.optimizer.state.values()]
        assert steps == [float(s["step"]) for s in phase.optimizer.state.values()]


def test_statistics_of_a_failed_attempt_are_taken_back() -> None:
    recipe = make_recipe()
    Scarce(recipe, "critic", limit=2)
    norm = recipe.net_d.module[1]
    assert isinstance(norm, nn.BatchNorm2d)
    recipe.step([make_batch(4)])
    # One judgement in the generator's phase; the failed attempt's two are taken back, and each half
    # of the repeat judges GT and the generator's picture.
    assert int(norm.num_batches_tracked or 0) == 1 + 2 * 2


def test_each_phase_has_a_peak_of_its_own() -> None:
    recipe = make_recipe()
    card = CardModel(total=2**30, persistent=2.0**20, bytes_per_pixel=2.0**10)
    memory = SimulatedMemory(card)
    recipe.runner.memory = memory
    generator, critic = recipe.generator_losses, recipe.critic_losses

    def small(chunk: Chunk) -> Losses:
        memory.step(Shape(8, 1))
        return generator(chunk)

    def large(chunk: Chunk) -> Losses:
        memory.step(Shape(8, 4))
        return critic(chunk)

    replace_losses(recipe, "generator", small)
    replace_losses(recipe, "critic", large)
    result = recipe.step([make_batch(4)])
    readings = {name: phase.reading for name, phase in result.phases.items()}
    assert readings["generator"] is not None
    assert readings["critic"] is not None
    assert readings["generator"].allocated_peak == 2**20 + 64 * 2**10
    assert readings["critic"].allocated_peak == 2**20 + 4 * 64 * 2**10
    assert result.reading is not None
    assert result.reading.allocated_peak == readings["critic"].allocated_peak


def test_networks_follow_their_roles() -> None:
    recipe = make_recipe(ema_decay=0.9)
    roles = {network.name: network.role for network in recipe.networks}
    assert roles == {
        "net_g": Role.TRAINED,
        "net_g_ema": Role.AVERAGE,
        "net_d": Role.TRAINED,
        "teacher": Role.FROZEN,
    }
    assert [network.name for network in recipe.networks if network.saved] == [
        "net_g",
        "net_g_ema",
        "net_d",
    ]
    assert recipe.networks.evaluated(recipe.main).name == "net_g_ema"
    assert recipe.networks.average_of(recipe.net_d) is None
    with pytest.raises(ValueError, match="two networks of the name 'net_d'"):
        recipe.add_network("net_d", nn.Conv2d(1, 1, 1))


def test_a_step_goes_on_after_its_state_was_loaded() -> None:
    straight = make_recipe(ema_decay=0.9)
    for seed in range(2):
        straight.step([make_batch(seed=seed)])
    state = copy.deepcopy(straight.state_dict())
    weights = {n.name: copy.deepcopy(n.module.state_dict()) for n in straight.networks}
    straight.step([make_batch(seed=2)])
    resumed = make_recipe(ema_decay=0.9)
    for network in resumed.networks:
        network.module.load_state_dict(weights[network.name])
    resumed.load_state_dict(state)
    resumed.step([make_batch(seed=2)])
    for a, b in zip(straight.networks, resumed.networks, strict=True):
        for ours, theirs in zip(
            a.module.state_dict().values(), b.module.state_dict().values(), strict=True
        ):
            assert torch.equal(ours, theirs)


def test_several_objectives_are_accumulated_and_applied_once() -> None:
    """As several sizes of one batch will be: each view is on the device alone."""
    recipe = make_recipe()
    generator = recipe.phases[0]
    losses = recipe.generator_losses
    generator.objectives = (
        Objective(losses, name="full"),
        Objective(losses, name="half", view=lambda batch: batch.crop(batch.lq_size // 2)),
    )
    recipe.phases[:] = [generator]
    result = recipe.step([make_batch(4, side=16)])
    assert set(result.losses) == {"full_l1", "full_gan", "half_l1", "half_gan"}
    assert result.pixels == 4 * (16 * 16 + 8 * 8)
    assert result.shape == Shape(16, 4)
    assert {float(state["step"]) for state in generator.optimizer.state.values()} == {1.0}


def test_outputs_are_found_however_the_samples_are_cut() -> None:
    memo = Memo()
    whole = torch.arange(6.0)[:, None]
    memo.put("sr", 0, 8, whole[:4])
    mark = memo.mark()
    memo.put("sr", 4, 8, whole[4:])
    assert torch.equal(memo.get("sr", 1, 4, 8), whole[1:5])  # type: ignore[arg-type]
    assert memo.get("sr", 0, 4, 4) is None, "other crops"
    assert memo.get("sr", 3, 4, 8) is None, "beyond the end"
    assert memo.get("depth", 0, 1, 8) is None
    memo.rewind(mark)
    assert memo.get("sr", 3, 2, 8) is None
    assert torch.equal(memo.get("sr", 2, 2, 8), whole[2:4])  # type: ignore[arg-type]
