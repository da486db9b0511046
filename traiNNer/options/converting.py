"""Options of other trainers (traiNNer-redux, neosr, BasicSR) turned into ours.

First what has another form here is rewritten: degradations, losses that are keys, augmentations
that mix, discriminators. Then the schema itself says what is left that it does not know; what has
another name is renamed, and what is not part of this version is left out. Everything is told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from traiNNer.options.converting_degradations import degradations_of
from traiNNer.options.fields import all_keys
from traiNNer.options.foreign import explain_foreign_key
from traiNNer.options.foreign_names import explain_foreign_name
from traiNNer.options.loading import errors_by_key
from traiNNer.options.schema import TrainingOptions
from traiNNer.options.yaml_parser import KeyPath
from traiNNer.options.yaml_reader import RawOptions
from traiNNer.utils.registry import ARCHS, DATASETS, DISCRIMINATORS, LOSSES, normalize

# Each round renames or leaves out at least one thing, and sees what was hidden behind it.
_MOST_ROUNDS = 60
_CALLED = re.compile(r"it is called ([\w.]+) here")
_OTF_DATASETS = re.compile(r"otf|realesrgan|bsrgan|blind|degradation")
_VIDEO_DATASETS = re.compile(r"video|vimeo|reds|vid4|pairedframes")
_DEGRADATION = re.compile(
    r"(blur|kernel|sinc|betag|betap|resize|gaussian|noise|poisson|gray|grey|jpeg|final_sinc|"
    r"second_blur|lq_usm|queue|high_order).*"
)
# Keys that say the same, but for their place.
_RENAMED = {
    normalize(name): ours
    for name, ours in {
        "ema": "train.ema_decay",
        "accumulate": "datasets.train.accum_iter",
        "perceptual_weight": "loss_weight",
        "warmup_steps": "train.warmup_iter",
    }.items()
}
# Parameters of networks by the name that spandrel, and so this program, has for them.
_NETWORKS = {"esrgan": {"num_feat": "num_filters", "num_block": "num_blocks"}}
# What other trainers call the forms of an adversarial loss.
_GAN_TYPES = {"bce": "vanilla", "bce_logits": "vanilla", "mse": "lsgan", "l2": "lsgan"}
_MISSING = object()
_SHARPENING = ("gt_usm", "l1_gt_usm", "percep_gt_usm", "gan_gt_usm")
_AUGMENTATIONS = ("mixup", "cutmix", "resizemix", "cutblur", "cutout", "downup")


@dataclass
class Converted:
    """Options of ours, and what became of each key that is not there as it was.

    Attributes:
        values: as YAML has them.
        notes: (key, what became of it), in the order in which it was met.
        problems: what could not be mended, one line each.
    """

    values: dict[str, Any]
    notes: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def note(self, key: str, words: str) -> None:
        """Tell what became of a key."""
        self.notes.append((key, words))


def convert(values: Mapping[str, Any]) -> Converted:
    """Options of another trainer as ours.

    Args:
        values: of its file.
    """
    result = Converted(json.loads(json.dumps(values, default=str)))
    sharpening = _taken_sharpening(result.values)
    _convert_dataset(result)
    _convert_losses(result)
    _sharpen_targets(result, sharpening)
    _convert_augmentations(result)
    _convert_discriminator(result)
    _convert_generator(result)
    _mend(result)
    return result


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    """A section, made if it is missing."""
    section = values.get(name)
    if not isinstance(section, dict):
        section = {}
        values[name] = section
    return section


def _convert_dataset(result: Converted) -> None:
    """Kinds of datasets, their sizes, and degradations that are made while training."""
    values = result.values
    train = _section(_section(values, "datasets"), "train")
    scale = values.get("scale", 4)
    for key in ("gt_size", "hr_size", "HR_size", "crop_size"):
        if isinstance(train.get(key), int) and isinstance(scale, int):
            train["lq_size"] = max(1, train.pop(key) // scale)
            result.note(f"datasets.train.{key}", f"datasets.train.lq_size: {train['lq_size']}")
    if "patch_size" in train:
        train["lq_size"] = train.pop("patch_size")
        result.note("datasets.train.patch_size", "datasets.train.lq_size")
    for name, section in _section(values, "datasets").items():
        if isinstance(section, dict):
            _convert_kind(result, name, section)
    kind = normalize(str(train.get("type", "")))
    if not (values.get("high_order_degradation") or _OTF_DATASETS.search(kind)):
        return
    found = _taken_degradations(values)
    train["type"] = "SingleGtDataset"
    if "dataroot_lq_prob" not in train and train.pop("dataroot_lq", None) is not None:
        result.note("datasets.train.dataroot_lq", "left out: LQ is made of GT")
    train["degradations"] = degradations_of(found)
    steps = len(train["degradations"])
    result.note(", ".join(sorted(found)) or "type", f"datasets.train.degradations, {steps} steps")


def _convert_kind(result: Converted, name: str, section: dict[str, Any]) -> None:
    kind = str(section.get("type", ""))
    if kind in DATASETS or _OTF_DATASETS.search(normalize(kind)):
        return
    has_both = "dataroot_gt" in section and "dataroot_lq" in section
    if _VIDEO_DATASETS.search(normalize(kind)):
        ours = "PairedVideoDataset" if has_both else "SingleVideoDataset"
        if name == "train" and "recurrent" not in kind.lower():
            section.setdefault("target", "center")
    else:
        ours = "PairedImageDataset" if has_both or name == "train" else "SingleImageDataset"
    section["type"] = ours
    result.note(f"datasets.{name}.type", f"{kind or 'none'} is {ours}")


def _taken_degradations(values: dict[str, Any]) -> dict[str, Any]:
    """The keys of degradations, taken out of wherever a trainer keeps them."""
    train = values["datasets"]["train"]
    found: dict[str, Any] = {}
    nested = values.pop("degradations", None)
    if isinstance(nested, dict):
        found |= nested
    for section in (values, train):
        for key in [key for key in section if _DEGRADATION.fullmatch(str(key).lower())]:
            found[key] = section.pop(key)
    return found


def _convert_losses(result: Converted) -> None:
    """Losses that are keys of `train`, as neosr and BasicSR have them, become a list."""
    train = _section(result.values, "train")
    losses = train.get("losses")
    losses = losses if isinstance(losses, list) else []
    for key in [key for key in train if str(key).endswith("_opt")]:
        section = train.pop(key)
        if not isinstance(section, dict):
            continue
        losses.append({"type": key.removesuffix("_opt")} | section)
        result.note(f"train.{key}", f"an item of train.losses, {losses[-1]['type']}")
    for loss in losses:
        if isinstance(loss, dict) and loss.get("gan_type") in _GAN_TYPES:
            loss["gan_type"] = _GAN_TYPES[loss["gan_type"]]
    train["losses"] = losses


def _taken_sharpening(values: dict[str, Any]) -> dict[str, Any]:
    """The keys about sharper GT, taken out of wherever a trainer keeps them."""
    found: dict[str, Any] = {}
    sections = [values, values.get("train"), values.get("degradations")]
    sections.append(_section(_section(values, "datasets"), "train"))
    for section in sections:
        if isinstance(section, dict):
            found |= {key: section.pop(key) for key in _SHARPENING if key in section}
    return found


def _sharpen_targets(result: Converted, found: Mapping[str, Any]) -> None:
    """What the keys about sharper GT mean for each loss."""
    if not found:
        return
    sharp: list[str] = []
    for loss in result.values["train"]["losses"]:
        kind = str(loss.get("type", "")).lower() if isinstance(loss, dict) else "gan"
        own = "percep_gt_usm" if "percep" in kind or "vgg" in kind else "l1_gt_usm"
        if "gan" not in kind and (found.get("gt_usm") or found.get(own)):
            loss["gt_usm"] = True
            sharp.append(kind)
    words = f"gt_usm: true of {', '.join(sharp)}" if sharp else "left out: GT stays as it is"
    if found.get("gan_gt_usm"):
        words += "; the discriminator sees GT as it is"
    result.note(", ".join(found), words)


def _convert_augmentations(result: Converted) -> None:
    values = result.values
    train = _section(values, "train")
    section = values["datasets"]["train"]
    names: Any = train.pop("moa_augs", None) or section.pop("augmentation", None)
    shares: Any = train.pop("moa_probs", None) or section.pop("aug_prob", None)
    used = train.pop("use_moa", names is not None)
    if not used or not isinstance(names, list):
        return
    if not isinstance(shares, list) or len(shares) != len(names):
        shares = [1 / len(names)] * len(names)
    total = sum(shares) or 1
    taken = {
        name: round(share / total, 4)
        for name, share in zip(names, shares, strict=True)
        if name in _AUGMENTATIONS and share > 0
    }
    section["augmentations"] = taken
    result.note("moa_augs, moa_probs", f"datasets.train.augmentations: {taken}")


def _convert_discriminator(result: Converted) -> None:
    values = result.values
    section = values.get("network_d")
    if not isinstance(section, dict):
        values.pop("network_d", None)
        return
    kind = str(section.get("type", ""))
    if kind not in DISCRIMINATORS:
        ours = "patchgan" if "patch" in kind.lower() else "unet_sn"
        values["network_d"] = {"type": ours}
        result.note("network_d.type", f"{kind} is not part of this version; {ours} in its place")
    losses = values["train"]["losses"]
    if normalize(str(values.get("model_type", ""))) in ("esrganmodel", "esrgan"):
        for loss in losses:
            if str(loss.get("type", "")).lower().startswith("gan"):
                loss["relativistic"] = True
                result.note("model_type", "relativistic: true in the adversarial loss")
    if not any(str(loss.get("type", "")).lower().startswith("gan") for loss in losses):
        values.pop("network_d")
        values["train"].pop("optim_d", None)
        result.note("network_d", "left out: there is no loss of the kind gan")
    elif "optim_d" not in values["train"] and "optim_g" in values["train"]:
        values["train"]["optim_d"] = dict(values["train"]["optim_g"])
        result.note("train.optim_d", "as train.optim_g")


def _convert_generator(result: Converted) -> None:
    """Parameters of networks that have other names here."""
    section = result.values.get("network_g")
    if not isinstance(section, dict) or str(section.get("type")) not in ARCHS:
        return
    renamed = _NETWORKS.get(ARCHS.canonical(str(section["type"])), {})
    for name, ours in renamed.items():
        if name in section:
            section[ours] = section.pop(name)
            result.note(f"network_g.{name}", f"network_g.{ours}")


def _mend(result: Converted) -> None:
    """Rename and leave out until the schema takes it."""
    for _ in range(_MOST_ROUNDS):
        by_key = _wrong(result.values)
        # Items of lists from the last one on, so that the others keep their numbers.
        keys = sorted(by_key, key=str, reverse=True)
        # What is missing may stand elsewhere, under a name that is not known yet.
        missing = [key for key in keys if by_key[key][0]["type"] == "missing"]
        there = [key for key in keys if key not in missing]
        changed = [_mend_one(result, key, by_key[key][0]) for key in there]
        changed = changed if any(changed) else [_fill(result, key) for key in missing]
        if not any(changed):
            break
    for key, details in _wrong(result.values).items():
        result.problems.append(f"{_dotted(key)}: {details[0]['msg']}")


def _wrong(values: dict[str, Any]) -> dict[KeyPath, list[dict[str, Any]]]:
    """What the schema does not take, by key."""
    try:
        TrainingOptions.model_validate_json(json.dumps(values))
    except ValidationError as error:
        return errors_by_key(TrainingOptions, RawOptions(values), error)
    return {}


def _dotted(key: KeyPath) -> str:
    return ".".join(map(str, key))


def _mend_one(result: Converted, key: KeyPath, error: dict[str, Any]) -> bool:
    """Whether anything could be done about what is wrong at a key."""
    if not key:
        return False
    kind = error["type"]
    if kind == "extra_forbidden":
        sentence = explain_foreign_key(key)
        name = _name_here(key, sentence)
        if name is not None and _move(result, key, name):
            return True
        return _leave_out(result, key, sentence or "there is no such option")
    if kind == "unknown_type":
        return _replace_type(result, key, error)
    if key[:-1] == ("train", "losses"):
        return _leave_out(result, key, error["msg"])
    return _leave_out(result, key, f"{error['msg']}; the default takes its place")


def _name_here(key: KeyPath, sentence: str | None) -> str | None:
    """What an unknown key is called here: its name beside it, or a dotted one from the top."""
    renamed = _CALLED.match(sentence or "")
    if renamed is not None:
        return renamed[1]
    spelling = normalize(str(key[-1]))
    if spelling in _RENAMED:
        return _RENAMED[spelling]
    if sentence is not None:
        return None
    elsewhere = [name for name in all_keys(TrainingOptions) if normalize(_last(name)) == spelling]
    is_plain = len(elsewhere) == 1 and not re.search(r"[\[<*]", elsewhere[0])
    return elsewhere[0] if is_plain else None


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _fill(result: Converted, key: KeyPath) -> bool:
    defaults: dict[KeyPath, Any] = {
        ("train", "total_iter"): 500_000,
        ("train", "optim_g"): {"type": "AdamW", "lr": 1e-4},
        ("train", "losses"): [{"type": "l1"}],
        ("name",): "converted",
    }
    if key not in defaults:
        # A component whose own argument is missing is of no use.
        return len(key) > 2 and _leave_out(result, key[:-1], f"{key[-1]} is missing")
    _at(result.values, key[:-1])[key[-1]] = defaults[key]
    result.note(_dotted(key), f"was missing: {defaults[key]}")
    return True


def _replace_type(result: Converted, key: KeyPath, error: dict[str, Any]) -> bool:
    """A name that a registry does not have: its other name, another one, or nothing."""
    kind = str((error.get("ctx") or {}).get("message", "")).removeprefix("unknown ")
    section = key[:-1] if key[-1] == "type" else key
    name = _at(result.values, key)
    sentence = explain_foreign_name(kind, str(name)) or "not part of this version"
    renamed = _CALLED.match(sentence)
    other = renamed[1] if renamed is not None else None
    if kind == "loss":
        shorter = re.sub(r"_?loss$", "", str(name), flags=re.IGNORECASE)
        other = shorter if shorter in LOSSES else other
    if other is not None:
        _at(result.values, key[:-1])[key[-1]] = other
        result.note(_dotted(key), f"{name} is {other}")
        return True
    if kind == "optimizer":
        own = _at(result.values, section)
        ours = "AdamW"
        arguments = ["lr", "weight_decay"]
        if re.search(r"sf$|schedulefree", normalize(str(name))):
            ours = "ScheduleFreeAdamW"
            arguments.append("warmup_steps")
        if len(own.get("betas") or []) == 2:
            arguments.append("betas")
        kept = {arg: own[arg] for arg in arguments if arg in own}
        _at(result.values, section[:-1])[section[-1]] = {"type": ours} | kept
        result.note(_dotted(key), f"{name} is not part of this version; {ours} in its place")
        return True
    if kind == "network":
        return False
    return _leave_out(result, section, f"{name}: {sentence}")


def _move(result: Converted, key: KeyPath, name: str) -> bool:
    """Put a value where it belongs: beside it, or at a dotted place from the top."""
    source = _at(result.values, key[:-1])
    steps = name.split(".")
    target = source if len(steps) == 1 else result.values
    for step in steps[:-1]:
        target = _section(target, step)
    if not isinstance(target, dict) or steps[-1] in target:
        return _leave_out(result, key, f"{name} is there already")
    target[steps[-1]] = source.pop(key[-1])
    result.note(_dotted(key), f"{name}")
    return True


def _leave_out(result: Converted, key: KeyPath, why: str) -> bool:
    parent = _at(result.values, key[:-1])
    if isinstance(parent, list):
        number = int(key[-1])
        if number >= len(parent):
            return False
        parent.pop(number)
    elif parent.pop(key[-1], _MISSING) is _MISSING:
        return False
    result.note(_dotted(key), f"left out: {why}")
    if key[:-1] == ("train", "losses") and not parent:
        result.values["train"]["losses"] = [{"type": "l1"}]
        result.note("train.losses", "no loss was left: l1")
    return True


def _at(values: Any, key: KeyPath) -> Any:
    for step in key:
        values = values[step]
    return values
