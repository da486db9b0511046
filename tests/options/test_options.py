from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, small_options, write_options
from traiNNer.options.loading import load_options, options_hash, options_text
from traiNNer.options.schema import TestOptions, TrainingOptions
from traiNNer.utils.errors import OptionsError


def load(tmp_path: Path, options: dict[str, Any], *overrides: str) -> TrainingOptions:
    return load_options(TrainingOptions, write_options(tmp_path / "o.yml", options), overrides)


def problems(tmp_path: Path, *overrides: str) -> str:
    with pytest.raises(OptionsError) as caught:
        load(tmp_path, small_options(tmp_path), *overrides)
    return str(caught.value)


def test_names_are_canonical_and_parameters_typed(tmp_path: Path) -> None:
    changes = (
        "train.optim_g.betas=[0.9, 0.99]",
        "train.losses.0.type=L1Loss",
        "val.metrics.p.type=calculate_psnr",
        "network_g.type=Compact",
        "model_type=sr_model",
    )
    options = load(tmp_path, small_options(tmp_path), *changes)
    assert options.model_type == "SRModel"
    assert options.train.optim_g.type == "AdamW"
    assert options.train.optim_g.params == {"lr": 1e-3, "betas": (0.9, 0.99)}
    assert options.train.losses[0].type == "l1"
    assert options.val.metrics["p"].type == "psnr"
    assert options.network_g.type == "compact"
    assert options.network_g.params == {"num_feat": 8, "num_conv": 2}
    assert options.datasets.train.type == "PairedImageDataset"
    assert list(options.datasets.evaluated) == ["val"]


def test_resolved_options_read_back_as_the_same(tmp_path: Path) -> None:
    options = load(tmp_path, small_options(tmp_path), "train.optim_g.betas=[0.9, 0.99]")
    again = tmp_path / "resolved.yml"
    again.write_text(options_text(options))
    assert load_options(TrainingOptions, again) == options
    assert options_hash(load_options(TrainingOptions, again)) == options_hash(options)
    assert options_hash(
        load_options(TrainingOptions, again, ["train.total_iter=7"])
    ) != options_hash(options)


def test_all_problems_are_told_at_once_with_lines_and_suggestions(tmp_path: Path) -> None:
    path = tmp_path / "bad.yml"
    path.write_text(
        """name: bad
scale: 2
num_gpu: some
ema_decay: 0.9
datasets:
  train:
    type: pairedimagedataset
    dataroot_gt: gt
    dataroot_lq: lq
    lq_size: 3.5
    use_hflips: false
  valid: {type: SingleImageDatasets, dataroot_lq: x}
  other: {type: SingleImageDataset, dataroot_lq: x}
network_g:
  type: spann
train:
  optim_g: {type: adamw, lr: fast, betaz: 3}
  losses:
    - {type: l1loss, weight: 3}
  grad_clip: yep
val: {tile_size: 8, tile_overlap: 9}
"""
    )
    with pytest.raises(OptionsError) as caught:
        load_options(TrainingOptions, path)
    text = str(caught.value)
    assert "Traceback" not in text
    for line, words in [
        (3, r'num_gpu = "some": expected \'auto\' or a whole number'),
        (4, r"unknown key ema_decay; that key belongs at train\.ema_decay"),
        (10, r"datasets\.train\.lq_size = 3\.5: expected a whole number"),
        (11, r"unknown key datasets\.train\.use_hflips; did you mean use_hflip\?"),
        (
            12,
            (
                r'datasets\.valid\.type = "SingleImageDatasets": unknown dataset; did you mean '
                r"SingleImageDataset"
            ),
        ),
        (13, r"unknown key datasets\.other; allowed here: train, val\*"),
        (15, r'network_g\.type = "spann": unknown network; did you mean span'),
        (16, r"train\.total_iter is missing"),
        (17, r'train\.optim_g\.lr = "fast": expected a number'),
        (17, r"unknown key train\.optim_g\.betaz; did you mean betas\?"),
        (19, r"unknown key train\.losses\.0\.weight: it is called loss_weight here"),
        (20, r'train\.grad_clip = "yep": expected true or false'),
        (21, r"val\.tile_overlap = 9: expected less than tile_size \(8\)"),
    ]:
        assert re.search(rf"bad\.yml:{line}: {words}", text), (
            f"line {line}: {words}\nnot in\n{text}"
        )
    assert "13 problems" in text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("network_g.num_fet=3", r"unknown key network_g\.num_fet; did you mean num_feat"),
        ("network_g.num_feat=many", r'network_g\.num_feat = "many": expected a whole number'),
        ("model_type=SRModle", r'model_type = "SRModle": unknown recipe; did you mean SRModel\?'),
        ("model_type=3", r"model_type = 3: expected text"),
        ("scale=5", r"--set: scale = 5: compact works at scales"),
        ("datasets.train.lq_size=0", r"lq_size = 0: expected at least 1"),
        ("train.losses=[]", r"train\.losses = \[\]: expected at least one loss"),
        ("datasets.train.scales=[16]", r"scales = \[16\]: expected at least 2 item"),
        ("datasets.train.scales=[16, 24]", r"lq_size = \d+: expected 24, the largest of scales"),
        (
            "train.scale_consistency={weight: 1}",
            r"needs several sizes",
        ),
        ("train.losses.0.loss_weight=-1", r"loss_weight = -1: expected at least 0"),
        ("train.scheduler.type=Cosine", r"unknown scheduler: it is called CosineAnnealingLR here"),
        ("train.scheduler.type=MultiStepLR", r"train\.scheduler\.milestones is missing"),
        (
            "logger.keep_best=lpips",
            r"logger\.keep_best = \"lpips\": expected a label of val\.metrics: psnr, ssim",
        ),
        ("name=a/b", r"name = \"a/b\": expected letters"),
        ("train.ema_decay=1.0", r"train\.ema_decay = 1\.0: expected less than 1"),
        ("manual_seed=-1", r"manual_seed = -1: expected at least 0"),
        ("val.val_freqq=1", r"unknown key val\.val_freqq; did you mean val_freq"),
        ("train=3", r"train = 3: expected a section"),
        ("val.metrics.x.type=psmr", r"unknown metric; did you mean psnr"),
        ("use_compile=1", r"use_compile = 1: expected true or false"),
    ],
)
def test_single_problems(tmp_path: Path, override: str, message: str) -> None:
    assert re.search(message, problems(tmp_path, override)), problems(tmp_path, override)


def test_lq_size_must_lie_on_the_networks_grid(tmp_path: Path) -> None:
    text = problems(tmp_path, "network_g={type: swinir_s}", "datasets.train.lq_size=30")
    assert re.search(
        r"datasets\.train\.lq_size = 30: swinir_s needs a multiple of 8, .* nearest is 32", text
    )


def test_losses_of_one_type_get_their_own_labels(tmp_path: Path) -> None:
    losses = [{"type": "l1"}, {"type": "l1"}, {"type": "mse", "label": "l1_3"}, {"type": "l1"}]
    train = small_options(tmp_path)["train"] | {"losses": losses}
    options = load(tmp_path, small_options(tmp_path, train=train))
    assert list(options.labelled_losses) == ["l1", "l1_2", "l1_3", "l1_4"]
    train["losses"] = [{"type": "l1", "label": "a"}, {"type": "mse", "label": "a"}]
    with pytest.raises(
        OptionsError, match=r"train\.losses\.1\.label = \"a\": each loss needs its own"
    ):
        load(tmp_path, small_options(tmp_path, train=train))


def test_a_loss_of_weight_0_is_off(tmp_path: Path) -> None:
    losses = [{"type": "l1", "loss_weight": 0}, {"type": "l1"}, {"type": "mse", "loss_weight": 0}]
    train = small_options(tmp_path)["train"] | {"losses": losses}
    options = load(tmp_path, small_options(tmp_path, train=train))
    assert list(options.labelled_losses) == ["l1_2"]
    text = problems(tmp_path, "train.losses.0.loss_weight=0")
    assert re.search(r"train\.losses = .*every loss_weight is 0; at least one", text)


def test_whole_numbers_may_be_written_as_floats(tmp_path: Path) -> None:
    path = write_options(tmp_path / "o.yml", small_options(tmp_path))
    path.write_text(path.read_text().replace("total_iter: 6", "total_iter: !!float 5e3"))
    assert load_options(TrainingOptions, path).train.total_iter == 5000


def test_options_for_testing_need_a_checkpoint_and_a_dataset(tmp_path: Path) -> None:
    path = write_options(tmp_path / "t.yml", {"name": "t", "datasets": {}})
    with pytest.raises(OptionsError, match=r"at least one section whose key begins with test"):
        load_options(TestOptions, path)
    dataset = {"type": "SingleImageDataset", "dataroot_lq": "x"}
    with pytest.raises(OptionsError, match=r"path\.pretrain_network_g is missing"):
        load_options(TestOptions, path, [f"datasets.test={dataset}"])


def test_name_on_the_command_line_wins(tmp_path: Path) -> None:
    path = write_options(tmp_path / "o.yml", small_options(tmp_path))
    assert load_options(TrainingOptions, path, ["name=b"], name="c").name == "c"


def test_reading_options_does_not_import_the_recipes(tmp_path: Path) -> None:
    """`--check` answers at once, and the default is the recipe that is there."""
    path = write_options(tmp_path / "a.yml", small_options(tmp_path))
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from traiNNer.options.loading import load_options\n"
        "from traiNNer.options.schema import TrainingOptions\n"
        f"options = load_options(TrainingOptions, Path({str(path)!r}))\n"
        "assert 'traiNNer.models' not in sys.modules\n"
        "from traiNNer.utils.registry import RECIPES\n"
        "assert RECIPES.canonical(options.model_type) == 'SRModel'\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_name_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = write_options(tmp_path / "o.yml", small_options(tmp_path))
    with pytest.raises(OptionsError, match=r"--name x\\udcff: holds bytes that are no text"):
        load_options(TrainingOptions, path, name="x\udcff")
