"""The one schema of all options. The text under a field is its documentation, in `--explain` and in
docs/options.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from traiNNer.options.automations import TrainingAutomations
from traiNNer.options.checks import problems_of
from traiNNer.options.components import Section
from traiNNer.options.dataset_sections import FOLDER_NAME, TestDatasets, TrainingDatasets
from traiNNer.options.distillation import DistillationOptions
from traiNNer.options.entries import (
    Amount,
    Count,
    DiscriminatorOptions,
    Integral,
    LossOptions,
    MetricOptions,
    NetworkOptions,
    OptimizerOptions,
    PartOptions,
    Positive,
    SchedulerOptions,
    UserPath,
)
from traiNNer.options.length import MEASURES, RunLength
from traiNNer.options.problems import OptionProblems, raise_at
from traiNNer.options.recipes import DEFAULT_RECIPE, Task, known_recipe, task_of
from traiNNer.utils.arithmetic import ceil_div, round_up
from traiNNer.utils.patch_scales import PatchScales

RecipeName = Annotated[str, AfterValidator(known_recipe)]
# Of a classifier whose options name none.
CLASS_METRICS = {name: {"type": name} for name in ("accuracy", "balanced_accuracy")}


class PathOptions(Section):
    """Files that come in, folders that go out. Relative paths start where the command runs."""

    pretrain_network_g: UserPath | None = None
    """Weights to start from (.safetensors or .pth), ours or any that spandrel reads."""
    strict_load_g: bool = True
    """Every weight must fit. false takes what fits and reports the rest."""
    pretrain_network_g_teacher: UserPath | None = None
    """Weights of the teacher."""
    pretrain_network_d: UserPath | None = None
    """Weights of the discriminator to start from."""
    strict_load_d: bool = True
    """The same for the discriminator."""
    resume_state: UserPath | None = None
    """A .state file in training_states to go on from. --auto_resume finds the newest one itself."""
    experiments_root: UserPath = "experiments"
    """Folder of the runs: experiments_root/<name>/{models,training_states,log,visualization}."""
    tb_root: UserPath = "tb_logger"
    """Folder of the TensorBoard curves: tb_root/<name>."""
    results_root: UserPath = "results"
    """Folder that test.py writes to: results_root/<name>/<dataset>."""


class ScaleConsistencyOptions(Section):
    """A term that asks outputs of the same patch at several sizes to agree."""

    weight: float = Field(default=0.1, ge=0)
    """Factor of the term beside the losses. 0: none."""
    type: Literal["charbonnier", "l1", "mse", "cosine", "kl_divergence"] | None = None
    """How outputs are compared: each with that of the largest size. charbonnier, l1 or mse for
    pictures, which are shrunk to the other's size; mse, cosine or kl_divergence for classes. Left
    out: charbonnier, or kl_divergence."""
    recompute: Literal["auto"] | bool = "auto"
    """true: run the smaller sizes twice, so that the step takes the memory of the largest one.
    false: once, with the memory of all of them. auto: as many once as 85 % of the memory is
    expected to do for, and true beside automations, which give the memory to larger batches."""


class TrainOptions(Section):
    """How the weights change."""

    total_iter: Positive | None = Field(default=None, le=MEASURES["total_iter"].most)
    """Length of the run in iterations (changes of the weights). Exactly one of the four lengths is
    given, and schedules, val_freq and save_checkpoint_freq are in its measure."""
    total_samples: Positive | None = Field(default=None, le=MEASURES["total_samples"].most)
    """Length of the run in samples. While an automation raises the batch, iterations become fewer
    and the run does not become longer."""
    total_mpixels: Amount | None = Field(default=None, le=MEASURES["total_mpixels"].most)
    """Length of the run in millions of LQ pixels that enter the network, of all frames: about the
    same work, and so the same time, whatever patch and batch the automation chooses."""
    total_hours: Amount | None = Field(default=None, le=MEASURES["total_hours"].most)
    """Length of the run in hours, those of earlier sittings, validation and saving included."""
    warmup_iter: Annotated[int, Integral, Field(ge=-1)] = 0
    """Iterations in which the learning rate climbs linearly from near zero. 0 or -1: none."""
    warmup: Amount | None = None
    """The same in the measure of the run's length, in place of warmup_iter."""
    optim_g: OptimizerOptions
    """Optimizer of the network."""
    optim_d: OptimizerOptions | None = None
    """Optimizer of the discriminator. It follows the same schedule."""
    net_d_iters: Positive = 1
    """The network is changed every so many iterations, the discriminator at each."""
    net_d_init_iters: Count = 0
    """Iterations at the beginning that change the discriminator alone."""
    scheduler: SchedulerOptions | None = None
    """Learning-rate schedule. Left out: constant."""
    restart_scheduler: bool = False
    """Begin the schedule anew where a run is resumed, with the learning rate of the options, over
    the iterations that are left. Once: a later resume goes on with it, unless total_iter has
    changed again."""
    losses: list[LossOptions] = Field(default_factory=list)
    """The losses, summed by weight. SRModel needs one at least."""
    scale_weights: Literal["pixels", "equal"] | list[Annotated[float, Field(gt=0)]] = "pixels"
    """How much each of datasets.train.scales counts: by its pixels, equally, or by a list in the
    order of scales. They are divided by their sum."""
    scale_consistency: ScaleConsistencyOptions | None = None
    """A term between the sizes of datasets.train.scales. Left out: none."""
    distillation: DistillationOptions | None = None
    """What network_g_teacher has to say. Left out, with a teacher: it takes GT's place."""
    effective_batch_size: Positive | None = None
    """Samples of every iteration, whatever the batch: batches are accumulated up to exactly so
    many. It keeps the learning rate right while an automation changes the batch. Left out: one
    batch times accum_iter."""
    lr_scaling: Literal["none", "sqrt", "linear"] = "none"
    """How the learning rate follows the samples of an iteration, relative to batch_size_per_gpu *
    accum_iter, while an automation changes the batch: not at all, with the square root of the
    ratio, or with the ratio."""
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay per iteration of the moving average of the weights, which is validated and saved beside
    them. 0: none."""
    ema_half_life: Amount | None = None
    """In place of ema_decay: after so much of the run, in the measure of its length, former weights
    count half in the moving average, however large the steps are."""
    ema_also: list[Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=list)
    """Decays of further moving averages, each of which is validated and saved beside the first
    (net_g_ema_0.9999). Which weights are best is decided by the first."""
    ema_widths: list[Annotated[float, Field(ge=0.01, le=0.28)]] = Field(default_factory=list)
    """Widths of power-law averages, as shares of the run so far; each is validated and saved as
    those of ema_also are (net_g_ema_w0.05). Of two, 0.05 and 0.1, scripts/posthoc_average.py makes
    those of other widths when the run is over."""
    ema_power: float = Field(default=0, ge=0, le=10)
    """Warm-up of the moving average: in iteration n its decay is at most 1 - n^-ema_power, so that
    it soon forgets the beginning. 0: none; 0.75 is usual."""
    grad_clip: bool = False
    """Clip the gradients' global norm."""
    grad_clip_max_norm: float = Field(default=1.0, gt=0)
    """Largest global norm when grad_clip is on."""
    max_nonfinite_steps: Positive = 20
    """Non-finite steps are skipped and reported; after this many in a row the run stops."""

    @model_validator(mode="wrap")
    @classmethod
    def _one_length(cls, data: Any, handler: Callable[[Any], Any]) -> Any:
        """Reports a missing or second length together with what else is wrong."""
        if not isinstance(data, dict):
            return handler(data)
        problems = OptionProblems()
        given = [key for key in MEASURES if data.get(key) is not None]
        if not given:
            message = f"the length of the run, exactly one of {', '.join(MEASURES)}"
            problems.add(("total_iter",), message, None, kind="missing")
        for key in given[1:]:
            message = f"{given[0]} is the length of the run already; leave one of them out"
            problems.add((key,), message, data[key])
        for key, other in (("warmup", "warmup_iter"), ("ema_half_life", "ema_decay")):
            if data.get(key) is not None and data.get(other) not in (None, 0, -1):
                problems.add((key,), f"{other} says the same; leave one of them out", data[key])
        section = None
        with problems.collecting():
            section = handler(data)
        problems.raise_if_any(cls.__name__)
        return section

    @model_validator(mode="after")
    def _averages_once(self) -> TrainOptions:
        """A schedule-free optimizer takes the place of schedule and moving average."""
        if not self.is_schedule_free:
            return self
        given = {"scheduler": self.scheduler, "ema_half_life": self.ema_half_life}
        given["ema_also"] = self.ema_also or None
        given["ema_widths"] = self.ema_widths or None
        if "ema_decay" in self.model_fields_set:
            given["ema_decay"] = self.ema_decay or None
        for key, value in given.items():
            if value is not None:
                message = f"{self.optim_g.type} averages the weights itself; leave {key} out"
                raise_at([(key,)], message, value=None)
        return self

    @property
    def is_schedule_free(self) -> bool:
        """Whether the optimizer averages the weights itself."""
        return getattr(self.optim_g.entry, "is_schedule_free", False)

    @property
    def length_key(self) -> str:
        """Which of the four lengths is given."""
        return next(key for key in MEASURES if getattr(self, key) is not None)


class ValOptions(Section):
    """How images are judged while training, and processed by test.py."""

    val_enabled: bool = True
    """Validate while training (needs a val* dataset)."""
    val_freq: Amount | None = None
    """Iterations between validations, or what else the run's length is counted in; there is always
    one at the end. Left out: 5000 iterations, or a twentieth of a length in another measure."""
    at_start: bool | None = None
    """Validate before the first step too: what a fine-tuned network was before. Left out: where
    there are pretrained weights."""
    save_img: bool = False
    """Save every output as PNG under visualization/."""
    tile_size: Count = 0
    """Side of the tiles in LQ pixels in which large images are processed. 0: whole images."""
    tile_overlap: Count = 16
    """LQ pixels by which neighbouring tiles overlap; they are blended there."""
    metrics: dict[str, MetricOptions] = Field(
        default_factory=lambda: {
            name: MetricOptions.model_validate({"type": name}) for name in ("psnr", "ssim")
        }
    )
    """Metrics by label. Left out: psnr and ssim in RGB."""
    tb_images: Count = 4
    """Images of each val set that TensorBoard shows as strips LQ | SR | GT."""
    lq_size: Positive | None = None
    """Side of the pictures that a classifier is judged at and used with. Left out: that of
    training. Larger ones show more than patches do, at less than the cost of training on them."""
    compare_bicubic: bool = False
    """After the last iteration, print bicubic beside the network per image and write a sheet of
    pictures."""

    @model_validator(mode="after")
    def _overlap_below_tile(self) -> ValOptions:
        if self.tile_size and self.tile_overlap >= self.tile_size:
            message = f"expected less than tile_size ({self.tile_size})"
            raise_at([("tile_overlap",)], message, value=self.tile_overlap)
        return self


class TestValOptions(ValOptions):
    """How test.py processes images and videos."""

    __test__: ClassVar[bool] = False  # no test class, whatever pytest thinks of the name

    save_img: bool = True
    """Save the outputs under results_root/<name>/<dataset>: images as PNG, scenes as save_as
    says."""
    save_as: Literal["auto", "frames", "video"] = "auto"
    """What a scene becomes: a folder of PNG files, or a video file. auto: what it was."""
    self_ensemble: Literal["none", "x8"] = "none"
    """x8: the mean of what the network makes of a picture in all eight positions, turned and
    mirrored. It takes eight times as long."""
    agreement_map: bool = False
    """Beside each picture, write how far the results of an ensemble are from each other: white is a
    standard deviation of 10 levels and more. Needs ensemble or self_ensemble."""
    video_codec: Literal["h264", "h265"] = "h264"
    """Codec of video files. h265 makes smaller ones, several times slower, and older players do not
    take it."""
    video_crf: float = Field(default=18, ge=0, le=51)
    """Quality of video files: 0 keeps all (large files that few players take), 18 is hard to tell
    from it, 51 is the worst."""
    video_fps: float = Field(default=24, gt=0, le=1000)
    """Frames per second of a video that is made of a folder of frames. A video file keeps its own
    timing."""


class LoggerOptions(Section):
    """What is printed and kept."""

    print_freq: Positive = 100
    """Iterations between lines in the log and points in TensorBoard."""
    save_checkpoint_freq: Amount | None = None
    """Iterations between checkpoints, or what else the run's length is counted in; there is always
    one at the end. Left out: 5000 iterations, or a twentieth of a length in another measure."""
    use_tb_logger: bool = True
    """Write TensorBoard curves."""
    keep_last: Positive | None = 3
    """Checkpoints kept; older ones are deleted. The best one is kept besides. null: all are
    kept."""
    keep_weights: bool = False
    """Of the checkpoints that keep_last deletes, keep the weights; the states, which are two or
    three times as large, go."""
    keep_best: str | None = None
    """Label of the metric that decides which weights are kept as best. Left out: the first
    metric."""


class _Runtime(Section):
    """What training and testing have in common."""

    name: str = Field(min_length=1, max_length=200, pattern=FOLDER_NAME)
    """Name of the run, and of its folders."""
    extensions: list[UserPath] = Field(default_factory=list)
    """Python files of your own that are imported first and register losses, metrics, datasets,
    recipes, parts and the like (docs/extensions.md). Looked for beside the options file, then where
    the command runs."""
    num_gpu: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    """auto: one GPU if there is one (CUDA, ROCm or Apple's MPS), else the CPU. 0: the CPU. 2 and
    more: train.py starts a process for each of so many GPUs of this machine (docs/distributed.md).
    """
    use_amp: bool = False
    """Mixed precision: about half the memory and, on recent GPUs, up to twice the speed."""
    amp_bf16: bool = True
    """bfloat16 instead of float16 when use_amp is on; it does not overflow."""
    use_compile: bool = False
    """Compile the network with torch.compile: minutes at the start, faster steps after."""
    fast_matmul: bool = False
    """TensorFloat-32 for float32 products on NVIDIA GPUs: faster, a little less exact."""
    path: PathOptions = Field(default_factory=PathOptions)
    """Files and folders."""


class TrainingOptions(_Runtime):
    """Everything that `train.py -opt FILE` reads."""

    model_type: RecipeName = DEFAULT_RECIPE
    """Training recipe: which networks there are, and what a step does with them. SRModel trains
    one network on pairs of GT and LQ, classifier one on pictures and their classes."""
    use_channels_last: Literal["auto"] | bool = False
    """Memory layout that some networks and devices are faster with. auto: a few steps are tried
    both ways, once for a network and a machine."""
    use_checkpointing: Literal["auto"] | bool = False
    """Keep the inputs of the network's blocks alone, and make the rest again in the backward pass:
    half the memory and less, for a third more time. auto: where the options' own sizes do not fit
    85 % of the memory without."""
    use_cuda_graphs: Literal["auto"] | Literal[False] = False
    """auto: once the sizes have stayed for 50 steps, passes through the network are replayed as
    CUDA graphs, which saves the host's time where a network is small, and are left when sizes move.
    Needs a CUDA device, and is not yet measured on one."""
    scale: int = Field(ge=1, le=16)
    """How many times larger GT is than LQ. Left out of a classifier's options: 1."""
    manual_seed: int = Field(default=0, ge=0, le=2**63 - 1)
    """Seed of the weights, of the data's order and of the crops."""
    deterministic: bool = False
    """Only deterministic kernels: the same run twice gives the same weights, slower on a GPU."""
    datasets: TrainingDatasets
    """Datasets to train and validate on."""
    network_g: NetworkOptions
    """The network to train."""
    network_g_teacher: NetworkOptions | None = None
    """A network whose pictures are targets beside or in place of GT, as train.distillation says.
    Its weights are path.pretrain_network_g_teacher. Left out: none."""
    network_d: DiscriminatorOptions | None = None
    """A discriminator to train it against, by a loss {type: gan}. Left out: none."""
    train: TrainOptions
    """Optimization."""
    vram_limit_gib: float | None = Field(default=None, gt=0)
    """Memory that the automations fit the run to: on a GPU a cap on the card, on a CPU the
    process's budget. Left out: the whole card, or half of the main memory that is available."""
    training_automations: TrainingAutomations = Field(default_factory=TrainingAutomations)
    """Automations, for example DynamicBatchAndPatchSizeOptimizer: {enabled: true}."""
    parts: list[PartOptions] = Field(default_factory=list)
    """Parts of the run that extensions register, called in this order after the automations and
    before everything that reports or saves."""
    val: ValOptions = Field(default_factory=ValOptions)
    """Validation and tiling."""
    logger: LoggerOptions = Field(default_factory=LoggerOptions)
    """Log, curves and checkpoints."""

    @model_validator(mode="after")
    def _one_way_to_run(self) -> TrainingOptions:
        others = [key for key in ("use_compile", "use_checkpointing") if getattr(self, key)]
        if self.use_cuda_graphs and others:
            message = f"does not go together with {' and '.join(others)}; leave one of them out"
            raise_at([("use_cuda_graphs",)], message, value=self.use_cuda_graphs)
        return self

    @model_validator(mode="before")
    @classmethod
    def _for_classes(cls, data: Any) -> Any:
        """What a classifier's options need not say: the scale, and other metrics."""
        if not isinstance(data, dict) or not isinstance(data.get("model_type"), str):
            return data
        if task_of(data["model_type"]) != "classification":
            return data
        val = data.get("val")
        if val is None or (isinstance(val, dict) and "metrics" not in val):
            data = {**data, "val": {**(val or {}), "metrics": CLASS_METRICS}}
        return {"scale": 1, **data}

    @cached_property
    def task(self) -> Task | None:
        """What the recipe's networks make; None of a recipe that does not say."""
        return task_of(self.model_type)

    @model_validator(mode="after")
    def _parts_fit(self) -> TrainingOptions:
        """What no section can know by itself: whether the parts fit each other."""
        problems_of(self).raise_if_any("TrainingOptions")
        return self

    @property
    def validates_at_start(self) -> bool:
        """Whether there is a validation before the first step."""
        has_weights = self.path.pretrain_network_g is not None
        return has_weights if self.val.at_start is None else self.val.at_start

    @cached_property
    def length(self) -> RunLength:
        """How long the run is."""
        train = self.train
        data = self.datasets.train
        samples = train.effective_batch_size or data.batch_size_per_gpu * data.accum_iter
        pixels = samples * data.lq_size**2 * (data.clip_frames or 1)
        if self.patch_scales is not None:
            pixels = round(pixels * self.patch_scales.pixels)
        key = train.length_key
        return RunLength.of(key, getattr(train, key), samples, pixels)

    @cached_property
    def patch_scales(self) -> PatchScales | None:
        """The sizes of a patch; None for the patch alone."""
        scales = self.datasets.train.scales
        if scales is None:
            return None
        spec = self.network_g.entry
        multiple = spec.size_multiple
        least = round_up(max(spec.min_size, self.smallest_patch[0]), multiple)
        return PatchScales(tuple(scales), multiple, least)

    @property
    def smallest_patch(self) -> tuple[int, str]:
        """The smallest side in LQ pixels that losses and discriminator can take, and which of them
        needs most.
        """
        needs = self.gt_needs
        if not needs:
            return 1, ""
        what = max(needs, key=lambda name: needs[name])
        return ceil_div(needs[what], self.scale), what

    @property
    def gt_needs(self) -> dict[str, int]:
        """Pixels of GT that each side of a patch must have at least, by what asks for them."""
        needs = {f"the loss {name}": loss.min_side for name, loss in self.labelled_losses.items()}
        if self.network_d is not None:
            needs[f"the discriminator {self.network_d.type}"] = self.network_d.min_side
        if self.network_g_teacher is not None:
            teacher = self.network_g_teacher
            needs[f"the teacher {teacher.type}"] = teacher.entry.min_size * self.scale
        return needs

    @property
    def labelled_losses(self) -> dict[str, LossOptions]:
        """The losses that are on, by unique label: the given one, else the type, numbered from the
        second on.
        """
        # A numbered type must not meet a label that is given further down.
        reserved = {loss.label for loss in self.train.losses}
        result: dict[str, LossOptions] = {}
        for loss in self.train.losses:
            label = loss.label or loss.type
            number = 1
            while loss.label is None and (label in reserved or label in result):
                number += 1
                label = f"{loss.type}_{number}"
            result[label] = loss
        # Taken out at the end, so that switching one off renames none of the others.
        return {label: loss for label, loss in result.items() if loss.loss_weight > 0}


class MemberOptions(Section):
    """A network of an ensemble."""

    checkpoint: UserPath
    """Its weights (.safetensors or .pth), ours or any that spandrel reads."""
    weight: float = Field(default=1.0, gt=0)
    """How much its result counts beside the others'."""


class TestOptions(_Runtime):
    """Everything that `test.py -opt FILE` reads. Network and scale are found in the checkpoint
    where possible.
    """

    __test__: ClassVar[bool] = False  # no test class, whatever pytest thinks of the name

    use_channels_last: bool = False
    """Memory layout that some networks and devices are faster with; try it both ways."""
    scale: int | None = Field(default=None, ge=1, le=16)
    """Scale that the checkpoint is expected to have. Left out: the checkpoint's own."""
    datasets: TestDatasets
    """Images and videos to process."""
    val: TestValOptions = Field(default_factory=TestValOptions)
    """Tiling, metrics, what is written."""

    @model_validator(mode="after")
    def _no_processes(self) -> TestOptions:
        if self.num_gpu != "auto" and self.num_gpu > 1:
            message = "a test is one process; expected auto, 0 or 1"
            raise_at([("num_gpu",)], message, value=self.num_gpu)
        return self

    ensemble: Annotated[list[MemberOptions], Field(min_length=1)] | None = None
    """Checkpoints whose results are averaged, in place of path.pretrain_network_g; of any
    architectures with one scale."""
    parallel: Literal["auto"] | Positive = "auto"
    """How many networks of an ensemble are on the GPU at once; the others wait in main memory for
    their turn. auto: as many as half of its free memory holds, and on several GPUs, unless num_gpu
    is 1, side by side."""
    network_g: NetworkOptions | None = None
    """The network, for a checkpoint that does not tell its architecture. Left out: found in the
    checkpoint."""

    @model_validator(mode="after")
    def _has_weights(self) -> TestOptions:
        if self.path.pretrain_network_g is None and self.ensemble is None:
            place = ("path", "pretrain_network_g")
            raise_at([place], "required: the checkpoint to test", kind="missing")
        results = len(self.ensemble or [""]) * (8 if self.val.self_ensemble == "x8" else 1)
        if self.val.agreement_map and results == 1:
            message = "there is one result only; needs ensemble, or self_ensemble: x8"
            raise_at([("val", "agreement_map")], message, value=True)
        if self.network_g is not None and self.scale is None:
            raise_at([("scale",)], "required when network_g is given", kind="missing")
        return self
