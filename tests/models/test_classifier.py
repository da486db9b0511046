"""The classifier's recipe on torchvision's networks: sizes, chunks and memory that runs out change
nothing.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.models.test_several_sizes import assert_equal
from traiNNer.archs import build_network, list_available_models
from traiNNer.data import Batch
from traiNNer.models import ClassifierModel
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.device import Runtime

CPU = torch.device("cpu")
SCALES = [32, 48, 64]


def make_model(
    network: str, data: dict[str, Any] | None = None, classes: int = 3, **train: Any
) -> ClassifierModel:
    torch.manual_seed(0)
    section = {"type": "ImageFolderDataset", "dataroot": "x", "lq_size": 64, "scales": SCALES}
    options = TrainingOptions.model_validate(
        {
            "name": "t",
            "model_type": "classifier",
            "datasets": {"train": section | (data or {})},
            "network_g": {"type": network, "num_classes": classes},
            "train": {
                "total_iter": 20,
                "optim_g": {"type": "sgd", "lr": 0.01},
                "losses": [{"type": "cross_entropy"}],
                "ema_decay": 0,
            }
            | train,
        }
    )
    module = build_network(network, scale=1, num_classes=classes)
    return ClassifierModel(options, Runtime(CPU), module)


def make_batch(samples: int, side: int = 64, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        torch.rand(samples, 3, side, side, generator=generator),
        None,
        list(range(samples)),
        [f"{n}.png" for n in range(samples)],
        [],
        scale=1,
        labels=torch.randint(0, 3, (samples,), generator=generator),
    )


@pytest.mark.parametrize(
    ("network", "kind"),
    [
        ("resnet18", "kl_divergence"),
        ("resnet18", "mse"),
        ("resnet18", "cosine"),
        ("vit_b_16", "kl_divergence"),
    ],
)
def test_running_twice_gives_the_gradient_of_running_at_once(network: str, kind: str) -> None:
    models = [
        make_model(network, scale_consistency={"weight": 0.5, "type": kind, "recompute": recompute})
        for recompute in (True, False)
    ]
    results = [model.step([make_batch(4), make_batch(3, seed=1)]) for model in models]
    assert_equal(*models)
    for label in ("cross_entropy", "scale_consistency"):
        torch.testing.assert_close(results[0].losses[label], results[1].losses[label])
    assert results[0].pixels == 7 * sum(side**2 for side in SCALES)
    fresh = make_model(network)
    with pytest.raises(AssertionError):
        assert_equal(models[0], fresh)


def test_without_a_term_each_size_is_alone() -> None:
    models = [make_model("resnet18"), make_model("resnet18", scale_consistency={"weight": 1e-12})]
    for model in models:
        model.step([make_batch(4)])
    assert_equal(*models)


@pytest.mark.parametrize("consistency", [None, {"weight": 0.5}])
def test_memory_that_runs_out_between_sizes_changes_nothing(consistency: Any) -> None:
    """A network without batch norms, whose gradient is the same in any chunks."""
    models = [make_model("squeezenet1_1", scale_consistency=consistency) for _ in range(2)]
    for model in models:
        for module in model.main.module.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    seen: list[int] = []

    def fail_once(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        seen.append(arguments[0].shape[-1])
        if len(seen) == 2:
            raise torch.OutOfMemoryError("injected")

    models[0].main.module.register_forward_pre_hook(fail_once)
    results = [model.step([make_batch(4)]) for model in models]
    assert_equal(*models)
    assert [retry.failures for retry in results[0].retries] == [1]
    assert seen[:2] == [64, 48]
    assert results[0].samples == results[1].samples == 4


def test_the_loss_of_each_sample_and_the_metadata() -> None:
    model = make_model("squeezenet1_1", losses=[{"type": "bce", "label_smoothing": 0.1}])
    result = model.step([make_batch(4)], per_sample=True)
    assert result.per_sample["bce"].shape == (4,)
    assert model.metadata["activation"] == "sigmoid"
    told = model.classify(torch.rand(2, 3, 64, 64))
    assert told.shape == (2, 3)
    assert (told > 0).all()
    softmax = make_model("squeezenet1_1").classify(torch.rand(2, 3, 64, 64))
    torch.testing.assert_close(softmax.sum(1), torch.ones(2))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_losses_are_torchs(count: int) -> None:
    from traiNNer.losses.classes import BinaryCrossEntropyLoss, CrossEntropyLoss

    logits = torch.randn(count, 4)
    labels = torch.randint(0, 4, (count,))
    torch.testing.assert_close(
        CrossEntropyLoss(0.1)(logits, labels),
        nn.CrossEntropyLoss(label_smoothing=0.1)(logits, labels),
    )
    hot = nn.functional.one_hot(labels, 4).float()
    expected = nn.BCEWithLogitsLoss()(logits, hot)
    torch.testing.assert_close(BinaryCrossEntropyLoss()(logits, labels), expected)
    torch.testing.assert_close(BinaryCrossEntropyLoss()(logits, hot), expected)
    weighted = CrossEntropyLoss(class_weights=[1.0, 2.0, 3.0, 4.0])(logits, labels)
    each = nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(weighted, (each * (labels + 1)).mean())


def test_the_names_are_torchvisions() -> None:
    from torchvision import models

    from traiNNer.archs.table_classifiers import LEFT_OUT

    assert sorted([*list_available_models(), *LEFT_OUT]) == models.list_models(module=models)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        *[("resnet18", 32), ("squeezenet1_1", 32), ("shufflenet_v2_x0_5", 32), ("vit_b_32", 64)],
        *[("swin_t", 36), ("convnext_tiny", 32), ("alexnet", 63), ("googlenet", 32)],
    ],
)
def test_networks_take_their_smallest_sizes(name: str, side: int) -> None:
    network = build_network(name, scale=1, num_classes=5)
    logits = network(torch.rand(2, 3, side, side))
    assert logits.shape == (2, 5)
    logits.sum().backward()


def test_a_transformer_at_its_own_size_is_torchvisions() -> None:
    from torchvision import models

    ours = build_network("vit_b_16", scale=1, num_classes=5).eval()
    theirs = models.vit_b_16(num_classes=5).eval()
    assert ours.load_state_dict(theirs.state_dict())
    picture = torch.rand(1, 3, 224, 224)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        expected: Tensor = theirs((picture - mean) / std)
        torch.testing.assert_close(ours(picture), expected, rtol=1e-4, atol=1e-5)
        assert ours(picture[..., :64, :96]).shape == (1, 5)
