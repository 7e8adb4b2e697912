"""Small layers that several shelves use and no library gives without more behind it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.errors import nearest
from hexavit.parts.contract import Size
from hexavit.parts.plain import multiplied, plain


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), the sigmoid approximation of GELU (Hendrycks & Gimpel, 2016, section 2).

    Computed as silu(1.702 x) / 1.702, which keeps one tensor for the backward pass instead of two. Same as CvT's
    `QuickGELU`; differs from the exact GELU by up to 0.02.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        return F.silu(1.702 * x) * (1 / 1.702)


class Activation(nn.Module):
    """A function of each value, for a tensor that its caller owns: overwritten where no gradient is recorded.

    Between two linears this is the widest tensor of a block; a second one would touch new memory in every block.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.function = name, _FUNCTIONS[name]

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        return self.function(x, inplace=not torch.is_grad_enabled() and not torch.compiler.is_compiling())

    def extra_repr(self) -> str:
        """The function."""
        return self.name


def _gelu(x: Tensor, inplace: bool, approximate: str = "none") -> Tensor:
    if not inplace:
        return F.gelu(x, approximate=approximate)
    out: Tensor = torch.ops.aten.gelu_(x, approximate=approximate)  # which no function of F gives
    return out


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "gelu": _gelu,
    "gelu_tanh": partial(_gelu, approximate="tanh"),
    "hardswish": F.hardswish,
    "relu": F.relu,
    "relu6": F.relu6,
    "silu": F.silu,
}


class ScaledLinear(nn.Linear):
    """a x W + c b: factors on a linear's product and on its bias, at no cost where they ride on the product's own."""

    def __init__(self, in_features: int, out_features: int, scale: float, bias_scale: float = 1.0) -> None:
        super().__init__(in_features, out_features)
        self.scale, self.bias_scale = scale, bias_scale

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., C')."""
        if plain(x):  # oneDNN's product takes no factors; the weights are few beside the product
            return multiplied(x, self.weight * self.scale, self.bias * self.bias_scale)
        rows = x.reshape(-1, self.in_features)
        out = torch.addmm(self.bias, rows, self.weight.t(), beta=self.bias_scale, alpha=self.scale)
        return out.view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Sizes and factors."""
        return f"{super().extra_repr()}, scale={self.scale:g}, bias_scale={self.bias_scale:g}"


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., 2016): drops a branch for whole images, scaling those kept by 1 / (1 - rate)."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"drop_path is a probability in [0, 1), not {rate}")
        self.rate = rate

    def mask(self, x: Tensor) -> Tensor | None:
        """A factor (B, 1, 1) for the branch, or None where nothing is dropped."""
        if not self.rate or not self.training:
            return None
        keep = 1 - self.rate
        return x.new_empty((x.shape[0], 1, 1)).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        """The rate."""
        return f"rate={self.rate:g}"


class Memory(dict[Any, Any]):
    """What a module has computed and may compute again, the oldest of `most` forgotten; copies of a module, on disk or
    in memory, start with none."""

    def __init__(self, most: int = 8) -> None:
        super().__init__()
        self.most = most

    def __setitem__(self, key: Any, value: Any) -> None:
        if key not in self and len(self) >= self.most:
            self.pop(next(iter(list(self)), None), None)  # another thread may have forgotten it already
        super().__setitem__(key, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> Memory:
        return Memory(self.most)

    def __reduce__(self) -> tuple[type[Memory], tuple[int]]:
        return Memory, (self.most,)


def activation(name: str) -> nn.Module:
    """An activation by name, for a tensor that its caller owns: gelu (erf), gelu_tanh, quick_gelu (CvT), hardswish,
    relu, relu6, silu."""
    if name == "quick_gelu":
        return QuickGELU()
    if name not in _FUNCTIONS:
        raise ValueError(f"there is no activation {name!r}: {nearest(name, (*_FUNCTIONS, 'quick_gelu'))}")
    return Activation(name)


def resize_table(table: Tensor, size: Size, new: Size, prefix: int, method: str) -> Tensor:
    """Resize a position table (1, P + H W, C) from one grid to another; the first P rows are kept.

    `bilinear`: aligned corners, ViT's official way (scipy's zoom of order 1). `bicubic`: half-pixel centres with
    antialiasing, timm's way. `bilinear_plain` and `bicubic_plain`: half-pixel centres without antialiasing, PVT's and
    DeiT's.
    """
    image = table[:, prefix:].unflatten(1, size).permute(0, 3, 1, 2)
    if method.startswith("bilinear"):
        image = F.interpolate(image.float(), size=new, mode="bilinear", align_corners=method == "bilinear")
    else:
        image = F.interpolate(image.float(), size=new, mode="bicubic", antialias=method == "bicubic")
    image = image.permute(0, 2, 3, 1).flatten(1, 2).to(table.dtype)
    return torch.cat((table[:, :prefix], image), dim=1)


RESIZE_METHODS = ("bilinear", "bilinear_plain", "bicubic", "bicubic_plain")
