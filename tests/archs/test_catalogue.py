"""Every named network: built, trained on, saved, read back."""

from __future__ import annotations

import copy
import inspect
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pydantic
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from traiNNer.archs import ArchSpec, build_network
from traiNNer.archs.catalogue import LEFT_OUT, SPECS, TEMPORAL
from traiNNer.archs.counting import count_parameters
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import ARCHS

# What the classes call the numbers of their blocks.
REPEATS = (
    "num_conv",
    "num_blocks",
    "n_resgroups",
    "n_blocks",
    "n_block",
    "num_layers",
    "num_groups",
    "res_num",
)
REPEATS_LISTED = ("depths", "depth", "num_heads", "num_heads_window", "num_heads_stripe")
# GRL's attention keeps gigabytes for a backward pass; smaller windows have the same blocks and the
# same weights.
LEAN: dict[str, dict[str, object]] = {
    name: {"window_size": 8, "stripe_size": [8, 8]} for name in ("grl_t", "grl_s", "grl_b")
}
# The table has the variants of a class together.
FIRST_OF_CLASS = list(
    {(spec.architecture, spec.class_name): spec for spec in reversed(SPECS)}.values()
)
# Ten seconds each on a CPU without bf16 arithmetic.
SLOW_BF16 = ("mmrealsr", "scunet")
by_name = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
# Large variants, 3 to 30 s each, of classes that smaller ones show.
LARGE = (
    "dat",
    "dat_s",
    "dat_2",
    "drct_l",
    "grl_t",
    "grl_b",
    "hat_l",
    "nafnet_l",
    "rgt",
    "swin2sr_l",
    "swinir_l",
    "uformer_b",
)
all_but_large = pytest.mark.parametrize(
    "spec",
    [
        pytest.param(spec, marks=[pytest.mark.slow] * (spec.name in LARGE), id=spec.name)
        for spec in SPECS
    ],
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The networks are tiny here: threads would wait for each other more than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _quiet_and_seeded() -> Iterator[None]:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # meshgrid and the like, inside the classes
        yield


def images(batch: int, height: int, width: int) -> Tensor:
    return torch.rand(batch, 3, height, width)


@all_but_large
def test_trains_and_its_checkpoint_is_read_by_spandrel(spec: ArchSpec) -> None:
    scale = spec.default_scale
    size = 16 if spec.name in LEAN else spec.min_size
    network = spec(scale=scale, **LEAN.get(spec.name, {}))
    lq = images(spec.min_batch, size, size)
    given = lq.clone()
    output = network(lq)
    assert output.shape == (spec.min_batch, 3, size * scale, size * scale)
    assert torch.equal(lq, given), "the network writes into its input"
    (output - torch.rand_like(output)).abs().mean().backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    assert all(g.isfinite().all() for g in gradients.values() if g is not None)
    assert any(g is None for g in gradients.values()) == spec.unused_parameters

    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter -= 1e-4 * parameter.grad.sign()
        saved = save({key: value.contiguous() for key, value in network.state_dict().items()})
        if spec.name in LEAN:
            network = spec(scale=scale)
            network.load_state_dict(load(saved))
        network.eval()
        height = spec.min_size
        # One of a class is given a second size that fits, which is not square either.
        width = height + (spec.size_multiple if spec in FIRST_OF_CLASS else 0)
        lq = images(1, height, width)
        output = network(lq)
        assert output.shape == (1, 3, height * scale, width * scale)
        assert reads_equal(spec, load(saved), lq, output) == spec.spandrel_detects


def reads_equal(spec: ArchSpec, weights: dict[str, Tensor], lq: Tensor, expected: Tensor) -> bool:
    """Whether spandrel recognizes the weights and computes `expected` from `lq`."""
    from spandrel import ImageModelDescriptor, ModelLoader

    try:
        descriptor = ModelLoader().load_from_state_dict(weights)
    except Exception:  # noqa: BLE001 - a wrong guess of the architecture may fail in any way
        return False
    assert isinstance(descriptor, ImageModelDescriptor)
    output = descriptor(lq.clone())
    same = (
        descriptor.scale == spec.default_scale and descriptor.architecture.id == spec.architecture
    )
    return same and torch.allclose(output, expected.clamp(0, 1), atol=1e-4)


def one_block(spec: ArchSpec) -> dict[str, object]:
    """Parameters that leave one of the blocks that the network repeats."""
    parameters = {name: p.default for name, p in inspect.signature(spec).parameters.items()}
    few: dict[str, object] = {
        name: values[:1]
        for name in REPEATS_LISTED
        if isinstance(values := parameters.get(name), list)
    }
    few |= {name: 1 for name in REPEATS if name in parameters}
    return few | LEAN.get(spec.name, {})


@by_name
def test_every_scale_can_be_built(spec: ArchSpec) -> None:
    """With the repeated blocks cut down to one: the scale changes the two ends."""
    few = one_block(spec)
    size = 16 if spec.name in LEAN else spec.min_size
    for scale in spec.scales if len(spec.scales) > 1 else ():
        network = spec(scale=scale, **few).eval()
        lq = images(1, size, size)
        with torch.no_grad():
            output = network(lq)
        assert output.shape == (1, 3, size * scale, size * scale)
        assert scale > 1 or not torch.allclose(output, lq), "a network that does nothing"


@by_name
def test_parameters_are_listed_with_types_that_can_be_checked(spec: ArchSpec) -> None:
    signature = inspect.signature(spec)
    first, *rest = signature.parameters.values()
    assert (first.name, first.annotation, first.default) == ("scale", int, inspect.Parameter.empty)
    assert tuple(p.name for p in rest) == spec.parameter_names
    for parameter in rest:
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default is not inspect.Parameter.empty, parameter.name
        pydantic.TypeAdapter(parameter.annotation).validate_python(parameter.default)
    assert set(spec.defaults) <= set(spec.parameter_names) | set(spec.class_parameters)


@by_name
def test_facts_fit_together(spec: ArchSpec) -> None:
    assert ARCHS[spec.name] is spec
    assert all(ARCHS[alias] is spec for alias in spec.aliases)
    assert spec.min_size >= 1
    assert spec.size_multiple >= 1
    assert spec.min_size % spec.size_multiple == 0 or spec.size_multiple == 1
    assert spec.scales == tuple(sorted(spec.scales))
    assert spec.source


def test_every_architecture_of_spandrel_is_built_or_left_out_with_a_reason() -> None:
    from spandrel import MAIN_REGISTRY

    known = {support.architecture.id for support in MAIN_REGISTRY.architectures()}
    built = {spec.architecture for spec in SPECS}
    assert built.isdisjoint(LEFT_OUT)
    assert known == built | set(LEFT_OUT)
    assert all(LEFT_OUT.values())


def test_the_document_lists_every_network() -> None:
    """Rewrite it with `scripts/archs/list_archs.py --markdown`."""
    document = (Path(__file__).parents[2] / "docs" / "archs.md").read_text(encoding="utf-8")
    images, _, clips = document.partition("## For clips")
    rows = [line.strip("| ").split(" | ") for line in images.splitlines() if line.startswith("| `")]
    yes = {True: "yes", False: "no"}
    assert [(row[0], *row[2:]) for row in rows] == [
        (
            f"`{spec.name}`",
            ", ".join(map(str, spec.scales)),
            str(spec.size_multiple),
            str(spec.min_size),
            *(yes[fact] for fact in (spec.fp16, spec.bf16, spec.spandrel_detects, spec.stackable)),
            spec.source,
        )
        for spec in SPECS
    ]
    assert all(f"| `{spec.name}` | " in clips for spec in TEMPORAL)
    assert all(reason in document for reason in LEFT_OUT.values())


def test_importing_the_package_does_not_import_spandrel() -> None:
    code = "import sys, traiNNer.archs, traiNNer.archs.loading; sys.exit('spandrel' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_lists_and_tuples_are_made_what_the_class_wants() -> None:
    small = {"embed_dim": 24, "window_size": 4, "mlp_ratio": 1.0}
    for kind in (list, tuple):
        build_network("swinir_s", scale=2, depths=kind([2, 2]), num_heads=kind([2, 2]), **small)
        build_network("hat_s", scale=2, depths=kind([2, 2]), num_heads=kind([2, 2]), embed_dim=48)
    assert isinstance(ARCHS["swinir_s"].class_parameters["depths"].default, list)
    assert isinstance(ARCHS["hat_s"].class_parameters["depths"].default, tuple)


def test_a_parameter_goes_before_the_variants_own() -> None:
    assert count(build_network("compact", scale=2, num_feat=16)) < count(
        build_network("compact", scale=2)
    )


@pytest.mark.parametrize("name", ["compact", "hat_s", "nafnet", "fdat_tiny"])
def test_weights_are_counted(name: str) -> None:
    spec = ARCHS[name]
    assert count_parameters(spec, spec.default_scale) == count(spec(scale=spec.default_scale))


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_unknown_parameter_names_the_nearest() -> None:
    with pytest.raises(
        OptionsError, match=r"'compact' has no parameter 'num_feats'; did you mean num_feat"
    ):
        build_network("compact", scale=2, num_feats=64)
    with pytest.raises(
        OptionsError, match=r"has no parameter 'zzz'; it has: num_feat, num_conv, act_type"
    ):
        build_network("compact", scale=2, zzz=64)


def test_hidden_parameters_cannot_be_set() -> None:
    with pytest.raises(OptionsError, match="has no parameter 'num_in_ch'"):
        build_network("compact", scale=2, num_in_ch=1)
    with pytest.raises(OptionsError, match="has no parameter 'upscale'"):
        build_network("compact", scale=2, upscale=4)


def test_unsupported_scale_names_the_scales_and_who_has_it() -> None:
    with pytest.raises(
        OptionsError, match=r"'esrgan' cannot be built at scale 3; it has 1, 2, 4, 8\..*compact"
    ):
        build_network("esrgan", scale=3)
    with pytest.raises(OptionsError, match=r"it has 1\. Networks with scale 4: compact"):
        build_network("nafnet", scale=4)
    with pytest.raises(OptionsError, match="No network has that scale"):
        build_network("compact", scale=5)


def test_values_that_a_class_refuses_are_an_options_error() -> None:
    with pytest.raises(
        OptionsError, match=r"'realplksr' cannot be built at scale 2 with dysample: True, dim: 6"
    ):
        build_network("realplksr", scale=2, dysample=True, dim=6)


def test_span_infers_with_the_weights_it_was_trained_to() -> None:
    network = build_network("span", scale=2, norm=False)
    lq = torch.rand(1, 3, 16, 16)
    optimizer = torch.optim.SGD((p for p in network.parameters() if p.requires_grad), lr=0.05)
    network.eval()
    with torch.no_grad():
        before = network(lq)
    network.train()
    (network(lq) - 1).square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        trained = network(lq)
        assert not torch.allclose(trained, before, atol=1e-4)
        assert torch.allclose(network.eval()(lq), trained, atol=1e-4)


def test_span_saves_fused_weights_that_are_not_stale() -> None:
    network = build_network("span", scale=2)
    assert not network.get_parameter("conv_1.eval_conv.weight").requires_grad
    for model in (network, copy.deepcopy(network)):
        with torch.no_grad():
            model.get_parameter("conv_1.sk.weight").add_(1)
            before = model.get_parameter("conv_1.eval_conv.weight").clone()
            saved = model.state_dict()["conv_1.eval_conv.weight"]
        assert torch.allclose(saved[:, :, 1, 1], before[:, :, 1, 1] + 1, atol=1e-5)


def test_span_fuses_in_full_precision_under_autocast() -> None:
    network = build_network("span", scale=2).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        network(torch.rand(1, 3, 8, 8))
    assert {p.dtype for p in network.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(spec, marks=[pytest.mark.slow] * (spec.name in SLOW_BF16), id=spec.name)
        for spec in FIRST_OF_CLASS
        if spec.bf16
    ],
)
def test_bf16_autocast(spec: ArchSpec) -> None:
    """With one block of a kind, where the class can do with that: a CPU without bf16 arithmetic
    takes 10 s for some of the whole networks.
    """
    try:
        network = spec(scale=spec.default_scale, **one_block(spec)).eval()
    except OptionsError:
        network = spec(scale=spec.default_scale, **LEAN.get(spec.name, {})).eval()
    size = 16 if spec.name in LEAN else spec.min_size
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert network(images(1, size, size)).isfinite().all()
