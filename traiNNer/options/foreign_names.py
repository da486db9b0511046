"""Values of `type` that other trainers have, each with one true sentence; see `foreign`."""

from __future__ import annotations

from traiNNer.options.foreign import GAN, OTF, PERCEPTUAL, called
from traiNNer.utils.registry import normalize

_KINDS: dict[str, dict[str, tuple[str, ...]]] = {
    "loss": {
        GAN: ("multiscale_gan", "gan_feat", "r1", "wgan"),
        PERCEPTUAL: (
            "vgg", "style", "adists",
            "perceptual_fp16", "pieapp", "clip",
        ),
        "mixes are written as two losses, {type: l1} and {type: ms_ssim}, each with its "
        "loss_weight": ("mssim_l1", "ms_ssim_l1", "mssiml1"),
    },
    "dataset": {
        OTF: (
            "otf", "BSRGANDataset", "LRHROTF", "BlindDataset", "FFHQDegradationDataset",
            "SingleOTF", "Paired_OTF",
        ),
        "pairs of images are a PairedImageDataset": (
            "paired", "LRHR", "LRHRDataset", "sr", "plain", "PairedImageLMDBDataset", "aligned",
            "PairedDataset", "ImagePairs", "PairedImageHDF5Dataset",
        ),
        "images without GT are a SingleImageDataset": ("single", "LR", "LRDataset", "lq"),
        "clips are a PairedVideoDataset": (
            "REDSDataset", "REDSRecurrentDataset", "VimeoDataset", "Vimeo90KDataset", "Vid4",
            "VideoTestDataset", "VideoTestVimeo90KDataset", "Vimeo90KRecurrentDataset",
            "VideoTestDUFDataset", "VideoRecurrentTestDataset", "PairedFramesDataset", "video",
        ),
    },
    "recipe": {
        GAN: (
            "SRGANModel", "ESRGANModel", "srgan", "esrgan", "srragan", "sr_gan", "StyleGAN2Model",
            "gan", "HiFaceGANModel", "SwinIRGAN", "ppon", "asrragan",
        ),
        OTF: ("RealESRGANModel", "RealESRNetModel", "otf", "RealESRGAN", "bsrgan"),
        "SRModel is the recipe for images and clips, and the default": (
            "image", "default", "sr", "plain", "base", "VideoBaseModel", "VideoRecurrentModel",
            "EDVRModel", "SwinIRModel", "HATModel", "ImageRestorationModel", "ImageCleanModel",
        ),
    },
    "scheduler": {
        called("MultiStepLR"): ("MultiStepRestartLR", "MultiStepLR_Restart", "multistep"),
        called("CosineAnnealingWarmRestarts"): (
            "CosineAnnealingRestartLR", "CosineAnnealingLR_Restart",
            "CosineAnnealingRestartCyclicLR",
        ),
        called("CosineAnnealingLR"): ("cosine", "cosineannealing", "kosine"),
        "without train.scheduler the rate is constant": ("constant", "none"),
    },
    "metric": {},
    "optimizer": {
        called("ScheduleFreeAdamW"): ("adamwsf", "adamwschedulefree", "adamw_sf"),
        called("ScheduleFreeSGD"): ("sgdschedulefree", "sgd_sf"),
    },
    "automation": {},
}  # fmt: skip
_ENDINGS = ("loss", "dataset", "model")
_TORCHS = "optimizers are those of torch and some of pytorch-optimizer, schedulers torch's alone"
# Names that other trainers have and this version has not, under no other name either.
_MISSING = {
    "loss": (
        "pseudohuber smoothl1 hfen edge color kl overflow bicubic averagebceloss "
        "elastic relativel1 l1cosinesim clipiqa linear nrmse hue dctloss"
    ),
    "metric": (
        "niqe brisque fid nrqm pi musiq maniqa topiq topiqfr ilniqe clipiqa "
        "vmaf mse mae rmse vif fsim gmsd adists calculateniqe "
        "calculatetopiq calculateilniqe calculatefid dreamsim arniqa "
        "hyperiqa dbcnn"
    ),
    "optimizer": (
        "adansf adanschedulefree schedulefree soapsf muon ranger adai "
        "adamwin adamwwin nadamwin sophia dadaptadam dadaptadan dadaptlion came shampoo "
        "lbfgs sparseadam tiger"
    ),
    "scheduler": ("vibratelr reducelronplateau cyclic warmupcosine warmup wsd trapezoid"),
    "automation": (
        "intelligentlearningratescheduler adaptivegradientclipping "
        "intelligentearlystopping earlystopping lrscheduler gradientclipping "
        "learningratescheduler"
    ),
}
_NAMES = {
    kind: {normalize(name): sentence for sentence, names in sentences.items() for name in names}
    for kind, sentences in _KINDS.items()
}


def explain_foreign_name(kind: str, name: str) -> str | None:
    """A sentence about a `type` of other trainers, None for any other name.

    Args:
        kind: of the registry that does not have the name, for example "loss".
        name: as it was given.
    """
    known = _NAMES.get(kind, {})
    spelling = normalize(name)
    spellings = [spelling, *(spelling.removesuffix(ending) for ending in _ENDINGS)]
    for candidate in spellings:
        if candidate in known:
            return known[candidate]
    if any(candidate in _MISSING.get(kind, "").split() for candidate in spellings):
        if kind in ("optimizer", "scheduler"):
            return _TORCHS
        return f"this {kind} is not part of this version yet"
    return None
