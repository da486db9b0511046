"""What a training step takes, without taking it: the recipe's own step on tensors that have a shape
but no memory.

torch's fake tensors go through the network, the losses, the backward pass, the optimizer and the
moving average of the real recipe, and every storage is counted from the operation that makes it to
the moment it is dropped. This takes the same time whatever the shape is. The fake tensors are those
of a CPU, because torch cannot differentiate those of a device that is not there; where CUDA would
make larger ones, the difference is put in.
"""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from traiNNer.data import Batch
from traiNNer.models import BaseModel
from traiNNer.models.networks import Role
from traiNNer.options.schema import TrainingOptions
from traiNNer.planning.bounds import elements_per_pixel, probe_size, sample_size
from traiNNer.utils.arithmetic import round_up
from traiNNer.utils.device import Runtime, autocast_dtype
from traiNNer.utils.errors import OptionsError
from traiNNer.utils.out_of_memory import first_line
from traiNNer.utils.registry import RECIPES
from traiNNer.utils.shape import Shape

# CUDA's allocator hands out multiples of so many bytes.
BLOCK = 512
# Functions that autocast computes in float32 on CUDA. On the CPU it leaves them in the type of
# their input.
CUDA_KEEPS_FLOAT32 = frozenset({
    "acos", "asin", "cosh", "cosine_similarity", "cumprod", "cumsum", "dist", "exp", "expm1",
    "group_norm", "l1_loss", "layer_norm", "log", "log10", "log1p", "log2", "log_softmax",
    "mse_loss", "norm", "normalize", "__pow__", "pow", "prod", "__rdiv__", "reciprocal",
    "renorm", "__rpow__", "rsqrt", "__rtruediv__", "sinh", "smooth_l1_loss", "softmax",
    "softmin", "softplus", "sum", "tan",
})  # fmt: skip


@dataclass(frozen=True)
class FixedBytes:
    """What is there whatever the shape is, in bytes.

    Attributes:
        weights: parameters of everything that takes part, frozen ones too, but for the moving
            average.
        buffers: running statistics, masks, tables of positions.
        gradients: of the parameters that get one.
        optimizer_state: what the optimizers keep for each weight.
        moving_average: the second copy of the network.
    """

    weights: int
    buffers: int
    gradients: int
    optimizer_state: int
    moving_average: int

    @property
    def total(self) -> int:
        """All of it."""
        return (
            self.weights
            + self.buffers
            + self.gradients
            + self.optimizer_state
            + self.moving_average
        )


@dataclass(frozen=True)
class StepMemory:
    """The most that tensors take during a step.

    Attributes:
        shape: of each batch of the step.
        peak: bytes, the fixed ones included.
    """

    shape: Shape
    peak: int


class StepTracker:
    """The recipe of the options with fake tensors. Building it takes the memory of the real weights
    for a moment.

    Args:
        options: the checked options.
        recipe: what is trained; None takes the one that the options name.

    Raises:
        OptionsError: for a network, an optimizer or a scheduler that cannot be built, or that does
            not run without the values of its tensors.

    Attributes:
        fixed: what is there whatever the shape is.
        elements_per_pixel: of the largest tensor of a forward pass, for each LQ pixel.
    """

    fixed: FixedBytes
    elements_per_pixel: int

    def __init__(self, options: TrainingOptions, recipe: type[BaseModel] | None = None) -> None:
        self._options = options
        # A real tensor that a network holds beside its weights becomes a fake one where it is used.
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        # Who plans in a run changes none of its random numbers. The warnings are the networks' own.
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if recipe is None:
                recipe = RECIPES[options.model_type]
            network = recipe.build_network(options)
            self._model: BaseModel = recipe(options, planned_runtime(options), network)
        # The guards' checks are never read, so none may make them look.
        for phase in self._model.phases:
            phase.guard.limit = sys.maxsize
        # A fused step on a card is made without copies.
        self._model.runner.stepping_device = torch.device("cuda")
        _make_fake(self._model, self._mode)
        spec = options.network_g.entry
        first = Shape(options.datasets.train.lq_size, spec.min_batch)
        self._run(first, _Tally(()))  # the optimizer's state exists from here on
        self.fixed = _fixed_bytes(self._model)
        with warnings.catch_warnings(), self._mode:
            warnings.simplefilter("ignore")
            self.elements_per_pixel = elements_per_pixel(
                self._model.main.module, torch.empty(*probe_size(options))
            )

    def track(self, shape: Shape) -> StepMemory:
        """The peak of a step with batches of `shape`.

        Raises:
            OptionsError: if the network does not run without the values of its tensors.
            DataError: if a loss refuses so small a patch.
        """
        tally = _Tally(_tensors(self._model))
        self._run(shape, tally)
        return StepMemory(shape, tally.peak)

    def _run(self, shape: Shape, tally: _Tally) -> None:
        options = self._options
        accumulates = (
            options.datasets.train.accum_iter > 1 or options.train.effective_batch_size is not None
        )
        cuda = _CudaAutocast() if options.use_amp else nullcontext()
        try:
            with warnings.catch_warnings(), self._mode:
                warnings.simplefilter("ignore")  # the networks' own, and torch's about itself
                batch = planned_batch(options, shape)
                with tally, cuda:
                    self._model.step([batch] * (1 + accumulates))
        except (RuntimeError, NotImplementedError, TypeError) as error:
            complaint = first_line(error)
            raise OptionsError(
                f"the memory of network '{options.network_g.type}' cannot be planned at {shape}: "
                f"without the values of its tensors it does not run ({complaint[:200]})"
            ) from error


def planned_batch(options: TrainingOptions, shape: Shape) -> Batch:
    """A batch whose pixels say nothing: uint8, LQ (B, ..., 3, h, w) and GT, of a clip of all frames
    or the one in the middle alone, as the options have it.
    """
    lq_size = sample_size(options, shape.lq_size)
    gt_size = sample_size(options, shape.lq_size * options.scale)
    if options.datasets.train.params.get("target") == "center":
        gt_size = gt_size[-3:]
    lq = torch.zeros(shape.batch_size, *lq_size, dtype=torch.uint8)
    gt = torch.zeros(shape.batch_size, *gt_size, dtype=torch.uint8)
    names = [""] * shape.batch_size
    return Batch(lq, gt, [0] * shape.batch_size, names, names)


def planned_runtime(options: TrainingOptions) -> Runtime:
    """Precision and layout of the options, on the CPU and not compiled."""
    amp_dtype = autocast_dtype(use_amp=options.use_amp, amp_bf16=options.amp_bf16)
    return Runtime(torch.device("cpu"), amp_dtype, options.use_channels_last is True)


class _Tally(TorchDispatchMode):
    """Counts the bytes of the storages that exist, and their peak. Enter it inside the fake mode.

    Where a step reads a number from a fake tensor (is the norm finite? how far is the scale?), it
    reads zero.

    torch's own MemTracker counts the same, but refuses networks with frozen weights, and takes
    twice the time or more.
    """

    def __init__(self, present: Iterable[Tensor]) -> None:
        super().__init__()
        self.current = 0
        self.peak = 0
        self._alive: dict[int, weakref.ref[Any]] = {}
        for tensor in present:
            self._see(tensor)

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self._alive:
            size = round_up(storage.nbytes(), BLOCK)
            self.current += size
            self._alive[key] = weakref.ref(storage, partial(self._gone, key, size))

    def _gone(self, key: int, size: int, _: object) -> None:
        self.current -= size
        del self._alive[key]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            result = func(*args, **(kwargs or {}))
        except DataDependentOutputException:
            # What `.item()` and `bool()` come to; it has no public name.
            if func is not torch.ops.aten._local_scalar_dense.default:  # noqa: SLF001
                raise
            if args[0].dtype is torch.bool:
                return False
            return 0.0 if args[0].dtype.is_floating_point else 0
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        self.peak = max(self.peak, self.current)
        return result


class _CudaAutocast(TorchFunctionMode):
    """Under autocast, computes in float32 what CUDA computes in float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in CUDA_KEEPS_FLOAT32 and torch.is_autocast_enabled("cpu"):
            args, kwargs = tree_map_only(Tensor, _float32, (args, kwargs))
        return func(*args, **kwargs)


def _float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def _states(model: BaseModel) -> Iterator[Tensor]:
    """The optimizers' state."""
    for phase in model.phases:
        for state in phase.optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))


def _gradients(model: BaseModel) -> Iterator[Tensor]:
    for phase in model.phases:
        yield from (parameter.grad for parameter in phase.parameters if parameter.grad is not None)


def _tensors(model: BaseModel) -> Iterator[Tensor]:
    """Everything that is there between two steps."""
    for module in model.modules():
        yield from module.parameters(recurse=False)
        yield from module.buffers(recurse=False)
    yield from _states(model)
    yield from _gradients(model)


def _make_fake(model: BaseModel, mode: FakeTensorMode) -> None:
    """Put fake tensors in place of the real ones, in modules and optimizers alike."""
    fakes: dict[Tensor, Tensor] = {}

    def fake(tensor: Tensor) -> Tensor:
        if isinstance(tensor, FakeTensor):
            return tensor
        if tensor not in fakes:
            fakes[tensor] = mode.from_tensor(tensor)
        return fakes[tensor]

    for module in model.modules():
        for named in (module.named_parameters, module.named_buffers):
            for name, tensor in list(named(recurse=False, remove_duplicate=False)):
                setattr(module, name, fake(tensor))
    for phase in model.phases:
        optimizer = phase.optimizer
        state = dict(phase.optimizer.state)
        for group in optimizer.param_groups:
            group["params"] = [fake(parameter) for parameter in group["params"]]
        optimizer.state.clear()
        for parameter, values in state.items():
            optimizer.state[fake(parameter)] = tree_map_only(Tensor, fake, values)
        phase.parameters = [p for group in optimizer.param_groups for p in group["params"]]


def _fixed_bytes(model: BaseModel) -> FixedBytes:
    """What is there after a step."""
    averages: list[Tensor] = []
    for network in model.networks:
        if network.role is Role.AVERAGE:
            averages += [*network.module.parameters(), *network.module.buffers()]
    averaged = {id(tensor) for tensor in averages}
    parameters: list[Tensor] = []
    buffers: list[Tensor] = []
    for module in model.modules():
        parameters += [p for p in module.parameters(recurse=False) if id(p) not in averaged]
        buffers += [b for b in module.buffers(recurse=False) if id(b) not in averaged]
    return FixedBytes(
        weights=_nbytes(parameters),
        buffers=_nbytes(buffers),
        gradients=_nbytes(_gradients(model)),
        optimizer_state=_nbytes(_states(model)),
        moving_average=_nbytes(averages),
    )


def _nbytes(tensors: Iterable[Tensor]) -> int:
    return sum({id(tensor): tensor.nbytes for tensor in tensors}.values())
