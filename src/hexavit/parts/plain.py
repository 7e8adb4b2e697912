"""Plain inference: eager float32 on the CPU, nothing recorded, nobody watching. There fresh memory costs as much as the
arithmetic, so wide values go in pieces, and oneDNN multiplies faster than PyTorch's own default."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.nn.modules import module as _of_all

PIECE = 2**21
"""Values of one piece at its widest: they stay in the processor's cache, and in memory that is held already."""

# What Inductor calls for a linear on the CPU: `F.linear` goes to MKL in float32, 3 to 14 % slower over whole models.
# No public function reaches it; a build without oneDNN lacks it, and beside x86 `F.linear` has other ways.
_X86 = torch.backends.cpu.get_cpu_capability().startswith("AVX")
_ONEDNN = torch.ops.mkldnn._linear_pointwise if _X86 and torch.backends.mkldnn.is_available() else None

_FORWARD = nn.Linear.forward
_ORDINARY = (Tensor, nn.Parameter, type(None))


def scripted() -> bool:
    """Whether `torch.jit.trace` follows the calls: sizes are tensors then, with values."""
    found: bool = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    return found


def unwatched() -> bool:
    """Whether nothing records, transforms or counts: no gradient, tangent, autocast, tracer, transform or mode."""
    return (
        not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not scripted()
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._len_torch_function_stack()
        and torch._C._functorch.maybe_current_level() is None
        and forward_ad._current_level < 0
    )


def plain(x: Tensor) -> bool:
    """Whether `x` is met in plain inference: float32 on the CPU, and `unwatched`."""
    return x.is_cpu and x.dtype == torch.float32 and type(x) is Tensor and unwatched()


def altered(module: nn.Module) -> bool:
    """Whether a module or one inside has hooks, or weights that are computed from others: then its layers are called
    as they stand, with all that they are given at once."""
    if _of_all._global_forward_hooks or _of_all._global_forward_pre_hooks:
        return True
    return any(m._forward_hooks or m._forward_pre_hooks or "parametrizations" in m._modules for m in module.modules())


def divisible(part: nn.Module, x: Tensor) -> bool:
    """Whether a part may take `x` in pieces: in plain inference, with nobody to see what its layers are given."""
    return not part.training and plain(x) and not altered(part)


def product(layer: nn.Module, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """`layer(x)`, (..., C) to (..., C'), with `bias` (C') on top; of a linear in plain inference by oneDNN.

    Layers stay `torch.nn.Linear`, and are called where they were hooked, wrapped or replaced: quantisers, counters and
    adapters know them by their class.
    """
    served = plain(x)
    if (served or bias is not None) and _is_linear(layer):
        weight, bias = layer.weight, layer.bias if bias is None else bias
        return multiplied(x, weight, bias) if served else F.linear(x, weight, bias)
    out: Tensor = layer(x)
    return out if bias is None else out + bias


def multiplied(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b, (..., C) to (..., C'), of an `x` in plain inference: by oneDNN, where it is there and may."""
    ordinary = type(weight) in _ORDINARY and type(bias) in _ORDINARY and weight.dtype == torch.float32 and weight.is_cpu
    fits = x.shape[-1:] == weight.shape[1:]  # else PyTorch's own refusal says more
    if _ONEDNN is None or not ordinary or not fits or not torch._C._get_mkldnn_enabled():
        return F.linear(x, weight, bias)
    out: Tensor = _ONEDNN(x, weight, bias, "none", [], "")
    return out


def _is_linear(layer: nn.Module) -> TypeGuard[nn.Linear]:
    """Whether a call of it is nothing but `F.linear`."""
    own = "forward" not in vars(layer) and nn.Linear.forward is _FORWARD
    return type(layer) is nn.Linear and own and not altered(layer)


def in_pieces(function: Callable[[Tensor], Tensor], x: Tensor, width: int) -> Tensor:
    """A function that keeps the shape, on even shares of `x`'s first axis, each with at most PIECE values where one
    place has `width` of them."""
    share = even_share(len(x), width)
    if share == len(x):
        return function(x)
    out = torch.empty_like(x)
    for given, place in zip(x.split(share), out.split(share), strict=True):
        place.copy_(function(given))
    return out


def even_share(count: int, width: int, least: int = 1) -> int:
    """How many of `count` places of `width` values go in one piece, if the pieces are alike."""
    most = max(least, PIECE // width)
    return -(-count // max(1, -(-count // most)))
