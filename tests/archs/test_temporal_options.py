"""How the options name networks for clips, and what is said of those that cannot be built."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import small_options, write_options
from traiNNer.archs import ArchSpec, build_network
from traiNNer.archs.catalogue import SPECS
from traiNNer.options.entries import NetworkOptions
from traiNNer.options.loading import load_options
from traiNNer.options.reference import explain_key
from traiNNer.options.schema import TrainingOptions
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import ARCHS, UnknownNameError


@pytest.mark.parametrize(
    "inner", [spec for spec in SPECS if spec.stackable], ids=lambda spec: spec.name
)
def test_a_stack_has_the_facts_of_its_network(inner: ArchSpec) -> None:
    section = NetworkOptions.model_validate(
        {"type": "temporal_stack", "arch": inner.name, "frames": 7}
    )
    stack = section.entry
    facts = (
        "scales",
        "size_multiple",
        "min_size",
        "min_batch",
        "fp16",
        "bf16",
        "unused_parameters",
        "default_scale",
    )
    assert [getattr(stack, fact) for fact in facts] == [getattr(inner, fact) for fact in facts]
    assert stack.parameter_names == ("arch", "frames", *inner.parameter_names)
    assert not {"arch", "frames"} & set(inner.parameter_names)
    assert stack is section.entry, "resolved anew at every look"
    assert stack.frames_of(section.params) == 7


def test_what_cannot_be_built() -> None:
    with pytest.raises(
        OptionsError, match=r"'temporal_stack of span' .* frames: 4 .*expected an odd number"
    ):
        build_network("temporal_stack", scale=2, arch="span", frames=4)
    with pytest.raises(
        OptionsError, match=r"no parameter 'feature_channel'; did you mean feature_channels"
    ):
        build_network("temporal_stack", scale=2, arch="span", feature_channel=4)
    with pytest.raises(
        OptionsError,
        match=r"'temporal_stack of esrgan' cannot be built at scale 3; it has 1, 2, 4, 8",
    ):
        build_network("temporal_stack", scale=3, arch="esrgan")
    with pytest.raises(UnknownNameError, match="did you mean span"):
        build_network("temporal_stack", scale=2, arch="spann")
    with pytest.raises(
        OptionsError, match=r"expected the image network that sees the frames; there are: compact, "
    ):
        build_network("temporal_stack", scale=2)
    with pytest.raises(
        OptionsError, match=r"hvicidnet takes no more than .* those that can: compact, "
    ):
        build_network("temporal_stack", scale=1, arch="hvicidnet")
    with pytest.raises(
        OptionsError, match=r"recurrent takes clips by itself, so it cannot be stacked"
    ):
        build_network("temporal_stack", scale=1, arch="recurrent")
    with pytest.raises(
        OptionsError,
        match=r"'deform_align' cannot be built .* frames: 2 has no frame in the centre",
    ):
        build_network("deform_align", scale=2, frames=2)
    with pytest.raises(
        OptionsError, match=r"'recurrent' cannot be built at scale 8; it has 1, 2, 3, 4"
    ):
        build_network("recurrent", scale=8)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("arch: spam", r'network_g\.arch = "spam": unknown network; did you mean span'),
        (
            "arch: zzzz",
            r'network_g\.arch = "zzzz": unknown network; there are: compact, ultracompact',
        ),
        (
            "frames: 3",
            (
                r"network_g\.arch is missing: expected the image network that sees the frames; "
                r"there are: "
            ),
        ),
        ("arch: 7", r"network_g\.arch = 7: expected the image network"),
        (
            "arch: temporal_stack",
            r'network_g\.arch = "temporal_stack": temporal_stack takes clips by itself',
        ),
        (
            "arch: safmn_bcie",
            r'network_g\.arch = "safmn_bcie": safmn_bcie takes no more than the three channels',
        ),
        (
            "arch: span, frames: 4",
            r"network_g\.frames = 4: expected an odd number, so that one of the frames is the c",
        ),
        ("arch: span, frames: 0", r"network_g\.frames = 0: expected at least 1"),
        (
            "arch: span, feature_chanels: 8",
            r"unknown key network_g\.feature_chanels; did you mean feature_channels",
        ),
        ("arch: compact, num_feat: many", r'network_g\.num_feat = "many": expected a whole number'),
        ("arch: nafnet", r"scale = 2: temporal_stack works at scale 1"),
        ("arch: grl_t", r"temporal_stack needs a multiple of 64"),
    ],
)
def test_a_stack_is_checked_like_any_section(section: str, words: str, tmp_path: Path) -> None:
    path = write_options(tmp_path / "o.yml", small_options(tmp_path))
    with pytest.raises(OptionsError, match=words):
        load_options(TrainingOptions, path, [f"network_g={{type: temporal_stack, {section}}}"])


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("type: deform_align, frames: 2", r"network_g\.frames = 2: expected an odd number"),
        ("type: deform_align, num_feat: 0", r"network_g\.num_feat = 0: expected at least 1"),
        (
            "type: recurrent, frames: 5",
            r"unknown key network_g\.frames; allowed here: type, num_feat, num_blocks",
        ),
    ],
)
def test_the_others_are_checked_too(section: str, words: str, tmp_path: Path) -> None:
    path = write_options(tmp_path / "o.yml", small_options(tmp_path))
    with pytest.raises(OptionsError, match=words):
        load_options(TrainingOptions, path, [f"network_g={{{section}}}"])


def test_spellings_and_types_of_a_stack() -> None:
    section = NetworkOptions.model_validate(
        {"type": "Temporal-Stack", "arch": "SwinIR_light", "depths": (2, 2)}
    )
    assert section.type == "temporal_stack"
    assert section.entry.inner is ARCHS["swinir_s"]
    assert section.params == {"arch": "SwinIR_light", "depths": [2, 2]}


def test_a_stack_is_explained() -> None:
    text = explain_key("network_g.temporal_stack")
    assert "Besides it takes those of the network that `arch` names" in text
    assert "an odd number" in explain_key("network_g.temporal_stack.frames")
    with pytest.raises(
        OptionsError, match=r"no parameter 'dim' of its own\. Besides it takes those of the network"
    ):
        explain_key("network_g.temporal_stack.dim")
