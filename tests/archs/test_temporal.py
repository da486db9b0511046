"""Networks for clips: what they take, what they make, and what is said when they are given
something else.
"""

from __future__ import annotations

import copy
import inspect
import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydantic
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from tests.archs.test_catalogue import FIRST_OF_CLASS, LEAN, REPEATS, REPEATS_LISTED
from traiNNer.archs import ArchSpec, build_network
from traiNNer.archs.catalogue import SPECS, TEMPORAL
from traiNNer.archs.counting import count_parameters
from traiNNer.archs.loading import load_model
from traiNNer.archs.parameters import INPUTS
from traiNNer.archs.recurrent import Recurrent
from traiNNer.options.components import parameter_fields
from traiNNer.utils.device import Runtime
from traiNNer.utils.errors import CheckpointError, OptionsError
from traiNNer.utils.registry import ARCHS

Parameters = dict[str, Any]
CASES: dict[str, tuple[str, Parameters]] = {
    "deform_align": (
        "deform_align",
        {"num_feat": 8, "num_blocks": 1, "deform_groups": 2, "frames": 3},
    ),
    "recurrent": ("recurrent", {"num_feat": 8, "num_blocks": 2}),
    "stack of a narrow one": (
        "temporal_stack",
        {"arch": "span", "feature_channels": 8, "frames": 3},
    ),
    "stack of a wide one": (
        "temporal_stack",
        {"arch": "compact", "num_feat": 8, "num_conv": 2, "frames": 3},
    ),
    "stack of an adapted class": (
        "temporal_stack",
        {"arch": "realplksr", "n_blocks": 1, "dim": 16, "frames": 3},
    ),
}
by_case = pytest.mark.parametrize(("name", "parameters"), CASES.values(), ids=CASES)
# What cannot be cut down to one block.
WHOLE = ("uformer_t", "mixdehazenet_t", "mmrealsr")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _quiet_and_seeded() -> Iterator[None]:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def clips(height: int, width: int, frames: int = 3, batch: int = 2) -> Tensor:
    return torch.rand(batch, frames, 3, height, width)


def expected_shape(spec: ArchSpec, lq: Tensor, scale: int) -> tuple[int, ...]:
    batch, frames, _, height, width = lq.shape
    return (batch, *([frames] if spec.target == "all" else []), 3, height * scale, width * scale)


@by_case
@pytest.mark.parametrize("size", [(1, 1), (7, 10)], ids=str)
def test_trains(name: str, parameters: Parameters, size: tuple[int, int]) -> None:
    spec = ARCHS[name].for_parameters(parameters)
    assert spec.min_size == 1
    network = build_network(name, scale=2, **parameters)
    lq = clips(*size).requires_grad_()
    given = lq.detach().clone()
    output = network(lq)
    assert output.shape == expected_shape(spec, lq, 2)
    (output - torch.rand_like(output)).abs().mean().backward()
    assert torch.equal(lq, given)
    assert lq.grad is not None
    assert (lq.grad.abs().amax((0, 2, 3, 4)) > 0).all(), "a frame that nothing is learned from"
    gradients = {key: p.grad for key, p in network.named_parameters() if p.requires_grad}
    assert [key for key, gradient in gradients.items() if gradient is None] == []
    assert all(gradient.isfinite().all() for gradient in gradients.values() if gradient is not None)
    if min(size) > 1:
        assert [
            key
            for key, gradient in gradients.items()
            if gradient is not None and not gradient.any()
        ] == []


@by_case
def test_every_scale(name: str, parameters: Parameters) -> None:
    spec = ARCHS[name].for_parameters(parameters)
    assert {1, 2, 3, 4} <= set(spec.scales)
    lq = clips(6, 5)
    for scale in spec.scales:
        network = build_network(name, scale=scale, **parameters)
        with torch.no_grad():
            trained = network(lq)
            assert trained.shape == expected_shape(spec, lq, scale)
            assert torch.allclose(network.eval()(lq), trained, atol=1e-3, rtol=1e-3)


@by_case
def test_half_precision_and_tensors_without_memory(name: str, parameters: Parameters) -> None:
    """The planner runs the step on fake tensors."""
    spec = ARCHS[name].for_parameters(parameters)
    network = build_network(name, scale=2, **parameters)
    lq = clips(6, 6)
    for dtype in [torch.bfloat16] * spec.bf16 + [torch.float16] * spec.fp16:
        network.zero_grad()
        with torch.autocast("cpu", dtype):
            output = network(lq)
        output.float().abs().mean().backward()
        assert output.isfinite().all()
        assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    for module in network.modules():
        for key, weight in list(module.named_parameters(recurse=False)):
            weight.grad = None
            setattr(module, key, mode.from_tensor(weight))
    with mode:
        with torch.autocast("cpu", torch.bfloat16):
            output = network(mode.from_tensor(lq))
        output.float().mean().backward()
    assert output.shape == expected_shape(spec, lq, 2)


@by_case
def test_weights_and_clips_of_half_the_size(name: str, parameters: Parameters) -> None:
    """As players run networks: all in one type, without autocast."""
    network = build_network(name, scale=2, **parameters).eval()
    lq = clips(6, 6)
    with torch.no_grad():
        expected = network(lq)
        output = copy.deepcopy(network).bfloat16()(lq.bfloat16())
    assert output.dtype == torch.bfloat16
    assert (output.float() - expected).norm() < 0.03 * expected.norm()


@by_case
def test_reads_its_checkpoint_back(name: str, parameters: Parameters, tmp_path: Path) -> None:
    spec = ARCHS[name].for_parameters(parameters)
    network = build_network(name, scale=2, **parameters).eval()
    path = save(network, tmp_path, arch=name, scale="2", parameters=json.dumps(parameters))
    loaded = load_model(path)
    assert (loaded.name, loaded.scale, loaded.temporal, loaded.target) == (
        name,
        2,
        True,
        spec.target,
    )
    assert loaded.frames == (None if name == "recurrent" else 3)
    assert (loaded.size_multiple, loaded.min_size) == (spec.size_multiple, spec.min_size)
    assert not loaded.network.training
    lq = clips(6, 5)
    with torch.no_grad():
        assert torch.equal(loaded.network(lq), network(lq))
    bare = tmp_path / "bare.pth"
    torch.save(network.state_dict(), bare)
    with pytest.raises(
        CheckpointError, match=r"not recognized.*say with network_g and scale what it holds"
    ):
        load_model(bare)


def save(network: nn.Module, folder: Path, **metadata: str) -> Path:
    path = folder / "net.safetensors"
    save_file(
        {key: value.contiguous() for key, value in network.state_dict().items()},
        path,
        metadata=metadata,
    )
    return path


@pytest.mark.parametrize(
    ("arch", "parameters", "why"),
    [
        ("temporal_stack", '{"arch": "spam"}', "unknown network 'spam'; did you mean span"),
        ("temporal_stack", "{}", "expected the image network"),
        (
            "temporal_stack",
            '{"arch": "temporal_stack"}',
            "takes clips by itself, so it cannot be stacked",
        ),
        ("temporal_stack", '{"arch": "span", "frames": 4}', "frames: 4 has no frame in the centre"),
        (
            "temporal_stack",
            '{"arch": "span", "frames": "5"}',
            "frames: '5' has no frame in the centre",
        ),
        (
            "temporal_stack",
            '{"arch": "span", "dim": 3}',
            "'temporal_stack of span' has no parameter 'dim'",
        ),
        ("temporal_stack", "[]", r"its parameters are \[\]"),
        ("temporal_stack", '{"arch": "span", "frames": 7}', "have another shape"),
        ("deform_align", '{"num_feat": 7}', r"num_feat \(7\) is no multiple"),
        ("recurrent", '{"num_feat": 16}', "are not in the file"),
    ],
)
def test_metadata_that_lies(arch: str, parameters: str, why: str, tmp_path: Path) -> None:
    network = build_network("temporal_stack", scale=2, arch="span", feature_channels=8, frames=3)
    path = save(network, tmp_path, arch=arch, scale="2", parameters=parameters)
    with pytest.raises(CheckpointError, match=why):
        load_model(path)


@pytest.mark.parametrize("spec", TEMPORAL, ids=lambda spec: spec.name)
def test_facts_fit_together(spec: ArchSpec) -> None:
    assert ARCHS[spec.name] is spec
    assert spec.temporal
    assert spec.target in ("center", "all")
    assert not spec.stackable
    assert not spec.spandrel_detects
    assert (spec.frames_of({}), spec.frames_of({"frames": 7})) == (
        (None, 7) if spec.target == "all" else (5, 7)
    )
    for name, info in parameter_fields(spec, frozenset({"scale"})).items():
        assert info.description, name
        if not info.is_required():
            pydantic.TypeAdapter(info.annotation).validate_python(info.default)


def test_images_are_no_clips() -> None:
    assert not any(spec.temporal or spec.target or spec.frames_of({}) for spec in SPECS)
    assert all(spec.for_parameters({}) is spec for spec in SPECS)


def few_blocks(spec: ArchSpec) -> Parameters:
    if spec.name in WHOLE:
        return {}
    parameters = {name: p.default for name, p in inspect.signature(spec).parameters.items()}
    few = {
        name: values[:1]
        for name in REPEATS_LISTED
        if isinstance(values := parameters.get(name), list)
    }
    few |= {name: 1 for name in REPEATS if isinstance(parameters.get(name), int)}
    return few | LEAN.get(spec.name, {})


def sees_all_frames(spec: ArchSpec, scale: int) -> bool:
    """Whether the network can be built for the channels of three frames, and the centre's depend on
    all of them.
    """
    if not (spec.stacked_class or any(name in INPUTS for name in spec.class_parameters)):
        return False  # nothing tells the class how many channels it gets
    size = 16 if spec.name in LEAN else spec.min_size
    lq = torch.rand(spec.min_batch, 9, size, size, requires_grad=True)
    try:
        output = spec.build(scale, few_blocks(spec), 3)(lq)
    except (RuntimeError, OptionsError):
        return False
    if output.shape[1:] != ((3 if spec.stack == "narrow" else 9), size * scale, size * scale):
        return False
    centre = output.shape[1] // 2
    output[:, centre - 1 : centre + 2].square().mean().backward()
    assert lq.grad is not None
    return bool((lq.grad.abs().amax((0, 2, 3)) > 0).all())


@pytest.mark.parametrize("spec", FIRST_OF_CLASS, ids=lambda spec: spec.name)
def test_stackable_is_what_works(spec: ArchSpec) -> None:
    if spec.stackable:
        assert all(sees_all_frames(spec, scale) for scale in {min(spec.scales), spec.default_scale})
    else:
        assert not sees_all_frames(replace(spec, stack="narrow"), spec.default_scale)
        assert not sees_all_frames(replace(spec, stack="wide"), spec.default_scale)


def test_the_variants_of_a_class_stack_alike() -> None:
    kinds = {
        (spec.architecture, spec.class_name): (spec.stack, spec.stacked_class) for spec in SPECS
    }
    assert all(
        kinds[spec.architecture, spec.class_name] == (spec.stack, spec.stacked_class)
        for spec in SPECS
    )
    assert sum(spec.stackable for spec in SPECS) >= 70


@pytest.mark.parametrize(
    "arch", ["compact", "span", "esrgan_lite", "realplksr_s", "rcan", "drunet", "swinir_s"]
)
def test_a_stack_of_one_frame_is_the_image_network(arch: str) -> None:
    spec = ARCHS[arch]
    few = few_blocks(spec)
    image = spec(scale=min(spec.scales), **few).eval()
    stack = build_network(
        "temporal_stack", scale=min(spec.scales), arch=arch, frames=1, **few
    ).eval()
    stack.load_state_dict({f"network.{key}": value for key, value in image.state_dict().items()})
    lq = torch.rand(1, 3, spec.min_size, spec.min_size)
    with torch.no_grad():
        assert torch.equal(stack(lq[:, None]), image(lq))


def test_frames_are_stacked_in_the_layout_of_the_weights() -> None:
    """SPAN begins with a kernel of 1x1, which is in every layout."""
    stack = build_network(
        "temporal_stack", scale=2, arch="span", frames=3, feature_channels=8
    ).eval()
    seen: list[Tensor] = []
    assert isinstance(stack.network, nn.Module)
    stack.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    lq = clips(6, 6)
    with torch.no_grad():
        plain = stack(lq)
        last = Runtime(torch.device("cpu"), channels_last=True).place(stack)(lq)
    assert [frames.is_contiguous(memory_format=torch.channels_last) for frames in seen] == [
        False,
        True,
    ]
    assert torch.allclose(plain, last, atol=1e-5)


@pytest.mark.parametrize(
    ("arch", "weight"), [("esrgan", "model.0.weight"), ("drunet", "m_head.weight")]
)
def test_the_input_channels_are_three_for_each_frame(arch: str, weight: str) -> None:
    """ESRGAN folds a square of 2x2 pixels into channels at scale 2; DRUNet has a channel that is no
    image.
    """
    scale = 2 if arch == "esrgan" else 1
    stack = build_network(
        "temporal_stack", scale=scale, arch=arch, frames=5, **few_blocks(ARCHS[arch])
    )
    assert (
        stack.get_parameter(f"network.{weight}").shape[1]
        == {"esrgan": 15 * 4, "drunet": 15 + 1}[arch]
    )


@pytest.mark.parametrize("arch", ["compact", "realplksr"])
def test_what_is_learned_is_the_difference_to_the_centre_frame(arch: str) -> None:
    stack = build_network("temporal_stack", scale=2, arch=arch, frames=5, **few_blocks(ARCHS[arch]))
    last = [module for module in stack.modules() if isinstance(module, nn.Conv2d)][-1]
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    nn.init.zeros_(last.bias)
    lq = clips(6, 5, frames=5)
    assert torch.equal(stack(lq), functional.interpolate(lq[:, 2], scale_factor=2, mode="nearest"))


def test_deform_align_starts_at_the_centre_frame() -> None:
    network = build_network("deform_align", scale=3, **CASES["deform_align"][1])
    last = network.get_submodule("enlarge.0")
    assert isinstance(last, nn.Conv2d)
    for weight in last.parameters():
        nn.init.zeros_(weight)
    lq = clips(6, 5)
    assert torch.equal(
        network(lq), functional.interpolate(lq[:, 1], scale_factor=3, mode="bicubic")
    )


def test_recurrent_sees_the_past_and_one_frame_ahead() -> None:
    network = build_network("recurrent", scale=2, num_feat=8, num_blocks=1)
    lq = clips(5, 6, frames=5, batch=1).requires_grad_()
    network(lq)[:, 2].square().mean().backward()
    assert lq.grad is not None
    assert (lq.grad.abs().amax((0, 2, 3, 4)) > 0).tolist() == [True, True, True, True, False]


def test_recurrent_makes_a_stream_frame_by_frame() -> None:
    network = build_network("recurrent", scale=2, num_feat=8, num_blocks=1).eval()
    assert isinstance(network, Recurrent)
    stream = clips(5, 6, frames=4, batch=1)
    with torch.no_grad():
        whole = network(stream)
        state = network.start(stream[:, 0])
        for index in range(4):
            before = max(0, index - 1)
            after = min(3, index + 1)
            frame, state = network.step(
                stream[:, before], stream[:, index], stream[:, after], state
            )
            assert torch.equal(frame, whole[:, index])
        assert network(stream[:, :1]).shape == (1, 1, 3, 10, 12)


@by_case
def test_what_is_no_clip_is_refused(name: str, parameters: Parameters) -> None:
    network = build_network(name, scale=2, **parameters)
    with pytest.raises(
        ValueError,
        match=r"takes clips \(B, ., 3, H, W\), and was given an image of shape \(1, 3, 8",
    ):
        network(torch.rand(1, 3, 8, 8))
    with pytest.raises(
        ValueError, match=r"takes clips .* and was given the shape \(1, 3, 1, 8, 8\)"
    ):
        network(torch.rand(1, 3, 1, 8, 8))
    if name != "recurrent":
        with pytest.raises(
            ValueError, match=r"\(B, 3, 3, H, W\), and was given 5 frames; clip_size of the dataset"
        ):
            network(clips(8, 8, frames=5))


@pytest.mark.parametrize("name", ["compact", "span", "swinir_s"])
def test_a_clip_is_no_image(name: str) -> None:
    for network in (build_network(name, scale=2), copy.deepcopy(build_network(name, scale=2))):
        with pytest.raises(
            ValueError, match=r"takes images \(B, 3, H, W\), and was given clips of shape"
        ):
            network(clips(8, 8))


def test_a_clip_is_no_image_for_a_checkpoint_of_elsewhere(tmp_path: Path) -> None:
    network = build_network("compact", scale=2, num_feat=8, num_conv=1)
    loaded = load_model(save(network, tmp_path))
    assert (loaded.temporal, loaded.target, loaded.frames) == (False, None, None)
    with pytest.raises(ValueError, match="was given clips"):
        loaded.network(clips(8, 8))


def test_weights_are_counted() -> None:
    for name, parameters in CASES.values():
        spec = ARCHS[name].for_parameters(parameters)
        counted = count_parameters(spec, 2, **parameters)
        network = build_network(name, scale=2, **parameters)
        assert counted == sum(parameter.numel() for parameter in network.parameters())
