"""Names: any spelling finds an entry, nothing is half registered, mistakes name what is near."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from traiNNer.models import SRModel
from traiNNer.utils.registry import RECIPES, Registry, UnknownNameError


def test_any_spelling_finds_the_entry() -> None:
    registry: Registry[int] = Registry("loss")
    registry.add("ms_ssim", 1, ("MSSSIMLoss", "MS-SSIM"))
    assert [registry[name] for name in ("ms_ssim", "MsSsim", "msssim-loss")] == [1, 1, 1]
    assert registry.canonical("MS SSIM") == "ms_ssim"
    assert registry.items() == [("ms_ssim", 1)]


@pytest.mark.parametrize("aliases", [("free", "L1_Loss"), ("L1_Loss", "free")])
def test_a_name_that_belongs_to_another_leaves_nothing_behind(aliases: tuple[str, ...]) -> None:
    registry: Registry[int] = Registry("loss")
    registry.add("l1", 1, ("l1_loss",))
    with pytest.raises(ValueError, match=r"'l1loss' is registered twice: for 'l1' and now for"):
        registry.add("new", 2, aliases)
    assert list(registry) == ["l1"]
    assert "new" not in registry
    assert "free" not in registry
    registry.add("new", 2, ("free",))
    assert registry["free"] == 2


def test_unknown_names_name_the_nearest() -> None:
    registry: Registry[int] = Registry("loss")
    for number, name in enumerate(("charbonnier", "l1", "mse")):
        registry.add(name, number)
    with pytest.raises(UnknownNameError, match=r"unknown loss 'charb'; did you mean charbonnier\?"):
        _ = registry["charb"]
    with pytest.raises(UnknownNameError, match=r"unknown loss 'zz'; there are: charbonnier, l1"):
        _ = registry["zz"]


def test_a_package_that_cannot_be_imported_is_tried_again(tmp_path: Path) -> None:
    """The second look-up does not say that there are no entries."""
    (tmp_path / "broken_losses.py").write_text("raise RuntimeError('half way')")
    sys.path.insert(0, str(tmp_path))
    try:
        registry: Registry[int] = Registry("loss", "broken_losses")
        for _ in range(2):
            with pytest.raises(RuntimeError, match="half way"):
                _ = registry["l1"]
    finally:
        sys.path.remove(str(tmp_path))


def test_the_plain_recipe_is_registered() -> None:
    assert RECIPES["sr_model"] is SRModel


def test_what_was_added_can_be_taken_out_again() -> None:
    registry: Registry[int] = Registry("number")
    registry.add("one", 1, aliases=("uno",))
    registry.add("two", 2)
    registry.remove("one")
    assert "one" not in registry
    assert "uno" not in registry
    assert list(registry) == ["two"]
    registry.add("one", 1)
    assert registry["one"] == 1
