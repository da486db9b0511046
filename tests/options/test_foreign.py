"""Options of other trainers: what is said of them is true, and no guess by spelling."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.support import small_options, write_options
from traiNNer.options import foreign, foreign_names
from traiNNer.options.fields import all_keys
from traiNNer.options.foreign import explain_foreign_key
from traiNNer.options.foreign_names import explain_foreign_name
from traiNNer.options.loading import load_options
from traiNNer.options.schema import TestOptions, TrainingOptions
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.registry import (
    AUTOMATIONS,
    DATASETS,
    LOSSES,
    METRICS,
    OPTIMIZERS,
    RECIPES,
    SCHEDULERS,
    normalize,
)

REGISTRIES = (DATASETS, LOSSES, METRICS, OPTIMIZERS, SCHEDULERS, AUTOMATIONS, RECIPES)
GAN = "adversarial training is network_d, train.optim_d and a loss {type: gan}"
OTF = "degradations made while training are a list of steps here"

# As the files of traiNNer-redux, neosr, BasicSR and their forerunners have them.
CONFIGS = {
    "redux": (
        """
        network_d: {type: unet, nf: 64}
        high_order_degradation: true
        path: {pretrain_network_d: x.pth, strict_load_d: true, ignore_resume_networks: a}
        datasets:
          train: {gt_size: 256, use_hflip: true, use_rot: true,
                  io_backend: {type: disk}, lq_usm: true}
        train: {optim_d: {type: AdamW}, ema_update_after_step: 3, use_moa: true, moa_augs: [mixup],
                losses: [{type: mssiml1loss, alpha: 0.1}, {type: ganloss, gan_type: vanilla}]}
        val: {metrics_enabled: true, pbar: true, metrics: {d: {type: calculate_topiq}}}
        logger: {save_checkpoint_format: safetensors, wandb: {project: x}}
        """,
        {
            "high_order_degradation": OTF,
            "path.ignore_resume_networks": "not part of this version",
            "datasets.train.gt_size": "the GT side is lq_size * scale",
            "datasets.train.io_backend": "images are read from the files",
            "datasets.train.lq_usm": OTF,
            "train.use_moa": "augmentations that mix images are datasets.train.augmentations here",
            "train.moa_augs": "augmentations that mix images",
            "train.losses.0.type": "mixes are written as two losses",
            "val.metrics_enabled": "it is called val.val_enabled here",
            "val.pbar": "not part of this version",
            "val.metrics.d.type": "this metric is not part of this version yet",
            "logger.save_checkpoint_format": "always saved as safetensors",
            "logger.wandb": "curves go to TensorBoard alone",
        },
    ),
    "neosr": (
        """
        compile: true
        bfloat16: true
        degradations: {resize_prob: [0.2]}
        datasets:
          train: {patch_size: 64, batch_size: 8, accumulate: 2, augmentation: [mixup]}
        path: {print_network: false}
        network_g: {flash_attn: true}
        train: {ema: 0.999, sam: fsam, wavelet_guided: true, mssim_opt: {type: mssim},
                perceptual_opt: {type: vgg}, gan_opt: {type: gan}, match_lq_colors: true,
                optim_g: {type: adan_sf, schedule_free: true, warmup_steps: 100}}
        val: {tile: 256}
        logger: {total_iter: 1000, save_tb_img: true}
        """,
        {
            "compile": "it is called use_compile here",
            "bfloat16": "it is called amp_bf16",
            "degradations": OTF,
            "datasets.train.patch_size": "lq_size",
            "datasets.train.batch_size": "it is called batch_size_per_gpu here",
            "datasets.train.accumulate": "datasets.train.accum_iter",
            "datasets.train.augmentation": "augmentations that mix images",
            "path.print_network": "not part of this version",
            "network_g.flash_attn": "not part of this version",
            "train.ema": "train.ema_decay gives its decay",
            "train.sam": "not part of this version",
            "train.wavelet_guided": GAN,
            "train.mssim_opt": "losses are a list here, train.losses",
            "train.perceptual_opt": "losses of features are {type: perceptual}",
            "train.gan_opt": GAN,
            "train.optim_g.type": "optimizers are those of torch and some of pytorch-optimizer",
            "val.tile": "it is called val.tile_size here",
            "logger.total_iter": "that key belongs at train.total_iter",
            "logger.save_tb_img": "TensorBoard shows val.tb_images",
        },
    ),
    "basicsr": (
        """
        model_type: RealESRGANModel
        gt_usm: true
        blur_sigma: [0.2, 3]
        dist_params: {backend: nccl, port: 1}
        find_unused_parameters: false
        datasets:
          train: {type: RealESRGANDataset, meta_info: m.txt, prefetch_mode: cuda, pin_memory: true,
                  num_worker: 4}
        network_g: {num_in_ch: 3, upscale: 4}
        path: {param_key_g: params_ema, root: x}
        train: {pixel_opt: {type: L1Loss}, net_d_iters: 1, net_d_init_iters: 0,
                scheduler: {type: CosineAnnealingRestartLR}, losses: [{type: l1, reduction: mean}]}
        val: {suffix: ~, metrics: {n: {type: calculate_niqe, crop_border: 4}}}
        """,
        {
            "model_type": OTF,
            "gt_usm": "that key belongs at train.losses[].gt_usm",
            "blur_sigma": OTF,
            "dist_params": "torchrun or num_gpu: n starts the processes",
            "find_unused_parameters": "torchrun or num_gpu: n starts the processes",
            "network_g.num_in_ch": "colour is RGB in and out",
            "network_g.upscale": "built at the scale that stands at the top",
            "path.param_key_g": "found without it",
            "path.root": "path.experiments_root",
            "train.pixel_opt": "losses are a list here",
            "train.scheduler.type": "it is called CosineAnnealingWarmRestarts here",
            "train.losses.0.reduction": "losses are means",
            "val.suffix": "not part of this version",
            "val.metrics.n.type": "this metric is not part of this version yet",
        },
    ),
    "older": (
        """
        model: srragan
        gpu_ids: [0]
        network_D: {which_model_D: discriminator_vgg_128}
        datasets:
          train: {mode: LRHROTF, dataroot_HR: a, dataroot_LR: b, HR_size: 128, n_workers: 4,
                  use_flip: true, use_shuffle: true}
        network_g: {in_nc: 3}
        path: {pretrain_model_G: x.pth, pretrain_model_D: y.pth}
        train: {lr_G: 1e-4, lr_scheme: MultiStepLR, lr_steps: [1], pixel_criterion: l1, niter: 100,
                feature_weight: 1, gan_weight: 1, D_update_ratio: 1, optimizers: adam,
                schedulers: x}
        logger: {backup_freq: 5}
        """,
        {
            "model": "it is called model_type here",
            "gpu_ids": "it is called num_gpu here",
            "network_D": GAN,
            "datasets.train.dataroot_HR": "it is called dataroot_gt here",
            "datasets.train.dataroot_LR": "it is called dataroot_lq here",
            "datasets.train.HR_size": "the GT side is lq_size * scale",
            "datasets.train.n_workers": "it is called num_worker_per_gpu here",
            "datasets.train.use_flip": "it is called use_hflip here",
            "datasets.train.use_shuffle": "the loader decides that itself",
            "network_g.in_nc": "colour is RGB in and out",
            "path.pretrain_model_G": "it is called path.pretrain_network_g here",
            "path.pretrain_model_D": GAN,
            "train.lr_G": "arguments of the optimizer stand in train.optim_g",
            "train.lr_scheme": "the schedule is train.scheduler",
            "train.lr_steps": "the schedule is train.scheduler",
            "train.pixel_criterion": "losses are a list here",
            "train.niter": "it is called train.total_iter here",
            "train.feature_weight": "losses of features are {type: perceptual}",
            "train.gan_weight": GAN,
            "train.D_update_ratio": GAN,
            "train.optimizers": "arguments of the optimizer stand in train.optim_g",
            "train.schedulers": "the schedule is train.scheduler",
            "logger.backup_freq": "not part of this version",
        },
    ),
}  # fmt: skip


def merged(below: dict, above: dict) -> dict:
    both = below.keys() & above.keys()
    nested = {k for k in both if isinstance(below[k], dict) and isinstance(above[k], dict)}
    return below | above | {key: merged(below[key], above[key]) for key in nested}


@pytest.mark.parametrize("trainer", CONFIGS)
def test_options_of_other_trainers_are_explained(tmp_path: Path, trainer: str) -> None:
    text, expected = CONFIGS[trainer]
    options = merged(small_options(tmp_path), yaml.safe_load(text))
    with pytest.raises(OptionsError) as caught:
        load_options(TrainingOptions, write_options(tmp_path / "o.yml", options))
    lines = str(caught.value)
    for key, words in expected.items():
        others = r"( = .*|( \(line \d+\))?(, [^:]*)?)"
        pattern = (
            rf"^.*?: (unknown keys? (.*, )?)?{re.escape(key)}{others}[:;] .*{re.escape(words)}"
        )
        assert re.search(pattern, lines, re.MULTILINE), f"{key}: {words}\nnot in\n{lines}"
    assert "did you mean" not in lines.replace("did you mean span", "")
    assert lines.splitlines()[-1].endswith(f"from_neighbours.py {tmp_path / 'o.yml'} mine.yml")


def test_keys_of_ours_are_nobody_elses() -> None:
    """A sentence for one of them would hide that it is misplaced."""
    ours = {normalize(key.rpartition(".")[2]) for key in all_keys(TrainingOptions)}
    known = {normalize(key) for keys in foreign._SENTENCES[""].values() for key in keys}
    assert not ours & known
    for registry in REGISTRIES:
        for name in registry:
            known = foreign_names._NAMES.get(registry.kind, {}).keys()
            assert normalize(name) not in known, name
            missing = foreign_names._MISSING.get(registry.kind, "").split()
            assert normalize(name) not in missing, name


def test_what_sentences_name_is_there() -> None:
    keys = set(all_keys(TrainingOptions))
    dotted = re.compile(r"\b(?:train|val|path|logger|datasets)\.[a-z_.]*[a-z_]")
    sentences = [s for table in foreign._SENTENCES.values() for s in table]
    sentences += [s for table in foreign_names._KINDS.values() for s in table]
    named = {name for sentence in sentences for name in dotted.findall(sentence)}
    assert len(named) > 10
    assert not named - keys
    simple = {s.split()[3] for s in sentences if s.startswith("it is called")}
    leaves = {key.rpartition(".")[2] for key in keys}
    parameters = {p for d in ("PairedImageDataset", "PairedVideoDataset") for p in parameters_of(d)}
    parameters |= {
        "test_y_channel",
        "crop_border",
        "real_label",
        "fake_label",
        "layers",
        "backbone",
        *SCHEDULERS,
        *OPTIMIZERS,
    }
    assert not {name for name in simple if "." not in name} - leaves - parameters


def parameters_of(dataset: str) -> set[str]:
    return set(DATASETS[dataset].__init__.__annotations__)


@pytest.mark.parametrize(
    ("kind", "name"), [("network", "spann"), ("loss", "l3"), ("metric", "psmr"), ("dataset", "x")]
)
def test_other_names_are_no_foreign_ones(kind: str, name: str) -> None:
    assert explain_foreign_name(kind, name) is None


@pytest.mark.parametrize(
    "path",
    [
        ("network_d2x",), ("train", "lr_threshold"), ("train", "pretrained_old"),
        ("network_g", "patch_size"), ("val", "val_freqq"), ("train", "optim_g", "momentumm"),
        ("train", "scheduler", "milestones"), ("datasets", "train", "use_hflips"),
    ],
)  # fmt: skip
def test_other_keys_are_no_foreign_ones(path: tuple[str, ...]) -> None:
    assert explain_foreign_key(path) is None


def test_keys_of_the_training_are_no_options_of_testing(tmp_path: Path) -> None:
    path = write_options(
        tmp_path / "t.yml",
        {"name": "t", "train": {}, "datasets": {"test": {"type": "SingleImageDataset"}}},
    )
    with pytest.raises(OptionsError, match=r"unknown key train; it is for train\.py, and test"):
        load_options(TestOptions, path)
