"""Small layers that parts of several kinds use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.errors import nearest
from hexavit.parts.contract import Size


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), the sigmoid approximation of GELU (Hendrycks & Gimpel, 2016, section 2).

    Computed as silu(1.702 x) / 1.702, which keeps one tensor for the backward pass instead of two. Same as CvT's
    `QuickGELU`; differs from the exact GELU by up to 0.02.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return F.silu(1.702 * x) * (1 / 1.702)


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),
    "quick_gelu": QuickGELU,
    "hardswish": nn.Hardswish,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
}


def activation(name: str) -> nn.Module:
    """Build an activation by name: gelu (exact), gelu_tanh, quick_gelu (CvT), hardswish, leaky_relu (slope 0.01), relu,
    relu6 or silu.

    Raises:
        ValueError: If there is no activation of this name.
    """
    if name not in _ACTIVATIONS:
        raise ValueError(f"there is no activation {name!r}: {nearest(name, _ACTIVATIONS)}")
    return _ACTIVATIONS[name]()


def dropout(rate: float) -> nn.Dropout | None:
    """Dropout of single values with a probability; None for 0, as even the identity costs a call.

    Raises:
        ValueError: If `rate` is not in [0, 1].
    """
    return nn.Dropout(rate) if rate else None


def dropped(x: Tensor, drop: nn.Module | None) -> Tensor:
    """What the result of `dropout` makes of `x`."""
    out: Tensor = x if drop is None else drop(x)
    return out


class HeadMixing(nn.Module):
    """A linear over the heads of attention maps (Shazeer et al., 2020, "Talking-Heads Attention", section 3).

    out_i = sum_j W_ij maps_j + b_i, one product for each image, which moves no values. An `nn.Linear` would read the
    heads from the last axis, and the maps be transposed before it and behind it. Starts as a linear does.

    Shapes: (B, h, N, M) to the same.

    Args:
        heads: h.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        linear = nn.Linear(heads, heads)
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, maps: Tensor) -> Tensor:
        """W maps + b, over h."""
        weight = self.weight.expand(maps.shape[0], -1, -1)
        return torch.baddbmm(self.bias[:, None], weight, maps.flatten(2)).reshape(maps.shape)

    def extra_repr(self) -> str:
        """The number of heads."""
        return f"heads={len(self.bias)}"


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., 2016): drops a branch for whole images, and scales kept ones by 1 / (1 - rate).

    Raises:
        ValueError: If `rate` is not in [0, 1).
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"drop_path is a probability in [0, 1), not {rate}")
        self.rate = rate

    def mask(self, x: Tensor) -> Tensor | None:
        """Draw the factor (B, 1, 1) for a branch x (B, ..., C), or return None where nothing is dropped."""
        if not self.rate or not self.training:
            return None
        keep = 1 - self.rate
        return x.new_empty((x.shape[0], 1, 1)).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        """The rate."""
        return f"rate={self.rate:g}"


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """A context in which operations on the device of `x` keep the dtype of their inputs, for steps that need float32.

    Nothing is entered where autocast is off: exported graphs stay free of it.
    """
    device = x.device.type
    # PyTorch 2.11 cannot trace `is_autocast_available`.
    available = device != "meta" if torch.compiler.is_compiling() else torch.amp.is_autocast_available(device)
    if available and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def known(*sizes: int) -> bool:
    """Whether all sizes are numbers, not symbols of a traced graph."""
    return all(isinstance(n, int) for n in sizes)


def is_tracing() -> bool:
    """Whether `torch.jit.trace` is running; sizes are then tensors."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    return tracing


RESIZE_METHODS = ("bilinear", "bilinear_plain", "bicubic", "bicubic_plain")


def resize_table(table: Tensor, size: Size, new: Size, prefix: int, method: str) -> Tensor:
    """Resize a position table (1, P + H W, C) from one grid to another; the first P rows are kept.

    Args:
        table: The table (1, P + H W, C).
        size: Its grid (H, W).
        new: The grid to resize to.
        prefix: P, the number of rows of extra tokens.
        method: One of `RESIZE_METHODS`.

            - `bilinear`: aligned corners; ViT's official code (scipy's zoom of order 1).
            - `bilinear_plain`: half-pixel centres, no antialiasing; PVT's.
            - `bicubic`: half-pixel centres with antialiasing; timm's.
            - `bicubic_plain`: half-pixel centres, no antialiasing; DeiT's.
    """
    image = table[:, prefix:].unflatten(1, size).permute(0, 3, 1, 2)
    if method.startswith("bilinear"):
        image = F.interpolate(image.float(), size=new, mode="bilinear", align_corners=method == "bilinear")
    else:
        image = F.interpolate(image.float(), size=new, mode="bicubic", antialias=method == "bicubic")
    image = image.permute(0, 2, 3, 1).flatten(1, 2).to(table.dtype)
    return torch.cat((table[:, :prefix], image), dim=1)


class ComputedBuffers(nn.Module):
    """Base of modules whose non-persistent buffers follow from their configuration alone.

    A state dict does not hold such buffers. A module that was built on the meta device has arbitrary values in them
    after `to_empty`, and none after `load_state_dict(assign=True)`, so they are computed again after every
    `load_state_dict`. Libraries that fill a module by other means (timm, transformers) call
    `init_non_persistent_buffers`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_post_hook(_compute_buffers)  # type: ignore[no-untyped-call]

    def computed_buffers(self) -> dict[str, Tensor]:
        """Compute the buffers, by name, on the CPU."""
        raise NotImplementedError

    def init_non_persistent_buffers(self) -> None:
        """Compute the buffers again, on the device and with the dtype that they have.

        Buffers on the meta device move to the device of the parameters.
        """
        for name, value in self.computed_buffers().items():
            held = getattr(self, name, None)
            if held is None:
                value = value.to(torch.get_default_device())
            else:
                owner = next(self.parameters(), value) if held.is_meta else held
                value = value.to(owner.device, held.dtype)
            self.register_buffer(name, value, persistent=False)


def _compute_buffers(module: nn.Module, _: object) -> None:
    assert isinstance(module, ComputedBuffers)
    module.init_non_persistent_buffers()
