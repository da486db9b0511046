"""The pages on files of one's own, followed to the letter: by train.py, and in this process."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.docs.pages import snippets
from tests.support import make_pairs, run_command, run_training, small_options, write_options
from traiNNer.utils.registry import (
    ARCHS,
    DATASETS,
    DIFFICULTIES,
    LOSSES,
    METRICS,
    ORDERS,
    PARTS,
    RECIPES,
    SOURCES,
    Registry,
)

REGISTERED: dict[str, Registry[Any]] = {
    "log_cosh": LOSSES,
    "worst_error": METRICS,
    "in_turn": ORDERS,
    "darkness": DIFFICULTIES,
    "kept": SOURCES,
    "noise_meter": ARCHS,
    "NoisyImages": DATASETS,
    "NoiseRecipe": RECIPES,
    "hardest": PARTS,
}


def of_page(page: str, language: str = "python") -> list[str]:
    return [snippet.text for snippet in snippets(language) if snippet.page == page]


def write_extensions(folder: Path) -> None:
    text = "\n\n".join(of_page("extensions.md"))
    (folder / "my_extension.py").write_text(text, encoding="utf-8")
    (folder / "hardest.py").write_text(of_page("adding_a_part.md")[0], encoding="utf-8")


@pytest.fixture
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The command runs in `tmp_path`. What files register in this process is gone after it."""
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield
    for name, registry in REGISTERED.items():
        if name in registry:
            registry.remove(name)
    for module in ("my_extension", "hardest"):
        sys.modules.pop(module, None)
    sys.path[:] = path


def all_of_it(folder: Path) -> dict[str, Any]:
    """Options that use everything but the recipe."""
    options = small_options(make_pairs(folder / "data", count=4))
    options["extensions"] = ["my_extension.py", "hardest.py"]
    options["parts"] = [{"type": "hardest", "count": 2}]
    train = options["datasets"]["train"]
    train |= {"source": {"type": "kept", "most_mib": 1}, "order": {"type": "in_turn", "first": 1}}
    train["num_worker_per_gpu"] = 1
    options["train"]["losses"] = [{"type": "log_cosh", "sharpness": 5.0}]
    options["val"]["metrics"] = {"worst": {"type": "worst_error"}}
    return options


def test_train_py_takes_files_beside_the_options(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    write_extensions(folder)
    options = write_options(folder / "o.yml", all_of_it(folder))
    done = run_command("train.py", "-opt", str(options), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "log_cosh" in done.stderr
    assert "hardest pictures" in done.stdout
    assert done.stdout.count(".png") >= 2
    # Resolved options serve from where the command ran, and the part goes on with its means.
    again = run_command(
        "train.py",
        *("-opt", "experiments/small/options.yml", "--auto_resume"),
        *("--set", "train.total_iter=8"),
        cwd=tmp_path,
    )
    assert again.returncode == 0, again.stderr
    assert "hardest pictures" in again.stdout
    assert "no state of hardest" not in again.stderr


def test_explain_knows_what_the_files_register(tmp_path: Path) -> None:
    write_extensions(tmp_path)
    options = write_options(tmp_path / "o.yml", {"extensions": ["my_extension.py"]})
    done = run_command(
        "train.py", "-opt", str(options), "--explain", "train.losses.log_cosh", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "sharpness" in done.stdout
    assert "where the one becomes the other" in done.stdout


@pytest.mark.usefixtures("_own_folder")
def test_a_recipe_with_labels_learns_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    write_extensions(tmp_path)
    data = make_pairs(tmp_path / "data", count=4)
    (text,) = [text for text in of_page("extensions.md", "yaml") if "NoiseRecipe" in text]
    options: dict[str, Any] = yaml.safe_load(text)
    for key in ("dataroot_gt", "dataroot_lq"):
        options["datasets"]["train"][key] = str(data / "lq")
    options["datasets"]["train"] |= {"num_worker_per_gpu": 1}
    options["train"] |= {"total_iter": 120, "optim_g": {"type": "AdamW", "lr": 3e-3}}
    options["logger"] = {"print_freq": 20, "save_checkpoint_freq": 60}
    assert run_training(options) == 0
    half = options | {"name": "half"}
    assert run_training(half, "--set", "train.total_iter=60") == 0
    assert run_training(half, "--auto_resume", "--set", "train.total_iter=120") == 0
    paths = [Path("experiments") / name / "models" for name in ("noise", "half")]
    first, second = (load(path / "net_g_120.safetensors") for path in paths)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    losses = losses_of(Path("experiments/noise/log/train.log"))
    # Labels between 0 and 0.1: whoever answers 0.05 to everything is 0.025 off.
    assert losses[-1] < 0.01


def load(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def losses_of(log: Path) -> list[float]:
    words = log.read_text(encoding="utf-8").replace(",", " ").split()
    return [float(words[place + 1]) for place, word in enumerate(words) if word == "sigma"]


@pytest.mark.usefixtures("_own_folder")
@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("import nothing_of_this_name\n", "my_extension.py", "line 1: ModuleNotFoundError: No mod"),
        ("a = 1\nb = (\n", "my_extension.py", r"line 2: SyntaxError: '\(' was never closed"),
        ("exit(3)\n", "my_extension.py", "line 1: SystemExit: 3"),
        (
            "from traiNNer.utils.registry import LOSSES\n\nLOSSES.add('l1', None)\n",
            "my_extension.py",
            "line 3: ValueError: loss 'l1' is registered twice",
        ),
        ("", "json.py", "there is another module of the name json; rename the file"),
        ("", "my-loss.py", "a Python file whose name has letters, digits and _ only"),
        ("", "my_loss.txt", "a Python file whose name has letters, digits and _ only"),
        (None, "gone.py", "there is no such file"),
        (None, ".", "a folder; name its files"),
        (None, 7, "expected text"),
    ],
)
def test_a_file_that_does_not_serve_is_told_with_its_place(
    content: str | None,
    name: object,
    message: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        Path(str(name)).write_text(content, encoding="utf-8")
    options = small_options(tmp_path / "data", extensions=[name])
    assert run_training(options) == 2
    error = capfd.readouterr().err
    assert "o.yml" in error
    assert "extensions.0" in error
    assert re.search(message, error), error
    assert "Traceback" not in error


@pytest.mark.usefixtures("_own_folder")
def test_two_parts_of_one_name_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_extensions(tmp_path)
    options = all_of_it(tmp_path)
    options["parts"] *= 2
    assert run_training(options) == 2
    assert "the part Hardest has the name 'hardest' in checkpoints" in capfd.readouterr().err
    assert not Path("experiments/small/models").exists()


@pytest.mark.usefixtures("_own_folder")
def test_an_error_of_an_extension_is_called_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("hardest.py").write_text(
        "from traiNNer.engine.part import Part\n"
        "from traiNNer.utils.registry import PARTS\n\n"
        "@PARTS.register('hardest')\n"
        "class Hardest(Part):\n"
        "    name = 'hardest'\n\n"
        "    def after_step(self, run, result):\n"
        "        raise KeyError('mine')\n",
        encoding="utf-8",
    )
    options = small_options(make_pairs(tmp_path / "data"), extensions=["hardest.py"])
    options["parts"] = [{"type": "hardest"}]
    assert run_training(options) == 1
    error = capfd.readouterr().err
    assert "by way of an extension" in error
    assert "hardest.py, line 9" in error
    assert "bug in traiNNer" not in error
