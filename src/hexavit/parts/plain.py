"""Plain inference: eager float32 on the CPU, nothing recorded, nobody watching. There fresh memory costs as much as the
arithmetic, so wide values go in pieces, and oneDNN multiplies faster than PyTorch's own default."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

PIECE = 2**21
"""Values of one piece at its widest: they stay in the processor's cache, and in memory that is held already."""

# What Inductor calls for a linear on the CPU: `F.linear` goes to MKL in float32, 3 to 14 % slower over whole models.
# No public function reaches it; a build without oneDNN lacks it, and beside x86 `F.linear` has other ways.
_X86 = torch.backends.cpu.get_cpu_capability().startswith("AVX")
_ONEDNN = torch.ops.mkldnn._linear_pointwise if _X86 and torch.backends.mkldnn.is_available() else None


def plain(x: Tensor) -> bool:
    """Whether `x` is met in plain inference: no gradient, tangent, autocast, tracer, transform or dispatch mode."""
    return (
        x.is_cpu
        and x.dtype == torch.float32
        and type(x) is Tensor
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._len_torch_dispatch_stack()
        and torch._C._functorch.maybe_current_level() is None
        and forward_ad._current_level < 0
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b, (..., C) to (..., C'): `F.linear`, in plain inference by oneDNN."""
    ordinary = type(weight) in (Tensor, nn.Parameter) and weight.dtype == torch.float32
    if _ONEDNN is None or not ordinary or not plain(x) or not torch._C._get_mkldnn_enabled():
        return F.linear(x, weight, bias)
    out: Tensor = _ONEDNN(x, weight, bias, "none", [], "")
    return out


class Linear(nn.Linear):
    """torch's linear, through `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., C')."""
        return linear(x, self.weight, self.bias)


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
