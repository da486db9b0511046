"""What a user can get wrong, through train.py and test.py: a message, the exit code, no traceback,
nothing lost.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import train
from tests.support import (
    ROOT,
    load_script,
    make_pairs,
    run_training,
    small_options,
    texture,
    write_options,
)
from traiNNer.engine.checkpoints import Checkpoints
from traiNNer.engine.part import Part
from traiNNer.engine.run import Run
from traiNNer.options.fields import all_keys
from traiNNer.options.schema import TestOptions, TrainingOptions
from traiNNer.utils.errors import DiskError
from traiNNer.utils.images import write_image

RUN = Path("experiments/small")
WEIGHTS = str(RUN / "models/net_g_6.safetensors")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return small_options(make_pairs(Path("data")))


def run(options: dict[str, Any], *arguments: str) -> int:
    return train.main(["-opt", str(write_options(Path("o.yml"), options)), *arguments])


def run_test(options: dict[str, Any], *arguments: str) -> int:
    return load_script("test.py").main(
        ["-opt", str(write_options(Path("t.yml"), options)), *arguments]
    )


def test_options(**changes: Any) -> dict[str, Any]:
    section = {"type": "PairedImageDataset", "dataroot_gt": "data/gt", "dataroot_lq": "data/lq"}
    return {
        "name": "t",
        "num_gpu": 0,
        "datasets": {"test": section},
        "path": {"pretrain_network_g": WEIGHTS},
    } | changes


test_options.__test__ = False  # type: ignore[attr-defined]


def assert_refused(code: int, capfd: Capture, *words: str, expected: int = 2) -> None:
    """The exit code, every word in the message, and no traceback."""
    message = capfd.readouterr().err
    assert code == expected, message
    assert "Traceback" not in message
    assert "bug in traiNNer" not in message
    for word in words:
        assert word in message, f"{word!r} is not in:\n{message}"


def names(folder: Path | str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def explode(options: dict[str, Any]) -> dict[str, Any]:
    """The learning rate becomes 1e27 after 10 iterations."""
    options["train"] |= {
        "total_iter": 60,
        "scheduler": {"type": "MultiStepLR", "milestones": [10], "gamma": 1e30},
    }
    options["logger"] = {"print_freq": 5, "save_checkpoint_freq": 4}
    return options


# Data
# ------------------------------------------------------------

FAULTS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "missing folder": (
        lambda d: shutil.rmtree(d / "lq"),
        ("the folder does not exist", "lq", "nearest folder"),
    ),
    "empty folder": (
        lambda d: [p.unlink() for p in (d / "gt").iterdir()],
        (("no image in this folder"), "gt"),
    ),
    "unpaired": (lambda d: (d / "gt/002.png").unlink(), ("LQ without a GT image", "002.png")),
    "truncated": (
        lambda d: truncate(d / "gt/001.png"),
        ("001.png", "cut short", ("download it again")),
    ),
    "text": (
        lambda d: (d / "lq/001.png").write_text("hello"),
        ("001.png", "not a PNG", "b'hello'"),
    ),
    "nothing": (lambda d: (d / "lq/001.png").write_text(""), ("001.png", "0 bytes")),
    "folder is a file": (
        lambda d: (shutil.rmtree(d / "lq"), (d / "lq").write_text("")),
        (("a file is given where a folder"), "lq"),
    ),
    "other size": (
        lambda d: write_image(d / "gt/003.png", texture(48, 48, 0)),
        (("GT is not 2 x LQ"), "003.png"),
    ),
    "two of a name": (
        lambda d: shutil.copy(d / "gt/000.png", d / "gt/000.jpg"),
        (("two images of one name"), "000.jpg"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("place", ["train", "val", "test"])
def test_faulty_data(options: dict[str, Any], fault: str, place: str, capfd: Capture) -> None:
    make_pairs(Path("bad"))
    damage, words = FAULTS[fault]
    damage(Path("bad"))
    roots = {"dataroot_gt": "bad/gt", "dataroot_lq": "bad/lq"}
    if place == "test":
        assert run(options | {"val": {"val_enabled": False}}) == 0
        code = run_test(test_options(datasets={"test": {"type": "PairedImageDataset"} | roots}))
    else:
        options["datasets"][place] |= roots
        code = run(options)
        assert not Path("experiments").exists()
    assert_refused(code, capfd, *words)


def test_wrong_scale_names_the_likely_one(options: dict[str, Any], capfd: Capture) -> None:
    assert_refused(
        run(options | {"scale": 4}), capfd, "GT is not 4 x LQ: it looks like scale 2", "000.png"
    )


@pytest.mark.parametrize(
    ("root", "words"),
    [
        ("", "empty name"),
        ("~nobody_at_all/x", "home directory"),
        ("x" * 300, "too long"),
        ([], "names 0 folders"),
    ],
)
def test_odd_data_roots(options: dict[str, Any], root: Any, words: str, capfd: Capture) -> None:
    options["datasets"]["train"]["dataroot_gt"] = root
    assert_refused(run(options), capfd, words)


def test_images_smaller_than_the_patch(options: dict[str, Any], capfd: Capture) -> None:
    options["datasets"]["train"]["lq_size"] = 64
    assert_refused(
        run(options),
        capfd,
        "smaller than the patch of 64x64",
        "000.png is 48x48",
        "small_images: skip",
    )
    code = run(options, "--set", "datasets.train.small_images=skip")
    assert_refused(code, capfd, "leaves none; choose lq_size 48 or less")
    assert run(options, "--set", "datasets.train.small_images=pad") == 0
    huge = run(
        options,
        "--set",
        "datasets.train.small_images=pad",
        "--set",
        "datasets.train.lq_size=1000000",
    )
    assert_refused(huge, capfd, "not enough main memory", "lower lq_size", expected=1)


@pytest.mark.parametrize(
    ("side", "words"), [(4, "15x15 pixels that val.metrics.ssim"), (1, "val.metrics.psnr")]
)
def test_val_images_too_small_for_a_metric_are_found_at_the_start(
    options: dict[str, Any], side: int, words: str, capfd: Capture
) -> None:
    make_pairs(Path("small"), lq_size=side)
    options["datasets"]["val"] |= {"dataroot_gt": "small/gt", "dataroot_lq": "small/lq"}
    assert_refused(run(options, "--check"), capfd, words, "000.png is ")
    assert run(options, "--set", "val.metrics={psnr: {type: psnr, crop_border: 0}}") == 0
    path = {"pretrain_network_g": WEIGHTS}
    datasets = {"test": options["datasets"]["val"]}
    assert_refused(run_test(test_options(path=path, datasets=datasets)), capfd, words)


def test_single_pixels_and_tiles(options: dict[str, Any]) -> None:
    make_pairs(Path("dots"), lq_size=1)
    for section in options["datasets"].values():
        section |= {"dataroot_gt": "dots/gt", "dataroot_lq": "dots/lq"}
    options["datasets"]["train"]["lq_size"] = 1
    metrics = {"psnr": {"type": "psnr", "crop_border": 0}}
    options["val"] |= {
        "metrics": metrics,
        "tile_size": 8,
        "tile_overlap": 2,
        "compare_bicubic": True,
    }
    assert run(options) == 0


class Damage(Part):
    """Breaks an image after the check, before it is read."""

    name = "damage"

    def __init__(self, damage: Callable[[Path], None]) -> None:
        self._damage = damage

    def start(self, run: Run) -> None:
        self._damage(Path("data/lq/001.png"))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", [truncate, flip_byte, Path.unlink])
def test_an_image_that_breaks_while_training(
    options: dict[str, Any], workers: int, damage: Callable[[Path], None], capfd: Capture
) -> None:
    options["val"] = {"val_enabled": False}
    options["datasets"]["train"]["num_worker_per_gpu"] = workers
    code = run_training(options, parts=[Damage(damage)])
    assert_refused(code, capfd, "data/lq/001.png", "read_errors: skip")
    make_pairs(Path("data"))
    options["datasets"]["train"]["read_errors"] = "skip"
    assert run_training(options, "--name", "skip", parts=[Damage(damage)]) == 0
    message = capfd.readouterr().err
    assert message.count("an unreadable image is replaced by the next one") == 1
    assert "001.png" in message


def test_names_that_files_may_have(options: dict[str, Any]) -> None:
    """Equal stems in folders, blanks, letters beyond ASCII, bytes that are no UTF-8, the longest
    name: nothing is overwritten.
    """
    for kind in ("gt", "lq"):
        folder = Path("data") / kind
        (folder / "sub").mkdir()
        shutil.copy(folder / "000.png", folder / "sub/000.png")
        (folder / "001.png").rename(folder / "a b ü.png")
        (folder / "003.png").rename(folder / f"{'n' * 251}.png")
        if sys.platform == "linux":
            (folder / "002.png").rename(folder / os.fsdecode(b"\xff.png"))
    options["val"] |= {"save_img": True, "compare_bicubic": True}
    assert run(options, "--name", "ein Name ü") == 0
    saved = list(Path("experiments/ein Name ü/visualization/val").glob("*_6.png"))
    assert len(saved) == 5


def test_data_inside_the_run_stays(options: dict[str, Any], capfd: Capture) -> None:
    RUN.mkdir(parents=True)
    shutil.move("data", RUN / "data")
    for section in options["datasets"].values():
        section |= {"dataroot_gt": str(RUN / "data/gt"), "dataroot_lq": str(RUN / "data/lq")}
    assert_refused(run(options), capfd, "is inside experiments/small", "--name")
    assert (RUN / "data/gt/000.png").is_file()


def test_a_damaged_cache_is_ignored(options: dict[str, Any]) -> None:
    assert run(options, "--check") == 0
    caches = list(Path("cache").rglob("*.json"))
    assert caches
    for content in ("{", "[]", '{"version": 1, "images": {"000.png": [1, 2, "a", 4, 5, 6]}}'):
        for cache in caches:
            cache.write_text(content)
        assert run(options, "--check") == 0


# Options
# ------------------------------------------------------------

BAD_OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "scael=3": ("unknown key scael", ("did you mean scale?",)),
    "scale=x": ('scale = "x"', ("expected a whole number",)),
    "scale=5": ("compact works at scales", ()),
    "num_gpu=": ("num_gpu = null", ("'auto' or a whole number",)),
    "num_gpu=1": ("torch finds no GPU", ("set num_gpu: auto or 0",)),
    "datasets=": ("datasets = null", ("expected a section",)),
    "val=": ("val = null", ()),
    "train.losses=": ("expected a list", ()),
    "train.losses.0=l1": ("train.losses.0", ("`type: name`",)),
    "train.losses.5.type=l1": ("a list with items 0 to 0", ()),
    "datasets.train.dataroot_gt=": ("expected text or a list", ()),
    "datasets.train.dataset_enlarge_ratio=1000000000000": ("at most 100000", ()),
    "datasets.val.name=../x": ("expected letters", ()),
    "datasets.val2={type: SingleImageDataset, dataroot_lq: data/lq, name: val}": (
        "needs its own",
        (),
    ),
    "network_g.type=compakt": ("unknown network", ("did you mean compact",)),
    "network_g.num_fat=3": ("unknown key network_g.num_fat", ("did you mean num_feat?",)),
    "network_g.num_feat=-3": ("cannot be built", ("num_feat: -3",)),
    "train.optim_g.lr=-1": (
        "optimizer AdamW: Invalid learning rate: -1",
        ("--explain train.optim_g.AdamW",),
    ),
    "train.optim_g.lr=.nan": ("expected a finite number", ()),
    "train.optim_g.lr=1e400": ("a number of more than 300 digits", ()),
    "train.optim_g.betas=[0.9]": ("train.optim_g.betas.1 is missing", ()),
    "train.optim_g.capturable=true": ("unknown key train.optim_g.capturable", ()),
    "train.scheduler={type: StepLR, step_size: 0}": (
        "scheduler StepLR: integer modulo by zero",
        (),
    ),
    "train.scheduler={type: CosineAnnealingLR, T_max: 0}": ("scheduler CosineAnnealingLR", ()),
    "train.scheduler={type: OneCycleLR, max_lr: 1e-3, total_steps: 3}": (
        "ends after 3 iterations, and the run has 6 iterations",
        (),
    ),
    "train.total_iter=1e999999999": ("a number of more than 300 digits", ()),
    "train.total_iter=&a [*a]": ("an anchor that holds itself?", ()),
    "val.tile_size=8": ("val.tile_overlap = 16", ("less than tile_size (8)",)),
    "val.metrics={psnr: {type: psnr, crop_border: -1}}": ("crop_border must be 0 or more", ()),
    "val.metrics={psnr: {type: psnr, crop_border: 1000}}": ("2001x2001 pixels", ()),
    "path.pretrain_network_g=''": ("expected some text", ()),
    "path.experiments_root=''": ("expected some text", ()),
    'path.tb_root="a\\0b"': ("a text with a NUL", ()),
    "..=1": ("expected KEY=VALUE", ()),
    "=": ("expected KEY=VALUE", ()),
}


@pytest.mark.parametrize("assignment", BAD_OPTIONS)
def test_bad_options(options: dict[str, Any], assignment: str, capfd: Capture) -> None:
    first, others = BAD_OPTIONS[assignment]
    if assignment == "num_gpu=1" and (
        torch.cuda.is_available() or torch.backends.mps.is_available()
    ):
        pytest.skip("there is a GPU")
    assert_refused(run(options, "--set", assignment), capfd, first, *others)
    assert not Path("experiments").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("- 1", "expected `key: value` lines"),
        ("a:\n\tb: 1", "o.yml:2: not valid YAML"),
        ("a: 1\na: 2", "'a' appears twice (first in line 1)"),
        ("a: &a [*a]", "an anchor that holds itself?"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        (
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(
                f"{k}: &{k} [{','.join(['*' + j] * 9)}]\n"
                for j, k in zip("abcdef", "bcdefg", strict=True)
            ),
            "more than 10,000 keys",
        ),
        ("a: 1e999999999", "o.yml:1: not valid YAML: a number of more than 300 digits"),
        ("a: " + "9" * 5000, "more than 300 digits"),
        ("a: !!int x", "'x' is not a whole number"),
        ("a: !!float x", "'x' is not a number"),
        ("a: !!bool x", "'x' is not true or false"),
        ("a: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ('a: "\\0"', "a text with a NUL"),
        ("a: \x07", "the control sign U+0007"),
        ("a: *b", "undefined alias"),
        ("? [1, 2]\n: 3", "not valid YAML"),
        ("extends: nix.yml", "there is no file nix.yml"),
        ("1: 2", "unknown key 1"),
    ],
)
def test_odd_yaml(text: str, words: str, capfd: Capture) -> None:
    Path("o.yml").write_text(text, encoding="utf-8")
    assert_refused(train.main(["-opt", "o.yml"]), capfd, words)


def test_networks_say_which_batches_and_tiles_they_take(
    options: dict[str, Any], capfd: Capture
) -> None:
    options["network_g"] = {"type": "swinir_s"}
    options["datasets"]["train"]["lq_size"] = 17
    assert_refused(run(options), capfd, "swinir_s needs a multiple of 8", "the nearest is 16")
    options["datasets"]["train"]["lq_size"] = 16
    code = run(options, "--set", "val.tile_size=16", "--set", "val.tile_overlap=12")
    assert_refused(code, capfd, "val.tile_overlap = 12: swinir_s in tiles of 16 needs 8 or less")


def test_a_batch_too_small_for_the_network(options: dict[str, Any], capfd: Capture) -> None:
    from traiNNer.archs.catalogue import SPECS

    spec = next(spec for spec in SPECS if spec.min_batch > 1)
    options |= {"scale": spec.default_scale, "network_g": {"type": spec.name}}
    options["datasets"]["train"]["batch_size_per_gpu"] = 1
    assert_refused(
        run(options), capfd, f"batch_size_per_gpu = 1: {spec.name} needs at least {spec.min_batch}"
    )


def test_every_key_can_be_explained(capfd: Capture) -> None:
    for key in {*all_keys(TrainingOptions), *all_keys(TestOptions)} - {"val.metrics.<label>.type"}:
        assert train.main(["--explain", key]) == 0, capfd.readouterr().err
    for key in ("", "..", "x", "train.", "train.optim_g.AdamW.nix", "network_g.nix", "a" * 5000):
        capfd.readouterr()
        assert_refused(train.main(["--explain", key]), capfd, "--explain")


# Checkpoints
# ------------------------------------------------------------


class Harmful:
    def __reduce__(self) -> Any:
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("nix.pth", None, "does not exist"),
        ("empty.safetensors", b"", "is empty"),
        ("text.pth", b"<html>", "a text file"),
        ("text.safetensors", b"version https://git-lfs", "a text file"),
        ("noise.pth", bytes(range(256)) * 4, "damaged"),
        ("noise.safetensors", bytes(range(255, -1, -1)) * 4, "damaged"),
        ("other.pth", {"params_ema": {"x": torch.zeros(3)}}, "0 of the network's 11 weights match"),
        ("tensor.pth", torch.zeros(3), "holds no weights"),
        ("code.pth", Harmful(), "holds Python code"),
    ],
)
def test_unusable_pretrained_weights(
    options: dict[str, Any], name: str, content: Any, words: str, capfd: Capture
) -> None:
    if isinstance(content, bytes):
        Path(name).write_bytes(content)
    elif content is not None:
        torch.save(content, name)
    assert_refused(run(options, "--set", f"path.pretrain_network_g={name}"), capfd, name, words)
    assert not Path("experiments").exists()
    if name != "other.pth":
        assert_refused(
            run_test(test_options(path={"pretrain_network_g": name})), capfd, name, words
        )
    else:
        code = run_test(test_options(path={"pretrain_network_g": name}))
        assert_refused(code, capfd, "an architecture that is not recognized")
    assert not Path("pwned").exists()


def test_weights_of_another_network_leave_the_old_run_alone(
    options: dict[str, Any], capfd: Capture
) -> None:
    assert run(options) == 0
    arguments = ("--set", f"path.pretrain_network_g={WEIGHTS}")
    code = run(options, *arguments, "--set", "network_g={type: span, feature_channels: 8}")
    assert_refused(code, capfd, "0 of the network's", "The file holds compact x2")
    assert_refused(
        run(options, *arguments, "--set", "network_g.num_feat=12"), capfd, "have another shape"
    )
    assert_refused(
        run_test(test_options(scale=4)), capfd, "holds compact at scale 2", "leave `scale` out"
    )
    assert_refused(
        run_test(test_options(network_g={"type": "span"})),
        capfd,
        "required when network_g is given",
    )
    assert names("experiments") == ["small"]
    assert run(options, *arguments) == 0  # weights of the very run that is moved aside


def test_the_ecosystem_s_checkpoints_can_be_tested(options: dict[str, Any]) -> None:
    assert run(options) == 0
    weights = load_file(WEIGHTS)
    torch.save({"params_ema": weights}, "a.pth")
    torch.save({"state_dict": {f"module.{key}": value for key, value in weights.items()}}, "b.ckpt")
    for kind in ("single.png", "folder/one.png", "folder/sub/one.png"):
        write_image(Path(kind), texture(9, 13, 1))
    for number, (name, root) in enumerate([("a.pth", "single.png"), ("b.ckpt", "folder")]):
        datasets = {"test": {"type": "SingleImageDataset", "dataroot_lq": root}}
        assert (
            run_test(
                test_options(
                    name=f"t{number}", path={"pretrain_network_g": name}, datasets=datasets
                )
            )
            == 0
        )
    assert Path("results/t0/test/single.png").is_file()
    assert names("results/t1/test") == ["one.png", "one_2.png"]


@pytest.mark.parametrize(
    ("victim", "damage", "words"),
    [
        ("training_states/6.state", truncate, "damaged or no training state"),
        (
            "training_states/6.state",
            lambda p: torch.save({"step": 2}, p),
            "no training state of this program",
        ),
        ("models/net_g_6.safetensors", flip_byte, "net_g_6.safetensors is damaged"),
        ("models/net_g_ema_6.safetensors", Path.unlink, "net_g_ema_6.safetensors does not exist"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over(
    options: dict[str, Any],
    victim: str,
    damage: Callable[[Path], object],
    words: str,
    capfd: Capture,
) -> None:
    assert run(options) == 0
    damage(RUN / victim)
    longer = ("--auto_resume", "--set", "train.total_iter=8")
    state = "path.resume_state=experiments/small/training_states/6.state"
    assert_refused(run(options, "--set", state), capfd, "6.state", words)
    assert_refused(
        run(options, *longer, "--check"), capfd, "6.state", words, "would go on from", "3.state"
    )
    assert run(options, *longer) == 0
    said = capfd.readouterr().err
    assert words in said
    assert "resumed experiments/small/training_states/3.state" in said
    assert (RUN / "training_states/6.state.left").exists()
    assert load_file(RUN / "models/net_g_8.safetensors")


def test_a_state_of_another_version(options: dict[str, Any], capfd: Capture) -> None:
    assert run(options) == 0
    torch.save({"format": 1}, RUN / "training_states/6.state")
    words = "is a state of format 1, and this version reads format 5"
    assert_refused(run(options, "--auto_resume"), capfd, "6.state", words)


def test_states_that_are_none(options: dict[str, Any], capfd: Capture) -> None:
    code = run(options, "--set", "path.resume_state=nix.state")
    assert_refused(code, capfd, "path.resume_state: there is no file nix.state")
    assert run(options) == 0
    code = run(options, "--set", f"path.resume_state={WEIGHTS}")
    assert_refused(code, capfd, "no training state", "path.pretrain_network_g")
    assert names("experiments") == ["small"]


def test_an_earlier_state_by_its_absolute_path(options: dict[str, Any], capfd: Capture) -> None:
    """The run is not moved aside, and what came after the state is not taken for newer later on."""
    assert run(options) == 0
    state = RUN.absolute() / "training_states/3.state"
    assert run(options, "--set", f"path.resume_state={state}", "--set", "logger.keep_last=1") == 0
    assert names("experiments") == ["small"]
    assert names(RUN / "training_states") == ["6.state", "6.state.left"]
    assert "6.state is later than 3.state" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("train.optim_g={type: sgd, lr: 1e-3}",), "train.optim_g.type: AdamW, and now it is SGD"),
        (
            ("train.scheduler={type: CosineAnnealingLR}",),
            "train.scheduler.type: None, and now it is CosineAnnealingLR",
        ),
        (("network_g.num_feat=12",), "have another shape"),
        (
            (
                "datasets.train.batch_size_per_gpu=3",
                "datasets.train.lq_size=12",
                "datasets.train.accum_iter=2",
            ),
            "",
        ),
        (("train.ema_decay=0", "use_amp=true", "amp_bf16=false"), ""),
        (("datasets.train.num_worker_per_gpu=2", "use_amp=true", "use_channels_last=true"), ""),
    ],
)
def test_going_on_with_other_options(
    options: dict[str, Any], changes: tuple[str, ...], words: str, capfd: Capture
) -> None:
    assert run(options) == 0
    arguments = [word for change in changes for word in ("--set", change)]
    code = run(options, "--auto_resume", "--set", "train.total_iter=8", *arguments)
    assert_refused(code, capfd, words or "the new one counts", expected=2 if words else 0)


def test_a_schedule_that_ends_with_the_run_is_made_longer_with_it(
    options: dict[str, Any], capfd: Capture
) -> None:
    options["train"]["scheduler"] = {"type": "OneCycleLR", "max_lr": 1e-3}
    assert run(options) == 0
    assert run(options, "--auto_resume", "--set", "train.total_iter=8") == 0
    assert "OneCycleLR of the generator is rebuilt for 8 iterations" in capfd.readouterr().err


# The disk, the folders
# ------------------------------------------------------------------------------------------------


def assert_still_good(options: dict[str, Any], iteration: int, capfd: Capture) -> None:
    """No half files, no weights without a state, and the run goes on from the last checkpoint."""
    assert not [p for p in Path().rglob("*.tmp") if p.is_file()]
    assert names(RUN / "training_states") == [f"{iteration}.state"]
    numbered = {p.name for p in (RUN / "models").glob("net_g*_[0-9]*")}
    assert numbered == {f"net_g_{iteration}.safetensors", f"net_g_ema_{iteration}.safetensors"}
    assert run(options, "--auto_resume") == 0
    assert f"{iteration}.state: iteration {iteration}" in capfd.readouterr().err
    assert (RUN / "training_states/6.state").is_file()


class FullDisk(Part):
    """After the first checkpoint `files` more can be written, and no other."""

    name = "full disk"

    def __init__(self, files: int) -> None:
        self._left = files

    def start(self, run: Run) -> None:
        checkpoints = next(part for part in run.parts if isinstance(part, Checkpoints))
        write = checkpoints.write

        def write_while_there_is_room(path: Path, content: bytes) -> None:
            if (RUN / "training_states/3.state").exists():
                self._left -= 1
                if self._left < 0:
                    raise DiskError(f"cannot write {path}: No space left on device; --auto_resume")
            write(path, content)

        checkpoints.write = write_while_there_is_room


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_disk_that_is_full_while_saving(
    options: dict[str, Any], after: int, capfd: Capture
) -> None:
    """The weights, their moving average, the state: `after` files of the second checkpoint can be
    written.
    """
    options["val"] = {"val_enabled": False}
    code = run_training(options, parts=[FullDisk(after)])
    assert_refused(
        code, capfd, "cannot write", "No space left on device", "--auto_resume", expected=1
    )
    assert_still_good(options, 3, capfd)


class LittleRoom(Part):
    """There is room for so many states."""

    name = "little room"

    def start(self, run: Run) -> None:
        checkpoints = next(part for part in run.parts if isinstance(part, Checkpoints))
        write = checkpoints.write

        def write_while_there_is_room(path: Path, content: bytes) -> None:
            if path.suffix == ".state" and len(list(path.parent.glob("*.state"))) >= 3:
                raise DiskError(f"cannot write {path}: No space left on device; --auto_resume")
            write(path, content)

        checkpoints.write = write_while_there_is_room


def test_a_lower_keep_last_makes_room(options: dict[str, Any], capfd: Capture) -> None:
    options["val"] = {"val_enabled": False}
    options["logger"] |= {"save_checkpoint_freq": 1, "keep_last": 100}
    assert run_training(options, parts=[LittleRoom()]) == 1
    assert "cannot write" in capfd.readouterr().err
    assert names(RUN / "training_states") == ["1.state", "2.state", "3.state"]
    options["logger"]["keep_last"] = 3
    assert run_training(options, "--auto_resume", parts=[LittleRoom()]) == 0
    assert "older ones were deleted first" in capfd.readouterr().err
    assert names(RUN / "training_states") == ["4.state", "5.state", "6.state"]


LIMITED = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
sys.argv = ["train.py", "-opt", "o.yml", "--auto_resume"]
runpy.run_path("train.py", run_name="__main__")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of the size of files")
def test_a_disk_that_takes_no_more_for_real(options: dict[str, Any], capfd: Capture) -> None:
    """Weights of 10 KB fit, the state of 44 KB does not."""
    options["val"] = {"val_enabled": False}
    options["logger"]["use_tb_logger"] = False
    assert run(options, "--set", "train.total_iter=3") == 0
    write_options(Path("o.yml"), options)
    script = LIMITED.replace('run_path("train.py"', f"run_path({str(ROOT / 'train.py')!r}")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot write experiments/small/training_states/6.state" in done.stderr
    assert_still_good(options, 3, capfd)


@pytest.mark.parametrize("key", ["experiments_root", "tb_root"])
def test_a_folder_that_is_a_file(options: dict[str, Any], key: str, capfd: Capture) -> None:
    assert_refused(
        run(options, "--set", f"path.{key}=o.yml"), capfd, "o.yml", f"path.{key}", expected=1
    )


def test_a_folder_that_cannot_be_written(
    options: dict[str, Any], capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Path.mkdir

    def mkdir(self: Path, *arguments: Any, **more: Any) -> None:
        if self.name == "models":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        make(self, *arguments, **more)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert_refused(
        run(options), capfd, "Read-only file system", "path.experiments_root", expected=1
    )


LOCK = """
import fcntl, sys
file = open("experiments/.small.lock", "a+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the test locks as POSIX does")
@pytest.mark.parametrize("arguments", [(), ("--auto_resume",)])
def test_two_runs_of_one_name(
    options: dict[str, Any], arguments: tuple[str, ...], capfd: Capture
) -> None:
    assert run(options) == 0
    with subprocess.Popen(
        [sys.executable, "-c", LOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        assert_refused(
            run(options, *arguments), capfd, "another process trains in experiments/small", "--name"
        )
        other.kill()
    assert names("experiments") == [".small.lock", "small"], "an empty file stays after a kill"
    assert run(options, *arguments) == 0
    assert ".small.lock" not in names("experiments")


# Numbers
# ------------------------------------------------------------


def test_a_rate_that_explodes(options: dict[str, Any], capfd: Capture) -> None:
    """Steps are skipped and named, the run stops, and what was saved is finite and loadable: the
    weights before the first of them too.
    """
    options = explode(options)
    assert_refused(
        run(options),
        capfd,
        "steps with non-finite gradients skipped",
        "images of the last: ",
        "not saved at 12",
        "psnr is not a number at iteration",
        "iterations in a row; the weights are those before",
        "Lower train.optim_g.lr",
        "Iteration 32 is saved",
        expected=1,
    )
    assert names(RUN / "training_states") == ["32.state", "4.state", "8.state"]
    for weights in (RUN / "models").iterdir():
        assert all(weight.isfinite().all() for weight in load_file(weights).values()), weights
    options["path"] = {"pretrain_network_g": str(RUN / "models/net_g_8.safetensors")}
    options["train"] |= {"total_iter": 6}
    assert run(options) == 0


def test_weights_that_are_not_finite_are_not_saved(options: dict[str, Any], capfd: Capture) -> None:
    options["train"]["optim_g"]["lr"] = 1e39
    assert_refused(run(options), capfd, "the weights are not finite at iteration 6", expected=1)
    assert not list((RUN / "models").iterdir())
