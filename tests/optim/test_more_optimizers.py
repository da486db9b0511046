"""Optimizers of the library: they train, go on bit for bit, and are asked for once."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.models.test_sr_model import average_of, make_batch, make_model, make_options, network_of
from tests.support import ROOT
from traiNNer.models import SRModel
from traiNNer.optim.more_optimizers import NAMES
from traiNNer.options.schema import TrainingOptions
from traiNNer.planning.step_memory import StepTracker
from traiNNer.utils.shape import Shape

FREE = [name for name in NAMES if name.startswith("ScheduleFree")]
# Prodigy finds the rate, and multiplies it by this.
RATES = {"Prodigy": 1.0, "ScheduleFreeSGD": 0.1}


def made(name: str, **train: Any) -> SRModel:
    rate = RATES.get(name, 1e-3)
    if name not in FREE:
        train = {"ema_decay": 0.5} | train
        return make_model(optim_g={"type": name, "lr": rate}, **train)
    return make_model(options=free_options(name))


def free_options(name: str) -> TrainingOptions:
    """Without a moving average: not even that there is none is said."""
    given = make_options().model_dump(mode="json", exclude_unset=True)
    del given["train"]["ema_decay"]
    given["train"]["optim_g"] = {"type": name, "lr": RATES.get(name, 1e-3)}
    return TrainingOptions.model_validate(given)


@pytest.mark.parametrize("name", NAMES)
def test_each_trains_and_goes_on_bit_for_bit(name: str) -> None:
    batches = [make_batch(4, 16, seed=number) for number in range(4)]
    straight, halfway = made(name), made(name)
    losses = [float(straight.step([batch]).losses["l1"]) for batch in batches * 5]
    assert sum(losses[-4:]) < sum(losses[:4])
    for batch in (batches * 5)[:9]:
        halfway.step([batch])
    file = io.BytesIO()
    torch.save(halfway.state_dict(), file)
    resumed = made(name)
    for network in resumed.networks:
        network.module.load_state_dict(halfway.networks[network.name].module.state_dict())
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for batch in (batches * 5)[9:]:
        resumed.step([batch])
    for network in resumed.networks:
        theirs = straight.networks[network.name].module.state_dict()
        for key, tensor in network.module.state_dict().items():
            assert torch.equal(tensor, theirs[key]), f"{network.name} {key}"


@pytest.mark.parametrize("name", FREE)
def test_the_average_is_the_one_that_the_optimizer_makes(name: str) -> None:
    model = made(name)
    for number in range(10):
        model.step([make_batch(4, 16, seed=number)])
    average = [weight.clone() for weight in average_of(model).parameters()]
    trained = [weight.detach().clone() for weight in network_of(model).parameters()]
    optimizer: Any = model.phases[0].optimizer
    optimizer.eval()
    for weight, ours, before in zip(network_of(model).parameters(), average, trained, strict=True):
        torch.testing.assert_close(ours, weight.detach(), rtol=1e-5, atol=1e-7)
        assert not torch.equal(ours, before)


@pytest.mark.parametrize(
    "more",
    [
        {"scheduler": {"type": "CosineAnnealingLR"}},
        {"ema_decay": 0.999},
        {"ema_half_life": 3},
    ],
)
def test_what_a_schedule_free_optimizer_replaces_is_left_out(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        make_options(optim_g={"type": "ScheduleFreeAdamW"}, **{"ema_decay": 0} | more)
    (key,) = more
    assert f"averages the weights itself; leave {key} out" in str(error.value)


def test_the_library_is_imported_when_one_of_its_optimizers_is_named() -> None:
    program = (
        "import sys\n"
        "from traiNNer.utils.registry import OPTIMIZERS\n"
        "assert 'Lion' in OPTIMIZERS and 'AdamW' in OPTIMIZERS\n"
        "assert 'pytorch_optimizer' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_planned(name: str) -> None:
    given = {"optim_g": {"type": name, "lr": 1e-3}}
    options = make_options(**given) if name not in FREE else free_options(name)
    plain = StepTracker(make_options(optim_g={"type": "SGD", "lr": 0.1})).track(Shape(16, 2))
    planned = StepTracker(options).track(Shape(16, 2))
    assert planned.peak >= plain.peak


def test_betas_are_as_many_as_the_optimizer_has() -> None:
    with pytest.raises(ValidationError, match="betas"):
        make_options(optim_g={"type": "Adan", "betas": [0.9, 0.99]})
    make_options(optim_g={"type": "Adan", "betas": [0.9, 0.99, 0.98]})
