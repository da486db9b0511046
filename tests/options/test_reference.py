"""What editors and readers are told is what the schema says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import ROOT
from traiNNer.options.features import features_page
from traiNNer.options.fields import all_keys
from traiNNer.options.reference import explain_key, json_schema, options_page
from traiNNer.options.schema import TestOptions, TrainingOptions
from traiNNer.utils.errors import OptionsError


def essence(schema: dict[str, Any]) -> dict[str, Any]:
    """Keys and names; not how this version of pydantic spells their types."""
    sections = {"": schema, **schema["$defs"]}
    return {
        name: {key: field.get("examples") for key, field in section.get("properties", {}).items()}
        for name, section in sections.items()
    }


@pytest.mark.parametrize(
    ("file", "model"), [("schema.json", TrainingOptions), ("schema_test.json", TestOptions)]
)
def test_the_editors_schema_is_of_today(file: str, model: type) -> None:
    written = json.loads((ROOT / "options" / file).read_text())
    assert essence(written) == essence(json_schema(model)), "run scripts/options/write_schema.py"


@pytest.mark.parametrize(("name", "page"), [("options", options_page), ("features", features_page)])
def test_the_pages_are_of_today(name: str, page: Callable[[], str]) -> None:
    written = (ROOT / "docs" / f"{name}.md").read_text()
    assert written == page(), "run scripts/options/write_reference.py"


@pytest.mark.parametrize("key", all_keys(TrainingOptions))
def test_every_key_can_be_explained(key: str) -> None:
    text = explain_key(key)
    assert "default" in text
    assert len(text.splitlines()) > 2


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("train.optim_g", "AdamW"),
        ("train.optim_g.adamw", "weight_decay"),
        ("train.optim_g.adamw.betas", "list of number"),
        ("network_g.span", "feature_channels"),
        ("datasets.train.PairedImageDataset.small_images", "error or skip or pad"),
        ("datasets.val.type", "text"),
        ("val.metrics.psnr", "test_y_channel"),
        ("training_automations.DynamicBatchSizeOptimizer", "target_vram_usage"),
    ],
)
def test_what_is_explained(key: str, words: str) -> None:
    assert words in explain_key(key)


@pytest.mark.parametrize(
    ("key", "hint"), [("losses", "train.losses"), ("train.optim", "train.optim_g"), ("zzz", "name")]
)
def test_unknown_keys_are_answered_with_near_ones(key: str, hint: str) -> None:
    with pytest.raises(OptionsError, match=hint):
        explain_key(key)


def test_presets_point_at_the_schema() -> None:
    for preset in (ROOT / "options").glob("*.yml"):
        first = preset.read_text().splitlines()[0]
        assert first.startswith("# yaml-language-server: $schema=schema"), preset
        assert (preset.parent / first.partition("$schema=")[2]).is_file()
