"""Adversarial training: what each phase changes, and that nothing disturbs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.test_sr_model import CPU, make_batch, make_options
from traiNNer.archs import build_network
from traiNNer.losses.gan import GANLoss
from traiNNer.models import SRModel
from traiNNer.options.entries import DiscriminatorOptions
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import Runtime
from traiNNer.utils.registry import DISCRIMINATORS

GAN = {"type": "gan", "loss_weight": 0.1}


def make_model(kind: str = "unet_sn", amp: torch.dtype | None = None, **train: Any) -> SRModel:
    torch.manual_seed(0)
    adam = {"type": "adam", "lr": 1e-3}
    losses = [{"type": "l1"}, GAN]
    options = {
        "name": "t",
        "scale": 2,
        "datasets": make_options().model_dump(mode="json")["datasets"],
        "network_g": {"type": "compact", "num_feat": 8, "num_conv": 1},
        "network_d": {"type": kind, "num_feat": 8},
        "train": {"total_iter": 20, "optim_g": adam, "optim_d": adam, "losses": losses} | train,
    }
    checked = TrainingOptions.model_validate(options)
    described = checked.network_g
    network = build_network(described.type, scale=2, **described.params)
    return SRModel(checked, Runtime(CPU, amp), network)


def copies(module: nn.Module) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in module.parameters()]


def has_changed(module: nn.Module, before: list[Tensor]) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))


@pytest.mark.parametrize("kind", ["unet_sn", "patchgan", "multiscale_patchgan", "vgg"])
@pytest.mark.parametrize("amp", [None, torch.bfloat16])
def test_both_networks_learn_each_in_its_phase(kind: str, amp: torch.dtype | None) -> None:
    model = make_model(kind, amp)
    critic = model.networks["net_d"].module
    before = copies(model.main.module), copies(critic)
    side = 32 if kind == "multiscale_patchgan" else 16
    result = model.step([make_batch(4, side)])
    assert list(result.phases) == ["generator", "discriminator"]
    assert set(result.losses) == {"l1", "gan", "gan_d_real", "gan_d_fake"}
    assert has_changed(model.main.module, before[0])
    assert has_changed(critic, before[1])
    assert result.shape.lq_size == side


def test_the_generators_phase_leaves_no_gradient_with_the_critic() -> None:
    model = make_model()
    model.phases[:] = model.phases[:1]
    critic = model.networks["net_d"].module
    before = copies(critic)
    model.step([make_batch(4, 16)])
    assert all(weight.grad is None for weight in critic.parameters())
    assert not has_changed(critic, before)


def test_the_gradient_of_the_generator_is_that_of_both_losses() -> None:
    model = make_model(optim_g={"type": "sgd", "lr": 1.0}, ema_decay=0)
    batch = make_batch(2, 16)
    critic = model.networks["net_d"].module
    lq, gt = batch.pair
    state = {key: value.clone() for key, value in critic.state_dict().items()}
    made = model.main.module(lq)
    logits = critic(made)
    loss = (made - gt).abs().mean() + 0.1 * nn.functional.softplus(-logits).mean()
    parameters = list(model.main.module.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    expected = [p.detach() - g for p, g in zip(parameters, gradients, strict=True)]
    critic.load_state_dict(state)
    model.step([batch])
    for ours, theirs in zip(model.main.module.parameters(), expected, strict=True):
        torch.testing.assert_close(ours.detach(), theirs, rtol=1e-4, atol=1e-6)


def test_the_network_waits_and_takes_part_every_so_often() -> None:
    model = make_model(net_d_init_iters=2, net_d_iters=2, ema_decay=0.5)
    parts = [list(model.step([make_batch(2, 16)]).phases) for _ in range(6)]
    both = ["generator", "discriminator"]
    assert parts == [both[1:], both[1:], both[1:], both, both[1:], both]
    # The average follows what has changed only.
    assert model.averages[0].has_begun


class Failing(nn.Module):
    """Passes pictures on, and runs out of memory at some of the calls."""

    def __init__(self, inner: nn.Module, calls: Iterator[bool]) -> None:
        super().__init__()
        self.inner = inner
        self.calls = calls

    def forward(self, x: Tensor) -> Tensor:
        if next(self.calls, False):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
        return self.inner(x)


def test_a_relativistic_loss_and_penalties_are_those_of_the_formulas() -> None:
    """A step of both networks, the discriminator's by second gradients."""
    sgd = {"type": "sgd", "lr": 1.0}
    gan = GAN | {"relativistic": True, "r1_weight": 0.3, "r2_weight": 0.7}
    model = make_model(
        "patchgan", optim_g=sgd, optim_d=sgd, losses=[{"type": "l1"}, gan], ema_decay=0
    )
    critic = model.networks["net_d"].module
    # Power iterations would make each pass another one.
    critic.eval()
    batch = make_batch(3, 16)
    lq, gt = batch.pair
    softplus = nn.functional.softplus

    made = model.main.module(lq)
    real, fake = critic(gt), critic(made)
    above, below = (
        each - other.mean((1, 2, 3), keepdim=True) for each, other in ((fake, real), (real, fake))
    )
    loss = (made - gt).abs().mean() + 0.1 * (softplus(-above) + softplus(below)).mean() / 2
    weights = list(model.main.module.parameters())
    expected = [
        weight.detach() - gradient
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True)
    ]

    copies, truth = made.detach().requires_grad_(), gt.clone().requires_grad_()
    real, fake = critic(truth), critic(copies)
    below, above = (
        each - other.mean((1, 2, 3), keepdim=True) for each, other in ((real, fake), (fake, real))
    )
    told = (softplus(-below).mean() + softplus(above).mean()) / 2
    places = real[0].numel()
    penalties: list[Tensor] = []
    for picture, logits, weight in ((truth, real, 0.3), (copies, fake, 0.7)):
        (slope,) = torch.autograd.grad(logits.sum(), picture, create_graph=True)
        squares = slope.flatten(1).square().sum(1) / places
        penalties.append(weight * squares.mean() / 2)
    of_critic = list(critic.parameters())
    gradients = torch.autograd.grad(told + sum(penalties), of_critic)
    expected_critic = [w.detach() - g for w, g in zip(of_critic, gradients, strict=True)]

    result = model.step([batch])
    for ours, theirs in zip(weights + of_critic, expected + expected_critic, strict=True):
        torch.testing.assert_close(ours.detach(), theirs, rtol=1e-3, atol=1e-5)
    for name, penalty in zip(("d_r1", "d_r2"), penalties, strict=True):
        torch.testing.assert_close(result.losses[name], penalty.detach(), rtol=1e-4, atol=0)


def test_a_penalty_does_not_depend_on_the_chunks() -> None:
    """Two batches of one step come to what they come to as one, of all new parts."""
    gan = GAN | {"relativistic": True, "r1_weight": 0.5, "r2_weight": 0.5}
    models = [make_model("patchgan", losses=[{"type": "l1"}, gan]) for _ in range(2)]
    for model in models:
        model.networks["net_d"].module.eval()
    batch = make_batch(4, 16)
    models[0].step([batch])
    models[1].step(list(batch.split(1)))
    for ours, theirs in zip(models[0].networks, models[1].networks, strict=True):
        pairs = zip(ours.module.parameters(), theirs.module.parameters(), strict=True)
        for one, other in pairs:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("call", [0, 1, 2])
def test_running_out_of_memory_in_either_phase_changes_nothing(call: int) -> None:
    """Calls of the critic: the generator's pictures, then GT, then what was made."""
    calm = make_model("patchgan", net_d_init_iters=0)
    disturbed = make_model("patchgan")
    critic = disturbed.networks["net_d"].module
    original = critic.forward
    failing = Failing(nn.Identity(), iter([number == call for number in range(3)]))

    def forward(x: Tensor) -> Tensor:
        failing(x)
        return original(x)

    critic.forward = forward  # type: ignore[method-assign]
    # Of spectral norms a power iteration is made in each pass, so chunks would differ by it.
    calm.networks["net_d"].module.eval()
    critic.eval()
    batch = make_batch(4, 16)
    results = [model.step([batch]) for model in (calm, disturbed)]
    assert sum(retry.failures for retry in results[1].retries) == 1
    for ours, theirs in zip(calm.networks, disturbed.networks, strict=True):
        pairs = zip(ours.module.parameters(), theirs.module.parameters(), strict=True)
        for one, other in pairs:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["vanilla", "lsgan", "hinge", "wgan", "wgan_softplus"])
def test_who_is_deceived_loses_what_the_other_gains(kind: Any) -> None:
    loss = GANLoss(kind)
    sure = torch.full((2, 1, 4, 4), 3.0)
    assert loss.for_generator(sure) < loss.for_generator(-sure)
    assert loss.for_discriminator(sure, is_real=True) < loss.for_discriminator(-sure, is_real=True)
    # A square has its least at the label, and not beyond.
    low = torch.zeros_like(sure) if kind == "lsgan" else -sure
    fake = [loss.for_discriminator(logits, is_real=False) for logits in (low, sure)]
    assert fake[0] < fake[1]
    logits = torch.randn(3, 1, 5, 5).bfloat16().requires_grad_()
    value = loss.for_generator(logits)
    assert value.dtype is torch.float32
    value.backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_values_are_those_of_the_formulas() -> None:
    logits = torch.tensor([[0.5, -1.0]])
    real = {
        "vanilla": -torch.sigmoid(logits).log().mean(),
        "lsgan": ((logits - 1) ** 2).mean(),
        "hinge": (1 - logits).clamp(min=0).mean(),
        "wgan": -logits.mean(),
        "wgan_softplus": (1 + (-logits).exp()).log().mean(),
    }
    for kind, value in real.items():
        loss = GANLoss(kind)  # type: ignore[arg-type]
        torch.testing.assert_close(loss.for_discriminator(logits, is_real=True), value)
        mirrored = loss.for_discriminator(-logits, is_real=False)
        if kind != "lsgan":
            torch.testing.assert_close(mirrored, value)


@pytest.mark.parametrize(
    ("name", "parameters", "published"),
    [
        ("unet_sn", {}, 4_376_897),
        # CycleGAN's, whose instance norms have no weights.
        ("patchgan", {}, 2_764_737),
        ("vgg", {}, 14_499_401),
    ],
)
def test_discriminators_are_as_large_as_published(
    name: str, parameters: dict[str, Any], published: int
) -> None:
    network = DISCRIMINATORS[name](**parameters)
    assert sum(p.numel() for p in network.parameters()) == published


@pytest.mark.parametrize("side", [32, 33, 50])
@pytest.mark.parametrize("name", list(DISCRIMINATORS))
def test_discriminators_take_any_side_from_their_least(name: str, side: int) -> None:
    network = DISCRIMINATORS[name](num_feat=8)
    least = DiscriminatorOptions.model_validate({"type": name}).min_side
    for each in {max(side, least), least}:
        logits = network(torch.rand(2, 3, each, each))
        assert logits.shape[:2] == (2, 2 if name == "multiscale_patchgan" else 1)
        assert torch.isfinite(logits).all()
