"""The pages that show how to add something, followed to the letter."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tests.docs.pages import Snippet, commands, snippets
from tests.support import ROOT, load_script, run_training, texture
from traiNNer.options.reference import explain_key
from traiNNer.utils.images import write_image
from traiNNer.utils.registry import ARCHS, LOSSES, METRICS

PYTHON = snippets("python")


def of_page(page: str) -> list[Snippet]:
    return [snippet for snippet in PYTHON if snippet.page == page]


def with_text(page: str, text: str) -> str:
    """The one snippet of a page that holds `text`."""
    (found,) = [snippet.text for snippet in of_page(page) if text in snippet.text]
    return found


@pytest.fixture
def made() -> Iterator[dict[str, ModuleType]]:
    """Modules that a walkthrough makes, by name; gone after the test."""
    modules: dict[str, ModuleType] = {}
    yield modules
    for name in modules:
        del sys.modules[name]


def make_module(made: dict[str, ModuleType], name: str, text: str) -> ModuleType:
    module = ModuleType(name)
    made[name] = module
    sys.modules[name] = module
    exec(compile(text, name, "exec"), vars(module))
    return module


def namespace(module: str, **more: Any) -> dict[str, Any]:
    return dict(vars(importlib.import_module(module))) | more


def run_tests(text: str, names: dict[str, Any], *arguments: Any) -> int:
    """Runs the test functions of a snippet among `names`; how many there were."""
    before = set(names)
    exec(compile(text, "snippet", "exec"), names)
    tests = [names[name] for name in names.keys() - before if name.startswith("test_")]
    for test in tests:
        test(*arguments)
    return len(tests)


def exported(text: str, name: str) -> set[str]:
    """What a package's `__init__` of the page would export."""
    statements = ast.parse(text).body
    imported = next(one for one in statements if isinstance(one, ast.ImportFrom))
    listed = next(one for one in statements if isinstance(one, ast.Assign))
    assert imported.module == name
    names = set(ast.literal_eval(listed.value))
    assert {alias.name for alias in imported.names} == names
    return names


def test_the_first_page_leads_from_a_folder_of_pictures_to_a_training() -> None:
    """Its three commands as they stand, but for the end and the device."""
    for number in range(20):
        write_image(Path(f"PICTURES/{number % 3}/{number}.png"), texture(80, 81 + number, number))
    make, check, start, _ = [
        command.words
        for command in commands()
        if command.page == "README.md"
        and ("PICTURES" in command.words or "options/realtime.yml" in command.words)
    ]
    assert load_script(make[1]).main(list(make[2:])) == 0
    assert (check[:4], check[4:]) == (start, ("--check",))
    preset = ROOT / start[3]
    assert run_training(preset, "--check", "--set", "num_gpu=0") == 0
    short = ("--set", "train.total_iter=3", "--set", "num_gpu=0")
    assert run_training(preset, *short) == 0
    assert "15 pairs" in Path("experiments/realtime/log/train.log").read_text()


def test_a_metric_is_added(made: dict[str, ModuleType]) -> None:
    page = "adding_a_metric.md"
    known = set(importlib.import_module("traiNNer.metrics").__all__)
    assert exported(with_text(page, "__all__"), "traiNNer.metrics") == known | {"mae"}
    module = make_module(made, "traiNNer.metrics.mae", with_text(page, "@METRICS.register"))
    try:
        metric = METRICS["mae"](scale=2)
        assert {metric.better, metric.unit, metric.temporal} == {"lower", "levels", False}
        assert metric.min_side == 5
        assert "crop_border" in explain_key("val.metrics.mae")
        names = namespace("tests.metrics.test_metrics", MAE=module.MAE)
        assert run_tests(with_text(page, "def test_mae_values"), names, "chelsea") == 1
    finally:
        METRICS.remove("mae")


def test_the_contract_of_metrics_is_extended_as_it_stands() -> None:
    contract = with_text("adding_a_metric.md", "class TestContract").splitlines()[0]
    present = contract.replace(', "mae"', "")
    assert present in (ROOT / "tests/metrics/test_metrics.py").read_text()


def test_a_loss_is_added(made: dict[str, ModuleType]) -> None:
    page = "adding_a_loss.md"
    known = set(importlib.import_module("traiNNer.losses").__all__)
    assert exported(with_text(page, "__all__"), "traiNNer.losses") == known | {"edge"}
    module = make_module(made, "traiNNer.losses.edge", with_text(page, "@LOSSES.register"))
    try:
        alias, name = eval(with_text(page, '"EdgeLoss", "edge"'))
        assert LOSSES.canonical(alias) == name
        assert "pixels apart" in explain_key("train.losses.edge")
        names = namespace("tests.losses.test_losses", EdgeLoss=module.EdgeLoss)
        assert run_tests(with_text(page, "def test_edge_values"), names) == 2
    finally:
        LOSSES.remove("edge")


def test_a_variant_of_a_network_is_added() -> None:
    text = with_text("adding_an_arch.md", "span_xl")
    spec = eval(text, namespace("traiNNer.archs.table_convolutional"))
    assert spec(scale=2, feature_channels=8)(torch.zeros(1, 3, 16, 16)).shape == (1, 3, 32, 32)
    assert spec.name == "span_xl"
    assert spec.defaults == {"feature_channels": 128}


def test_a_network_is_added(made: dict[str, ModuleType]) -> None:
    page = "adding_an_arch.md"
    make_module(made, "traiNNer.archs.tinynet", with_text(page, "class TinyNet"))
    entry = with_text(page, 'name="tinynet"')
    spec = eval(entry, namespace("traiNNer.archs.table_convolutional"))
    ARCHS.add(spec.name, spec)
    try:
        network = ARCHS["tinynet"](scale=2, num_feat=8)
        assert network(torch.rand(1, 3, 8, 10)).shape == (1, 3, 16, 20)
        assert "num_feat" in explain_key("network_g.tinynet")
    finally:
        ARCHS.remove("tinynet")
    test = (ROOT / "tests/archs/test_catalogue.py").read_text()
    assert with_text(page, "built = ").strip().removesuffix(' - {"TinyNet"}') in test
    told = (ROOT / "docs" / page).read_text()
    (name,) = {word.strip("`,") for word in told.split() if word.startswith("`test_every")}
    assert f"def {name}(" in test


def test_a_loop_of_your_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Both examples of the page, one after the other as a reader would try them."""
    first, second = (snippet.text for snippet in of_page("your_own_loop.md"))
    names: dict[str, Any] = {}
    exec(first, names)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1: 2 samples, ")
    assert float(lines[-1]) > 4
    exec(second, names)
    assert capsys.readouterr().out.splitlines()[-1].endswith("of 64 px")
