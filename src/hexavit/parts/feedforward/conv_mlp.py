"""Convolutional feedforwards: a depth-wise convolution between the two linears."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hexavit.parts.contract import PartModule, Size, Tokens
from hexavit.parts.layers import activation
from hexavit.parts.registry import register_part

Excite = Literal["se", "eca", "eca_hard"]


class SqueezeExcite(nn.Module):
    """Channels weighed by a small network of their means (Hu et al., 2018), with LocalViT's hard sigmoid at its end."""

    def __init__(self, dim: int, reduction: int) -> None:
        super().__init__()
        hidden = dim // reduction
        if hidden < 1:
            raise ValueError(f"reduction={reduction} leaves nothing of {dim} channels")
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, mean: Tensor) -> Tensor:
        """Means (B, C) to weights (B, C)."""
        return hard_sigmoid(self.fc2(F.relu(self.fc1(mean))))


def hard_sigmoid(x: Tensor) -> Tensor:
    """relu6(x + 3) / 6, written out: PyTorch's `hardsigmoid` has no second derivative."""
    return F.relu6(x + 3) / 6


class ChannelAttention(nn.Module):
    """Channels weighed by a convolution over their means (ECA: Wang et al., 2020), its kernel from their number."""

    def __init__(self, dim: int, hard: bool) -> None:
        super().__init__()
        kernel = int(abs((math.log2(dim) + 1) / 2))
        kernel += 1 - kernel % 2
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)
        self.hard = hard

    def forward(self, mean: Tensor) -> Tensor:
        """Means (B, C) to weights (B, C)."""
        weight = self.conv(mean.unsqueeze(1)).squeeze(1)
        return hard_sigmoid(weight) if self.hard else weight.sigmoid()


@register_part("feedforward", "conv_mlp")
class ConvMLP(PartModule):
    """Linear, depth-wise convolution, linear on the image tokens as a map, each with batch norm and the first two with
    an activation: LocalViT's inverted residual (Li et al., 2021, eq. 5), CeiT's LeFF (Yuan et al., ICCV 2021, eq. 4
    to 9); without batch norm P2T's inverted residual (Wu et al., TPAMI 2022, section 3.2), and, with none or another
    activation before the convolution (`first_act`), PVT v2's (Wang et al., CVM 2022, section 3.3).

    New in it, against the MLP: neighbouring tokens are mixed.

    Shapes: (B, P + H W, C) to the same. Cost with hidden width R = ratio C and kernel k: parameters 2 R C + k^2 R, with
    `bias` 2 R + C, with `norm` 4 R + 2 C, and those of `excite`; multiply-adds (2 R C + k^2 R) H W, with `se`
    2 R (R // reduction), with `eca` k' R.
    Same as coeusguo/ceit's LeFF with `bias=true, act=gelu`, as ofsoundof/LocalViT's with `bias=false, extra=zero`, as
    yuhuan-wu/P2T's with `norm=false, act=hardswish`, as whai362/PVT's v2 with `norm=false, first_act=none` (its linear
    variant: `first_act=relu`), as HRNet/HRFormer's with `last_act=gelu` (Yuan et al., NeurIPS 2021).

    Args:
        ratio: hidden width R, as a multiple of C.
        kernel: side of the convolution's kernel; odd.
        act: activation after the convolution.
        first_act: activation before it: `same` as `act`, another one, or None for none.
        last_act: activation after the second linear and its norm; None for none.
        bias: whether linears and convolution have a bias.
        norm: whether a batch norm follows each of the three.
        excite: weighting of the channels before the second linear: `se` for squeeze-and-excitation, `eca` for a
            convolution over the channels, `eca_hard` for that with a hard sigmoid; None for none.
        reduction: divisor of the hidden width inside `se`.
        extra: output of the branch for extra tokens: `keep` for its input (CeiT adds the normalised class token),
            `zero` for 0 (LocalViT).

    Raises:
        ValueError: an even kernel, an unknown activation, or a reduction that leaves no channel.
    """

    needs = "raster"
    reads_grid = True
    last = "fc2"
    weights_in_a_row = 3

    def __init__(
        self,
        dim: int,
        *,
        ratio: float = 4.0,
        kernel: int = 3,
        act: str = "gelu",
        first_act: str | None = "same",
        last_act: str | None = None,
        bias: bool = True,
        norm: bool = True,
        excite: Excite | None = None,
        reduction: int = 4,
        extra: Literal["keep", "zero"] = "keep",
    ) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {kernel}: an even kernel shifts the tokens")
        if hidden < 1:
            raise ValueError(f"ratio={ratio} leaves no hidden width at dim={dim}")
        self.hidden, self.extra, self.kernel, self.reduction = hidden, extra, kernel, reduction
        self.fc1 = nn.Linear(dim, hidden, bias=bias)
        self.conv = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=bias)
        self.fc2 = nn.Linear(hidden, dim, bias=bias)
        self.norm1 = nn.BatchNorm2d(hidden) if norm else nn.Identity()
        self.norm2 = nn.BatchNorm2d(hidden) if norm else nn.Identity()
        self.norm3 = nn.BatchNorm2d(dim) if norm else nn.Identity()
        self.act = activation(act)
        self.first_act = nn.Identity() if first_act is None else activation(act if first_act == "same" else first_act)
        self.last_act = nn.Identity() if last_act is None else activation(last_act)
        self.excite: nn.Module | None = None
        if excite is not None:
            self.excite = (
                SqueezeExcite(hidden, reduction) if excite == "se" else ChannelAttention(hidden, excite == "eca_hard")
            )

    def forward(self, tokens: Tokens) -> Tokens:
        """(B, P + H W, C) to the same."""
        x = self.first_act(self.norm1(_as_map(self.fc1(tokens.grid))))  # (B, R, H, W)
        x = self.act(self.norm2(self.conv(x)))
        if self.excite is not None:
            x = x * self.excite(x.mean(dim=(2, 3)))[:, :, None, None]
        x = self.last_act(self.norm3(_as_map(self.fc2(x.permute(0, 2, 3, 1)))))  # (B, C, H, W)
        out = tokens.with_image(x.permute(0, 2, 3, 1).flatten(1, 2))
        held = tokens.extra
        return out.replace_extra(torch.zeros_like(held)) if self.extra == "zero" and held is not None else out

    def macs(self, size: Size, extra: int = 0) -> int:
        """(2 R C + k^2 R) H W, and those of `excite`."""
        hidden, dim = self.fc1.out_features, self.fc1.in_features
        total = size[0] * size[1] * (2 * hidden * dim + self.kernel**2 * hidden)
        if isinstance(self.excite, SqueezeExcite):
            total += 2 * hidden * (hidden // self.reduction)
        if isinstance(self.excite, ChannelAttention):
            total += hidden * self.excite.conv.weight.numel()
        return total


def _as_map(grid: Tensor) -> Tensor:
    """(B, H, W, C) to (B, C, H, W), a view."""
    return grid.permute(0, 3, 1, 2)
