"""`hexavit.optimize`: faster modules for float32 inference on the CPU, each kept only if it is measured faster."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils import _pytree as pytree

from hexavit.architecture import aligned, image_size
from hexavit.errors import HexavitError
from hexavit.export.fast_modules import FeedforwardInPieces, folded, piecewise, pointwise, with_fixed_bias, with_silu
from hexavit.network.backbone import Backbone, FeatureBackbone
from hexavit.parts.contract import Size

M = TypeVar("M", Backbone, FeatureBackbone)
Replace = Callable[[nn.Module], nn.Module | None]

CHANGES: tuple[tuple[str, Replace], ...] = (
    ("batch norms folded into the layers before them", folded),
    ("quick GELU as SiLU between scaled linears", with_silu),
    ("linears as 1 x 1 convolutions (oneDNN)", pointwise),
    ("position biases computed once", with_fixed_bias),
    ("feedforwards in pieces that stay in the cache", piecewise),
)
"""What is tried, in this order: a later change is timed on the modules that an earlier one left."""

_ROUNDS, _SECONDS = 7, 0.1  # of timing, for each group of equal modules
_TOLERANCE = 1e-4  # of the largest output: float32 rounding of another order of the sums


@dataclass(frozen=True)
class Swap:
    """One change tried on modules that are equal in class, options and input.

    Attributes:
        change: what was tried.
        modules: the paths of the modules.
        before: seconds of one call of the module that was there.
        after: seconds of one call of the faster candidate.
        kept: whether the candidate took its place.
    """

    change: str
    modules: tuple[str, ...]
    before: float
    after: float
    kept: bool


@dataclass(frozen=True)
class OptimizationReport:
    """What `optimize` tried and kept, for which input, and the whole model's time.

    Attributes:
        batch_size: images of the timed input.
        img_size: height and width of the timed input, in pixels.
        threads: PyTorch's threads.
        swaps: every change tried.
        before: seconds of one forward pass of the model as it was.
        after: seconds of one forward pass of the model as it is now.
    """

    batch_size: int
    img_size: Size
    threads: int
    swaps: tuple[Swap, ...]
    before: float
    after: float

    @property
    def kept(self) -> tuple[Swap, ...]:
        """The changes that were kept."""
        return tuple(swap for swap in self.swaps if swap.kept)

    def __str__(self) -> str:
        tried: dict[str, list[Swap]] = {}
        for swap in self.swaps:
            tried.setdefault(swap.change, []).append(swap)
        rows = [["change", "modules kept", "speed-up of these"]]
        for change, swaps in tried.items():
            kept = [swap for swap in swaps if swap.kept]
            count, total = (sum(len(swap.modules) for swap in some) for some in (kept, swaps))
            before, after = (sum(len(s.modules) * getattr(s, each) for s in kept) for each in ("before", "after"))
            rows.append([change, f"{count} of {total}", f"{before / after:.2f}x" if kept else "-"])
        height, width = self.img_size
        whole = (
            f"{self.batch_size} images of {height} x {width}, {self.threads} threads: {1000 * self.before:.1f} ms "
            f"before, {1000 * self.after:.1f} ms after ({self.before / self.after:.2f}x)"
        )
        return f"{aligned(rows)}\n\n{whole}"


def optimize(
    model: M,
    *,
    batch_size: int = 8,
    img_size: int | Size | None = None,
    min_speedup: float = 1.05,
    save_memory: bool = False,
) -> M:
    """A copy of a model for float32 inference on this CPU, with modules replaced by faster equivalents.

    Every candidate is timed here and now, on the input that its module gets in a forward pass of `batch_size` images
    of `img_size`, and is kept only if it is at least `min_speedup` times as fast and gives the same output within
    float32 rounding. If the whole model is not faster, no change is kept. The copy shares its weights with the model
    where a change leaves them as they are, and takes images of any size and number.

    The copy is in evaluation mode and does not learn. Its modules are not those of its architecture any more: save,
    export, quantise and fine-tune the model itself. Modules with hooks or parametrizations stay as they are.

    Args:
        model: on the CPU, in float32.
        batch_size: images in the timed input.
        img_size: side or (H, W) of the timed input in pixels; None for the architecture's.
        min_speedup: ratio of times from which a change is kept.
        save_memory: keep every feedforward in pieces that takes several of this input, whatever the times.

    Returns:
        The copy. Its attribute `optimization` is the `OptimizationReport`.

    Raises:
        HexavitError: a model on another device or in another precision, or a `batch_size` below 1.
    """
    if not isinstance(model, Backbone | FeatureBackbone):
        raise HexavitError(f"optimize takes a model of hexavit, not {type(model).__name__}")
    if batch_size < 1:
        raise HexavitError(f"batch_size must be at least 1, not {batch_size}")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.device.type != "cpu" or (tensor.is_floating_point() and tensor.dtype != torch.float32):
            raise HexavitError(
                f"optimize makes float32 models faster on CPUs, and {name} is {tensor.dtype} on {tensor.device}: "
                "move the model with .cpu().float(), or use torch.compile on another device"
            )
    size = model.architecture.img_size if img_size is None else image_size(img_size)
    images = torch.randn(batch_size, model.architecture.in_chans, *size, generator=torch.Generator().manual_seed(0))
    original, fast = inference_copy(model), inference_copy(model)
    swaps: list[Swap] = []
    with torch.inference_mode(False), torch.no_grad():
        for change, replace in CHANGES:
            swaps += _try(fast, images, change, replace, min_speedup, save_memory)
        before, after = _times(lambda: original(images), lambda: fast(images))
        if after * min(1.0, min_speedup) >= before and not save_memory:
            fast, after = original, before
            swaps = [Swap(s.change, s.modules, s.before, s.after, kept=False) for s in swaps]
    report = OptimizationReport(batch_size, size, torch.get_num_threads(), tuple(swaps), before, after)
    vars(fast)["optimization"] = report
    return fast


def inference_copy(model: M) -> M:
    """A copy in evaluation mode that shares the values of the weights and does not learn."""
    memo: dict[int, Any] = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    memo.update({id(b): b for b in model.buffers()})
    return copy.deepcopy(model, memo).eval()


def _try(
    model: nn.Module, images: Tensor, change: str, replace: Replace, min_speedup: float, save_memory: bool
) -> Iterator[Swap]:
    """Try one change on every module that it fits, once for each group of equal modules."""
    groups: dict[Any, list[str]] = {}
    inputs: dict[Any, tuple[Any, Any]] = {}
    candidates = {name: m for name, m in model.named_modules() if name and not _altered(m) and replace(m) is not None}
    handles = []
    for name, module in candidates.items():

        def record(module: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            key = _signature(module, (args, kwargs))
            groups.setdefault(key, []).append(name)
            inputs.setdefault(key, (args, kwargs))

        handles.append(module.register_forward_pre_hook(record, with_kwargs=True))
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    for key, names in groups.items():
        module, (args, kwargs) = candidates[names[0]], inputs[key]
        fast = replace(module)
        assert fast is not None  # it was not, above
        if not _equal(module(*args, **kwargs), fast(*args, **kwargs)):
            continue
        before, after = _times(partial(module, *args, **kwargs), partial(fast, *args, **kwargs))
        saves = save_memory and isinstance(fast, FeedforwardInPieces) and fast.pieces(*args) > 1
        kept = saves or before >= min_speedup * after
        if kept:
            for name in dict.fromkeys(names):  # a module called twice is replaced once
                swapped = replace(candidates[name])
                assert swapped is not None
                model.set_submodule(name, swapped)
        yield Swap(change, tuple(names), before, after, kept)


def _altered(module: nn.Module) -> bool:
    """Whether a module or one inside has hooks or parametrizations, which a replacement would lose."""
    return any(m._forward_hooks or m._forward_pre_hooks or is_parametrized(m) for m in module.modules())


def _signature(module: nn.Module, inputs: Any) -> tuple[Any, ...]:
    """Equal for modules of one class, with equal options and shapes of weights, called with equal shapes."""
    leaves, structure = pytree.tree_flatten(inputs)
    shapes = tuple(tuple(x.shape) if isinstance(x, Tensor) else repr(x) for x in leaves)
    weights = tuple((name, tuple(p.shape)) for name, p in module.state_dict().items())
    return type(module), repr(module), weights, shapes, str(structure)


def _equal(one: Any, other: Any) -> bool:
    """Whether two outputs agree within float32 rounding."""
    pairs = zip(pytree.tree_leaves(one), pytree.tree_leaves(other), strict=True)
    return all(bool((a - b).abs().max() <= _TOLERANCE * a.abs().max()) for a, b in pairs if isinstance(a, Tensor))


def _times(one: Callable[[], Any], other: Callable[[], Any]) -> tuple[float, float]:
    """Median seconds of two calls, measured in turn after a warm-up."""
    one(), other()
    found: tuple[list[float], list[float]] = ([], [])
    start = time.perf_counter()
    while len(found[0]) < 3 or (len(found[0]) < _ROUNDS and time.perf_counter() - start < _SECONDS):
        for call, seconds in zip((one, other), found, strict=True):
            begun = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begun)
    return median(found[0]), median(found[1])
